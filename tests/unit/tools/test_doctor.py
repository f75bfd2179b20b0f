"""The doctor's checks, each as a table: facts in, level and words out."""

import dataclasses
import json
import re
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nimdrum.base.hosting import read_hosting
from nimdrum.base.settings import Settings, load_settings
from nimdrum.engines import external, llamacpp, nim
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.image import NimImage
from nimdrum.engines.tools import Listing, Profile, Verdict
from nimdrum.gateway.ready import Seen
from nimdrum.gateway.trouble import Trouble
from nimdrum.supervisor.state import EngineState, Phase
from nimdrum.tools.doctor import checks_engine
from nimdrum.tools.doctor import checks_machine as machine
from nimdrum.tools.doctor import checks_setup as setup
from nimdrum.tools.doctor.command import CHECKS, Check, judge
from nimdrum.tools.doctor.finding import Finding, Level, as_json, as_text, count, ok, problem, warning
from nimdrum.tools.doctor.gather import timed
from nimdrum.tools.doctor.look import folder, parse_gpus, parse_lock, search_code
from nimdrum.tools.doctor.surroundings import Answer, CodeFolder, Fact, Folder, Gpu, Key, Packages, Port, Surroundings

ROOT = Path(__file__).resolve().parents[3]
KEY = "nvapi-do-not-show-me"
NIM_1, NIM_2 = (NimImage(Path("/opt/nim/start_server.sh"), None, line, "/opt/evidence") for line in (1, 2))
H100 = Gpu("NVIDIA H100", 81920, 4, "580.65.06", "Default")
HERE = partial(nim.plan_nim, cores=lambda: 16, gpus=lambda: 1)
FOLDER = Folder("/cache", None, 500_000_000_000, False, False)
ID = "a" * 64
PROFILE = Profile(ID, "vllm-bf16-tp2", Verdict.RUNNABLE, False, 2, "")
RUNNING = EngineState(Phase.RUNNING, "nim", "NIM 2.x", 1, 0.0, host="127.0.0.1", port=9999)
FATAL = dataclasses.replace(RUNNING, phase=Phase.FATAL, cause="No GPU.")


def settings(**raw: Any) -> Settings:
    return load_settings(ROOT, raw.get)


def credential(key: str = KEY) -> dict[str, str]:
    return {"credentialType": "api_token", "apiToken": key}


def facts(image: NimImage | None = NIM_2, raw: dict[str, Any] | None = None, **changes: Any) -> Surroundings:
    """A machine on which all is well: two GPUs, a NIM, a key; with changes."""
    chosen = settings(**(raw or {}))
    hosting = read_hosting("/nowhere", {}, ["drum", "server"])
    kinds = (
        dataclasses.replace(nim.KIND, find=lambda settings, hosting: image, plan=HERE),
        external.KIND,
        dataclasses.replace(llamacpp.KIND, find=lambda settings, hosting: Path("/model.gguf")),
    )
    try:
        plan, plan_error = plan_engine(chosen, hosting, kinds), ""
    except Exception as error:
        plan, plan_error = None, str(error)
    well: dict[str, Any] = {
        "image": image,
        "code_dir": Path("/opt/code"),
        "uid": 1000,
        "gid": 0,
        "python": (3, 12),
        "settings": chosen,
        "settings_error": "",
        "plan": plan,
        "plan_error": plan_error,
        "local_model": None,
        "fetch_into": None,
        "hf_offline": False,
        "keys": (Key("NGC_API_KEY", "runtime parameter"),),
        "gpus": Fact((H100, H100)),
        "shm_bytes": Fact(32_000_000_000),
        "cache": Fact(FOLDER),
        "home": Fact(dataclasses.replace(FOLDER, path="/opt/home")),
        "temp": Fact(dataclasses.replace(FOLDER, path="/tmp")),
        "nim_folders": Fact(()),
        "has_user_name": Fact(True),
        "open_files": Fact(1_048_576),
        "cores": Fact(16),
        "ports": Fact((Port(8080, "DRUM", True), Port(9999, "engine", True, "", True))),
        "listing": Fact(Listing((PROFILE,))),
        "code": Fact(CodeFolder(("custom.py", "custom_flask.py"), (), 90, True)),
        "packages": Fact(Packages({"datarobot-drum": "1.18.1", "click": "8"}, {"click": frozenset(("8",))})),
        "platform": Fact(Answer("https://dr/version/", 200)),
        "external": None,
        "engines": Fact(()),
    }
    return Surroundings(**{**well, **changes})


