"""Metrics of rows and chats; what a collector gets of them is `tests/edge/test_otel.py`'s."""

import subprocess
import sys

from opentelemetry.metrics import Histogram, NoOpMeter

from nimdrum.session import meters

WITHOUT_PROVIDER = """
import sys
from opentelemetry import metrics
from nimdrum.session.meters import note_operation
note_operation("nim", None, "model", 0.1, {"input": 3, "output": None}, "timed_out")
print(type(metrics.get_meter_provider()).__name__, "opentelemetry.sdk.metrics" in sys.modules)
"""


def test_nothing_is_measured_until_drum_says_so() -> None:
    """Without DRUM's provider there is none of ours, and the part of OpenTelemetry that would measure is not loaded."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_PROVIDER], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["_ProxyMeterProvider", "False"], done.stderr


def test_the_advised_buckets() -> None:
    """Those of the GenAI conventions, so that dashboards of others fit."""
    assert (meters.SECONDS[0], meters.SECONDS[-1], len(meters.SECONDS)) == (0.01, 81.92, 14)
    assert (meters.TOKENS[0], meters.TOKENS[-1], len(meters.TOKENS)) == (1, 67108864, 14)


def test_an_older_api_has_its_own_buckets() -> None:
    """A package that a user installs may bring a release whose histograms take no advice."""

    class Older(NoOpMeter):
        def create_histogram(self, name: str, unit: str = "", description: str = "") -> Histogram:  # type: ignore[override]
            return super().create_histogram(name, unit, description)

    made = meters.make_histogram(Older("old"), "a", "s", "b", meters.SECONDS)
    made.record(1.0)
