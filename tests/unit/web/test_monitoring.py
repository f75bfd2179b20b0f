"""Alert rules, dashboard and documentation name the metrics that there are."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from nimdrum.web.metrics import FAMILIES

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "examples/monitoring"
VLLM = {"vllm:num_requests_running", "vllm:num_requests_waiting"}


@pytest.mark.parametrize("file", ["alerts.yaml", "grafana-dashboard.json"])
def test_named_metrics_exist(file: str) -> None:
    text = (FOLDER / file).read_text(encoding="utf-8")
    named = set(re.findall(r"\b(?:nimdrum_|vllm:)\w+", text))
    assert len(named) > 5
    assert {name.removesuffix("_bucket") for name in named} <= set(FAMILIES) | VLLM


def test_every_metric_is_documented() -> None:
    """docs/monitoring.md has each, with its kind and its words."""
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(nimdrum_\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert rows == {name: family.kind for name, family in FAMILIES.items()}
    assert all(family.help in page for family in FAMILIES.values())


def test_every_panel_asks_something() -> None:
    panels = json.loads((FOLDER / "grafana-dashboard.json").read_text(encoding="utf-8"))["panels"]
    assert len(panels) > 5
    assert all(target["expr"] for panel in panels for target in panel["targets"])
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_alert_rules() -> None:
    """Each has a sentence for whoever is woken up; promtool finds nothing wrong."""
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]:
        assert rule["annotations"]["summary"].endswith(".")
    promtool = shutil.which("promtool")
    if promtool is None and os.environ.get("CI") != "true":
        pytest.skip("promtool is not installed (Debian: prometheus)")
    checked = subprocess.run(
        [str(promtool), "check", "rules", str(FOLDER / "alerts.yaml")], capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
