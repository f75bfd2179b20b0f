"""`upload` with the real datarobot client against a DataRobot on loopback that checks every request."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_datarobot.request import Request
from fake_datarobot.routing import Answer
from fake_datarobot.server import Fault
from fake_datarobot.state import State
from upload_world import DEPLOY, FAST, NGC_KEY, TOKEN, UploadWorld

ALL_THERE = {
    "environments": 1,
    "environment_versions": 1,
    "credentials": 1,
    "models": 1,
    "model_versions": 2,  # the second one has the resource bundle
    "registered_models": 1,
    "registered_versions": 1,
    "prediction_environments": 1,
    "deployments": 1,
    "secrets": 1,
}
MODEL_FILES = ["model-metadata.yaml"]


def last_version(world: UploadWorld) -> dict[str, Any]:
    return list(world.fake.state.model_versions.values())[-1]


def overrides(version: dict[str, Any]) -> dict[str, Any]:
    return {p["fieldName"]: p["overrideValue"] for p in version["runtimeParameters"] if p["overrideValue"] is not None}


def test_from_nothing_to_a_deployment(upload_world: UploadWorld) -> None:
    """One run makes all of it, in the order of the contract, and tells the ids and where to chat."""
    done = upload_world.run(*DEPLOY)
    assert done.exit_code == 0, done.text
    state = upload_world.fake.state
    assert state.counts() == ALL_THERE
    (deployment,) = state.deployments.values()
    assert deployment["status"] == "active"
    assert f"/api/v2/deployments/{deployment['id']}/chat/completions" in done.text
    assert [(r.method, r.path.split("/")[3]) for r in upload_world.fake.writes] == [
        ("POST", "credentials"),
        ("POST", "executionEnvironments"),
        ("POST", "executionEnvironments"),
        ("POST", "customModels"),
        ("POST", "customModels"),
        ("PATCH", "customModels"),
        ("POST", "modelPackages"),
        ("POST", "predictionEnvironments"),
        ("POST", "deployments"),
    ]


def test_what_the_model_version_is(upload_world: UploadWorld) -> None:
    """The allow-list of files and the file that marks it, the credential's id, public egress, the smallest GPU bundle."""
    assert upload_world.run(*DEPLOY).exit_code == 0
    version = last_version(upload_world)
    names = sorted(item["filePath"] for item in version["items"])
    marks = [name for name in names if name.startswith("nimdrum-upload-")]
    assert (len(marks), sorted(set(names) - set(marks))) == (1, MODEL_FILES)
    (credential_id,) = upload_world.fake.state.credentials
    assert overrides(version) == {"NGC_API_KEY": credential_id}
    assert (version["networkEgressPolicy"], version["resourceBundleId"]) == ("PUBLIC", "gpu.medium")
    assert (version["versionMajor"], version["versionMinor"]) == (1, 1)


def test_a_second_run_changes_nothing(upload_world: UploadWorld) -> None:
    """It sends nothing but GET, needs no NGC key, and says unchanged."""
    upload_world.run(*DEPLOY)
    before, end = len(upload_world.fake.writes), copy.deepcopy(upload_world.fake.state.end())
    upload_world.environ.clear()
    again = upload_world.run(*DEPLOY)
    assert (again.exit_code, len(upload_world.fake.writes)) == (0, before)
    assert upload_world.fake.state.end() == end
    assert "unchanged" in again.text
    assert "..." not in again.text


SLICES = 2
"""The requests are dealt out to so many tests, so that they run side by side."""


