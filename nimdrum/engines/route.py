"""By which route a NIM gets its weights: one pure function of settings, variables and facts of the disk.

The routes, what each sets and what must not be set are those of NVIDIA's air-gap, repository-override and
environment-variables pages for 1.x and 2.x, and of its NIM Operator. One rule is behind most of them: a key makes NIM
call a registry, and fail where it cannot, so a route that needs none gets none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nimdrum.base.errors import SettingsError
from nimdrum.weights.folder import Content

KEYS = ("NGC_API_KEY", "NGC_CLI_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN")
"""With any of these NIM goes online."""
MODEL_VARIABLES = ("NIM_MODEL_PATH", "NIM_MODEL_NAME")
"""2.x and later read the first, 1.x the second; NVIDIA's operator sets both."""
REGISTRIES = ("hf://", "ngc://", "modelscope://")
BUCKETS = ("s3://", "gs://")
MIRRORS = {1: ("s3://", "https://", "jfrog://"), 2: ("s3://", "gs://")}
"""What NIM_REPOSITORY_OVERRIDE may begin with, by line."""
TRUE = ("1", "true", "yes")


@dataclass(frozen=True)
class WeightsFacts:
    """What is known before the start: `env` is what the image and engine_config.json set."""

    line: int
    model_repo: Path
    model_repo_holds: Content
    cache: Path
    cache_holds: Content
    env: Mapping[str, str]
    config: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The part of `env` that engine_config.json sets."""
    folders: frozenset[str] = frozenset()
    """Which of the paths in `env` are folders here."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For registries, wherever they come from."""
    chosen_key: str | None = None
    """A key that was chosen for this model (a parameter, engine_config.json) rather than found in the container."""
    profile: str | None = None
    artifacts_uri: str | None = None
    artifacts_target: str = "model"
    store_variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    """AWS_ variables for NIM itself, where it reads from a bucket."""


@dataclass(frozen=True)
class Route:
    """`env` is added to the engine's environment, `unset` must not be in it."""

    name: str
    env: dict[str, str] = field(repr=False)
    unset: tuple[str, ...]
    why: str
    fetch_into: Path | None = None
    """Where the weights are fetched to before the start."""
    uses_cache: bool = True
    """NIM writes into its cache, or reads all of its weights from it."""


def decide_route(facts: WeightsFacts) -> Route:
    """The route. Raises SettingsError when what is set cannot work together, and says what to change."""
    named = {name: facts.env[name] for name in MODEL_VARIABLES if facts.env.get(name, "").strip()}
    if facts.artifacts_uri:
        return _fetched(facts)
    for folder, holds in ((facts.model_repo, facts.model_repo_holds), (facts.cache, facts.cache_holds)):
        if holds is Content.HALF:
            raise SettingsError(
                f"{folder} holds weights whose fetch did not end. Set model_artifacts_uri again to go on, or empty the "
                "folder, with the hidden files in it."
            )
    if facts.model_repo_holds is not Content.EMPTY:
        if chosen := next((name for name in named if name in facts.config), None):
            raise SettingsError(
                f"engine_config.json sets {chosen}, but model-repo holds weights too ({facts.model_repo}). "
                "Remove one of them."
            )
        return _local(facts, str(facts.model_repo), "model-repo is not empty")
    for name, value in named.items():
        if value.startswith(BUCKETS):
            return _bucket(facts, name, value)
        if not value.startswith(REGISTRIES):
            return _named_folder(facts, name, value)
    if mirror := facts.env.get("NIM_REPOSITORY_OVERRIDE", "").strip():
        return _mirror(facts, mirror)
    if facts.env.get("NIM_DISABLE_MODEL_DOWNLOAD", "").strip().lower() in TRUE:
        _refuse_chosen_key(facts, "NIM_DISABLE_MODEL_DOWNLOAD is set", "unset NIM_DISABLE_MODEL_DOWNLOAD")
        why = "NIM_DISABLE_MODEL_DOWNLOAD is set, so the weights are in the image; no key is passed on."
        return Route("image", {"NIM_DISABLE_MODEL_DOWNLOAD": "1"}, KEYS, why)
    if tuned := facts.env.get("NIM_FT_MODEL", "").strip():
        return _fine_tuned(facts, tuned)
    return _cache_or_download(facts, named)


def _fetched(facts: WeightsFacts) -> Route:
    """Weights that are fetched first are local ones when the engine starts."""
    variables = (*MODEL_VARIABLES, "NIM_REPOSITORY_OVERRIDE", "NIM_FT_MODEL", "NIM_DISABLE_MODEL_DOWNLOAD")
    if rival := next((name for name in variables if facts.config.get(name)), None):
        raise SettingsError(
            f"model_artifacts_uri and {rival} (engine_config.json) both say where weights are. Use one."
        )
    if facts.artifacts_target == "cache":
        _refuse_chosen_key(facts, "model_artifacts_uri fetches the whole cache", "empty model_artifacts_uri")
        why = f"the cache is fetched from the store into {facts.cache} before the start; no key is passed on."
        return Route("fetched cache", {}, KEYS, why + _unpinned(facts), facts.cache)
    if facts.model_repo_holds is Content.FILLED:
        raise SettingsError(
            f"model_artifacts_uri is set, but {facts.model_repo} already holds files that were not fetched. "
            "Empty the folder, or the parameter."
        )
    _refuse_chosen_key(facts, "model_artifacts_uri fetches the weights", "empty model_artifacts_uri")
    local = _local(facts, str(facts.model_repo), "")
    why = f"the weights are fetched from the store into {facts.model_repo} before the start; no key is passed on."
    return Route("fetched model", local.env, KEYS, why, facts.model_repo, uses_cache=False)


