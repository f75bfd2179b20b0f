"""Routes: custom models, their versions, resource bundles."""

import json
from typing import Any

import yaml

from fake_datarobot.request import Request, Wrong, exactly
from fake_datarobot.routing import Answer, named, paged, route
from fake_datarobot.state import NOW, Json, State, one


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
        targetName=str,
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
    if "requirements.txt" in names or "model-metadata.yaml" not in names:
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