@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("begin", ["nothing", "replace"])
@pytest.mark.parametrize("part", range(SLICES))
def test_interrupted_at_any_request_and_started_again(
    upload_world: UploadWorld, part: int, begin: str, applied: bool
) -> None:
    """The connection is lost at each request in turn, before or after the server applied it: the end is the same.

    Begun with nothing there, and with a deployment whose model is replaced. A GET has nothing to apply.
    """
    fake = upload_world.fake
    arguments = [*DEPLOY, "--parameters", upload_world.parameters("max_tokens: 200\nsplit_reasoning: false\n")]
    if begin == "replace":
        assert upload_world.run(*DEPLOY).exit_code == 0
        arguments.append("--replace")
    first = copy.deepcopy(fake.state)
    fake.seen = []
    assert upload_world.run(*arguments).exit_code == 0
    wanted, requests = copy.deepcopy(fake.state.end()), fake.seen
    assert len(requests) > 20
    chosen = [at for at, request in enumerate(requests) if not applied or request.method != "GET"]
    for at in chosen[part::SLICES]:
        fake.state, fake.seen, fake.fault = copy.deepcopy(first), [], Fault(at, applied)
        cut = upload_world.run(*arguments)
        assert cut.exit_code == 5, (at, cut.text)
        assert "Run the same command again" in cut.text
        fake.fault = None
        again = upload_world.run(*arguments)
        assert again.exit_code == 0, (at, again.text)
        assert fake.state.end() == wanted, at
    fake.state, fake.seen, fake.fault = copy.deepcopy(first), [], Fault(len(requests), applied)
    assert upload_world.run(*arguments).exit_code == 0, "the loop has covered every request"


def test_interrupted_again_and_again(upload_world: UploadWorld) -> None:
    """A connection that only ever lasts two requests longer than the last time still gets there."""
    fake = upload_world.fake
    assert upload_world.run(*DEPLOY).exit_code == 0
    wanted, runs = copy.deepcopy(fake.state.end()), 0
    fake.state = State()
    for at in range(0, 200, 2):
        fake.seen, fake.fault, runs = [], Fault(at, applied=at % 4 == 0), runs + 1
        if upload_world.run(*DEPLOY).exit_code == 0:
            break
    assert runs > 5
    assert fake.state.end() == wanted


def test_a_dry_run_sends_nothing_that_writes(upload_world: UploadWorld) -> None:
    """It reads, prints the whole plan, and asks for no key; half-way it prints what is left."""
    upload_world.environ.clear()
    dry = upload_world.run(*DEPLOY, "--dry-run")
    assert dry.exit_code == 0
    assert upload_world.fake.writes == []
    assert [line[:3] for line in dry.text.splitlines() if line[:2].strip().isdigit()] == [
        f"{n:>2}." for n in range(1, 13)
    ]
    assert "gpu.medium" in dry.text
    upload_world.environ["NGC_API_KEY"] = NGC_KEY
    upload_world.run(*DEPLOY[:2])
    writes = len(upload_world.fake.writes)
    rest = upload_world.run(*DEPLOY, "--dry-run")
    assert " 1. register the version" in rest.text
    assert len(upload_world.fake.writes) == writes


def test_the_key_goes_into_one_request(upload_world: UploadWorld) -> None:
    """Every other request, header and file is free of it; so is what is printed (see UploadWorld.run)."""
    assert upload_world.run(*DEPLOY).exit_code == 0
    carriers = [r for r in upload_world.fake.seen if NGC_KEY in repr((r.path, r.query, r.headers, r.body))]
    assert [(r.method, r.path) for r in carriers] == [("POST", "/api/v2/credentials/")]
    assert all(TOKEN not in repr((r.path, r.query, r.body)) for r in upload_world.fake.seen)


def test_the_key_may_stand_in_the_parameters_file(upload_world: UploadWorld) -> None:
    """In DRUM's form for a credential; it becomes a credential all the same, and never a parameter's value."""
    upload_world.environ.clear()
    text = f"NGC_API_KEY:\n  credentialType: api_token\n  apiToken: {NGC_KEY}\nmax_tokens: 5\n"
    assert upload_world.run(*DEPLOY, "--parameters", upload_world.parameters(text)).exit_code == 0
    assert list(upload_world.fake.state.secrets.values()) == [NGC_KEY]
    assert overrides(last_version(upload_world))["max_tokens"] == 5
    assert sum(NGC_KEY.encode() in r.body for r in upload_world.fake.seen) == 1


def test_a_credential_that_is_there_is_given_by_its_id(upload_world: UploadWorld) -> None:
    """As the value of NGC_API_KEY in the parameters file: no key is needed, and no credential made."""
    state = upload_world.fake.state
    state.credentials["c0ffee"] = {"credentialId": "c0ffee", "name": "team key", "credentialType": "api_token"}
    upload_world.environ.clear()
    assert upload_world.run(*DEPLOY, "--parameters", upload_world.parameters("NGC_API_KEY: c0ffee")).exit_code == 0
    assert overrides(last_version(upload_world)) == {"NGC_API_KEY": "c0ffee"}
    assert len(state.credentials) == 1


