"""The keys for registries that the engine would get: where each comes from, and whether it looks like one."""

from nimdrum.base.errors import NimdrumError
from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import Settings
from nimdrum.doctor.facts import Key
from nimdrum.engines.config_file import read_engine_config
from nimdrum.engines.nim import registry_keys


def find_keys(settings: Settings, hosting: Hosting) -> tuple[Key, ...]:
    """Without their values. Raises nothing: what is wrong with engine_config.json is the plan's to say."""
    try:
        configured = read_engine_config(hosting.code_dir).env
    except NimdrumError:
        configured = {}
    keys = []
    for name, value in sorted(registry_keys(settings, hosting, configured).items(), reverse=True):
        source = "environment variable"
        if configured.get(name):
            source = "engine_config.json"
        elif name == "NGC_API_KEY" and settings.ngc_api_key:
            source = "runtime parameter"
        keys.append(Key(name, source, _odd(value)))
    return tuple(keys)


def _odd(key: str) -> str:
    if any(character.isspace() or character in "\"'" for character in key):
        return "has blanks or quotes in it"
    return "" if key.isascii() else "has characters that no key has"