def part(fact: Any, **changes: Any) -> Fact[Any]:
    return Fact(dataclasses.replace(fact, **changes))


LITTLE = part(FOLDER, free_bytes=1_000_000_000)
SMALL = part(FOLDER, free_bytes=20_000_000_000)
FILLED = part(FOLDER, free_bytes=1_000_000_000, filled=True)
LOCKED = part(FOLDER, not_writable="Permission denied")
LOCAL: dict[str, Any] = {"local_model": Path("/opt/code/model-repo")}
CPU: dict[str, Any] = {"raw": {"engine": "llamacpp"}}
STORE: dict[str, Any] = {"raw": {"model_artifacts_uri": "s3://b/llm/"}}
STORE_CACHE: dict[str, Any] = {"raw": {**STORE["raw"], "model_artifacts_target": "cache"}}
OUTSIDE: dict[str, Any] = {"raw": {"engine": "external"}}
ENDPOINTS: dict[str, Any] = {"raw": {"engine": "external", "engine_urls": "http://a http://b"}}


def looks(*troubles: str | None) -> Fact[tuple[tuple[str, Seen], ...]]:
    """Of one endpoint after another: well, or with a trouble."""
    seen = [Seen(trouble=Trouble(each)) if each else Seen("llama") for each in troubles]
    return Fact(tuple(zip(("http://a", "http://b"), seen, strict=False)))


BAD_KEY: dict[str, Any] = {
    "raw": {"NGC_API_KEY": credential()},
    "plan": None,
    "plan_error": "NGC_API_KEY is set, but ...",
}


def wants(profile: str, **changes: Any) -> dict[str, Any]:
    return {"raw": {"NIM_MODEL_PROFILE": profile}, **changes}


def lists(*profiles: Profile) -> Fact[Listing]:
    return Fact(Listing(profiles))


def verdict(verdict: Verdict) -> Fact[Listing]:
    return lists(dataclasses.replace(PROFILE, verdict=verdict))


def gpu(**changes: Any) -> Fact[Any]:
    return Fact((dataclasses.replace(H100, **changes),))


def code(*hooks: str, **changes: Any) -> dict[str, Any]:
    return {"code": part(CodeFolder(hooks, (), 90, True), **changes)}


def versions(**installed: str | None) -> dict[str, Any]:
    return {"packages": part(Packages({"datarobot-drum": "1.18.1", **installed}, {"click": frozenset(("8", "9"))}))}