def test_the_credential_of_a_store_is_given_by_its_id(upload_world: UploadWorld) -> None:
    """model_artifacts_credential is stored in DataRobot before; with weights of one's own no NGC key is stored."""
    state = upload_world.fake.state
    state.credentials["c0ffee"] = {"credentialId": "c0ffee", "name": "store", "credentialType": "s3"}
    text = "model_artifacts_uri: s3://b/llm/\nmodel_artifacts_credential: c0ffee\n"
    assert upload_world.run(*DEPLOY[:2], "--parameters", upload_world.parameters(text)).exit_code == 0
    given = overrides(last_version(upload_world))
    assert given == {"model_artifacts_uri": "s3://b/llm/", "model_artifacts_credential": "c0ffee"}
    assert state.secrets == {}


def test_the_types_of_parameter_values(upload_world: UploadWorld) -> None:
    """Text stays text, numbers and booleans keep their kind, what is empty or null stays at its default."""
    text = "max_tokens: 200\ntemperature: 0\nsplit_reasoning: false\nsystem_prompt: '007'\nresponse_format:\nn: '2'\n"
    assert (
        upload_world.run(*DEPLOY[:2], "--no-credential", "--parameters", upload_world.parameters(text)).exit_code == 0
    )
    assert overrides(last_version(upload_world)) == {
        "max_tokens": 200,
        "temperature": 0,
        "split_reasoning": False,
        "system_prompt": "007",
        "n": 2,
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("max_tokenz: 5", "max_tokenz is not a runtime parameter; did you mean max_tokens?"),
        ("max_tokens: -1", "a number from 0"),
        ("max_tokens: 1.5", "whole number"),
        ("engine: vllm", "allowed are auto, nim"),
        ("split_reasoning: maybe", "true and false"),
        ("response_format: '{'", "response_format"),
        (f"NGC_API_KEY: {{credentialType: api_token, apiToken: {NGC_KEY}", "line 1"),
        ("NGC_API_KEY: {credentialType: api_token}", "without an apiToken"),
        (f"model_artifacts_credential: {{credentialType: s3, awsSecretAccessKey: {NGC_KEY}}}", "must be the id"),
        ("{model_artifacts_uri: s3://b/llm/, NGC_API_KEY: c0ffee}", "exclude each other"),
        ("- max_tokens", "lines of the form"),
        ("", "lines of the form"),
    ],
)
def test_bad_parameters_stop_before_anything_is_sent(upload_world: UploadWorld, text: str, told: str) -> None:
    """With the name of the file, what is wrong and what is allowed; exit code 2."""
    done = upload_world.run(*DEPLOY, "--parameters", upload_world.parameters(text))
    assert done.exit_code == 2
    assert "parameters.yaml" in done.text
    assert told in done.text
    assert upload_world.fake.seen == []


def test_a_changed_model_makes_a_new_version(upload_world: UploadWorld, tmp_path: Path) -> None:
    """The environment stays; with --replace the deployment gets the new version, without it nothing is sent."""
    upload_world.run(*DEPLOY)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/engine_config.json").write_text('{"env": {}}', encoding="utf-8")
    changed = (*DEPLOY, "--model-dir", str(tmp_path / "mine"))
    writes = len(upload_world.fake.writes)
    refused = upload_world.run(*changed)
    assert (refused.exit_code, len(upload_world.fake.writes)) == (4, writes)
    assert "--replace" in refused.text
    assert upload_world.run(*changed, "--replace").exit_code == 0
    files = [item["filePath"] for item in last_version(upload_world)["items"]]
    assert sorted(files)[:2] == ["engine_config.json", "model-metadata.yaml"]
    state = upload_world.fake.state
    assert state.counts() == {**ALL_THERE, "model_versions": 4, "registered_versions": 2}
    (deployment,) = state.deployments.values()
    assert deployment["modelPackage"]["id"] == list(state.registered_versions)[-1]
    assert "unchanged" in upload_world.run(*changed).text


