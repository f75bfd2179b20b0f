"""engine_config.json: variables for the engine that win over everything else, as in DataRobot's own NIM road."""

import json
from pathlib import Path

from nimdrum.errors import SettingsError
from nimdrum.secret import SECRET_NAME

CONFIG_FILE = "engine_config.json"
LAUNCHER_OWNED = {
    "NIM_SERVER_PORT": "set DR_NIM_SERVER_PORT instead",
    "NIM_HEALTH_PORT": "it must equal the server port",
    "NIM_SERVED_MODEL_NAME": "set served_model_name instead",
}


class EngineConfig(dict[str, str]):
    """The `env` part of the file."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values whose names say that they are secret."""
        return tuple(value for name, value in self.items() if SECRET_NAME.search(name) and value)


def read_engine_config(code_dir: Path) -> EngineConfig:
    """The variables in `code_dir`/engine_config.json, empty when there is no such file.

    The file holds `{"env": {"NAME": value}}` with text, number or boolean values (booleans become 1 and 0, which
    every NIM line reads). Raises SettingsError.
    """
    path = code_dir / CONFIG_FILE
    if not path.is_file():
        return EngineConfig()
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(
            f"{CONFIG_FILE} is not readable JSON ({type(error).__name__}). Mend or remove it."
        ) from None
    if not isinstance(document, dict) or not isinstance(env := document.get("env", {}), dict):
        raise SettingsError(f'{CONFIG_FILE} must be an object of the form {{"env": {{"NAME": "value"}}}}.')
    if unknown := sorted(set(document) - {"env"}):
        raise SettingsError(f"{CONFIG_FILE} has the unknown keys {', '.join(unknown)}; allowed is env.")
    return EngineConfig({name: _text(name, value) for name, value in env.items()})


def _text(name: str, value: object) -> str:
    if name in LAUNCHER_OWNED:
        raise SettingsError(f"{CONFIG_FILE} sets {name}, which the launcher owns: {LAUNCHER_OWNED[name]}.")
    if not name or "=" in name or "\0" in name:
        raise SettingsError(f"{CONFIG_FILE} has {name!r}, which is no name for an environment variable.")
    if isinstance(value, bool):
        return "1" if value else "0"
    if not isinstance(value, str | int | float):
        raise SettingsError(
            f"{CONFIG_FILE} gives {name} a value of type {type(value).__name__}; allowed are text and numbers."
        )
    text = str(value)
    if "\0" in text:
        raise SettingsError(f"{CONFIG_FILE} gives {name} a value with a NUL character.")
    if text != text.encode("utf-8", "replace").decode():
        raise SettingsError(f"{CONFIG_FILE} gives {name} a value that is no Unicode text (a lone surrogate).")
    return text