TAKEN = (Port(8080, "DRUM", False, "by nginx, process 7"), Port(9999, "engine", True))
CASES: list[tuple[Check, dict[str, Any], str, str]] = [
    (setup.check_parameters, {}, "ok", "valid"),
    (setup.check_parameters, {"settings_error": "max_tokens is -1"}, "problem", "max_tokens is -1"),
    (setup.check_rows, {"rows": Path("rows.csv")}, "ok", r"rows\.csv can be answered"),
    (setup.check_rows, {"rows": Path("rows.csv"), "rows_error": "rows.csv is empty"}, "problem", "is empty"),
    (checks_engine.check_engine, {}, "ok", r"NIM 2\.x \(told by /opt/evidence\), model datarobot-deployed-llm"),
    (checks_engine.check_engine, {"plan": None, "plan_error": "Found no engine"}, "problem", "Found no engine"),
    (checks_engine.check_engine, {"image": None}, "warning", "using the embedded CPU engine"),
    (checks_engine.check_engine, {"image": None, **CPU}, "ok", "llama.cpp, model"),
    (checks_engine.check_engine, OUTSIDE, "ok", "external engine, http://127.0.0.1:8000"),
    (checks_engine.check_external, {}, "none", ""),
    (checks_engine.check_external, {"external": Fact(Answer("http://x", 200))}, "ok", "answers 200"),
    (checks_engine.check_external, {"external": Fact(Answer("http://x", 503))}, "warning", "still loading"),
    (
        checks_engine.check_external,
        {"external": Fact(Answer("http://x", 404))},
        "problem",
        "answers 404.*DR_NIM_HEALTH_ROUTE",
    ),
    (
        checks_engine.check_external,
        {"external": Fact(Answer("http://x", None, "Oh"))},
        "problem",
        r"does not answer \(Oh\)",
    ),
    (checks_engine.check_engine, ENDPOINTS, "ok", "external engine at http://a, 2 endpoints, by way of the gateway"),
    (checks_engine.check_endpoints, {}, "none", ""),
    (checks_engine.check_endpoints, {"endpoints": looks(None)}, "ok", "http://a serves llama"),
    (checks_engine.check_endpoints, {"endpoints": looks(None, "oh.")}, "warning", "http://a serves llama; oh."),
    (checks_engine.check_endpoints, {"endpoints": looks("oh.")}, "problem", "oh."),
    (machine.check_gpu, {}, "ok", "2 x NVIDIA H100, 80 GiB"),
    (machine.check_gpu, {"gpus": Fact(None)}, "problem", "nvidia-smi is not on PATH.*--gpus all"),
    (machine.check_gpu, {"gpus": Fact(())}, "problem", "lists no GPU.*bundle"),
    (machine.check_gpu, {"gpus": Fact((H100, dataclasses.replace(H100, name="L4")))}, "warning", "equal GPUs"),
    (
        machine.check_gpu,
        wants("vllm-fp8-tp8", image=NIM_1),
        "problem",
        r"NIM 1\.x is to use 8 GPUs \(the profile vllm-fp8-tp8\), but 2 are visible here",
    ),
    (machine.check_gpu, wants("vllm-fp8-tp2", image=NIM_1), "ok", "2 x NVIDIA H100"),
    (machine.check_gpu, {**CPU, "gpus": Fact(None)}, "none", ""),
    (machine.check_gpu, {**OUTSIDE, "gpus": Fact(None)}, "none", ""),
    (machine.check_driver, {}, "ok", "580"),
    (machine.check_driver, {"gpus": gpu(driver="550.54")}, "warning", "asks for 580 or newer for NIM 2.x"),
    (machine.check_driver, {"gpus": gpu(driver="450.1")}, "problem", "too old"),
    (machine.check_driver, {"image": NIM_1, "gpus": gpu(driver="560.1")}, "ok", "560"),
    (machine.check_driver, {"image": NIM_1, "gpus": gpu(driver="535.1")}, "warning", "560 or newer for NIM 1.8"),
    (machine.check_driver, {"gpus": gpu(driver="[N/A]")}, "warning", "no? ?.*not a number"),
    (machine.check_driver, {"gpus": Fact(None)}, "none", ""),
    (machine.check_gpu_use, {}, "ok", "free"),
    (machine.check_gpu_use, {"gpus": gpu(used_mb=40000)}, "warning", "by others: GPU 0 39.1 GiB"),
    (machine.check_gpu_use, {"gpus": gpu(used_mb=40000), "engines": Fact((RUNNING,))}, "ok", "an engine of this user"),
    (machine.check_gpu_use, {"gpus": gpu(compute_mode="Exclusive_Process")}, "warning", "exclusive.*-c DEFAULT"),
    (machine.check_shared_memory, {}, "ok", "32.0 GB"),
    (machine.check_shared_memory, {"shm_bytes": Fact(64_000_000)}, "warning", "0.1 GB; 2 GPUs.*--shm-size=16g"),
    (machine.check_shared_memory, {"shm_bytes": Fact(64_000_000), "gpus": gpu()}, "ok", "0.1 GB"),
    (machine.check_api_servers, {}, "ok", "4, for 16 cores and 1 GPU"),
    (machine.check_api_servers, {"image": NIM_1}, "ok", "as the engine has it: NIM 1.x takes no flags"),
    (machine.check_api_servers, {"raw": {"api_server_count": 1}}, "ok", "1, by the runtime parameter"),
    (machine.check_api_servers, {"raw": {"api_server_count": 4}}, "ok", "4, by the runtime parameter"),
    (
        machine.check_api_servers,
        {"raw": {"api_server_count": 4}, "cores": Fact(6), "gpus": gpu()},
        "warning",
        "4, by the runtime parameter.*6 cores carry 2.*api_server_count 0",
    ),
    (machine.check_api_servers, CPU, "none", ""),
    (machine.check_api_servers, OUTSIDE, "none", ""),
    (machine.check_cache, {}, "ok", "/cache is writable and empty"),
    (machine.check_cache, {"cache": FILLED}, "ok", "filled"),
    (machine.check_fetch, {}, "none", ""),
    (machine.check_fetch, {"fetch_into": Fact(FOLDER)}, "ok", "fetched into /cache, 500 GB free"),
    (machine.check_fetch, {"fetch_into": LOCKED}, "problem", "Permission denied.*fetched there"),
    (machine.check_fetch, {"fetch_into": part(LOCKED.value, filled=True)}, "ok", "holds fetched weights"),
    (machine.check_cache, {"cache": LOCKED}, "problem", "uid 1000, gid 0: Permission denied.*NIM_CACHE_PATH"),
    (machine.check_cache, {"cache": LOCKED, **LOCAL}, "none", ""),
    (machine.check_disk, {}, "ok", "500 GB free"),
    (machine.check_disk, {"cache": SMALL}, "warning", "20 GB free.*2 GB for each billion"),
    (machine.check_disk, {"cache": LITTLE}, "problem", "1 GB free.*larger volume"),
    (machine.check_disk, {"cache": FILLED}, "ok", "1 GB free"),
    (machine.check_disk, {"cache": LITTLE, **LOCAL}, "none", ""),
    (machine.check_home, {}, "ok", "/opt/home is writable"),
    (machine.check_home, {"home": Fact(None)}, "warning", "HOME is not set"),
    (machine.check_home, {"home": LOCKED}, "warning", "HOME: /cache cannot be written"),
    (machine.check_temp, {}, "ok", "/tmp is writable"),
    (machine.check_temp, {"temp": LOCKED}, "problem", "temporary folder.*TMPDIR"),
    (machine.check_temp, {"temp": part(FOLDER, noexec=True)}, "warning", "noexec"),
    (machine.check_user, {}, "none", ""),
    (machine.check_user, {"has_user_name": Fact(False)}, "warning", "uid 1000 has no name.*LOGNAME"),
    (machine.check_nim_folders, {}, "ok", "writable"),
    (
        machine.check_nim_folders,
        {"nim_folders": Fact(("/opt/nim/nginx",))},
        "warning",
        "cannot write to /opt/nim/nginx",
    ),
    (machine.check_nim_folders, {"image": NIM_1, "nim_folders": Fact(("/opt/nim/etc",))}, "none", ""),
    (machine.check_open_files, {}, "none", ""),
    (machine.check_open_files, {"open_files": Fact(1024)}, "warning", "1024 open files.*nofile"),
    (checks_engine.check_key, {}, "ok", r"set: NGC_API_KEY \(runtime parameter\)"),
    (checks_engine.check_key, LOCAL, "ok", "not passed on: NGC_API_KEY"),
    (checks_engine.check_key, {**LOCAL, "keys": ()}, "ok", "no key is set"),
    (checks_engine.check_key, {"hf_offline": True}, "warning", "HF_HUB_OFFLINE are both set"),
    (
        checks_engine.check_key,
        {"keys": (Key("HF_TOKEN", "x", "has blanks or quotes in it"),)},
        "problem",
        "HF_TOKEN .* has blanks",
    ),
    (checks_engine.check_key, {"keys": (), "cache": FILLED}, "ok", "none; the cache is filled"),
    (
        checks_engine.check_key,
        {"keys": (), "image": NIM_1, **STORE_CACHE},
        "ok",
        "none; the cache is fetched from the store",
    ),
    (
        checks_engine.check_key,
        {"keys": (), **STORE, **LOCAL},
        "ok",
        "weights are fetched into /opt/code/model-repo; no key",
    ),
    (checks_engine.check_key, {"keys": ()}, "warning", "no NGC_API_KEY"),
    (checks_engine.check_key, {"keys": (), "image": NIM_1}, "problem", "NIM 1.x cannot download"),
    (checks_engine.check_key, {"keys": (), **CPU}, "none", ""),
    (checks_engine.check_key, {"keys": (), "settings": None}, "none", ""),
    (checks_engine.check_profile, {}, "ok", "NIM chooses; 1 of 1 run here"),
    (checks_engine.check_profile, {"listing": None}, "none", ""),
    (
        checks_engine.check_profile,
        {"listing": verdict(Verdict.INCOMPATIBLE)},
        "problem",
        "none of the image's 1 profiles",
    ),
    (checks_engine.check_profile, {"listing": lists()}, "warning", "listed none"),
    (checks_engine.check_profile, {"listing": Fact(None, "too slow")}, "unseen", "too slow"),
    (checks_engine.check_profile, wants(ID), "ok", "vllm-bf16-tp2: runnable"),
    (
        checks_engine.check_profile,
        wants(ID, listing=verdict(Verdict.INCOMPATIBLE)),
        "problem",
        "does not run on the GPUs",
    ),
    (checks_engine.check_profile, wants(ID, listing=verdict(Verdict.LOW_MEMORY)), "warning", "more free GPU memory"),
    (checks_engine.check_profile, wants(ID, gpus=gpu()), "problem", "needs 2 GPUs, and 1 are visible"),
    (
        checks_engine.check_profile,
        wants(ID, listing=None),
        "ok",
        r"aaaaaaaaaaaa\.\.\.; whether it fits was not seen \(not asked",
    ),
    (checks_engine.check_profile, wants(ID, listing=Fact(None, "too slow")), "ok", "was not seen .too slow"),
    (checks_engine.check_profile, wants(ID, listing=lists()), "ok", "the image listed none"),
    (checks_engine.check_profile, wants("b" * 64), "problem", "this image has no profile"),
    (checks_engine.check_profile, wants("A" * 64), "problem", "no id of 64 lower-case hex digits"),
    (checks_engine.check_profile, wants("a" * 63), "problem", "has 63 characters"),
    (checks_engine.check_profile, wants("vllm-bf16-tp2"), "warning", "only ids"),
    (checks_engine.check_profile, wants("vllm-bf16-tp2", image=NIM_1), "ok", "vllm-bf16-tp2: runnable"),
    (checks_engine.check_profile, wants("vllm-fp8-tp8", image=NIM_1, listing=None), "ok", "vllm-fp8-tp8"),
    (checks_engine.check_profile, wants("default", image=NIM_1), "ok", "default"),
    (checks_engine.check_profile, wants(ID, **LOCAL), "none", ""),
    (setup.check_ports, {}, "ok", "free: 8080, 9999"),
    (setup.check_ports, {"ports": Fact(TAKEN)}, "problem", r"taken: 8080 \(DRUM, by nginx, process 7\).*ss -ltnp"),
    (setup.check_ports, {"ports": Fact(TAKEN), "engines": Fact((RUNNING,))}, "ok", "in use"),
    (setup.check_ports, {"ports": Fact((Port(9999, "engine", False, "", True),))}, "ok", "9999 is taken, another"),
    (setup.check_python, {}, "ok", "3.12"),
    (setup.check_python, {"python": (3, 9)}, "problem", "3.9 is not one of 3.10 to 3.13"),
    (setup.check_python, {"python": (3, 14)}, "problem", "3.14"),
    (setup.check_packages, {}, "ok", "1 packages, as locked"),
    (setup.check_packages, versions(click="9"), "ok", "as locked"),
    (setup.check_packages, versions(click="7"), "warning", "not the locked versions: click 7"),
    (setup.check_packages, versions(click=None), "problem", "not installed: click.*pip install"),
    (setup.check_drum, {}, "ok", "DRUM 1.18.1"),
    (setup.check_drum, versions(**{"datarobot-drum": "1.19"}), "warning", "1.19 is installed; nimdrum was tried with"),
    (setup.check_drum, versions(**{"datarobot-drum": "1.16.26"}), "problem", "too old for nimdrum.*>=1.17.18,<1.19"),
    (setup.check_drum, versions(openai="0.28.1"), "problem", "openai 0.28.1.*too old"),
    (setup.check_drum, versions(**{"datarobot-drum": None}), "problem", "not installed"),
    (setup.check_code_folder, {}, "ok", "/opt/code, 90 files"),
    (
        setup.check_code_folder,
        code("custom.py", ".x/custom.py"),
        "warning",
        r"2 files called custom.py .*\.x/custom.py.*the one at the top.*nimdrum code-dir",
    ),
    (setup.check_code_folder, code("custom.py", "custom_flask.py", "a/custom_flask.py"), "warning", "custom_flask.py"),
    (setup.check_code_folder, code(), "ok", "/opt/code, 90 files"),
    (setup.check_code_folder, code("custom.py", complete=False), "warning", "only 90 files"),
    (setup.check_artifacts, {}, "none", ""),
    (
        setup.check_artifacts,
        code("custom.py", artifacts=tuple("abcde")),
        "warning",
        "a, b, c and 2 more: .*--language python",
    ),
    (setup.check_platform, {}, "ok", "https://dr/version/ can be reached"),
    (setup.check_platform, {"platform": None}, "none", ""),
    (setup.check_platform, {"platform": Fact(Answer("https://dr", 401))}, "ok", "can be reached"),
    (setup.check_platform, {"platform": Fact(Answer("https://dr", 502))}, "warning", "answers 502"),
    (
        setup.check_platform,
        {"platform": Fact(Answer("https://dr", None, "SSLError"))},
        "warning",
        "SSLError.*verifySSL",
    ),
    (setup.check_supervisor, {}, "ok", "no engine"),
    (setup.check_supervisor, {"engines": Fact((RUNNING,))}, "ok", "RUNNING NIM 2.x at http://127.0.0.1:9999"),
    (setup.check_supervisor, {"engines": Fact((FATAL,))}, "warning", "FATAL.*No GPU"),
]


