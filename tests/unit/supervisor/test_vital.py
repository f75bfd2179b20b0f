"""When an engine looks dead: the counters of its metrics page decide, however many API servers make that page."""

import pytest

from nimdrum.engines.work import Work, read_work
from nimdrum.supervisor.watch import Vital, after_health, after_work, silence, work_interval

STALL_SEC = 10.0
BORN = Vital(alive_at=0.0, moved_at=0.0)


def page(running: int, tokens: int) -> Work:
    """As vLLM writes it with several API servers: their counters added up in one line, the queue of the engine."""
    labels = '{engine="0",model_name="m"}'
    return read_work(
        f"vllm:num_requests_running{labels} {running}.0\nvllm:num_requests_waiting{labels} 0.0\n"
        f"vllm:generation_tokens_total{labels} {tokens}.0\n"
    )


@pytest.mark.parametrize(
    ("looks", "silent"),
    [
        pytest.param([(5, page(3, 10)), (20, page(3, 10))], True, id="has work, and no token in 15 s"),
        pytest.param([(5, page(3, 10)), (14, page(3, 11))], False, id="a token of any API server moves it"),
        pytest.param([(5, page(3, 10)), (20, page(0, 10))], False, id="nothing to do"),
        pytest.param([(5, page(0, 10)), (20, page(2, 10))], True, id="work came, and nothing moved since"),
        pytest.param([(5, page(3, 10)), (20, Work(None, None, None))], True, id="the page is gone"),
        pytest.param([(5, page(3, 0)), (20, page(3, 0))], True, id="never a token"),
    ],
)
def test_silence(looks: list[tuple[float, Work]], silent: bool) -> None:
    """Health that answers meanwhile changes nothing: any API server answers it for an engine that hangs."""
    vital = BORN
    for now, work in looks:
        vital = after_health(after_work(vital, work, now), now)
    assert (silence(vital, 20.0, STALL_SEC) is not None) is silent


@pytest.mark.parametrize(
    ("stall_timeout_sec", "interval_sec"), [(1, 1.0), (10, 1.0), (20, 2.0), (30, 3.0), (300, 3.0), (86400, 3.0)]
)
def test_looks_at_the_page_cost_little(stall_timeout_sec: float, interval_sec: float) -> None:
    """Ten looks in the silence that is looked for, at most one a second, and some while a token is asked for."""
    assert work_interval(stall_timeout_sec) == interval_sec
