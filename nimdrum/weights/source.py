"""Where weights are fetched from: `model_artifacts_uri` as a value. Pure."""

from dataclasses import dataclass
from urllib.parse import parse_qsl

from nimdrum.base.errors import SettingsError

OPTIONS = {
    "s3": ("region", "endpoint"),
    "gs": ("endpoint",),
    "az": ("account", "endpoint"),
    "https": (),
    "http": (),
    "file": (),
}
"""What may follow a question mark, by scheme."""


@dataclass(frozen=True)
class Source:
    """One object, or everything below a folder of a store."""

    uri: str
    """As the user gave it."""
    scheme: str
    root: str
    """Bucket or container; for https scheme and host; for file the empty string."""
    path: str
    """Key without slashes at its ends; for file an absolute path."""
    folder: bool
    """The URI ends with a slash, so it cannot be one object."""
    options: dict[str, str]

    @property
    def shown(self) -> str:
        """For messages: without the options."""
        return self.uri.partition("?")[0]

    @property
    def name(self) -> str:
        """The last part of the path: the file's name, if this is one object."""
        return self.path.rpartition("/")[2]


def parse_uri(uri: str) -> Source:
    """Read `s3://bucket/path?region=...&endpoint=...`, `gs://bucket/path`, `az://container/path?account=...`,
    `https://host/path` or `file:///path`. A path is taken as it is, nothing is decoded. Raises SettingsError.
    """
    location, _, query = uri.strip().partition("?")
    scheme, separator, rest = location.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in OPTIONS:
        shown = f"{scheme}://..." if separator else location
        raise SettingsError(
            f"model_artifacts_uri is {shown!r}; it must begin with s3://, gs://, az://, https:// or file://."
        )
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(set(options) - set(OPTIONS[scheme])):
        allowed = ", ".join(OPTIONS[scheme]) or "none (a signed URL cannot be used here)"
        raise SettingsError(
            f"model_artifacts_uri has the unknown options {', '.join(unknown)}; allowed for {scheme}:// are: {allowed}."
        )
    endpoint = options.get("endpoint", "https://")
    if not endpoint.startswith(("http://", "https://")) or "@" in endpoint:
        raise SettingsError("model_artifacts_uri: the endpoint begins with https:// (or http://), without a user name.")
    root, _, path = rest.partition("/")
    if scheme == "file":
        if root not in ("", "localhost") or not path.strip("/"):
            raise SettingsError(f"model_artifacts_uri is {location!r}; a file URI has three slashes: file:///folder.")
        root, path = "", "/" + path
    elif not root or "@" in root:
        what = {"s3": "bucket", "gs": "bucket", "az": "container"}.get(scheme, "host")
        raise SettingsError(f"model_artifacts_uri is {scheme}://...; after that comes the {what}, and no user name.")
    if scheme in ("https", "http"):
        root = f"{scheme}://{root}"
    folder = path.endswith("/") or not path
    kept = path.rstrip("/") if scheme == "file" else path.strip("/")
    if any(part in (".", "..") for part in kept.split("/")):
        raise SettingsError(f"model_artifacts_uri is {location!r}; its path must not hold the parts . and .. .")
    return Source(uri.strip(), scheme, root, kept, folder, options)