@pytest.mark.parametrize(("check", "changes", "level", "words"), CASES, ids=[f"{c[0].__name__}-{c[2]}" for c in CASES])
def test_checks(check: Check, changes: dict[str, Any], level: str, words: str) -> None:
    """`none`: the check does not apply, and no line is shown; `unseen`: it is shown as one that could not be made."""
    seen = facts(**changes)
    if level == "unseen":
        (found,) = [f for f in judge(seen) if "could not be looked at" in f.message]
        assert re.search(words, found.message)
        return
    finding = check(seen)
    assert (finding.level.value if finding else "none") == level, finding
    if finding:
        assert re.search(words, f"{finding.message} {finding.remedy}"), finding
        assert KEY not in repr(finding)


def test_every_check_is_in_the_table() -> None:
    """With each level that it can have seen at least once, and none forgotten in `CHECKS`."""
    assert {check for _, check in CHECKS} == {case[0] for case in CASES}


def test_all_is_well() -> None:
    """Nothing to say where nothing is wrong."""
    findings = judge(facts())
    assert {finding.level for finding in findings} == {Level.OK}
    assert len({finding.name for finding in findings}) == len(findings)


def test_facts_that_are_missing_hide_nothing_else() -> None:
    """Each look that failed is one warning for each check that needed it; an odd fact too."""
    unseen = {
        field.name: Fact(None, "hangs") for field in dataclasses.fields(Surroundings) if "Fact[" in str(field.type)
    }
    findings = judge(facts(**unseen))
    assert all("hangs" in f.message for f in findings if f.name in ("gpu", "cache", "ports", "drum", "supervisor"))
    odd = judge(facts(ports=Fact("no ports")))
    assert [f.message for f in odd if f.level is not Level.OK] == ["could not be judged (AttributeError)"]


