"""What is there in DataRobot, as far as an upload needs to know it."""

from dataclasses import dataclass


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
