"""The store that weights come from: opened, listed and read with obstore, its errors turned into one sentence each."""

import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from nimdrum import __version__
from nimdrum.base.errors import WeightsError
from nimdrum.base.secret import redact
from nimdrum.weights.checks import SUMS, read_sums
from nimdrum.weights.credential import Credential, secrets_of, store_options
from nimdrum.weights.failures import SHOWN_CHARACTERS, TransientError, explain, status_of
from nimdrum.weights.source import Source

CHUNK_BYTES = 1024 * 1024
LARGEST_SUMS_BYTES = 16 * 1024 * 1024
CONNECT_TIMEOUT_SEC = 10
READ_TIMEOUT_SEC = 60
"""A connection silent for so long is given up, and asked again."""
REQUEST_TIMEOUT_SEC = 3600
RETRY_TIMEOUT_SEC = 90.0
"""Transient errors (no connection, 5xx, 429) of one request are retried by obstore for so long."""
MAX_RETRIES = 10
CERTIFICATES = ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


@dataclass(frozen=True)
class StoredObject:
    """One object of the listing. `name` is its path below the source."""

    name: str
    key: str
    size: int
    etag: str | None
    modified: str


class Store:
    """One source, opened. Methods raise WeightsError, and `read` also TransientError."""

    def __init__(
        self,
        source: Source,
        credential: Credential | None,
        environ: Mapping[str, str],
        retry_timeout_sec: float = RETRY_TIMEOUT_SEC,
    ) -> None:
        self._source = source
        self._secrets = secrets_of(credential)
        self._local = Path(source.path) if source.scheme == "file" else None
        options = store_options(source, credential, environ)
        try:
            self._store = _open(source, options, environ, min(RETRY_TIMEOUT_SEC, retry_timeout_sec))
        except Exception as error:  # obstore has several; nothing was asked yet, so it is what it was given
            seen = redact(str(error).partition("\n")[0], self._secrets)[:SHOWN_CHARACTERS]
            raise WeightsError(f"The credential or the options for {source.shown} cannot be used: {seen}") from None

    def objects(self) -> tuple[list[StoredObject], dict[str, str]]:
        """All objects of the source, and what its SHA256SUMS says of them (empty when there is none)."""
        import obstore

        source = self._source
        try:
            folder = source.folder or (self._local is not None and self._local.is_dir())
            single = None if folder else self._head(source.path, source.name)
            if single and (single.size or source.scheme in ("https", "http")):
                return [single], {}
            if source.scheme in ("https", "http"):
                return self._list_by_sums()
            prefix = None if self._local is not None else source.path or None
            found = [meta for chunk in obstore.list(self._store, prefix) for meta in chunk]
        except WeightsError:
            raise
        except Exception as error:  # see `explain`
            raise WeightsError(str(self._explain(error))) from None
        cut = len(prefix) + 1 if prefix else 0
        objects = [_stored(meta, str(meta["path"])[cut:]) for meta in found]
        keys = {each.name for each in objects}
        # An empty object of a folder's name is how some tools write the folder itself.
        objects = [o for o in objects if o.name and (o.size or not any(k.startswith(f"{o.name}/") for k in keys))]
        if not objects and single:
            return [single], {}  # of no bytes; with others below it, it was how some tools write a folder
        if not objects:
            raise WeightsError(f"There is nothing at {source.shown}. Check the path in model_artifacts_uri.")
        sums = next((self._sums(each) for each in objects if each.name == SUMS), {})
        if missing := sorted(set(sums) - keys):
            raise WeightsError(
                f"{SUMS} at {source.shown} lists {missing[0]!r} ({len(missing)} such), which the store does not have. "
                "Upload it, or mend the list."
            )
        return objects, sums

    def read(self, each: StoredObject | Any, start: int, end: int) -> Iterator[bytes]:
        """The bytes of an object (anything with `key` and `etag`) from `start` to before `end`, in pieces."""
        import obstore

        options: dict[str, Any] = {"range": (start, end)}
        if each.etag and not each.etag.startswith("W/") and self._local is None:
            options["if_match"] = each.etag  # never half of one version and half of another
        try:
            yield from obstore.get(self._store, each.key, options=options).stream(CHUNK_BYTES)  # type: ignore[arg-type]
        except Exception as error:  # see `explain`
            raise self._explain(error) from None

    def etag_is_md5(self, each: StoredObject | Any) -> bool:
        """Whether S3's ETag of this object is its MD5. It is not where the object is encrypted with a key of the
        user's (SSE-KMS, SSE-C), which only a header tells:
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html. True when nobody can tell."""
        import obstore

        try:
            url = obstore.sign(self._store, "HEAD", each.key, timedelta(minutes=5))
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=READ_TIMEOUT_SEC) as answer:  # noqa: S310 - the store's own address, http or https
                headers = answer.headers
        except Exception:  # whatever it is, it does not make a wrong checksum right
            return True
        by_kms = str(headers.get("x-amz-server-side-encryption", "")).startswith("aws:kms")
        return not (by_kms or headers.get("x-amz-server-side-encryption-customer-algorithm"))

    def _head(self, key: str, name: str) -> StoredObject | None:
        """The object `key`, or None when there is none: the URI may be a folder's, or only the listing be allowed."""
        import obstore

        try:
            return _stored(obstore.head(self._store, name if self._local is not None else key), name)
        except (FileNotFoundError, IsADirectoryError):
            return None
        except Exception as error:  # see `explain`
            # A store may forbid to look at one object and allow the listing; it says 403 for what is not there.
            if status_of(str(error)) == 404 or self._local is not None:
                return None
            if status_of(str(error)) == 403 and self._source.scheme not in ("https", "http"):
                return None
            raise WeightsError(str(self._explain(error))) from None

    def _list_by_sums(self) -> tuple[list[StoredObject], dict[str, str]]:
        """A web server has no listing: its SHA256SUMS is one."""
        path = f"{self._source.path}/" if self._source.path else ""
        file = self._head(path + SUMS, SUMS)
        if file is None:
            raise WeightsError(
                f"There is no file at {self._source.shown}, and no {SUMS} below it. A folder of a web server can only "
                f"be fetched with one, because it is the list of what is there."
            )
        sums = self._sums(file)
        objects = [file]
        for name in sums:
            each = self._head(path + name, name)
            if each is None:
                raise WeightsError(f"{SUMS} at {self._source.shown} lists {name!r}, which the server does not have.")
            objects.append(each)
        return objects, sums

    def _sums(self, file: StoredObject) -> dict[str, str]:
        if file.size > LARGEST_SUMS_BYTES:
            raise WeightsError(f"{SUMS} at {self._source.shown} has {file.size} bytes, too many for a list of files.")
        try:
            data = b"".join(self.read(file, 0, file.size)) if file.size else b""
        except TransientError as error:
            raise WeightsError(str(error)) from None
        return read_sums(data.decode("utf-8", "replace"))

    def _explain(self, error: Exception) -> Exception:
        """A store's error as one sentence without secrets: a WeightsError, or a TransientError."""
        return explain(error, self._source, self._secrets)


