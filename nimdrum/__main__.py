"""`python -m nimdrum`: the command line."""

from nimdrum.cli import main

if __name__ == "__main__":
    main(prog_name="python -m nimdrum")
