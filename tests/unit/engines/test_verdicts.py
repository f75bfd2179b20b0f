"""What becomes of each variable that NVIDIA documents: a plan is started with every one, from either place."""

from functools import partial
from pathlib import Path

import pytest
from reference_variables import VALUES
from test_nim import NIM_1, NIM_2, config, plan

from nimdrum.base.errors import SettingsError
from nimdrum.base.secret import is_secret
from nimdrum.engines.image import NimImage
from nimdrum.engines.nim_env import RUNTIME_LORA
from nimdrum.engines.plan import PORT
from nimdrum.engines.verdicts import BEGIN, END, FLAGS, VARIABLES, Handling, Rule, of_another_line, rule_of, tables

ROOT = Path(__file__).resolve().parents[3]
LINES = pytest.mark.parametrize("image", [NIM_1, NIM_2], ids=["1.x", "2.x"])


def of(*handlings: Handling) -> pytest.MarkDecorator:
    """Every variable of the reference that is handled so."""
    names = [name for name in VALUES if _rule(name).handling in handlings]
    assert names
    return pytest.mark.parametrize("name", names)


def _rule(name: str) -> Rule:
    rule = rule_of(name)
    assert rule is not None, f"{name} has no row in nimdrum/engines/verdicts.py"
    return rule


def in_file(name: str, folder: Path, image: NimImage) -> dict[str, str]:
    """The engine's environment when engine_config.json sets it."""
    return plan(config(folder, **{name: VALUES[name]}), image).env


def in_container(name: str, folder: Path, image: NimImage) -> dict[str, str]:
    """The engine's environment when the container has it."""
    return plan(folder, image, {name: VALUES[name]}).env


def test_each_variable_has_its_row() -> None:
    """And each row is of a variable that the reference names: nothing is made up."""
    used = {id(_rule(name)) for name in VALUES}
    made_up = [rule.names for rule in VARIABLES if id(rule) not in used]
    assert made_up == []


def test_what_stops_a_start_says_why_and_what_to_do() -> None:
    """The note is the end of that sentence."""
    for rule in (*VARIABLES, *FLAGS):
        if rule.handling in (Handling.OWNED, Handling.REFUSED):
            assert rule.note
            assert not rule.note.endswith(".")


@LINES
@of(Handling.PASSES)
def test_what_passes(tmp_path: Path, name: str, image: NimImage) -> None:
    """From the container as from the file, as it was written, and without a word unless it is of another line."""
    assert in_container(name, tmp_path, image)[name] == VALUES[name]
    assert in_file(name, tmp_path, image)[name] == VALUES[name]
    assert plan(tmp_path, image).warning == " ".join(of_another_line([name], image.line))


@LINES
@of(Handling.FILE_ONLY)
def test_what_only_the_file_sets(tmp_path: Path, name: str, image: NimImage) -> None:
    """The container's belongs to somebody else."""
    assert name not in in_container(name, tmp_path, image)
    assert in_file(name, tmp_path, image)[name] == VALUES[name]


@LINES
@of(Handling.PARAMETER)
def test_parameters(tmp_path: Path, name: str, image: NimImage) -> None:
    """The plain variable is DataRobot's copy of the parameter; the parameter sets it; the file wins."""
    assert name not in in_container(name, tmp_path, image)
    value = int(VALUES[name]) if VALUES[name].isdigit() else VALUES[name]
    assert plan(tmp_path, image, **{name: value}).env[name] == VALUES[name]
    assert in_file(name, tmp_path, image)[name] == VALUES[name]


@LINES
@of(Handling.OWNED)
def test_what_the_launcher_owns(tmp_path: Path, name: str, image: NimImage) -> None:
    """The container's value has no effect, and nobody is bothered with it: some platforms set PORT. The file's stops
    the start."""
    made = plan(tmp_path, image, {name: VALUES[name]})
    assert made.env.get(name) != VALUES[name]
    assert made.warning == ""
    with pytest.raises(SettingsError, match=f"engine_config.json sets {name}, which the launcher owns: ") as caught:
        in_file(name, tmp_path, image)
    assert _rule(name).note in str(caught.value)


@LINES
@of(Handling.REFUSED)
def test_what_no_engine_could_work_with(tmp_path: Path, name: str, image: NimImage) -> None:
    """The container's is left out with a warning, for its user may not be able to change it; the file's stops the
    start. Neither shows the value."""
    made = plan(tmp_path, image, {name: VALUES[name]})
    assert name not in made.env
    assert made.warning == f"{name} of the container is not passed to the engine: {_rule(name).note}."
    with pytest.raises(SettingsError, match=f"engine_config.json sets {name}, with which the engine cannot") as caught:
        in_file(name, tmp_path, image)
    assert _rule(name).note in str(caught.value)
    assert "do-not-show-me" not in str(caught.value) + made.warning


