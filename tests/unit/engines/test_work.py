"""Metrics pages of engines: the known names summed, and nothing on a page that stops the reader."""

import pytest

from nimdrum.engines.work import Work, read_work

VLLM = """\
# HELP vllm:num_requests_running Number of requests.
vllm:num_requests_running{engine="0",model_name="llama"} 2.0
vllm:num_requests_running{engine="1",model_name="llama"} 1.0
vllm:num_requests_waiting{engine="0",model_name="llama"} 0.0
vllm:generation_tokens_total{engine="0",model_name="llama"} 10.0
vllm:request_success_total{finished_reason="stop"} 1.0
vllm:prompt_tokens_total{engine="0",model_name="llama"} 99.0
"""


@pytest.mark.parametrize(
    ("page", "work"),
    [
        pytest.param(VLLM, Work(3, 0, 11), id="vLLM"),
        pytest.param(VLLM.replace("vllm:", ""), Work(3, 0, 11), id="NIM 1.x"),
        pytest.param(
            "llamacpp:requests_processing 1\nllamacpp:requests_deferred 4\n", Work(1, 4, None), id="llama.cpp"
        ),
        pytest.param("", Work(None, None, None), id="nothing"),
        pytest.param("num_requests_running 1.2.3\nnum_requests_waiting 5\n", Work(None, 5, None), id="not a number"),
    ],
)
def test_pages(page: str, work: Work) -> None:
    """What is not a number is passed over: the thread that reads must not end."""
    assert read_work(page) == work
