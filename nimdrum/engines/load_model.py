"""`python -m nimdrum.engines.load_model MODEL_DIR DRUM_PORT CWD DESCRIPTOR run|again`: their load_model, then the plan.

A process of the supervisor, because the hook may take an hour, must run once for each engine and not for each worker,
and must not be run again when one of them dies. What it leaves decides how the engine starts (model-repo, the cache,
engine_config.json, os.environ), so the engine is planned here, after it. The plan goes to DESCRIPTOR: it holds keys.
"""

import logging
import os
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from types import ModuleType

from nimdrum.base.errors import NimdrumError
from nimdrum.base.hosting import Hosting, read_hosting
from nimdrum.base.own import HOOKS, call_own, load_own
from nimdrum.base.parameters import PACKAGE
from nimdrum.base.settings import load_settings
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.plan import LOAD_MODEL, PREPARING, Preparation
from nimdrum.weights.child import CAUSE

RUN, AGAIN = "run", "again"


def load_model_step(hosting: Hosting) -> Preparation:
    """The step that runs the hook, with all that DRUM's own process would give it."""
    command = (sys.executable, "-m", "nimdrum.engines.load_model")
    path = filter(None, (hosting.environ.get("PYTHONPATH"), str(PACKAGE.parent)))
    return Preparation(
        argv=(*command, str(hosting.code_dir), str(hosting.drum_port or 0), str(Path.cwd())),
        env={**hosting.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1", PREPARING: "1"},
        request="",
        what="load_model of custom.py",
        source=LOAD_MODEL,
    )


def main() -> int:
    code_dir, port, cwd, descriptor, how = Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    os.chdir(cwd)  # only now: Python looks for modules where it is started
    module: ModuleType | None = None
    try:
        if how == RUN:
            module = load_own(code_dir, HOOKS)
            _run(module, code_dir)
        hosting = replace(read_hosting(code_dir, argv=[]), drum_port=port or None)
        plan = plan_engine(load_settings(code_dir), hosting)
    except NimdrumError as error:
        print(f"{CAUSE}{error}", flush=True)
        return 1
    except Exception as error:
        traceback.print_exc()
        print(f"{CAUSE}{_sentence(error, module)}", file=sys.stderr, flush=True)
        return 1
    with os.fdopen(int(descriptor), "w", encoding="utf-8") as pipe:
        pipe.write(plan.to_json())
    return 0


def _run(module: ModuleType | None, code_dir: Path) -> None:
    """DRUM's order: import, init, load_model. Raises what they raise, and ValueError when nothing came back."""
    if hook := getattr(module, "init", None):
        hook(code_dir=str(code_dir))
    hook = getattr(module, "load_model", None)
    if hook is not None and call_own(hook, str(code_dir)) is None:
        raise ValueError("it returned None. Return something else, for example True, when the model is there")


def _sentence(error: Exception, module: ModuleType | None) -> str:
    place = ""
    own = getattr(module, "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == own]
    if lines:
        place = f" (line {lines[-1]})"
    what = " ".join(str(error).split()) or "no message"
    return f"load_model of custom.py failed{place}: {type(error).__name__}: {what}."


if __name__ == "__main__":
    sys.exit(main())