def test_the_report_is_short_lines_with_the_remedy_below() -> None:
    """Wrapped to the terminal; colours are put on after that."""
    findings = [Finding(Level.OK, "fine", name="gpu"), Finding(Level.PROBLEM, "word " * 20, "do this", "key")]
    text = as_text("title", findings, 60, lambda word, colour: f"<{colour}>{word}</>")
    plain = text.replace("<green>", "").replace("<red>", "").replace("</>", "").splitlines()
    assert plain[0] == "title"
    assert plain[2] == "  ok       gpu          fine"
    assert plain[3].startswith("  problem  key          word")
    assert plain[-3] == f"{'':24}-> do this"
    assert plain[-1] == "1 problem, 1 ok"
    assert max(map(len, plain)) <= 60
    document = json.loads(as_json("title", findings))
    assert (document["ok"], document["problems"], document["findings"][1]["name"]) == (False, 1, "key")


def test_levels_are_counted() -> None:
    """For the last line and the exit code."""
    found = [ok("a"), warning("b", "c"), problem("d"), problem("e")]
    assert [count(found, level) for level in Level] == [1, 1, 2]


def test_a_look_that_fails_or_hangs_is_a_fact() -> None:
    """Its text is the system's word or the error's class, never a message that could hold a key."""

    def fail(error: Exception) -> None:
        raise error

    assert timed(lambda: 5).value == 5
    assert timed(lambda: fail(PermissionError(13, "Permission denied"))).missing == "Permission denied"
    assert timed(lambda: fail(ValueError(KEY))).missing == "ValueError"
    never = threading.Event()
    assert timed(never.wait, 0.05).missing == "no answer within 0.05 s"
    never.set()


