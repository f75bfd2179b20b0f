"""`parse_uri` and `store_options`: what users may write, and what the stores are told."""

import json
from typing import Any

import pytest

from nimdrum.base.errors import SettingsError
from nimdrum.weights.credential import secrets_of, store_options
from nimdrum.weights.source import parse_uri

S3 = {"credentialType": "s3", "awsAccessKeyId": "the-id-of-a-key", "awsSecretAccessKey": "the-secret-itself"}
GCP_KEY = {"type": "service_account", "client_email": "someone@somewhere", "private_key": "the-private-key"}
CONNECTION = "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=c2VjcmV0LWtleS1vZi1hY21l;EndpointSuffix="


@pytest.mark.parametrize(
    ("uri", "scheme", "root", "path", "folder"),
    [
        ("s3://bucket/a/b/", "s3", "bucket", "a/b", True),
        ("s3://bucket/a/model.gguf", "s3", "bucket", "a/model.gguf", False),
        ("s3://bucket", "s3", "bucket", "", True),
        ("S3://bucket/ä b+c%20/x", "s3", "bucket", "ä b+c%20/x", False),
        ("gs://bucket/llm", "gs", "bucket", "llm", False),
        ("az://container/llm/", "az", "container", "llm", True),
        ("https://host:8443/models/llm/", "https", "https://host:8443", "models/llm", True),
        ("file:///mnt/weights/llm", "file", "", "/mnt/weights/llm", False),
    ],
)
def test_the_forms_of_a_uri(uri: str, scheme: str, root: str, path: str, folder: bool) -> None:
    """Each scheme has its parts; a slash at the end says that it cannot be one object."""
    source = parse_uri(uri)
    assert (source.scheme, source.root, source.path, source.folder) == (scheme, root, path, folder)


def test_options_follow_a_question_mark() -> None:
    """Region and endpoint of another S3 store; messages show the URI without them."""
    source = parse_uri("s3://bucket/llm/?region=eu-west-1&endpoint=https://minio.internal:9000")
    assert source.options == {"region": "eu-west-1", "endpoint": "https://minio.internal:9000"}
    assert source.shown == "s3://bucket/llm/"
    options = store_options(source, S3, {})
    assert (options["region"], options["endpoint"]) == ("eu-west-1", "https://minio.internal:9000")


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("bucket/path", "must begin with"),
        ("ftp://user:word@host/x", "'ftp://...'; it must begin with"),
        ("s3://bucket/x?endpoint=http://user:word@host", "without a user name"),
        ("s3://bucket/x?endpoint=minio.internal:9000", "endpoint begins with https://"),
        ("s3:///path", "comes the bucket"),
        ("https://user:word@host/x", "no user name"),
        ("file://host/x", "three slashes"),
        ("file:///", "three slashes"),
        ("s3://bucket/a/../b", "must not hold"),
        ("s3://bucket/x?colour=red", "colour.*region, endpoint"),
        ("https://host/x?X-Amz-Signature=abc", "signed URL"),
    ],
)
def test_what_is_no_uri(uri: str, says: str) -> None:
    """The error names what is wrong and what is allowed."""
    with pytest.raises(SettingsError, match=says):
        parse_uri(uri)


@pytest.mark.parametrize(
    ("uri", "credential", "expected"),
    [
        ("s3://b/x", S3, {"access_key_id": "the-id-of-a-key", "secret_access_key": "the-secret-itself"}),
        ("s3://b/x", {**S3, "awsSessionToken": "passing"}, {"session_token": "passing"}),
        ("gs://b/x", {"credentialType": "gcp", "gcpKey": GCP_KEY}, {"service_account_key": json.dumps(GCP_KEY)}),
        ("gs://b/x", {"credentialType": "gcp", "gcpKey": "{}"}, {"service_account_key": "{}"}),
        (
            "az://c/x",
            {"credentialType": "azure", "azureConnectionString": f"{CONNECTION}core.windows.net"},
            {"account_name": "acme", "account_key": "c2VjcmV0LWtleS1vZi1hY21l"},
        ),
        (
            "az://c/x",
            {"credentialType": "azure", "azureConnectionString": f"{CONNECTION}core.usgovcloudapi.net"},
            {"endpoint": "https://acme.blob.core.usgovcloudapi.net"},
        ),
        (
            "az://c/x",
            {
                "credentialType": "azure",
                "azureConnectionString": "BlobEndpoint=https://acme.blob.core.windows.net/;"
                "SharedAccessSignature=sv=2022&sig=a%3D",
            },
            {"account_name": "acme", "sas_key": "sv=2022&sig=a%3D"},
        ),
        (
            "az://c/x?account=acme",
            {"credentialType": "azure_service_principal", "clientId": "i", "clientSecret": "s", "azureTenantId": "t"},
            {"account_name": "acme", "client_id": "i", "client_secret": "s", "tenant_id": "t"},
        ),
    ],
    ids=["s3", "s3 token", "gcp", "gcp text", "azure", "azure gov", "azure sas", "azure principal"],
)
def test_datarobots_credentials(uri: str, credential: dict[str, Any], expected: dict[str, str]) -> None:
    """The payloads of DataRobot's API become the store's options, and obstore accepts them."""
    import obstore.store as stores

    source = parse_uri(uri)
    options = store_options(source, credential, {})
    assert expected.items() <= options.items()
    kinds = {"s3": stores.S3Store, "az": stores.AzureStore}
    if source.scheme in kinds:  # a Google key must be a real one to be opened
        assert kinds[source.scheme](source.root, **options)


