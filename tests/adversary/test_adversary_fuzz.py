"""Answers that Hypothesis makes up: whatever the engine says, a row gets its own answer or an error, and nothing stays.

They are served in batches of 400: a fresh engine, eight callers at once with 50 rows each, 40 of the answers to a chat
too, and then the next caller's rows. NIMDRUM_FUZZ_ANSWERS says how many answers, NIMDRUM_FUZZ_SEED which ones, and of
one batch the seed is its number more. All of it, in some minutes:
    NIMDRUM_FUZZ_ANSWERS=10000 pytest tests/adversary/test_adversary_fuzz.py -s
"""

import collections
import contextlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from http_face import Face
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from made_answers import ANSWERED, NOBODY, REFUSED, Made, made
from rude_engine import Act, Asked, RudeEngine, good
from test_adversary_rows import Place
from three_checks import check_held, check_next, held_here

pytestmark = pytest.mark.timeout(1800)

SEED = int(os.environ["NIMDRUM_FUZZ_SEED"])
ANSWERS = int(os.environ.get("NIMDRUM_FUZZ_ANSWERS", "800"))

BATCH, CALLERS, CHATS = 400, 8, 40
CONNECTIONS = 16
KINDS = (
    "refused",
    "too_long",
    "too_large",
    "unknown_model",
    "bad_answer",
    "empty_answer",
    "engine_error",
    "rate_limited",
    "engine_down",
    "timed_out",
)
ROW = re.compile(r"row (\d{3} of \d{5})")  # whole: an engine may cut its answer within a number


def made_up(number: int) -> list[tuple[str, Made]]:
    """The prompts of one batch, each with the answer that it gets."""
    prompts = [f"<{i:03}> row {i:03} of {number:05}" for i in range(BATCH)]  # of one length: it is drawn by it
    answers: list[Made] = []

    @seed(SEED + number)
    @settings(
        max_examples=BATCH,
        database=None,
        phases=[Phase.generate],  # a smaller answer would meet a process that the first one has changed
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def make(data: st.DataObject) -> None:
        answers.append(data.draw(made(f"echo: {prompts[len(answers)]}")))

    make()
    return list(zip(prompts, answers, strict=True))


def told(answer: Made) -> Act:
    """The answer at the first time that a prompt is asked, a good one later."""

    def act(connection: Any, asked: Asked) -> None:
        if asked.time > 1:
            good(connection, asked)
        else:
            answer.do(connection, asked)

    return act


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all examples: what one spoils, the next one sees."""
    face = Face(tmp_path_factory.mktemp("fuzz"), max_concurrency=CONNECTIONS, row_timeout_sec=120, split_reasoning=True)
    with contextlib.closing(RudeEngine()) as engine:
        face.runs(engine)
        made = Place(face, engine)
        made.chat("to begin with")
        made.score(["to begin with"])
    before = held_here(engine)
    made.before = replace(before, descriptors=before.descriptors + CONNECTIONS + 1, threads=before.threads + 1)
    yield made
    face.close()


def check_row(prompt: str, row: dict[str, Any], answer: Made) -> None:
    """What came of one row is its own, an answer or an error of a known kind, and what the answer was worth."""
    own = set(ROW.findall(prompt))
    text, error = row["resultText"], row["row_error"]
    for cell in (text, error, row["reasoning"], row["finish_reason"]):
        assert set(ROW.findall(cell)) <= own, f"{cell!r} came for {prompt!r} by {answer}"
        assert NOBODY not in cell, f"{cell!r} came for {prompt!r} by {answer}"
    kind = error.partition(":")[0] or ANSWERED
    assert kind in (ANSWERED, *KINDS), f"{error!r} by {answer}"
    assert bool(text.strip()) == (kind == ANSWERED), f"{text!r} with {error!r} by {answer}"
    if answer.must == ANSWERED:
        assert text == f"echo: {prompt}", f"{text!r}, {error!r} by {answer}"
    if answer.must == REFUSED:
        assert kind in ("refused", "too_long", "too_large", "unknown_model"), f"{text!r}, {error!r} by {answer}"


def check_chat(prompt: str, status: int, text: Any, answer: Made) -> None:
    """A chat is not sent again, so a broken answer is an error; a whole one counts."""
    assert status == 200 or 400 <= status < 600, f"{status} {text!r} by {answer}"
    assert set(ROW.findall(str(text))) <= set(ROW.findall(prompt)), f"{text!r} came for {prompt!r} by {answer}"
    assert NOBODY not in str(text)
    if answer.whole and answer.status == 200:
        assert (status, text) == (200, f"echo: {prompt}"), f"{status} {text!r} by {answer}"
    assert answer.status == 200 or status != 200, f"{status} {text!r} by {answer}"


def test_answers_that_are_made_up(place: Place) -> None:
    """Each row is its own and in its place, the next caller's are his, health answers, and nothing more is held."""
    client = place.face.client()
    seen: collections.Counter[str] = collections.Counter()

    with ThreadPoolExecutor(CALLERS, "rude caller") as callers:
        for number in range(max(1, ANSWERS // BATCH)):
            batch = made_up(number)
            acts = {f"{i:03}": told(answer) for i, (_, answer) in enumerate(batch)}
            with contextlib.closing(RudeEngine(acts)) as engine:
                place.face.runs(engine)
                calls = [batch[start::CALLERS] for start in range(CALLERS)]
                frames = list(callers.map(lambda call: place.score([prompt for prompt, _ in call]), calls))
                for call, rows in zip(calls, frames, strict=True):
                    for (prompt, answer), row in zip(call, rows.to_dict("records"), strict=True):
                        check_row(prompt, row, answer)
                        seen[f"row {answer.must}: {row['row_error'].partition(':')[0] or ANSWERED}"] += 1
                engine.times.clear()
                for prompt, answer in batch[:CHATS]:
                    status, text = place.chat(prompt)
                    check_chat(prompt, status, text, answer)
                    seen[f"chat {status}"] += 1
                check_next("made up", place.score)
                assert place.chat("the next") == (200, "echo: the next")
            seen["on a used connection"] += len(engine.asked) - engine.accepted
            assert client.get("/health/").status_code == 200
            check_held(place.before, lambda engine=engine: held_here(engine))
    print(f"seed {SEED}; " + ", ".join(f"{name} {count}" for name, count in sorted(seen.items())))
    assert seen["on a used connection"] > ANSWERS // 10
