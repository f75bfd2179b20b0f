"""A store's errors as one sentence each, with what to do. Pure."""

import re

from nimdrum.base.errors import WeightsError
from nimdrum.base.secret import redact
from nimdrum.weights.source import Source

SHOWN_CHARACTERS = 200


class TransientError(Exception):
    """The store could not be read now; asking again may help. The text is the sentence for when it does not."""


def explain(error: Exception, source: Source, secrets: tuple[str, ...] = ()) -> Exception:
    """What to tell the user. The words of the stores' own error codes are S3's, Azure's and Google's."""
    import obstore.exceptions as kinds

    text, _, debug = str(error).partition("\n\nDebug source")
    status = status_of(text)
    code = next(iter(re.findall(r"<Code>(\w+)</Code>", text)), "") or (f"HTTP {status}" if status else "")
    where, container = source.shown, source.root
    if isinstance(error, OSError) and source.scheme == "file" and not isinstance(error, FileNotFoundError):
        return WeightsError(f"{where} cannot be read: {error.strerror or error}.")
    if code in ("NoSuchBucket", "ContainerNotFound") or "bucket does not exist" in text:
        return WeightsError(f"The bucket or container {container} of {where} does not exist ({code}). Check the name.")
    if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
        return WeightsError(f"The bucket {container} is in another region ({code}). Add ?region=... to the URI.")
    refused = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "AuthenticationFailed")
    if code in refused or status == 401 or isinstance(error, kinds.UnauthenticatedError):
        return WeightsError(
            f"The store refused the credential for {where} ({code}). Check model_artifacts_credential: wrong, expired, "
            "or of another account."
        )
    if status == 403 or isinstance(error, kinds.PermissionDeniedError):
        return WeightsError(
            f"The credential may not read {where} ({code}). It needs the rights to list and to read there."
        )
    if status == 412 or isinstance(error, kinds.PreconditionError):
        return WeightsError(f"{where} was changed while it was fetched. Start again when nobody writes there.")
    if status in (404, 416) or isinstance(error, FileNotFoundError):
        return WeightsError(f"There is nothing at {where}, or it was removed while it was fetched. Check the path.")
    if isinstance(error, kinds.InvalidPathError):
        return WeightsError(f"A name below {where} is not a plain path inside the folder, so nothing was fetched.")
    if isinstance(error, kinds.NotSupportedError):
        return WeightsError(f"The server of {where} cannot send a part of a file (HTTP ranges). Use another one.")
    seen = redact(" ".join(re.sub(r"\?\S*", "", text).split()), secrets)[:SHOWN_CHARACTERS]
    if any(word in text.lower() for word in ("jwt", "oauth", "private key")):
        return WeightsError(f"The credential for {where} cannot be used. Check model_artifacts_credential.")
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return WeightsError(f"The store refused the request for {where} ({code}): {seen}")
    if isinstance(error, kinds.BaseError | OSError):
        return TransientError(f"The store of {where} cannot be reached, or broke off: {_cause(debug)}{seen}")
    return WeightsError(f"{where} cannot be opened: {type(error).__name__}: {seen}")


def _cause(debug: str) -> str:
    """Why there was no answer. obstore tells that only in the part of its text that is meant for developers."""
    if "InvalidCertificate" in debug:
        return "its certificate is not trusted here (a CA of your own goes into SSL_CERT_FILE). "
    said = re.findall(r'(?:message|error): "([^"]+)"', debug)  # of the operating system and of its resolver
    return f"{said[-1]}. " if said else ""


def status_of(text: str) -> int | None:
    match = re.search(r"status code: (\d{3})", text)
    return int(match[1]) if match else None