MINE = """
name: My own
type: inference
targetType: textgeneration
inferenceModel:
  targetName: answer
runtimeParameterDefinitions:
  - fieldName: my_own
    type: string
"""


def test_a_users_list_of_parameters(upload_world: UploadWorld, tmp_path: Path) -> None:
    """Its name and target are the model's, its own parameters can be set, and what it leaves out cannot: DataRobot would
    refuse that."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/model-metadata.yaml").write_text(MINE, encoding="utf-8")
    arguments = (*DEPLOY[:2], "--no-credential", "--model-dir", str(tmp_path / "mine"), "--parameters")
    assert upload_world.run(*arguments, upload_world.parameters("my_own: here")).exit_code == 0
    assert overrides(last_version(upload_world)) == {"my_own": "here"}
    (model,) = upload_world.fake.state.models.values()
    assert (model["name"], model["targetName"]) == ("My own", "answer")
    left_out = upload_world.run(*arguments, upload_world.parameters("max_tokens: 5"))
    assert (left_out.exit_code, "max_tokens is not defined in" in left_out.text) == (2, True)


@pytest.mark.parametrize("change", ["--egress none", "--gpus 4", "--image-uri registry.example.com/other@sha256:2"])
def test_what_makes_a_new_version(upload_world: UploadWorld, change: str) -> None:
    """Another egress policy, bundle or environment; each is unchanged when it is asked for again."""
    arguments = DEPLOY[:2] if "uri" not in change else ()
    upload_world.run(*DEPLOY[:2])
    first = last_version(upload_world)
    assert upload_world.run(*arguments, *change.split()).exit_code == 0
    assert last_version(upload_world)["id"] != first["id"]
    assert "unchanged" in upload_world.run(*arguments, *change.split()).text


def test_a_bundle_by_its_name(upload_world: UploadWorld) -> None:
    """Or by its id; one that is not there is told with those that are."""
    assert upload_world.run(*DEPLOY[:2], "--resource-bundle", "GPU - L").exit_code == 0
    assert last_version(upload_world)["resourceBundleId"] == "gpu.large"
    missing = upload_world.run(*DEPLOY[:2], "--gpus", "8")
    assert missing.exit_code == 4
    assert "GPU - 4XL (gpu.4xlarge, 4 GPUs)" in missing.text


def test_a_version_that_somebody_else_made_last(upload_world: UploadWorld) -> None:
    """The bundle can only be set on the latest version: when ours no longer is, it is made anew."""
    fake = upload_world.fake
    upload_world.run(*DEPLOY[:2], "--gpus", "0")
    ours = last_version(upload_world)
    fake.state.model_versions["foreign"] = {**ours, "id": "foreign", "versionMinor": 1, "items": []}
    assert upload_world.run(*DEPLOY[:2]).exit_code == 0
    assert [(v["versionMajor"], v["versionMinor"]) for v in fake.state.model_versions.values()] == [
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 1),
    ]
    assert "unchanged" in upload_world.run(*DEPLOY[:2]).text


def test_a_version_that_somebody_changed_is_not_built_upon(upload_world: UploadWorld) -> None:
    """A parameter that is changed in DataRobot makes a version with our files: another bundle must not take it along."""
    fake = upload_world.fake
    assert upload_world.run(*DEPLOY[:2]).exit_code == 0
    theirs = {"id": "theirs", "versionMinor": 2, "runtimeParameters": "changed"}
    fake.state.model_versions["theirs"] = {**last_version(upload_world), **theirs}
    assert upload_world.run(*DEPLOY[:2], "--resource-bundle", "GPU - L").exit_code == 0
    last = last_version(upload_world)
    assert (last["versionMajor"], last["versionMinor"], last["resourceBundleId"]) == (2, 1, "gpu.large")
    assert last.get("runtimeParameters") != "changed"


def test_a_bundle_that_does_not_stay(upload_world: UploadWorld) -> None:
    """A DataRobot that ignores it: told once, and not tried for ever."""
    assert upload_world.run(*DEPLOY[:2], "--gpus", "0").exit_code == 0
    ours = last_version(upload_world)
    patch = ("PATCH", f"customModels/{ours['customModelId']}/versions/")
    upload_world.fake.answers[patch] = Answer({**ours, "id": "new", "versionMinor": 1}, 201)
    done = upload_world.run(*DEPLOY[:2])
    assert done.exit_code == 4
    assert "resource bundle None instead of 'gpu.medium'" in done.text


def test_the_image_as_an_archive(upload_world: UploadWorld, tmp_path: Path) -> None:
    """Both files go in one form. The same archive is the same version wherever it lies; changed code changes nothing."""
    archive = tmp_path / "image.tar.gz"
    archive.write_bytes(b"image" * 500_000)
    assert upload_world.run("--image-archive", str(archive)).exit_code == 0
    (version,) = upload_world.fake.state.environment_versions.values()
    assert version["image"] == (b"image" * 4).hex()
    moved = archive.rename(tmp_path / "moved.tar.gz")
    (upload_world.code_dir / "requirements.txt").write_text("# changed")
    assert "unchanged" in upload_world.run("--image-archive", str(moved)).text


def test_datarobot_builds_the_image(upload_world: UploadWorld) -> None:
    """Then the context is what is built, so a changed context is another version."""
    assert upload_world.run("--build").exit_code == 0
    (upload_world.code_dir / "requirements.txt").write_text("# changed")
    assert upload_world.run("--build").exit_code == 0
    assert upload_world.fake.state.counts()["environment_versions"] == 2
    assert "unchanged" in upload_world.run("--build").text


def test_a_failed_build(upload_world: UploadWorld) -> None:
    """The end of the log is shown, with exit code 6; the same command makes a new version."""
    upload_world.fake.state.failing_builds = 1
    failed = upload_world.run("--build")
    assert failed.exit_code == 6
    assert "no space left on device" in failed.text
    assert "step 99" in failed.text
    assert "step 10\n" not in failed.text
    assert upload_world.run("--build").exit_code == 0
    assert upload_world.fake.state.counts()["environment_versions"] == 2


def test_a_failed_deployment(upload_world: UploadWorld) -> None:
    """The job's message is told; with a later run, that the deployment is in the way."""
    fake = upload_world.fake

    def break_job(request: Request) -> None:
        for job in fake.state.jobs.values():
            job["error"] = "no capacity for gpu.medium"

    fake.on_request = break_job
    failed = upload_world.run(*DEPLOY)
    assert failed.exit_code == 6
    assert "no capacity for gpu.medium" in failed.text
    next(iter(fake.state.deployments.values()))["status"] = "errored"
    assert upload_world.run(*DEPLOY).exit_code == 6


