"""What the user is told of a store's trouble, as far as no server is needed for it."""

import pytest
from obstore.exceptions import GenericError

from nimdrum.errors import WeightsError
from nimdrum.weights.progress import Progress, Watch
from nimdrum.weights.source import parse_uri
from nimdrum.weights.store import TransientError, explain


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
    watch = Watch([], [], {}, lambda *_args, **_fields: None, lambda: False, stall_timeout_sec=0.0)
    with pytest.raises(WeightsError, match=r"^No byte came for 0 s\..*stands still"):
        watch.look(Progress())
    with pytest.raises(WeightsError, match=r"^No byte came for 0 s\..*Connection refused"):
        watch.look(Progress(trouble="The store of s3://b/x cannot be reached, or broke off: Connection refused."))