@pytest.mark.parametrize(
    ("lines", "gpus"),
    [
        (["NVIDIA H100, 81920, 4, 580.65.06, Default"], (H100,)),
        (["NVIDIA H100, 81920, [N/A], 580.65.06, Default"], (dataclasses.replace(H100, used_mb=0),)),
        (["Failed to initialize NVML: Driver/library version mismatch"], ()),
        (["", "a, b, c, d, e"], ()),
    ],
    ids=["one", "MIG", "error", "nonsense"],
)
def test_nvidia_smi_is_read(lines: list[str], gpus: tuple[Gpu, ...]) -> None:
    """What is no GPU is none."""
    assert parse_gpus(lines) == gpus


def test_a_lock_file_is_read() -> None:
    """With several versions for several Pythons, with extras and hashes."""
    text = "click==8.1 \\\n    --hash=sha256:0\npandas==2.3 ; python_version < '3.11' \\\npandas==3.0 ; x\n# a==1\n"
    assert parse_lock(text) == {"click": frozenset(("8.1",)), "pandas": frozenset(("2.3", "3.0"))}


def test_the_code_folder_is_searched_as_drum_does(tmp_path: Path) -> None:
    """Hooks in hidden folders too, artifacts not in those; within its time."""
    for name in (
        "custom.py",
        ".git/custom.py",
        "a/b/custom_flask.py",
        "a/x.ZIP",
        ".venv/y.jar",
        "a/custom.pyc",
        "z.rds",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = search_code(tmp_path, 60)
    assert sorted(found.hooks) == [".git/custom.py", "a/b/custom_flask.py", "custom.py"]
    assert sorted(found.artifacts) == ["a/x.ZIP", "z.rds"]
    assert (found.files, found.complete) == (7, True)
    ticks = iter(range(100))
    assert not search_code(tmp_path, 1, lambda: float(next(ticks))).complete


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """The nearest one above it tells; a file in its place is told."""
    found = folder(tmp_path / "a/b")
    assert (found.not_writable, found.filled) == (None, False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").touch()
    assert folder(tmp_path / "a/b").not_writable == f"{tmp_path / 'a'} is no folder"
    (tmp_path / "c").mkdir()
    assert not folder(tmp_path / "c").filled
    (tmp_path / "c/model").write_text("x")
    assert folder(tmp_path / "c").filled
