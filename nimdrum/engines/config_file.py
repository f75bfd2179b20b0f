"""engine_config.json: the user's last word on the engine's variables and flags, as in DataRobot's own NIM road.

    {"env": {"NIM_KVCACHE_PERCENT": 0.8}, "args": ["--max-num-seqs", "64"]}

What the launcher or the weights' route decides, and what the engine could not work with (`verdicts.py`), is refused
with the reason, not overruled in silence.
"""

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nimdrum.base.errors import SettingsError
from nimdrum.base.secret import SECRET_NAME
from nimdrum.engines.verdicts import flag_rule, rule_of

CONFIG_FILE = "engine_config.json"
KEYS = ("args", "env")
PASSTHROUGH = "NIM_PASSTHROUGH_ARGS"


@dataclass(frozen=True)
class EngineConfig:
    """What the file says; both parts empty when there is none."""

    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    args: tuple[str, ...] = field(default=(), repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values whose variable or flag has a name that says that they are secret."""
        values = [value for name, value in self.env.items() if SECRET_NAME.search(name)]
        flag = ""
        for argument in (*self.args, *split_flags(self.env.get(PASSTHROUGH, ""))):
            name, equals, value = argument.partition("=")
            if SECRET_NAME.search(_variable(flag)) and not argument.startswith("--"):
                values.append(argument)
            elif argument.startswith("--") and equals and SECRET_NAME.search(_variable(name)):
                values.append(value)
            flag = argument if argument.startswith("--") else ""
        return tuple(value for value in values if value)

    def nim_env(self, line: int) -> dict[str, str]:
        """The variables for a NIM of `line`, the flags among them (2.x and later read them from one variable).

        Raises SettingsError.
        """
        env = dict(self.env)
        if self.args and line < 2:
            raise SettingsError(
                f"{CONFIG_FILE} has args, but this image holds NIM {line}.x, which takes no flags for its engine. Use "
                "its variables in env instead, or an image of NIM 2.x."
            )
        if self.args and PASSTHROUGH in env:
            raise SettingsError(f"{CONFIG_FILE} has both args and {PASSTHROUGH}. Put all flags into args.")
        if line >= 2:
            check_flags(self.args or split_flags(env.get(PASSTHROUGH, "")), CONFIG_FILE)
        if self.args:
            env[PASSTHROUGH] = shlex.join(self.args)  # JSON inside must keep its quotes
        return env

    def refuse_args(self, engine: str) -> None:
        """For an engine that takes no flags. Raises SettingsError."""
        if self.args:
            raise SettingsError(f"{CONFIG_FILE} has args, which the engine {engine} does not take. Remove them.")


def read_engine_config(code_dir: Path) -> EngineConfig:
    """What `code_dir`/engine_config.json says.

    `env` maps names to text, numbers or booleans (these become 1 and 0, which every NIM line reads); `args` is a
    list of texts. Raises SettingsError, which names the place and never shows a value.
    """
    path = code_dir / CONFIG_FILE
    if not path.is_file():
        return EngineConfig()
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_object)
    except SettingsError:  # a ValueError too, but one that says what is wrong
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"{CONFIG_FILE} is not readable JSON ({type(error).__name__}). Mend or remove it."
        ) from None
    if not isinstance(document, dict) or not isinstance(env := document.get("env", {}), dict):
        raise SettingsError(f'{CONFIG_FILE} must be an object of the form {{"env": {{"NAME": "value"}}, "args": []}}.')
    if unknown := sorted(set(document) - set(KEYS)):
        raise SettingsError(f"{CONFIG_FILE} has the unknown keys {_shown(unknown)}; allowed are {', '.join(KEYS)}.")
    args = document.get("args", [])
    if not isinstance(args, list) or not all(isinstance(argument, str) for argument in args):
        raise SettingsError(f'{CONFIG_FILE} has args that are no list of texts, as ["--max-num-seqs", "64"] is.')
    for number, argument in enumerate(args, 1):
        _check_text(f"argument {number} of args", argument)
    if args and not args[0].startswith("-"):
        raise SettingsError(f"{CONFIG_FILE} has args that do not begin with a flag.")
    return EngineConfig({name: _text(name, value) for name, value in env.items()}, tuple(args))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; a name that is there twice would lose one of its values in silence."""
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"{CONFIG_FILE} has {_shown(twice)} twice in one object.")
    return dict(pairs)


def _text(name: str, value: object) -> str:
    if not name or "=" in name or "\0" in name or not _is_unicode(name):
        raise SettingsError(f"{CONFIG_FILE} has {name!r}, which is no name for an environment variable.")
    text = _plain_text(name, value)
    rule = rule_of(name)
    if rule is not None and (refusal := rule.refusal(name, text)):
        raise SettingsError(f"{CONFIG_FILE} sets {refusal}")
    return text


def _plain_text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    if not isinstance(value, str | int | float):
        raise SettingsError(
            f"{CONFIG_FILE} gives {name} a value of type {type(value).__name__}; allowed are text and numbers."
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise SettingsError(f"{CONFIG_FILE} gives {name} a value that is no finite number.")
    return _check_text(name, str(value))


def _check_text(what: str, text: str) -> str:
    if "\0" in text:
        raise SettingsError(f"{CONFIG_FILE} gives {what} a value with a NUL character.")
    if not _is_unicode(text):
        raise SettingsError(f"{CONFIG_FILE} gives {what} a value that is no Unicode text (a lone surrogate).")
    return text


def _shown(names: list[str]) -> str:
    return ", ".join(names).encode("utf-8", "replace").decode()


def _is_unicode(text: str) -> bool:
    return text == text.encode("utf-8", "replace").decode()


def check_flags(args: tuple[str, ...], where: str, remedy: str = "") -> None:
    """Raises SettingsError for a flag that the launcher owns, or that keeps the engine from working here."""
    for argument in args:
        rule = flag_rule(argument)
        flag = argument.partition("=")[0].replace("_", "-")
        if rule is not None and (refusal := rule.refusal(flag, "set")):
            raise SettingsError(f"{where} sets {refusal}{remedy}")


def split_flags(text: str) -> tuple[str, ...]:
    """The flags in the text of NIM_PASSTHROUGH_ARGS."""
    try:
        return tuple(shlex.split(text))
    except ValueError:  # an open quote: how NIM reads it is NIM's affair
        return tuple(text.split())


def _variable(flag: str) -> str:
    """--hf-token as HF_TOKEN, the form in which names are known to be secret."""
    return flag.lstrip("-").replace("-", "_")
