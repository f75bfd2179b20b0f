"""The routes: method, path, what the request must be, and what comes of it."""

import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from fake_datarobot.request import Request, Wrong, exactly
from fake_datarobot.state import NOW, Json, State, one

PAGE = 2
"""Small, so that every list of some length has a second page."""
USER = {"id": "5f0000000000000000000001", "email": "user@example.com", "name": "User"}


@dataclass(frozen=True)
class Answer:
    body: Any
    status: int = 200
    location: str | None = None


Handler = Callable[..., Answer]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    regex = re.compile("/api/v2/" + pattern.replace("{}", "([0-9a-z.]+)"))

    def register(handler: Handler) -> Handler:
        ROUTES.append((method, regex, handler))
        return handler

    return register


def answer(state: State, request: Request) -> Answer:
    for method, regex, handler in ROUTES:
        if (found := regex.fullmatch(request.path)) and method == request.method:
            return handler(state, request, *found.groups())
    raise Wrong(f"no route {request.method} {request.path}", 404)


def paged(request: Request, things: list[Json], **filters: Callable[[Json, str], bool]) -> Answer:
    """A page of a list, as DataRobot cuts it; other filters than those named break the contract."""
    for name, values in request.query.items():
        if name not in (*filters, "offset", "limit"):
            raise Wrong(f"unknown filter {name}")
        if name in filters:
            things = [thing for thing in things if filters[name](thing, values[0])]
    offset = int(request.query.get("offset", ["0"])[0])
    more = "&".join(f"{k}={v[0]}" for k, v in request.query.items() if k != "offset")
    url = f"http://{request.headers['host']}{request.path}?{more}&offset={offset + PAGE}"
    page = things[offset : offset + PAGE]
    return Answer(
        {"data": page, "count": len(page), "previous": None, "next": url if things[offset + PAGE :] else None}
    )


def named(thing: Json, text: str) -> bool:
    return text.lower() in str(thing.get("name") or thing.get("label")).lower()


@route("GET", "version/")
def version(state: State, request: Request) -> Answer:
    from datarobot._version import __expected_server_version__ as expected

    return Answer({"major": 2, "minor": 49, "versionString": f"{expected}.0", "releasedVersion": expected})


# --- Environments -----------------------------------------------------------------------------------------------------


@route("GET", "executionEnvironments/")
def environments(state: State, request: Request) -> Answer:
    return paged(request, list(state.environments.values()), isOwn=lambda _, value: value == "true")


@route("POST", "executionEnvironments/")
def create_environment(state: State, request: Request) -> Answer:
    exactly(request.json, name=str, description=str, programmingLanguage="python", useCases=["customModel"])
    id = state.new_id("env")
    state.environments[id] = {"id": id, **request.json, "isPublic": False, "created": NOW, "requiredMetadataKeys": []}
    return Answer({"id": id}, 201)


@route("GET", "executionEnvironments/{}/")
def environment(state: State, request: Request, id: str) -> Answer:
    return Answer(one(state.environments, id))


@route("GET", "executionEnvironments/{}/versions/")
def environment_versions(state: State, request: Request, id: str) -> Answer:
    one(state.environments, id)
    return paged(request, [v for v in state.environment_versions.values() if v["environmentId"] == id])


@route("POST", "executionEnvironments/{}/versions/")
def add_environment_version(state: State, request: Request, id: str) -> Answer:
    one(state.environments, id)
    source: Json = {"sourceDockerImageUri": None, "image": None}
    if request.is_form:
        parts = {part.name: part for part in request.parts}
        files = {name: part for name, part in parts.items() if part.filename}
        if set(files) not in ({"docker_context"}, {"dockerImage", "dockerContext"}):
            raise Wrong(f"files {sorted(files)}")
        with tarfile.open(
            fileobj=io.BytesIO((files.get("docker_context") or files["dockerContext"]).content)
        ) as context:
            if "Dockerfile" not in context.getnames():
                raise Wrong("the context has no Dockerfile at its top")
        given = {name: part.text for name, part in parts.items() if not part.filename}
        exactly(given, label=str, description=str)
        if "dockerImage" in files:
            source["image"] = files["dockerImage"].content.hex()[:40]
    else:
        given = request.json
        exactly(given, label=str, description=str, dockerImageUri=str)
        source["sourceDockerImageUri"] = given["dockerImageUri"]
    if len(given["label"]) > 50:
        raise Wrong("label is longer than 50")
    version_id = state.new_id("envver")
    fails = state.failing_builds > 0
    state.failing_builds -= fails
    state.environment_versions[version_id] = {
        "id": version_id,
        "environmentId": id,
        "imageId": version_id,
        "label": given["label"],
        "description": given["description"],
        "buildStatus": "submitted",
        "created": NOW,
        "dockerContextSize": 1,
        "dockerImageSize": None,
        "fails": fails,
        **source,
    }
    return Answer({"id": version_id}, 202)


