"""The planner of `upload`: what follows from what is wanted and what was found."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.base.errors import UploadError
from nimdrum.tools.upload.bundle import Packed
from nimdrum.tools.upload.changes import (
    Action,
    choose_bundle,
    environment_mark,
    environment_version,
    model_mark,
    model_version,
    patchable_version,
    plan,
    registered_version,
)
from nimdrum.tools.upload.wanted import (
    Deployment,
    EnvironmentVersion,
    Found,
    ModelVersion,
    ParameterValue,
    RegisteredVersion,
    ResourceBundle,
    Wanted,
)

WANTED = Wanted(
    environment_name="environment",
    environment_content="e" * 64,
    model_name="model",
    target_name="resultText",
    model_files=(Packed("custom.py", b"hooks"),),
    credential_name="key",
    registered_model="registered",
    deployment="deployment",
    replace=True,
)
GPU = ResourceBundle("gpu", "GPU", 1)
FULL = [
    Action.CREATE_CREDENTIAL,
    Action.CREATE_ENVIRONMENT,
    Action.ADD_ENVIRONMENT_VERSION,
    Action.AWAIT_BUILD,
    Action.CREATE_MODEL,
    Action.ADD_MODEL_VERSION,
    Action.SET_RESOURCES,
    Action.REGISTER,
    Action.AWAIT_REGISTERED,
    Action.CREATE_PREDICTION_ENVIRONMENT,
    Action.DEPLOY,
    Action.AWAIT_DEPLOYMENT,
]


def actions(wanted: Wanted, found: Found) -> list[Action]:
    return [step.action for step in plan(wanted, found)]


def after(wanted: Wanted, found: Found, action: Action) -> Found:
    """What is there after a step, as a DataRobot without faults would have it; fails when the step came too early."""
    match action:
        case Action.CREATE_CREDENTIAL:
            return replace(found, credential_id="credential")
        case Action.CREATE_ENVIRONMENT:
            return replace(found, environment_id="environment")
        case Action.ADD_ENVIRONMENT_VERSION:
            assert found.environment_id
            made = EnvironmentVersion("made", f"ours; {environment_mark(wanted)}", "submitted", "2026")
            return replace(found, environment_versions=(*found.environment_versions, made))
        case Action.AWAIT_BUILD:
            awaited = environment_version(wanted, found)
            assert awaited
            others = [v for v in found.environment_versions if v != awaited]
            return replace(found, environment_versions=(*others, replace(awaited, status="success")))
        case Action.CREATE_MODEL:
            return replace(found, model_id="model")
        case Action.ADD_MODEL_VERSION:
            mark = model_mark(wanted, found)
            assert found.model_id and mark
            number = (1 + max([v.number[0] for v in found.model_versions], default=0), 0)
            return with_version(found, ModelVersion(f"version{number}", number, frozenset({"custom.py", mark})))
        case Action.SET_RESOURCES:
            base = patchable_version(wanted, found)
            assert base and found.bundle
            number = (base.number[0], base.number[1] + 1)
            return with_version(found, replace(base, id=f"version{number}", number=number, bundle_id=found.bundle.id))
        case Action.REGISTER:
            version = model_version(wanted, found)
            assert version
            made_of = RegisteredVersion("package", version.id, "name", "inProgress")
            return replace(
                found, registered_model_id="registered", registered_versions=(*found.registered_versions, made_of)
            )
        case Action.AWAIT_REGISTERED:
            waited = registered_version(model_version(wanted, found), found)
            assert waited
            rest = [v for v in found.registered_versions if v != waited]
            return replace(found, registered_versions=(*rest, replace(waited, status="complete")))
        case Action.CREATE_PREDICTION_ENVIRONMENT:
            return replace(found, prediction_environment_id="place")
        case Action.DEPLOY | Action.REPLACE:
            package = registered_version(model_version(wanted, found), found)
            assert package and package.status in (None, "complete")
            assert (found.deployment is None) == (action is Action.DEPLOY)
            assert action is Action.REPLACE or found.prediction_environment_id
            return replace(found, deployment=Deployment("deployment", package.id, "launching"))
        case Action.AWAIT_DEPLOYMENT:
            assert found.deployment
            return replace(found, deployment=replace(found.deployment, status="active"))


def with_version(found: Found, version: ModelVersion) -> Found:
    return replace(found, model_versions=(*found.model_versions, version))


def whole_way(wanted: Wanted, found: Found) -> list[Found]:
    """Everything that is found on the way from `found` until nothing is left to do."""
    way = [found]
    while steps := plan(wanted, way[-1]):
        assert len(way) <= len(Action), "no end"
        way.append(after(wanted, way[-1], steps[0].action))
    return way


numbers = st.tuples(st.integers(1, 3), st.integers(0, 3))
foreign_versions = st.lists(
    st.builds(ModelVersion, st.sampled_from(["x", "y"]), numbers, st.just(frozenset({"custom.py"})), st.none()),
    max_size=2,
)
statuses = st.sampled_from(["submitted", "processing", "success", "failed"])
environment_versions = st.lists(
    st.builds(
        EnvironmentVersion,
        st.uuids().map(str),
        st.sampled_from(["", "somebody's", f"ours; {environment_mark(WANTED)}"]),
        statuses,
        st.sampled_from(["2025", "2026"]),
    ),
    max_size=3,
    unique_by=lambda v: v.id,
)


@st.composite
def anything_found(draw: st.DrawFn) -> Found:
    """What a DataRobot may hold: any part of ours, foreign versions, failed builds, deployments of something else."""
    found = Found(bundle=draw(st.sampled_from([None, GPU])))
    if draw(st.booleans()):
        found = replace(found, credential_id="old")
    if draw(st.booleans()):
        found = replace(found, environment_id="old", environment_versions=tuple(draw(environment_versions)))
    if draw(st.booleans()):
        found = replace(found, model_id="old", model_versions=tuple(draw(foreign_versions)))
    if draw(st.booleans()):
        foreign = RegisteredVersion("foreign", "x", "name", draw(st.sampled_from([None, "complete", "failed"])))
        found = replace(found, registered_model_id="old", registered_versions=(foreign,))
    if draw(st.booleans()):
        found = replace(found, prediction_environment_id="old")
    if draw(st.booleans()):
        found = replace(found, deployment=Deployment("old", "foreign", draw(st.sampled_from(["active", "inactive"]))))
    return found


def test_from_nothing() -> None:
    """All steps, in the order in which each finds what it needs."""
    assert actions(WANTED, Found(bundle=GPU)) == FULL


@given(anything_found())
def test_it_ends_and_does_nothing_twice(found: Found) -> None:
    """From whatever is there, the first steps of the plans lead to an empty plan, and no step comes twice."""
    try:
        way = whole_way(WANTED, found)
    except UploadError as error:
        assert "has failed" in str(error) or "switched off" in str(error)
        return
    taken = [plan(WANTED, one)[0].action for one in way[:-1]]
    assert len(set(taken)) == len(taken)


@given(anything_found())
def test_an_interrupted_plan_goes_on_with_its_rest(found: Found) -> None:
    """After each step the new plan is the rest of the first one: what was printed is what is done."""
    try:
        way = whole_way(WANTED, found)
    except UploadError:
        return
    first = actions(WANTED, found)
    for done, there in enumerate(way):
        assert actions(WANTED, there) == first[done:]


@given(anything_found(), st.sampled_from(["files", "value", "egress", "credential"]))
def test_other_input_is_another_model_version(found: Found, what: str) -> None:
    """Whatever goes into a version is a part of what it is known by."""
    changed = {
        "files": replace(WANTED, model_files=(Packed("custom.py", b"other hooks"),)),
        "value": replace(WANTED, parameters=(ParameterValue("max_tokens", "numeric", 5),)),
        "egress": replace(WANTED, egress="NONE"),
        "credential": replace(WANTED, credential_id="another"),
    }[what]
    try:
        end = whole_way(WANTED, found)[-1]
    except UploadError:
        return
    assert Action.ADD_MODEL_VERSION in actions(changed, end)
    assert Action.ADD_ENVIRONMENT_VERSION not in actions(changed, end)


def test_only_what_was_asked_for() -> None:
    """Without a registered model and a deployment there is no step for them; the same for key and GPU."""
    small = replace(WANTED, credential_name=None, registered_model=None, deployment=None)
    assert actions(small, Found()) == FULL[1:6]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("active", []),
        ("inactive", []),
        ("launching", [Action.AWAIT_DEPLOYMENT]),
        ("replacingModel", [Action.AWAIT_DEPLOYMENT]),
    ],
)
def test_a_deployment_that_is_there(status: str, expected: list[Action]) -> None:
    """A running one and one that somebody has switched off are left alone; one in the making is waited for."""
    end = whole_way(WANTED, Found(bundle=GPU))[-1]
    assert end.deployment
    assert actions(WANTED, replace(end, deployment=replace(end.deployment, status=status))) == expected


@pytest.mark.parametrize(
    ("status", "replaced", "exit_code"), [("errored", True, 6), ("active", False, 4), ("inactive", True, 4)]
)
def test_a_deployment_in_the_way(status: str, replaced: bool, exit_code: int) -> None:
    """A failed one, one to be replaced without --replace, one that is switched off: stops before the first step."""
    found = Found(bundle=GPU, deployment=Deployment("old", "foreign", status))
    with pytest.raises(UploadError) as caught:
        plan(replace(WANTED, replace=replaced), found)
    assert caught.value.exit_code == exit_code


def test_a_built_version_goes_before_one_in_the_making() -> None:
    """Of several with the same content; a failed one counts for nothing."""
    mark = environment_mark(WANTED)
    versions = tuple(EnvironmentVersion(s, mark, s, "2026") for s in ("failed", "processing", "success"))
    chosen = environment_version(WANTED, Found(environment_versions=versions))
    assert chosen and chosen.id == "success"
    assert environment_version(WANTED, Found(environment_versions=versions[:1])) is None


SMALL, LARGE, MANY, CPU = (
    ResourceBundle("s", "S", 1, 32),
    ResourceBundle("l", "L", 1, 80),
    ResourceBundle("m", "M", 4, 10),
    ResourceBundle("c", "C"),
)


@pytest.mark.parametrize(
    ("bundle", "gpus", "chosen"),
    [
        (None, 0, None),
        (None, 1, SMALL),
        (None, 2, MANY),
        ("L", 1, LARGE),
        ("l", 8, LARGE),
        ("C", 1, CPU),
        ("X", 1, "X"),
        (None, 5, "5 GPUs"),
    ],
)
def test_the_choice_of_a_bundle(bundle: str | None, gpus: int, chosen: ResourceBundle | str | None) -> None:
    """By name or id; else the one with the fewest GPUs that suffice, then the least GPU memory; else those there are."""
    wanted = replace(WANTED, resource_bundle=bundle, gpus=gpus)
    if not isinstance(chosen, str):
        assert choose_bundle(wanted, [LARGE, MANY, CPU, SMALL]) == chosen
        return
    with pytest.raises(UploadError, match=f"{chosen}.*S \\(s, 1 GPUs\\)"):
        choose_bundle(wanted, [LARGE, MANY, CPU, SMALL])
