"""DRUM's Flask extension: health routes that say what the engine does. DRUM calls `init_app` after `load_model`."""

from nimdrum import hooks
from nimdrum.health import install_health


def init_app(app):
    """Replace DRUM's fixed 200 on /, /ping/ and /health/."""
    install_health(app, hooks.loaded_model())
