"""What is wanted of DataRobot, and what is there of it."""

from dataclasses import dataclass
from pathlib import Path

from nimdrum.base.errors import SettingsError, UploadError
from nimdrum.base.parameters import convert, names_in_list, not_a_parameter, read_parameters
from nimdrum.base.secret import Secret
from nimdrum.base.settings import load_settings
from nimdrum.base.values import read_values as read_values_file
from nimdrum.engines.choose import AUTO, find_kinds, kind_named
from nimdrum.tools.upload.bundle import Packed
from nimdrum.tools.upload.exit_codes import WRONG_INPUT


@dataclass(frozen=True)
class EnvironmentVersion:
    id: str
    description: str
    status: str
    created: str = ""


@dataclass(frozen=True)
class ResourceBundle:
    """A resource bundle: what one container gets."""

    id: str
    name: str
    gpu_count: float = 0
    gpu_memory_bytes: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True)
class ModelVersion:
    id: str
    number: tuple[int, int]
    files: frozenset[str]
    bundle_id: str | None = None


@dataclass(frozen=True)
class RegisteredVersion:
    id: str
    model_version_id: str
    name: str
    status: str | None


@dataclass(frozen=True)
class Deployment:
    id: str
    package_id: str | None
    status: str
    job_url: str | None = None
    """Where DataRobot tells how the deployment's making goes on; known only to the run that began it."""


@dataclass(frozen=True)
class Found:
    """What is there. None and empty: not there, or not looked for."""

    environment_id: str | None = None
    environment_versions: tuple[EnvironmentVersion, ...] = ()
    credential_id: str | None = None
    model_id: str | None = None
    model_versions: tuple[ModelVersion, ...] = ()
    bundle: ResourceBundle | None = None
    registered_model_id: str | None = None
    registered_versions: tuple[RegisteredVersion, ...] = ()
    prediction_environment_id: str | None = None
    deployment: Deployment | None = None


KEY = "NGC_API_KEY"
"""The one credential that an upload makes; of others it takes the id."""


@dataclass(frozen=True)
class ParameterValue:
    """The value of one runtime parameter, as DataRobot takes it."""

    name: str
    type: str
    value: str | bool | int | float


@dataclass(frozen=True)
class Wanted:
    """Things are known by their names; versions of them by what they are made of."""

    environment_name: str
    environment_content: str
    """Fingerprint of the environment's version."""
    model_name: str
    target_name: str
    model_files: tuple[Packed, ...]
    unstructured: bool = False
    environment_description: str = ""
    image_archive: Path | None = None
    image_uri: str | None = None
    """With neither, DataRobot builds the image from the context."""
    parameters: tuple[ParameterValue, ...] = ()
    credential_name: str | None = None
    """Name of the credential that holds the NGC key; None where no key is used, or `credential_id` is given."""
    credential_id: str | None = None
    egress: str = "PUBLIC"
    resource_bundle: str | None = None
    """Name or id of the bundle; None: the smallest with `gpus` GPUs."""
    gpus: int = 1
    registered_model: str | None = None
    deployment: str | None = None
    """The deployment's label. Without one nothing is deployed; a deployment needs a registered model."""
    prediction_environment: str = "nimdrum"
    """Name or id; made where it is missing, for DataRobot's own serverless platform."""
    replace: bool = False
    """A deployment of this name that serves something else gets the new version."""


@dataclass(frozen=True)
class Values:
    """What a file of runtime parameter values says."""

    parameters: tuple[ParameterValue, ...] = ()
    key: Secret | None = None
    credential_id: str | None = None
    engine: str = "auto"
    fetched: bool = False
    """The weights are fetched from a store, where an NGC key has no place."""


def read_values(model_dir: Path | None, path: Path | None) -> Values:
    """Read a file in the format of DRUM's --runtime-params-file, and check it as the hooks will at their start.

    A credential is the id of one in DataRobot; NGC_API_KEY may also be one as DRUM takes it. Raises UploadError for a
    file that cannot be read, a value that is not allowed, a secret that would be stored as plain text, and a name that
    model-metadata.yaml does not define (DRUM ignores it).
    """
    try:
        given = read_values_file(path) if path else {}
    except SettingsError as error:
        raise UploadError(str(error), WRONG_INPUT) from None
    defined = read_parameters(model_dir)
    sent = names_in_list(model_dir)
    for name in given:
        if name not in defined:
            raise UploadError(f"{path}: {not_a_parameter(name, defined)}", WRONG_INPUT)
        if name not in sent:
            raise UploadError(
                f"{path}: {name} is not defined in {model_dir}/model-metadata.yaml, and DataRobot takes values for "
                "what that defines only. Add it there.",
                WRONG_INPUT,
            )
    credentials = {name: given.pop(name) for name in [*given] if defined[name].type == "credential"}
    ids = {name: value.strip() for name, value in credentials.items() if isinstance(value, str) and value.strip()}
    key = credentials.pop(KEY, None)
    if secret := next((name for name, value in credentials.items() if name not in ids and value), None):
        raise UploadError(
            f"{path}: {secret} must be the id of a credential that is stored in DataRobot; upload stores {KEY} only.",
            WRONG_INPUT,
        )
    try:
        settings = load_settings(model_dir, {**given, KEY: None if isinstance(key, str) else key}.get)
        values = {name: convert(defined[name], raw) for name, raw in given.items() if raw not in (None, "")}
        if settings.engine != AUTO:
            kind_named(settings.engine, find_kinds())
    except SettingsError as error:
        raise UploadError(f"{path}: {error}", WRONG_INPUT) from error
    key_id = ids.pop(KEY, None)
    if settings.artifacts_uri and (key_id or settings.ngc_api_key):
        raise UploadError(
            f"{path}: {KEY} and model_artifacts_uri exclude each other: a key makes NIM call its registry. Remove one.",
            WRONG_INPUT,
        )
    return Values(
        tuple(ParameterValue(name, defined[name].type, value) for name, value in sorted({**values, **ids}.items())),
        settings.ngc_api_key,
        key_id,
        settings.engine,
        fetched=settings.artifacts_uri is not None,
    )
