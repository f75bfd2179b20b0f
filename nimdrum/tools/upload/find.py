"""Looks at what is there in DataRobot. Sends nothing that writes.

Paths and fields: the `datarobot` client 3.20, and DataRobot's Terraform provider for `resourceBundleId` of a version.
"""

import re
from typing import Any, TypeVar

from datarobot.client import RESTClientObject

from nimdrum.base.errors import UploadError
from nimdrum.tools.upload.changes import choose_bundle
from nimdrum.tools.upload.datarobot_client import listed
from nimdrum.tools.upload.exit_codes import OF_DATAROBOT, REFUSED, fail
from nimdrum.tools.upload.wanted import (
    Deployment,
    EnvironmentVersion,
    Found,
    ModelVersion,
    RegisteredVersion,
    ResourceBundle,
    Wanted,
)

Json = dict[str, Any]
T = TypeVar("T")


def look(client: RESTClientObject, wanted: Wanted) -> Found:
    """Find what is there of what is wanted. Raises UploadError, also for a name twice and a model of another type."""
    try:
        return _look(client, wanted)
    except OF_DATAROBOT as error:
        fail("look at what is in DataRobot", error)


def _look(client: RESTClientObject, wanted: Wanted) -> Found:
    # Not searched for by name: the list of own environments is short, and its name has brackets.
    environments = listed(client, "executionEnvironments/", isOwn="True")
    environment = _one("environment", "name", wanted.environment_name, environments)
    credential = None
    if wanted.credential_name is not None:
        credentials = [c for c in listed(client, "credentials/") if c.get("credentialType") == "api_token"]
        credential = _one("credential of type API token", "name", wanted.credential_name, credentials)
    models = listed(client, "customModels/", customModelType="inference", searchFor=_search(wanted.model_name))
    model = _one("custom model", "name", wanted.model_name, models)
    if model is not None and str(model.get("targetType")).lower() != "textgeneration":
        raise UploadError(
            f"The custom model {wanted.model_name!r} is there with the target type {model.get('targetType')}: "
            "give another --name.",
            REFUSED,
        )
    bundles = []
    if wanted.resource_bundle is not None or wanted.gpus:
        bundles = [
            _bundle(b)
            for b in listed(client, "mlops/compute/bundles/", useCases="customModel")
            if not b.get("isDeleted")
        ]
    registered = deployment = prediction_environment = None
    if wanted.registered_model is not None:
        found = listed(client, "registeredModels/", search=_search(wanted.registered_model))
        registered = _one(
            "registered model", "name", wanted.registered_model, [r for r in found if not r.get("isArchived")]
        )
    if wanted.deployment is not None:
        deployment = _one(
            "deployment", "label", wanted.deployment, listed(client, "deployments/", search=_search(wanted.deployment))
        )
        places = [p for p in listed(client, "predictionEnvironments/") if not p.get("isDeleted")]
        named = [p for p in places if p["id"] == wanted.prediction_environment]
        prediction_environment = (
            named[0] if named else _one("prediction environment", "name", wanted.prediction_environment, places)
        )
    environment_id, model_id, registered_id = _id(environment), _id(model), _id(registered)
    versions = listed(client, f"executionEnvironments/{environment_id}/versions/") if environment_id else []
    model_versions = listed(client, f"customModels/{model_id}/versions/") if model_id else []
    registered_versions = listed(client, f"registeredModels/{registered_id}/versions/") if registered_id else []
    return Found(
        environment_id=environment_id,
        environment_versions=tuple(environment_version_from(v) for v in versions),
        credential_id=credential["credentialId"] if credential else None,
        model_id=model_id,
        model_versions=tuple(model_version_from(v) for v in model_versions),
        bundle=choose_bundle(wanted, bundles),
        registered_model_id=registered_id,
        registered_versions=tuple(registered_version_from(v) for v in registered_versions if not v.get("isArchived")),
        prediction_environment_id=_id(prediction_environment),
        deployment=deployment_from(deployment) if deployment else None,
    )


def _one(kind: str, field: str, name: str, things: list[Json]) -> Json | None:
    named = [thing for thing in things if thing.get(field) == name]
    if len(named) > 1:
        ids = ", ".join(str(thing.get("id") or thing.get("credentialId")) for thing in named)
        raise UploadError(
            f"There is more than one {kind} named {name!r} ({ids}): rename one in DataRobot, or give another name.",
            REFUSED,
        )
    return named[0] if named else None


def _search(name: str) -> str:
    """The longest part of a name that no search takes for a pattern."""
    words: list[str] = re.findall(r"[A-Za-z0-9 ]+", name)
    return max(words or [name], key=len).strip()


def _id(thing: Json | None) -> str | None:
    return str(thing["id"]) if thing else None


def _bundle(raw: Json) -> ResourceBundle:
    sizes = (raw.get("gpuCount") or 0, raw.get("gpuMemoryBytes") or 0, raw.get("memoryBytes") or 0)
    return ResourceBundle(raw["id"], raw["name"], *sizes)


def environment_version_from(raw: Json) -> EnvironmentVersion:
    return EnvironmentVersion(raw["id"], raw.get("description") or "", raw["buildStatus"], raw.get("created") or "")


def model_version_from(raw: Json) -> ModelVersion:
    files = frozenset(item["filePath"].lstrip("/") for item in raw["items"])
    return ModelVersion(raw["id"], (raw["versionMajor"], raw["versionMinor"]), files, raw.get("resourceBundleId"))


def registered_version_from(raw: Json) -> RegisteredVersion:
    return RegisteredVersion(raw["id"], raw["modelId"], raw["name"], raw.get("buildStatus"))


def deployment_from(raw: Json) -> Deployment:
    return Deployment(raw["id"], (raw.get("modelPackage") or {}).get("id"), raw.get("status") or "")