@route("GET", "executionEnvironments/{}/versions/{}/")
def environment_version(state: State, request: Request, id: str, version_id: str) -> Answer:
    found = one(state.environment_versions, version_id)
    if found["buildStatus"] in ("submitted", "processing"):
        done = "failed" if found["fails"] else "success"
        found["buildStatus"] = done if state.poll(version_id) else "processing"
    return Answer(found)


@route("GET", "executionEnvironments/{}/versions/{}/buildLog/")
def build_log(state: State, request: Request, id: str, version_id: str) -> Answer:
    one(state.environment_versions, version_id)
    log = "\n".join(f"step {number}" for number in range(100)) + "\nERROR: no space left on device"
    return Answer({"log": log, "error": "Docker build failed"})


# --- Credentials ------------------------------------------------------------------------------------------------------


@route("GET", "credentials/")
def credentials(state: State, request: Request) -> Answer:
    return paged(request, list(state.credentials.values()))


@route("POST", "credentials/")
def create_credential(state: State, request: Request) -> Answer:
    exactly(request.json, name=str, credentialType="api_token", apiToken=str)
    id = state.new_id("cred")
    state.credentials[id] = {
        "credentialId": id,
        "name": request.json["name"],
        "credentialType": "api_token",
        "creationDate": NOW,
        "description": "",
    }
    state.secrets[id] = request.json["apiToken"]
    return Answer(state.credentials[id], 201)


# --- Custom models ----------------------------------------------------------------------------------------------------


@route("GET", "customModels/")
def models(state: State, request: Request) -> Answer:
    kind = {"customModelType": lambda m, value: m["customModelType"] == value}
    return paged(request, list(state.models.values()), searchFor=named, **kind)


@route("POST", "customModels/")
def create_model(state: State, request: Request) -> Answer:
    exactly(
        request.json,
        customModelType="inference",
        name=str,
        description=str,
        targetType="TextGeneration",
        targetName="resultText",
        language="python",
    )
    id = state.new_id("model")
    state.models[id] = {
        "id": id,
        **request.json,
        "supportsBinaryClassification": False,
        "supportsRegression": False,
        "latestVersion": None,
        "deploymentsCount": 0,
        "createdBy": "user@example.com",
        "created": NOW,
        "updated": NOW,
        "trainingDataAssignmentInProgress": False,
    }
    return Answer(state.models[id], 201)


@route("GET", "customModels/{}/versions/")
def model_versions(state: State, request: Request, id: str) -> Answer:
    return paged(request, of_model(state, id))


@route("GET", "customModels/{}/versions/{}/")
def model_version(state: State, request: Request, id: str, version_id: str) -> Answer:
    return Answer(one(state.model_versions, version_id))


@route("POST", "customModels/{}/versions/")
def add_model_version(state: State, request: Request, id: str) -> Answer:
    parts = request.parts
    fields = {p.name: p.text for p in parts if p.name not in ("file", "filePath")}
    exactly(
        fields,
        isMajorUpdate="True",
        baseEnvironmentId=str,
        baseEnvironmentVersionId=str,
        networkEgressPolicy=lambda policy: policy in ("PUBLIC", "NONE"),
        runtimeParameterValues=str,
    )
    check_environment(state, fields)
    names = [p.text for p in parts if p.name == "filePath"]
    contents = [p for p in parts if p.name == "file"]
    if [name.rpartition("/")[2] for name in names] != [p.filename for p in contents] or len(set(names)) != len(names):
        raise Wrong("each file needs a path of its own, in the same order")
    if "requirements.txt" in names or "custom.py" not in names:
        raise Wrong(f"not the files of this model: {names}")
    files = dict(zip(names, (p.content for p in contents), strict=True))
    earlier = of_model(state, id)
    made = {
        "id": state.new_id("modelver"),
        "customModelId": id,
        "versionMajor": 1 + max((v["versionMajor"] for v in earlier), default=0),
        "versionMinor": 0,
        "isFrozen": False,
        "items": [
            {
                "id": f"item{n}",
                "fileName": name.rpartition("/")[2],
                "filePath": name,
                "fileSource": "local",
                "created": NOW,
            }
            for n, name in enumerate(names)
        ],
        "baseEnvironmentId": fields["baseEnvironmentId"],
        "baseEnvironmentVersionId": fields["baseEnvironmentVersionId"],
        "label": None,
        "description": "",
        "created": NOW,
        "networkEgressPolicy": fields["networkEgressPolicy"],
        "resourceBundleId": None,
        "runtimeParameters": parameters(state, files, json.loads(fields["runtimeParameterValues"])),
    }
    state.model_versions[made["id"]] = made
    return Answer(made, 201)