@of(Handling.REFUSED)
def test_values_that_change_nothing_pass(tmp_path: Path, name: str) -> None:
    """As an image sets them that is careful to say no."""
    for value in _rule(name).harmless:
        assert plan(config(tmp_path, **{name: value.upper()})).env[name] == value.upper()
        if not is_secret(name, value):  # like every key it does not pass
            made = plan(config(tmp_path), environ={name: value})
            assert (made.env[name], made.warning) == (value, "")


MAPPED = {
    "NIM_DYNAMO_SINGLE": ({}, {"DYN_HTTP_PORT": PORT, "DYN_HTTP_SVC_HEALTH_PATH": "/v1/health/ready"}),
    "NIM_LOG_LEVEL": ({"NIM_LOG_LEVEL": "TRACE"}, {"NIM_LOG_LEVEL": "DEBUG"}),
    "NIM_JSONL_LOGGING": ({"NIM_JSONL_LOGGING": "1"}, {"NIM_JSONL_LOGGING": "1"}),
    "PATH": ({"PATH": "/usr/bin"}, {"PATH": "/usr/bin"}),
    "PYTHONPATH": ({"PYTHONPATH": "/opt/python"}, {"PYTHONPATH": "/opt/python"}),
    "NO_PROXY": ({"NO_PROXY": "internal"}, {"NO_PROXY": "internal"}),
    "no_proxy": ({"no_proxy": "internal"}, {"no_proxy": "internal"}),
}
"""What engine_config.json makes of it in 1.x, and in 2.x."""


@of(Handling.MAPPED)
def test_what_is_mapped(tmp_path: Path, name: str) -> None:
    """To what this line of NIM reads."""
    for image, expected in zip((NIM_1, NIM_2), MAPPED[name], strict=True):
        assert expected.items() <= in_file(name, tmp_path, image).items()


@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_loopback_is_added_to_the_containers(tmp_path: Path, name: str) -> None:
    """The health check of the engine's own parts must not go to a proxy."""
    environ = {name: "internal", "HTTP_PROXY": "http://proxy:3128"}
    assert plan(tmp_path, environ=environ).env[name].startswith("internal,")


CHECKED: dict[str, tuple[str, str]] = {
    "NIM_BACKEND_PORT": ("eight", "NIM_BACKEND_PORT is 'eight'; it must be a port"),
    "NIM_PASSTHROUGH_ARGS": ("--port 8000", "sets --port, which the launcher owns"),
    "NIM_PEFT_SOURCE": ("/nowhere/loras", "NIM_PEFT_SOURCE is /nowhere/loras, which is no folder here"),
}
"""A value with which it cannot work, and the sentence. Folders and GPUs are looked at right before the start."""


@of(Handling.CHECKED)
def test_what_is_checked(tmp_path: Path, name: str) -> None:
    """It passes where it can work, and stops the start where it cannot: from the container too, where a sentence helps
    more than silence, since engine_config.json can set another."""
    assert in_file(name, tmp_path, NIM_2)[name] == VALUES[name]
    (tmp_path / "engine_config.json").unlink()
    assert in_container(name, tmp_path, NIM_2)[name] == VALUES[name]
    if name in CHECKED:
        value, words = CHECKED[name]
        with pytest.raises(SettingsError, match=words):
            plan(tmp_path, environ={name: value})
        with pytest.raises(SettingsError, match=words):
            plan(config(tmp_path, **{name: value}))


ROUTES: dict[str, str | None] = {
    "NIM_FT_MODEL": "NIM_FT_MODEL",
    **dict.fromkeys(["HF_HUB_OFFLINE", "AWS_REGION"]),
    **dict.fromkeys(["NIM_MODEL_NAME", "NIM_MODEL_PATH", "NIM_DISABLE_MODEL_DOWNLOAD", "NIM_REPOSITORY_OVERRIDE"]),
}
"""Those of the weights' route that are no keys: the error where there is one, else they pass as they are."""


@LINES
@of(Handling.ROUTE)
def test_what_the_weights_route_decides(tmp_path: Path, name: str, image: NimImage) -> None:
    """Keys reach a NIM that downloads, from the file; of the container's only the two that NVIDIA documents for it.
    The rest is `test_route.py`'s."""
    if name in ROUTES:
        if ROUTES[name]:
            with pytest.raises(SettingsError, match=ROUTES[name]):
                in_file(name, tmp_path, image)
            return
        assert in_file(name, tmp_path, image)[name] == VALUES[name]
        assert in_container(name, tmp_path, image)[name] == VALUES[name]
        return
    passes = name in ("NGC_API_KEY", "HF_TOKEN")
    assert (name in in_container(name, tmp_path, image)) == passes
    assert in_file(name, tmp_path, image)[name] == VALUES[name]