def test_a_wait_that_is_too_long(upload_world: UploadWorld) -> None:
    """Told after --max-wait-sec; what was begun goes on, and the next run waits for it."""
    clock = iter(range(0, 10_000, 40))
    upload_world.fake.state.polls = 5
    late = upload_world.run(*DEPLOY, patience=replace(FAST, clock=lambda: next(clock)))
    assert late.exit_code == 5
    assert "still 'processing'" in late.text
    assert upload_world.run(*DEPLOY).exit_code == 0
    assert upload_world.fake.state.counts() == ALL_THERE


@pytest.mark.parametrize(
    ("answer", "exit_code", "told"),
    [
        (Answer({"message": "no"}, 401), 3, "does not know the API token"),
        (Answer({"message": "role is missing"}, 403), 3, "role is missing"),
        (Answer({"message": "no such route"}, 404), 4, "/api/v2"),
        (Answer({"message": "name is taken"}, 409), 4, "name is taken"),
        (Answer({"message": "Invalid field data", "errors": {"name": f"not {NGC_KEY}"}}, 422), 4, "Invalid field data"),
        (Answer({"message": "slow down"}, 429), 5, "Run the same command again"),
        (Answer({"message": "broken"}, 500), 5, "Run the same command again"),
        (Answer({"message": "bad gateway"}, 502), 5, "Run the same command again"),
        (Answer({"message": "later"}, 503), 5, "Run the same command again"),
        (Answer("<html>Störung</html>".encode(), 502), 5, "error page"),
        (Answer(b"<html>a login page</html>", 200), 4, "not JSON"),
        (Answer({"identifier": "x"}, 201), 4, "has not the form"),
    ],
)
def test_error_answers(upload_world: UploadWorld, answer: Answer, exit_code: int, told: str) -> None:
    """To a request that writes: it is sent once, however tempting the status; what was done and what to do is told."""
    post = ("POST", "executionEnvironments/")
    upload_world.fake.answers[post] = answer
    done = upload_world.run(*DEPLOY)
    assert done.exit_code == exit_code, done.text
    assert "Could not create the environment." in done.text
    assert told in done.text
    assert sum((r.method, r.path) == ("POST", "/api/v2/executionEnvironments/") for r in upload_world.fake.seen) == 1
    del upload_world.fake.answers[post]
    assert upload_world.run(*DEPLOY).exit_code == 0


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_reading_is_tried_again(upload_world: UploadWorld, status: int) -> None:
    """A list that fails for now is asked for again, and the run goes on."""
    fake = upload_world.fake
    fake.answers["GET", "credentials/"] = Answer({"message": "later"}, status)

    def mend(request: Request) -> None:
        if sum(r.path == "/api/v2/credentials/" for r in fake.seen) == 2:
            fake.answers.clear()

    fake.on_request = mend
    assert upload_world.run(*DEPLOY).exit_code == 0


