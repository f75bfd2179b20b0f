"""What tells two rows apart: a fingerprint of all that was asked of the engine, and of nothing else. Pure."""

import hashlib

from nimdrum.base.settings import Settings
from nimdrum.scoring.request import NOTHING_OWN, Own, Sampling, sampling_of, whole_body

REQUEST_FORMAT = 1
"""Counts the ways in which this project has asked: a new one where the same settings begin to mean another request."""
DIGITS = 32


def fingerprint(sampling: Sampling, prompt: str, own: Own = NOTHING_OWN, split_reasoning: bool = False) -> str:
    """32 hex characters for one row's request: the body as it is sent (model, messages, fields, n), how the answer is
    read (`split_reasoning`), and REQUEST_FORMAT.

    Timeouts, tries, the window, the row's place, file names and the engine's address are not in it: with others the
    answer would be the same. Raises RecursionError where messages of the row's own are nested too deeply for JSON.
    """
    return fingerprint_of_body(whole_body(sampling, prompt, own), split_reasoning)


def fingerprint_of_body(body: bytes, split_reasoning: bool) -> str:
    """That of a row whose `whole_body` is there already."""
    return hashlib.sha256(b"%d %d\n%b" % (REQUEST_FORMAT, split_reasoning, body)).hexdigest()[:DIGITS]


def fingerprint_of(settings: Settings, model: str) -> str:
    """The same for what all rows have in common: it changes with every setting that changes the request, and with the
    served `model`."""
    return fingerprint(sampling_of(settings, model), "", split_reasoning=settings.split_reasoning)
