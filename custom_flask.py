"""DRUM's Flask extension: truthful health, /metrics and the engine's own API. DRUM calls it after `load_model`."""

from nimdrum import hooks
from nimdrum.web.install import install


def init_app(app):
    """Answer what DRUM does not, before DRUM's own handlers do."""
    install(app, hooks.loaded_model())
