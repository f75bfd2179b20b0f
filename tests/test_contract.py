"""The recorded contract on the fake NIM; tests/vllm asks the real vLLM the same. See tests/contract/table.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from contract.table import MAX_MODEL_LEN, MODEL, Case, ask, ask_metrics, cases, read_table
from fake_nim.config import FakeNimConfig
from fake_nim.run import Running, fake_nim

from nimdrum.engines.work import KNOWN


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that has tokens to count: answers as long as the longest max_tokens of the table."""
    env = {"NIM_SERVED_MODEL_NAME": MODEL, "NIM_MAX_MODEL_LEN": str(MAX_MODEL_LEN)}
    with fake_nim(tmp_path_factory.mktemp("contract"), FakeNimConfig(line="2.x"), env=env) as running:
        yield running


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_fake_answers_as_vllm_did(fake: Running, case: Case) -> None:
    """Status, kind, keys, and of an error its type, param and first words."""
    assert ask(fake.port, case) == case.answer


def test_the_fake_counts_under_vllms_names(fake: Running) -> None:
    """Every name and label on its metrics page is on vLLM's; the launcher's names are among them."""
    of_vllm, of_fake = read_table()["metrics"], ask_metrics(fake.port)
    assert {name: of_vllm.get(name) for name in of_fake} == of_fake
    for names in (KNOWN.running, KNOWN.waiting, KNOWN.progress):
        assert {f"vllm:{name}" for name in names} & set(of_fake)
