"""What is the user's own in a code folder: their model's folder, and the hooks in it (docs/decisions/0008)."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

MODEL_LINK = ".nimdrum-model"
"""In a code folder that `nimdrum code-dir` made: a link to the user's model."""
HOOKS, ROUTES = "custom", "custom_flask"


def model_dir_of(code_dir: str | Path) -> Path:
    """The folder with the user's files; the code folder itself where it was not made by `nimdrum code-dir`."""
    link = Path(code_dir, MODEL_LINK)
    return link.resolve() if link.is_symlink() else Path(code_dir).resolve()


def load_own(model_dir: Path, name: str) -> ModuleType | None:
    """The user's custom.py or custom_flask.py as a module; None where there is none. Raises what the file raises.

    Only at the top of the folder: weights may lie below, and with them other people's code. What stands beside it can
    be imported.
    """
    path = model_dir / f"{name}.py"
    if not path.is_file():
        return None
    if str(model_dir) not in sys.path:
        sys.path.insert(0, str(model_dir))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: S101 - a .py file has both
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call_own(hook: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call a user's hook with those of the keywords that it takes."""
    return hook(*arguments, **accepted(hook, keywords))


def accepted(hook: Callable[..., Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `keywords` that `hook` takes: all, where it has `**kwargs`."""
    parameters = inspect.signature(hook).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(keywords)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return {name: value for name, value in keywords.items() if name in named}
