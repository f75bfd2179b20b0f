"""The parameters model_artifacts_* in the plans of the engines that start here."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.base.hosting import read_hosting
from nimdrum.base.settings import load_settings
from nimdrum.engines import external, llamacpp, nim
from nimdrum.engines.choose import plan_engine
from nimdrum.engines.image import NimImage
from nimdrum.engines.plan import EnginePlan
from nimdrum.supervisor.engine import tenth_told

ROOT = Path(__file__).resolve().parents[3]
NIM_2 = NimImage(Path("/opt/nim/start_server.sh"), None, 2, "test")
SECRET = "do-not-show-this-secret"
CREDENTIAL = {"credentialType": "s3", "awsAccessKeyId": "the-access-key-id", "awsSecretAccessKey": SECRET}
URI = "s3://bucket/llm/?region=eu-west-1"


def plan(
    code_dir: Path, image: NimImage | None = NIM_2, environ: dict[str, str] | None = None, **raw: Any
) -> EnginePlan:
    hosting = read_hosting(code_dir, environ or {}, ["drum", "score"])
    kinds = (
        replace(nim.KIND, find=lambda settings, hosting: image),
        external.KIND,
        replace(llamacpp.KIND, find=lambda settings, hosting: Path("/packages/model.gguf")),
    )
    return plan_engine(load_settings(ROOT, raw.get), hosting, kinds)


def test_the_request_goes_through_the_pipe_and_nowhere_else(tmp_path: Path) -> None:
    """The credential is in the request and among what is masked: not in arguments, environment, identity or repr."""
    environ = {"HTTPS_PROXY": "http://proxy:3128", "AWS_REGION": "r", "NGC_API_KEY": SECRET, "DATAROBOT_API_TOKEN": "t"}
    made = plan(tmp_path, environ=environ, model_artifacts_uri=URI, model_artifacts_credential=CREDENTIAL)
    (prepare,) = made.prepare
    request = json.loads(prepare.request)
    assert request["target"] == str(tmp_path / "model-repo")
    assert (request["uri"], request["credential"]) == (URI, CREDENTIAL)
    assert SECRET in made.secrets
    assert not [text for text in (*prepare.argv, *made.identity, *made.env.values(), repr(made)) if SECRET in text]
    env = prepare.env
    assert SECRET not in env.values()
    assert (env["HTTPS_PROXY"], env["AWS_REGION"]) == ("http://proxy:3128", "r")
    assert "DATAROBOT_API_TOKEN" not in env
    assert EnginePlan.from_json(made.to_json()) == made


def test_a_cache_goes_where_nim_looks_for_it(tmp_path: Path) -> None:
    """Into NIM_CACHE_PATH, which engine_config.json may set."""
    (tmp_path / "engine_config.json").write_text('{"env": {"NIM_CACHE_PATH": "/mnt/cache"}}')
    made = plan(tmp_path, model_artifacts_uri=URI, model_artifacts_target="cache")
    (prepare,) = made.prepare
    assert json.loads(prepare.request)["target"] == "/mnt/cache"
    assert (made.route, made.cache) == ("fetched cache", "/mnt/cache")


def test_the_embedded_engine_takes_the_folder(tmp_path: Path) -> None:
    """Its server looks for the GGUF file when it starts; a cache is not for it."""
    made = plan(tmp_path, None, engine="llamacpp", model_artifacts_uri=URI)
    assert len(made.prepare) == 1
    assert made.argv[made.argv.index("--model") + 1] == str(tmp_path / "model-repo")
    with pytest.raises(SettingsError, match="only NIM takes"):
        plan(tmp_path, None, engine="llamacpp", model_artifacts_uri=URI, model_artifacts_target="cache")
    (tmp_path / "model-repo").mkdir()
    (tmp_path / "model-repo/mine.gguf").touch()
    with pytest.raises(SettingsError, match="already holds files"):
        plan(tmp_path, None, engine="llamacpp", model_artifacts_uri=URI)


def test_other_weights_are_another_engine(tmp_path: Path) -> None:
    """Another URI or target is; a renewed credential for the same weights is not."""
    one = plan(tmp_path, model_artifacts_uri=URI, model_artifacts_credential=CREDENTIAL)
    renewed = {**CREDENTIAL, "awsSecretAccessKey": "another-secret"}
    same = plan(tmp_path, model_artifacts_uri=URI, model_artifacts_credential=renewed)
    others = [
        plan(tmp_path, model_artifacts_uri="s3://bucket/llm-2/"),
        plan(tmp_path, model_artifacts_uri=URI, model_artifacts_target="cache"),
        plan(tmp_path),
    ]
    assert one.fingerprint == same.fingerprint
    assert len({each.fingerprint for each in (one, *others)}) == 4


@pytest.mark.parametrize(
    ("line", "tenths"),
    [
        ("weights.fetching percent=0 done_gb=0", 0),
        ("weights.fetching percent=39 done_gb=1", 3),
        ("weights.fetching percent=100", 10),
        ("weights.waiting holder=a:1", None),
        ("weights.fetching percent=x", None),
        ("weights.fetching", None),
        ("", None),
    ],
)
def test_how_far_a_fetch_is(line: str, tenths: int | None) -> None:
    """From its own line; deployment events are sent for each tenth."""
    assert tenth_told(line) == tenths


def test_adapters_leave_the_weights_route_alone(tmp_path: Path) -> None:
    """They go beside it; with NIM's interval the store is looked at again as often, else once."""
    made = plan(tmp_path, model_artifacts_uri=URI, model_artifacts_target="adapters")
    (prepare,) = made.prepare
    request = json.loads(prepare.request)
    assert (request["target"], request["renew"]) == (str(tmp_path / "adapters"), False)
    assert made.env["NIM_PEFT_SOURCE"] == str(tmp_path / "adapters")
    assert (made.route, made.renew, made.renew_sec) == ("download", None, 0.0)
    (tmp_path / "engine_config.json").write_text('{"env": {"NIM_PEFT_REFRESH_INTERVAL": 60}}')
    again = plan(tmp_path, model_artifacts_uri=URI, model_artifacts_target="adapters")
    assert again.renew is not None
    assert (json.loads(again.renew.request)["renew"], again.renew_sec) == (True, 60.0)
    assert again.from_json(again.to_json()) == again


def test_adapters_lie_in_one_place(tmp_path: Path) -> None:
    """Two sources of them would hide each other; other engines have none."""
    (tmp_path / "engine_config.json").write_text('{"env": {"NIM_PEFT_SOURCE": "/mnt/loras"}}')
    with pytest.raises(SettingsError, match="NIM_PEFT_SOURCE: both say where the LoRA adapters are"):
        plan(tmp_path, model_artifacts_uri=URI, model_artifacts_target="adapters")
    (tmp_path / "engine_config.json").unlink()
    with pytest.raises(SettingsError, match="model_artifacts_target is adapters, which only NIM takes"):
        plan(tmp_path, None, engine="llamacpp", model_artifacts_uri=URI, model_artifacts_target="adapters")