@route("PATCH", "customModels/{}/versions/")
def change_model_version(state: State, request: Request, id: str) -> Answer:
    exactly(
        request.json,
        isMajorUpdate="false",
        baseEnvironmentId=str,
        baseEnvironmentVersionId=str,
        resourceBundleId=lambda bundle: bundle in [b["id"] for b in state.bundles],
    )
    check_environment(state, request.json)
    latest = max(of_model(state, id), key=lambda v: (v["versionMajor"], v["versionMinor"]))
    made = {
        **latest,
        "id": state.new_id("modelver"),
        "versionMinor": latest["versionMinor"] + 1,
        "resourceBundleId": request.json["resourceBundleId"],
    }
    state.model_versions[made["id"]] = made
    return Answer(made, 201)


def of_model(state: State, id: str) -> list[Json]:
    one(state.models, id)
    return [v for v in state.model_versions.values() if v["customModelId"] == id]


def check_environment(state: State, fields: Json) -> None:
    built = one(state.environment_versions, fields["baseEnvironmentVersionId"])
    if built["environmentId"] != fields["baseEnvironmentId"] or built["buildStatus"] != "success":
        raise Wrong(f"the environment version is of another environment, or {built['buildStatus']}")


def parameters(state: State, files: dict[str, bytes], values: list[Json]) -> list[Json]:
    """The definitions of the uploaded model-metadata.yaml with the given values, of the right type."""
    metadata = yaml.safe_load(files["model-metadata.yaml"])
    defined = {d["fieldName"]: d for d in metadata["runtimeParameterDefinitions"]}
    types = {"string": str, "boolean": bool, "numeric": int | float, "credential": lambda id: id in state.credentials}
    given = {}
    for value in values:
        definition = defined.get(value.get("fieldName"), {})
        exactly(value, fieldName=lambda name: name in defined, type=definition.get("type"), value=lambda _: True)
        kind: Any = types[value["type"]]
        good = (
            isinstance(value["value"], kind) if not callable(kind) or isinstance(kind, type) else kind(value["value"])
        )
        if not good or (isinstance(value["value"], bool) and value["type"] != "boolean"):
            raise Wrong(f"runtime parameter {value}")
        given[value["fieldName"]] = value["value"]
    return [
        {"fieldName": name, "type": d["type"], "overrideValue": given.get(name), "currentValue": given.get(name)}
        for name, d in defined.items()
    ]


@route("GET", "mlops/compute/bundles/")
def bundles(state: State, request: Request) -> Answer:
    return paged(request, state.bundles, useCases=lambda b, use: use in b["useCases"])


# --- Registered models and deployments --------------------------------------------------------------------------------


@route("GET", "registeredModels/")
def registered_models(state: State, request: Request) -> Answer:
    return paged(request, list(state.registered_models.values()), search=named)


@route("GET", "registeredModels/{}/versions/")
def registered_versions(state: State, request: Request, id: str) -> Answer:
    one(state.registered_models, id)
    return paged(request, [v for v in state.registered_versions.values() if v["registeredModelId"] == id])


@route("GET", "registeredModels/{}/versions/{}/")
def registered_version(state: State, request: Request, id: str, version_id: str) -> Answer:
    found = one(state.registered_versions, version_id)
    if found["registeredModelId"] != id:
        raise Wrong(f"{version_id} is not a version of {id}", 404)
    if found["buildStatus"] == "inProgress" and state.poll(version_id):
        found["buildStatus"] = "complete"
    return Answer(found)


