"""What the user is told of a store's trouble, as far as no server is needed for it."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from nimdrum.base.errors import WeightsError
from nimdrum.weights.checks import Check
from nimdrum.weights.failures import TransientError, explain
from nimdrum.weights.parts import Journal, RemoteFile
from nimdrum.weights.report import Progress, ProgressWatch
from nimdrum.weights.source import parse_uri
from nimdrum.weights.transfer import Transfer


def test_a_certificate_that_is_not_trusted_is_named() -> None:
    """obstore says it in its text for developers only; without it "cannot be reached" sends the user to the network."""
    text = (
        "Generic S3 error: HTTP error: error sending request\n\nDebug source:\n  InvalidCertificate(\n  UnknownIssuer,"
    )
    told = explain(GenericError(text), parse_uri("s3://b/x"))
    assert isinstance(told, TransientError)
    assert "certificate is not trusted" in str(told)
    assert "SSL_CERT_FILE" in str(told)


def test_a_fetch_that_is_given_up_says_what_the_store_said() -> None:
    """Where the store never answers, its last trouble is the cause; where it is only silent, that is said."""
    watch = ProgressWatch([], [], {}, lambda *_args, **_fields: None, lambda: False, stall_timeout_sec=0.0)
    with pytest.raises(WeightsError, match=r"^No byte came for \d+ s\..*stands still"):
        watch.look(Progress())
    with pytest.raises(WeightsError, match=r"^No byte came for \d+ s\..*Connection refused"):
        watch.look(Progress(trouble="The store of s3://b/x cannot be reached, or broke off: Connection refused."))


class PanicError(BaseException):
    """As obstore's: not an Exception."""


class Panicking:
    """A store whose library fails inside."""

    def read(self, each: RemoteFile, start: int, end: int) -> Iterator[bytes]:
        raise PanicError

    def etag_is_md5(self, each: RemoteFile) -> bool:
        return True


def test_a_panic_in_a_thread_ends_the_fetch(tmp_path: Path) -> None:
    """Without that the other threads would wait for its bytes until the stall time."""
    journal = Journal(tmp_path / "journal")
    file = RemoteFile("model.bin", "model.bin", 100, None, Check("size"), "id")
    transfer = Transfer(Panicking(), [file], tmp_path, journal, journal.open())
    deadline = time.monotonic() + 60

    def look(_progress: Progress) -> None:
        assert time.monotonic() < deadline, "the panic was not seen"

    with pytest.raises(PanicError):
        transfer.run(look)
    journal.close()
