"""Routes: the version, environments and their versions, credentials."""

import io
import tarfile

from fake_datarobot.request import Request, Wrong, exactly
from fake_datarobot.routing import Answer, paged, route
from fake_datarobot.state import NOW, Json, State, one


@route("GET", "version/")
def version(state: State, request: Request) -> Answer:
    from datarobot._version import __expected_server_version__ as expected

    return Answer({"major": 2, "minor": 49, "versionString": f"{expected}.0", "releasedVersion": expected})


@route("GET", "executionEnvironments/")
def environments(state: State, request: Request) -> Answer:
    return paged(request, list(state.environments.values()), isOwn=lambda _, value: value == "True")


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