def test_a_wrong_token(upload_world: UploadWorld) -> None:
    """The client's own error text holds the token; ours does not (see UploadWorld.run)."""
    upload_world.fake.token = "another"
    done = upload_world.run(*DEPLOY)
    assert done.exit_code == 3
    assert "does not know the API token" in done.text


def test_nobody_at_the_endpoint(upload_world: UploadWorld, at_home: Any) -> None:
    """Exit code 5: the network may come back."""
    at_home("http://127.0.0.1:1/api/v2")
    done = upload_world.run(*DEPLOY)
    assert (done.exit_code, "Could not connect to DataRobot" in done.text) == (5, True)


def test_a_name_that_is_there_twice(upload_world: UploadWorld) -> None:
    """Which one is meant cannot be known: both ids are told, and nothing is sent."""
    for id in ("first", "second"):
        upload_world.fake.state.models[id] = {
            "id": id,
            "name": "NVIDIA NIM LLM",
            "customModelType": "inference",
            "targetType": "TextGeneration",
        }
    done = upload_world.run(*DEPLOY)
    assert done.exit_code == 4
    assert "(first, second)" in done.text
    assert upload_world.fake.writes == []


def test_a_model_of_another_type(upload_world: UploadWorld) -> None:
    """A model of this name that is no text generation is left alone."""
    upload_world.fake.state.models["other"] = {
        "id": "other",
        "name": "NVIDIA NIM LLM",
        "customModelType": "inference",
        "targetType": "Regression",
    }
    done = upload_world.run(*DEPLOY)
    assert (done.exit_code, "target type Regression" in done.text) == (4, True)


def test_no_key(upload_world: UploadWorld) -> None:
    """Without a terminal to ask at, it says how to give one, before anything is made."""
    upload_world.environ.clear()
    done = upload_world.run(*DEPLOY)
    assert (done.exit_code, "--no-credential" in done.text) == (2, True)
    assert upload_world.fake.writes == []


def test_an_external_engine_needs_neither_key_nor_gpu(upload_world: UploadWorld) -> None:
    """`engine: external` in the parameters: no credential, no GPU bundle."""
    upload_world.environ.clear()
    parameters = upload_world.parameters("engine: external\nDR_NIM_SERVER_HOST: nim.example.com\n")
    assert upload_world.run(*DEPLOY[:2], "--parameters", parameters).exit_code == 0
    assert upload_world.fake.state.counts()["model_versions"] == 1
    assert upload_world.fake.state.credentials == {}


@pytest.mark.parametrize("arguments", [(), ("--build", "--image-uri", "x")])
def test_one_source_of_the_image(upload_world: UploadWorld, arguments: tuple[str, ...]) -> None:
    """None or two of them: told what there is to choose from."""
    done = upload_world.run(*arguments)
    assert (done.exit_code, "--image-archive build/bundle/image.tar.gz" in done.text) == (2, True)