def _stored(meta: Any, name: str) -> StoredObject:
    modified = meta.get("last_modified")
    return StoredObject(name, str(meta["path"]), int(meta["size"]), meta.get("e_tag"), str(modified or ""))


def _open(source: Source, options: dict[str, Any], environ: Mapping[str, str], retry_timeout_sec: float) -> Any:
    from obstore import store

    if source.scheme == "file":
        path = Path(source.path)
        return store.LocalStore(path if path.is_dir() else path.parent)
    chosen = [source.uri, *map(str, options.values()), *(environ.get(name, "") for name in ENDPOINTS)]
    client: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_SEC),
        "read_timeout": timedelta(seconds=READ_TIMEOUT_SEC),
        "timeout": timedelta(seconds=REQUEST_TIMEOUT_SEC),
        "user_agent": f"nimdrum/{__version__}",
        "allow_http": any(url.startswith("http://") for url in chosen),  # only where the user wrote it
    }
    if bundle := next((environ[name] for name in CERTIFICATES if environ.get(name)), None):
        client["root_certificate"] = Path(bundle).read_bytes()
    retry: Any = {"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=retry_timeout_sec)}
    common: dict[str, Any] = {"client_options": client, "retry_config": retry}
    if source.scheme == "s3":
        return store.S3Store(source.root, **common, **options)
    if source.scheme == "gs":
        return store.GCSStore(source.root, **common, **options)
    if source.scheme == "az":
        return store.AzureStore(source.root, **common, **options)
    return store.HTTPStore(source.root, **common)
