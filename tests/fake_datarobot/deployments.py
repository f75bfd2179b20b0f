"""Routes: registered models, prediction environments, deployments and the jobs that make them."""

from fake_datarobot.request import Request, Wrong, exactly
from fake_datarobot.routing import Answer, named, paged, route
from fake_datarobot.state import Json, State, one


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
