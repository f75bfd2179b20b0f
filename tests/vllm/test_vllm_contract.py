"""The recorded contract on the real vLLM; tests/test_contract.py asks the fake NIM the same."""

import pytest
from contract.table import Case, ask, ask_metrics, cases, read_table
from vllm_world import Engine


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_vllm_answers_as_recorded(engine: Engine, case: Case) -> None:
    """A change is vLLM's: record again (tests/contract/table.py says how) and mend the fake."""
    assert ask(engine.endpoint().port, case) == case.answer


def test_vllm_counts_under_the_recorded_names(engine: Engine) -> None:
    """Every metric of vLLM's with its labels."""
    assert ask_metrics(engine.endpoint().port) == read_table()["metrics"]
