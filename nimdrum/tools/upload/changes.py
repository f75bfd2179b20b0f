"""What is still to do, from what is wanted and what was found. Pure: nothing here asks DataRobot.

A thing (environment, model, credential, ...) is the one with the wanted name. A version of an environment carries the
fingerprint of its content in its description, a version of a model in the name of one of its files: each is sent in
the request that makes the version, so there is no moment at which a version is there and cannot be recognised.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from nimdrum.base.errors import UploadError
from nimdrum.tools.upload.bundle import fingerprint
from nimdrum.tools.upload.exit_codes import BUILD_FAILED, REFUSED
from nimdrum.tools.upload.wanted import (
    EnvironmentVersion,
    Found,
    ModelVersion,
    RegisteredVersion,
    ResourceBundle,
    Wanted,
)

BUILT = "success"
FAILED = "failed"
LATER = "(made above)"


class Action(Enum):
    """One request that writes, or one wait. The value says what is done."""

    CREATE_CREDENTIAL = "create the credential"
    CREATE_ENVIRONMENT = "create the environment"
    ADD_ENVIRONMENT_VERSION = "upload a version of the environment"
    AWAIT_BUILD = "wait for the build of the environment"
    CREATE_MODEL = "create the custom model"
    ADD_MODEL_VERSION = "upload a version of the custom model"
    SET_RESOURCES = "set the resource bundle"
    REGISTER = "register the version"
    AWAIT_REGISTERED = "wait for the registered version"
    CREATE_PREDICTION_ENVIRONMENT = "create the prediction environment"
    DEPLOY = "deploy the registered version"
    REPLACE = "replace the deployment's model"
    AWAIT_DEPLOYMENT = "wait for the deployment"


@dataclass(frozen=True)
class Step:
    action: Action
    what: str
    """What it is done to, for people."""

    def __str__(self) -> str:
        return f"{self.action.value}: {self.what}"


def plan(wanted: Wanted, found: Found) -> list[Step]:
    """The steps from what was found to what is wanted, in order; none when it is all there.

    Raises UploadError where what is there stands in the way.
    """
    steps: list[Step] = []

    def add(action: Action, what: str) -> None:
        steps.append(Step(action, what))

    if wanted.credential_name and found.credential_id is None:
        add(Action.CREATE_CREDENTIAL, f"{wanted.credential_name!r}")

    if found.environment_id is None:
        add(Action.CREATE_ENVIRONMENT, f"{wanted.environment_name!r}")
    environment = environment_version(wanted, found)
    if environment is None:
        source = wanted.image_uri or wanted.image_archive or "to be built by DataRobot from the context"
        add(Action.ADD_ENVIRONMENT_VERSION, f"{source}")
    if environment is None or environment.status != BUILT:
        add(Action.AWAIT_BUILD, f"version {environment.id}" if environment else LATER)

    if found.model_id is None:
        add(Action.CREATE_MODEL, f"{wanted.model_name!r}")
    version = model_version(wanted, found)
    if version is None:
        bundle = found.bundle
        base = patchable_version(wanted, found)
        if base is None:
            add(
                Action.ADD_MODEL_VERSION,
                f"{len(wanted.model_files)} files, {len(wanted.parameters)} parameters, egress {wanted.egress}",
            )
        if bundle is not None:
            add(Action.SET_RESOURCES, f"{bundle.name} ({bundle.id})")

    registered = None
    if wanted.registered_model is not None:
        registered = registered_version(version, found)
        if registered is None:
            add(Action.REGISTER, f"{wanted.registered_model!r}")
        elif registered.status == FAILED:
            raise UploadError(
                f"The registered version {registered.id} has failed: archive it in DataRobot.", BUILD_FAILED
            )
        if registered is None or registered.status not in (None, "complete"):
            add(Action.AWAIT_REGISTERED, registered.name if registered else LATER)

    if wanted.deployment is not None:
        steps += _deployment_steps(wanted, found, registered)
    return steps


def _deployment_steps(wanted: Wanted, found: Found, registered: RegisteredVersion | None) -> list[Step]:
    label = f"{wanted.deployment!r}"
    deployment = found.deployment
    if deployment is None:
        steps = [Step(Action.DEPLOY, label), Step(Action.AWAIT_DEPLOYMENT, LATER)]
        if found.prediction_environment_id is None:
            steps.insert(0, Step(Action.CREATE_PREDICTION_ENVIRONMENT, f"{wanted.prediction_environment!r}"))
        return steps
    if "error" in deployment.status:
        raise UploadError(f"The deployment {label} ({deployment.id}) is {deployment.status}: delete it.", BUILD_FAILED)
    if registered is None or deployment.package_id != registered.id:
        if not wanted.replace:
            raise UploadError(
                f"The deployment {label} ({deployment.id}) serves another version. --replace gives it the new one; "
                "--deployment-name makes a second deployment.",
                REFUSED,
            )
        if deployment.status == "inactive":
            raise UploadError(f"The deployment {label} ({deployment.id}) is switched off: switch it on first.", REFUSED)
        return [Step(Action.REPLACE, label), Step(Action.AWAIT_DEPLOYMENT, LATER)]
    if deployment.status not in ("active", "inactive"):  # inactive: somebody has switched it off
        return [Step(Action.AWAIT_DEPLOYMENT, deployment.id)]
    return []


def environment_mark(wanted: Wanted) -> str:
    """What the description of the wanted environment version contains."""
    return f"content {wanted.environment_content}"


def environment_version(wanted: Wanted, found: Found) -> EnvironmentVersion | None:
    """The environment version with the wanted content: a built one, or one that is being built, never a failed one."""
    usable = [v for v in found.environment_versions if environment_mark(wanted) in v.description and v.status != FAILED]
    return min(usable, key=lambda v: (v.status != BUILT, v.created, v.id), default=None)


def model_mark(wanted: Wanted, found: Found) -> str | None:
    """The name of the file by which the wanted model version is known; None while a thing that it needs is not there.

    It depends on all that goes into the request that makes the version.
    """
    environment = environment_version(wanted, found)
    credential_id = wanted.credential_id or found.credential_id
    if environment is None or (wanted.credential_name and credential_id is None):
        return None
    values = [[p.name, p.type, p.value] for p in wanted.parameters]
    content = fingerprint(wanted.model_files, values, wanted.egress, environment.id, credential_id)
    return f"nimdrum-upload-{content[:32]}.json"


def model_version(wanted: Wanted, found: Found) -> ModelVersion | None:
    """The model version that is as wanted, resource bundle included."""
    marked = _marked_versions(wanted, found)
    fitting = [v for v in marked if found.bundle is None or v.bundle_id == found.bundle.id]
    return fitting[0] if fitting else None


def patchable_version(wanted: Wanted, found: Found) -> ModelVersion | None:
    """The version that only lacks the resource bundle. It must be the latest: the next one is made of that.

    And it must be as it was uploaded, N.0: somebody who changes a parameter makes N.1 with the same files and the mark.
    """
    latest = max(found.model_versions, key=lambda v: v.number, default=None)
    return latest if latest in _marked_versions(wanted, found) and latest.number[1] == 0 else None


def _marked_versions(wanted: Wanted, found: Found) -> list[ModelVersion]:
    mark = model_mark(wanted, found)
    return sorted((v for v in found.model_versions if mark in v.files), key=lambda v: v.number)


def registered_version(version: ModelVersion | None, found: Found) -> RegisteredVersion | None:
    """The registered version that was made of this model version."""
    if version is None:
        return None
    made = [
        r for r in found.registered_versions if r.model_version_id == version.id or r.name.endswith(f"[{version.id}]")
    ]
    return made[0] if made else None


def choose_bundle(wanted: Wanted, bundles: Sequence[ResourceBundle]) -> ResourceBundle | None:
    """The bundle by name or id, or the smallest with enough GPUs; None when no GPU is wanted. Raises UploadError."""
    if wanted.resource_bundle is None and wanted.gpus == 0:
        return None
    named = wanted.resource_bundle
    if named is not None:
        fitting = [b for b in bundles if named in (b.id, b.name)]
        asked = f"resource bundle {named!r}"
    else:
        fitting = [b for b in bundles if b.gpu_count >= wanted.gpus]
        asked = f"resource bundle with {wanted.gpus} GPUs"
    if fitting:
        return min(fitting, key=lambda b: (b.gpu_count, b.gpu_memory_bytes, b.memory_bytes, b.id))
    known = ", ".join(f"{b.name} ({b.id}, {b.gpu_count:g} GPUs)" for b in bundles) or "none"
    raise UploadError(f"There is no {asked} for custom models. There are: {known}.", REFUSED)