@route("POST", "modelPackages/fromCustomModelVersion/")
def register(state: State, request: Request) -> Answer:
    target = "registeredModelId" if "registeredModelId" in request.json else "registeredModelName"
    exactly(request.json, customModelVersionId=str, name=str, **{target: str})
    version = one(state.model_versions, request.json["customModelVersionId"])
    if target == "registeredModelName":
        name = request.json[target]
        if any(model["name"] == name for model in state.registered_models.values()):
            raise Wrong("this registered model is there already", 409)
        model_id = state.new_id("regmod")
        state.registered_models[model_id] = {"id": model_id, "name": name, "isArchived": False, "lastVersionNum": 1}
    else:
        model_id = request.json[target]
        one(state.registered_models, model_id)
    id = state.new_id("package")
    empty: Json = {}
    state.registered_versions[id] = {
        "id": id,
        "registeredModelId": model_id,
        "registeredModelVersion": 1
        + sum(v["registeredModelId"] == model_id for v in state.registered_versions.values()),
        "name": request.json["name"],
        "modelId": version["id"],
        "modelExecutionType": "custom_inference_model",
        "isArchived": False,
        "isDeprecated": False,
        "buildStatus": "inProgress",
        "permissions": [],
        "activeDeploymentCount": 0,
        "importMeta": empty,
        "sourceMeta": empty,
        "modelKind": empty,
        "target": {"name": "resultText", "type": "TextGeneration"},
        "modelDescription": empty,
        "datasets": empty,
        "timeseries": empty,
    }
    return Answer(state.registered_versions[id], 201)


@route("GET", "predictionEnvironments/")
def prediction_environments(state: State, request: Request) -> Answer:
    return paged(request, list(state.prediction_environments.values()))


@route("POST", "predictionEnvironments/")
def create_prediction_environment(state: State, request: Request) -> Answer:
    exactly(request.json, name=str, platform="datarobotServerless", isManagedByManagementAgent=False)
    id = state.new_id("predenv")
    state.prediction_environments[id] = {"id": id, **request.json, "isDeleted": False, "description": ""}
    return Answer(state.prediction_environments[id], 201)


@route("GET", "deployments/")
def deployments(state: State, request: Request) -> Answer:
    return paged(request, list(state.deployments.values()), search=named)


@route("POST", "deployments/fromModelPackage/")
def deploy(state: State, request: Request) -> Answer:
    exactly(request.json, modelPackageId=str, label=str, predictionEnvironmentId=str)
    one(state.prediction_environments, request.json["predictionEnvironmentId"])
    package = complete_package(state, request)
    id = state.new_id("deploy")
    state.deployments[id] = {
        "id": id,
        "label": request.json["label"],
        "status": "launching",
        "modelPackage": {
            "id": package["id"],
            "name": package["name"],
            "registeredModelId": package["registeredModelId"],
        },
        "predictionEnvironment": {"id": request.json["predictionEnvironmentId"]},
    }
    return job(state, request, id)


@route("GET", "deployments/{}/")
def deployment(state: State, request: Request, id: str) -> Answer:
    found = one(state.deployments, id)
    if found["status"] in ("launching", "replacingModel") and state.poll(id):
        found["status"] = "active"
    return Answer(found)


@route("PATCH", "deployments/{}/model/")
def replace_model(state: State, request: Request, id: str) -> Answer:
    exactly(request.json, modelPackageId=str, reason="OTHER")
    found, package = one(state.deployments, id), complete_package(state, request)
    found["modelPackage"] = {"id": package["id"], "name": package["name"]}
    found["status"] = "replacingModel"
    state.restart_polls(id)
    return job(state, request, id)


def complete_package(state: State, request: Request) -> Json:
    package = one(state.registered_versions, request.json["modelPackageId"])
    if package["buildStatus"] != "complete":
        raise Wrong(f"the registered version is {package['buildStatus']}")
    return package


def job(state: State, request: Request, deployment_id: str) -> Answer:
    id = state.new_id("job")
    state.jobs[id] = {"deployment": deployment_id}
    return Answer({"id": deployment_id}, 202, f"http://{request.headers['host']}/api/v2/status/{id}/")


@route("GET", "status/{}/")
def status(state: State, request: Request, id: str) -> Answer:
    found = one(state.jobs, id)
    if error := found.get("error"):
        return Answer({"statusId": id, "status": "ERROR", "message": error})
    if not state.poll(id):
        return Answer({"statusId": id, "status": "RUNNING", "message": ""})
    where = f"http://{request.headers['host']}/api/v2/deployments/{found['deployment']}/"
    return Answer("", 303, where)