def _local(facts: WeightsFacts, folder: str, reason: str) -> Route:
    if facts.chosen_key in facts.config:
        _refuse_chosen_key(facts, f"the weights are local ({folder})", "remove the folder model-repo")
    dropped = f" {facts.chosen_key} is dropped." if facts.chosen_key else ""
    # 1.x reads NAME, 2.x and later read PATH.
    env = {"NIM_MODEL_NAME": folder, "NIM_MODEL_PATH": folder, "HF_HUB_OFFLINE": "1"}
    why = f"{reason}; NIM loads {folder}, and no key is passed on.{dropped}"
    return Route("local model", env, KEYS, why, None, False)


def _named_folder(facts: WeightsFacts, name: str, value: str) -> Route:
    if not value.startswith("/"):
        raise SettingsError(
            f"{name} is {value!r}; it must be an absolute folder or begin with {', '.join((*REGISTRIES, *BUCKETS))}."
        )
    if value not in facts.folders:
        raise SettingsError(f"{name} is {value}, which is no folder here. Mount it there, or unset the variable.")
    return _local(facts, value, f"{name} is set")


def _bucket(facts: WeightsFacts, name: str, value: str) -> Route:
    if facts.line == 1:
        raise SettingsError(
            f"{name} is {value}, but NIM 1.x reads no bucket there. "
            "Set NIM_REPOSITORY_OVERRIDE instead, or model_artifacts_uri."
        )
    why = f"{name} is {value}; NIM 2.x reads it from the store itself{_store_key(facts)}."
    return Route("object store", {"NIM_MODEL_PATH": value, **facts.store_variables}, (), why)


def _mirror(facts: WeightsFacts, mirror: str) -> Route:
    allowed = MIRRORS[min(facts.line, 2)]
    if not mirror.startswith(allowed):
        raise SettingsError(
            f"NIM_REPOSITORY_OVERRIDE is {mirror!r}; NIM {facts.line}.x takes {', '.join(allowed)} only. "
            "For other stores use model_artifacts_uri."
        )
    why = f"NIM_REPOSITORY_OVERRIDE is set; NIM downloads from that mirror{_store_key(facts)}."
    return Route("mirror", dict(facts.store_variables), (), why)


def _fine_tuned(facts: WeightsFacts, tuned: str) -> Route:
    if facts.line != 1:
        raise SettingsError("NIM_FT_MODEL is a variable of NIM 1.x. For 2.x and later set NIM_MODEL_PATH instead.")
    if not tuned.startswith("/") or tuned not in facts.folders:
        raise SettingsError(
            f"NIM_FT_MODEL is {tuned!r}, which is no absolute folder here. Mount it there, or unset it."
        )
    if facts.keys:
        return Route("fine-tuned", {}, (), "NIM_FT_MODEL is set; a key is there, so NIM may download the base.")
    why = f"NIM_FT_MODEL is set and no key is; NIM takes the base model from its cache {facts.cache}."
    return Route("fine-tuned", {}, KEYS, why)


def _cache_or_download(facts: WeightsFacts, named: Mapping[str, str]) -> Route:
    if facts.keys:
        return Route("download", {}, (), f"a key is set; NIM downloads what its cache {facts.cache} lacks.")
    if facts.cache_holds is Content.EMPTY:
        why = f"nothing is local and no key is set; NIM downloads into {facts.cache}, which only some images may."
        return Route("download", {}, KEYS, why)
    uri = next((value for value in named.values() if value.startswith(REGISTRIES)), None)
    if uri is None:
        why = f"the cache {facts.cache} is filled and no key is set."
        return Route("cache", {}, KEYS, why + _unpinned(facts))
    why = f"the cache {facts.cache} is filled and no key is set; NIM takes {uri} from it."
    return Route("cached URI", {"HF_HUB_OFFLINE": "1"}, KEYS, why)


def _unpinned(facts: WeightsFacts) -> str:
    if facts.profile:
        return ""
    return " NIM_MODEL_PROFILE is empty: NIM chooses, and fails if its choice is not in the cache."


def _store_key(facts: WeightsFacts) -> str:
    return "" if facts.store_variables else ", with no AWS_ variable and no model_artifacts_credential for it"


def _refuse_chosen_key(facts: WeightsFacts, because: str, otherwise: str) -> None:
    """A key that somebody chose is not dropped in silence."""
    if facts.chosen_key:
        raise SettingsError(
            f"{facts.chosen_key} is set, but {because}: with a key NIM calls a registry, and fails where it cannot. "
            f"Empty {facts.chosen_key}, or {otherwise}."
        )
