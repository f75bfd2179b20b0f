"""`parse_listing`: what `list-model-profiles` prints, in the documented shapes of both lines."""

import pytest
from fake_nim.tools import H100, LISTING_1X, LISTING_2X, LORA, SMALL, TRT, VLLM
from hypothesis import given
from hypothesis import strategies as st

from nimdrum.engines.tools import Listing, Profile, Verdict, parse_listing, profiles_table


def test_the_first_line() -> None:
    """GPUs, profiles in their order, the LoRA heading as a part of the one above it."""
    listing = parse_listing(LISTING_1X.splitlines())
    assert listing == Listing(
        (
            Profile(TRT, "tensorrt_llm-a100-bf16-tp1-throughput", Verdict.RUNNABLE, False, 1, ""),
            Profile(VLLM, "vllm-bf16-tp1", Verdict.RUNNABLE, False, 1, ""),
            Profile(LORA, "vllm-bf16-tp1-lora", Verdict.RUNNABLE, True, 1, ""),
            Profile(H100, "tensorrt_llm-h100-fp8-tp2-latency", Verdict.INCOMPATIBLE, False, 2, ""),
        ),
        ("0: NVIDIA A100-SXM4-80GB [current utilization: 0%]",),
        ("1: NVIDIA A100-SXM4-80GB [current utilization: 97%]",),
    )


def test_the_second_line() -> None:
    """Low memory is a verdict of its own, with what the image says of it."""
    listing = parse_listing(LISTING_2X.splitlines())
    assert [(p.id, p.verdict, p.gpus) for p in listing.profiles] == [
        (VLLM, Verdict.RUNNABLE, 1),
        (SMALL, Verdict.LOW_MEMORY, 1),
        (H100, Verdict.INCOMPATIBLE, 8),
    ]
    assert listing.profiles[1].note == "requires 96 GB per GPU, try NIM_MAX_MODEL_LEN=32768"


@pytest.mark.parametrize(
    ("heading", "verdict"),
    [
        ("- Compatible with system and runnable:", Verdict.RUNNABLE),
        ("Compatible with system and runnable", Verdict.RUNNABLE),
        ("- Compatible with system but not runnable due to low GPU free memory", Verdict.LOW_MEMORY),
        ("- Compatible with system but low memory:", Verdict.LOW_MEMORY),
        ("- Compilable to TRT-LLM using just-in-time compilation of HF models to TRTLLM engines:", Verdict.COMPILABLE),
        ("- Incompatible with system:", Verdict.INCOMPATIBLE),
        ("INFO compatible things follow", Verdict.UNKNOWN),
        ("", Verdict.UNKNOWN),
    ],
)
def test_headings(heading: str, verdict: Verdict) -> None:
    """Whatever stands before, around and behind the profile."""
    (profile,) = parse_listing(["MODEL PROFILES", heading, "INFO a log line", f"  - {TRT}"]).profiles
    assert (profile.verdict, profile.name, profile.gpus) == (verdict, "", None)


def test_the_best_of_several_is_found() -> None:
    """By id and by name; one that runs here before one that does not."""
    lines = ["Incompatible with system", f"- {TRT} (x)", "Compatible with system and runnable", f"- {VLLM} (x)"]
    listing = parse_listing(lines)
    assert (listing.find("x") or pytest.fail()).id == VLLM
    assert (listing.find(TRT) or pytest.fail()).verdict is Verdict.INCOMPATIBLE
    assert listing.find("y") is None


def test_the_table_shows_what_runs_first() -> None:
    """A person picks from the top."""
    lines = profiles_table(parse_listing(LISTING_1X.splitlines())).splitlines()
    assert lines[0] == "GPU 0: NVIDIA A100-SXM4-80GB [current utilization: 0%]"
    assert lines[3] == "runnable (3)"
    assert lines[6].endswith("LoRA, 1 GPU")
    assert profiles_table(parse_listing([])) == "The image listed no profile."


@given(st.lists(st.text() | st.sampled_from([*LISTING_1X.splitlines(), *LISTING_2X.splitlines()])))
def test_any_output_is_read(lines: list[str]) -> None:
    """Logs of all kinds come between; every line with an id is a profile."""
    listing = parse_listing(lines)
    assert len(listing.profiles) >= sum(
        line in LISTING_1X.splitlines() and "(" in line and "-tp" in line for line in lines
    )
    assert profiles_table(listing)
