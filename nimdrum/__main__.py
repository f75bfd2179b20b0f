"""`python -m nimdrum`: the command line."""

from nimdrum.tools.cli import main

if __name__ == "__main__":
    main(prog_name="python -m nimdrum")
