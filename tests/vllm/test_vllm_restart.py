"""The real vLLM dies and hangs in the middle of a batch: it is found, restarted, and no row is lost."""

import signal

import openai
import pytest
from drum_process import Drum
from fake_nim.run import wait_for
from vllm_world import ANSWER_SEC, MODEL, READY_SEC, Engine, Scoring, frame_of, long_chat

CORE = "VLLM::EngineCore"


def batch_in_the_middle(engine: Engine) -> Scoring:
    """A batch of which some rows are answered, and most are not."""
    before = engine.work().progress or 0
    batch = Scoring(frame_of([f"Count from {i} up." for i in range(40)]), engine.model(max_tokens=24, temperature=1))
    batch.start()
    engine.wait_for_work(lambda work: (work.progress or 0) > before + 100 and bool(work.running))
    return batch


def test_a_dead_core_in_mid_batch(engine: Engine, drum: Drum) -> None:
    """vLLM's core is killed: a stream ends in vLLM's own error, the rows wait for the next engine, DRUM is well again."""
    restarts = engine.state().restarts
    batch = batch_in_the_middle(engine)
    client = openai.OpenAI(base_url=drum.url, api_key="unused", timeout=ANSWER_SEC, max_retries=0)
    fields = long_chat(stream=True)
    stream = client.post(
        "/v1/chat/completions", body=fields, stream=True, stream_cls=openai.Stream[object], cast_to=object
    )
    next(iter(stream))
    (core,) = engine.processes(CORE)
    core.send_signal(signal.SIGKILL)
    with pytest.raises(openai.APIError, match="EngineCore encountered an issue"):
        for _ in stream:
            pass
    out = batch.result()
    assert set(out["row_error"]) == {""}
    assert all(out["resultText"].str.strip())
    assert max(out["attempts"]) > 1  # of those that were in flight; the others were sent once
    assert min(out["attempts"]) == 1
    assert engine.state().restarts == restarts + 1
    drum.wait_health(200)
    assert client.chat.completions.create(model=MODEL, messages=fields["messages"], max_tokens=2).choices


def test_a_hung_core_is_found_and_its_rows_are_sent_again(engine: Engine) -> None:
    """vLLM's core is stopped (SIGSTOP): its API server answers health and metrics as before, and no token comes."""
    restarts = engine.state().restarts
    batch = batch_in_the_middle(engine)
    (core,) = engine.processes(CORE)
    core.send_signal(signal.SIGSTOP)
    wait_for(lambda: engine.state().restarts > restarts, READY_SEC)
    cause = engine.state().cause
    assert cause is not None
    assert "asked for one token" in cause
    out = batch.result()
    assert set(out["row_error"]) == {""}
    assert not core.is_running()