@pytest.mark.parametrize(
    ("uri", "credential", "says"),
    [
        ("s3://b/x", {"credentialType": "gcp", "gcpKey": GCP_KEY}, "type 'gcp', but s3:// needs one of type s3"),
        ("gs://b/x", S3, "needs one of type gcp"),
        ("s3://b/x", {"credentialType": "s3", "awsAccessKeyId": "the-id-of-a-key"}, "without awsSecretAccessKey"),
        ("s3://b/x", {**S3, "awsSecretAccessKey": "the-secret-\nitself"}, "line break.*in awsSecretAccessKey"),
        ("az://c/x", {"credentialType": "azure", "azureConnectionString": "AccountName=acme"}, "AccountKey or"),
        ("file:///x", S3, "needs none"),
    ],
)
def test_a_credential_that_does_not_fit(uri: str, credential: dict[str, Any], says: str) -> None:
    """The error says which type is needed, and shows no value."""
    with pytest.raises(SettingsError, match=says) as caught:
        store_options(parse_uri(uri), credential, {})
    assert not [value for value in ("the-id-of-a-key", "the-secret-itself", "the-private-key") if value in str(caught)]


@pytest.mark.parametrize(
    ("uri", "variable", "unsigned"),
    [
        ("s3://b/x", "NOTHING", True),
        ("s3://b/x", "AWS_ACCESS_KEY_ID", False),
        ("s3://b/x", "AWS_WEB_IDENTITY_TOKEN_FILE", False),
        ("s3://b/x", "AWS_CONTAINER_CREDENTIALS_FULL_URI", False),
        ("s3://b/x", "AWS_REGION", True),
        ("s3://b/x", "AWS_ENDPOINT_URL", True),
        ("s3://b/x", "GOOGLE_SERVICE_ACCOUNT", True),
        ("gs://b/x", "GOOGLE_APPLICATION_CREDENTIALS", False),
        ("gs://b/x", "GOOGLE_CLOUD_PROJECT", True),
        ("az://b/x?account=a", "AZURE_CLIENT_ID", False),
        ("az://b/x?account=a", "AZURE_STORAGE_SAS_TOKEN", False),
        ("az://b/x?account=a", "AZURE_STORAGE_ACCOUNT_NAME", True),
    ],
)
def test_without_a_credential(uri: str, variable: str, unsigned: bool) -> None:
    """The container's own identity counts; where only a region or an address is set, the store is asked as a public
    one: else its library would ask the machine for an identity."""
    assert store_options(parse_uri(uri), None, {variable: "x"}).get("skip_signature", False) is unsigned
    assert store_options(parse_uri(uri), None, {variable: ""})["skip_signature"]


def test_every_secret_is_known_for_masking() -> None:
    """Also the key inside a connection string, and what is nested; not the type, which is no secret."""
    assert {"the-id-of-a-key", "the-secret-itself"} <= set(secrets_of(S3))
    nested = secrets_of({"credentialType": "gcp", "gcpKey": GCP_KEY})
    assert "the-private-key" in nested
    assert "service_account" not in nested
    azure = {"credentialType": "azure", "azureConnectionString": f"{CONNECTION}core.windows.net"}
    assert "c2VjcmV0LWtleS1vZi1hY21l" in secrets_of(azure)
    assert secrets_of(None) == ()