def test_a_variable_of_another_line_is_told(tmp_path: Path) -> None:
    """NIM takes no notice of it, so somebody else must."""
    told = plan(config(tmp_path, NIM_KVCACHE_PERCENT=0.8), NIM_2).warning
    assert told == (
        "NIM_KVCACHE_PERCENT is a variable of NIM 1.x; NIM 2.x may take no notice of it (in 2.x: "
        "--gpu-memory-utilization)."
    )
    assert plan(tmp_path, NIM_1).warning == ""
    assert "a variable of NIM 2.x and later" in plan(config(tmp_path, VLLM_LOGGING_LEVEL="INFO"), NIM_1).warning
    assert "a variable of NIM 3.0" in plan(config(tmp_path, NIM_DYNAMO_SINGLE="1"), NIM_1).warning


def test_dynamo_is_asked_where_it_answers(tmp_path: Path) -> None:
    """Its front bypasses NIM's proxy; without the mode nothing is said to it, and the container's port is not taken."""
    made = plan(tmp_path, NIM_2, {"NIM_DYNAMO_SINGLE": "true", "DYN_HTTP_PORT": "8000"}, DR_NIM_HEALTH_ROUTE="/health")
    assert (made.env["DYN_HTTP_PORT"], made.env["DYN_HTTP_SVC_HEALTH_PATH"]) == (PORT, "/health")
    assert made.with_port(9000).env["DYN_HTTP_PORT"] == "9000"
    assert "DYN_HTTP_PORT" not in plan(tmp_path, NIM_2, {"NIM_DYNAMO_SINGLE": "0", "DYN_HTTP_PORT": "8000"}).env


def test_adapters_that_are_read_again_may_be_loaded(tmp_path: Path) -> None:
    """vLLM loads none at run time unless it is told that it may; nobody is overruled who said that it may not."""
    loras = {"NIM_PEFT_SOURCE": str(tmp_path), "NIM_PEFT_REFRESH_INTERVAL": "60"}
    assert plan(tmp_path, NIM_2, loras).env[RUNTIME_LORA] == "True"
    assert plan(tmp_path, NIM_2, {**loras, RUNTIME_LORA: "0"}).env[RUNTIME_LORA] == "0"
    assert RUNTIME_LORA not in plan(tmp_path, NIM_1, loras).env
    assert RUNTIME_LORA not in plan(tmp_path, NIM_2, {"NIM_PEFT_SOURCE": str(tmp_path)}).env
    with pytest.raises(SettingsError, match="NIM_PEFT_REFRESH_INTERVAL is 'often'"):
        plan(tmp_path, NIM_2, {**loras, "NIM_PEFT_REFRESH_INTERVAL": "often"})


def test_adapters_keep_one_api_server(tmp_path: Path) -> None:
    """On any number of cores: vLLM loads adapters at run time into one only."""
    assert "--api-server-count" in plan(tmp_path, cores=64).env["NIM_PASSTHROUGH_ARGS"]
    made = plan(tmp_path, environ={"NIM_PEFT_SOURCE": str(tmp_path)}, cores=64)
    assert "NIM_PASSTHROUGH_ARGS" not in made.env
    assert "LoRA" in made.api_servers


def test_an_unknown_log_level_is_refused_early(tmp_path: Path) -> None:
    """NIM ends at it."""
    with pytest.raises(SettingsError, match="NIM_LOG_LEVEL is 'LOUD'; NIM ends unless it is TRACE, DEBUG"):
        plan(config(tmp_path, NIM_LOG_LEVEL="LOUD"))


def test_the_page_shows_these_tables() -> None:
    """`python -m nimdrum variables --write docs/variables.md` renews them."""
    page = (ROOT / "docs/variables.md").read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == tables(), "python -m nimdrum variables --write"


def test_an_unknown_name_passes(tmp_path: Path) -> None:
    """NVIDIA's next release has variables that nobody here knows."""
    made = partial(plan, image=NIM_2)
    assert made(config(tmp_path, NIM_NEW_IN_4="x"), environ={"NIM_NEW_IN_5": "y"}).env["NIM_NEW_IN_4"] == "x"
    assert made(tmp_path, environ={"NIM_NEW_IN_5": "y"}).env["NIM_NEW_IN_5"] == "y"
