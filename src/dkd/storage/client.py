"""S3 clients from the environment, and what their errors mean to a person.

Endpoint, region and credentials come by boto3's usual chain (variables, shared files, container
and instance roles, IRSA's web identity); ``docs/reference/environment.md`` lists what this module
adds to it.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.credentials import (
    CredentialProvider,
    CredentialResolver,
    Credentials,
    ReadOnlyCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProxyConnectionError,
    SSLError,
)
from botocore.loaders import Loader

from dkd.errors import UserError
from dkd.storage.retries import REFUSED_KEYS, RetryByTime, error_code, is_transient
from dkd.storage.store import NotFound, disk_error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 10  # parallel requests of one transfer
# Kubeflow Pipelines' own object store, which its minio:// URIs mean.
KUBEFLOW_ENDPOINT = "http://seaweedfs.kubeflow:9000"
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"}
_making = threading.Lock()
os.register_at_fork(  # a child must not be born with a lock that nobody will free
    before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release
)


def s3_client(scheme: str) -> "S3Client":
    """Return the client for ``s3://`` or ``minio://`` URIs; made anew when its settings change.

    Raises:
        UserError: a setting is not usable.
    """
    relevant = tuple(
        sorted(
            (name, value)
            for name, value in os.environ.items()
            if name.startswith(("AWS_", "DKD_")) or name.upper() in _PROXIES
        )
    )
    with _making:  # the first of several threads makes it
        # Connections must not be shared with a forked process.
        return _make_client(scheme, _secret_folder(), relevant, os.getpid())


def seconds(name: str, default: float) -> float:
    """Return a positive number of seconds from an environment variable.

    Raises:
        UserError: it is something else.
    """
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = -1
    if not 0 < value < float("inf"):
        raise UserError(f"{name}={text}: give a positive number of seconds")
    return value


def give_up_seconds() -> float:
    """How long a failing operation is tried again: ``DKD_S3_GIVE_UP_SECONDS``, 120."""
    return seconds("DKD_S3_GIVE_UP_SECONDS", 120)


def write_settings() -> dict[str, str]:
    """Arguments of every write: checksum (``DKD_S3_CHECKSUM``), encryption (``DKD_S3_SSE``).

    Raises:
        UserError: a kind that is not known.
    """
    checksum = os.environ.get("DKD_S3_CHECKSUM", "") or "CRC32"
    if checksum not in ("CRC32", "SHA256", "none"):
        raise UserError(f"DKD_S3_CHECKSUM={checksum}: choose CRC32, SHA256 or none")
    # Signing a request's sha256 is not enough: SeaweedFS does not compare it with the body.
    arguments = {} if checksum == "none" else {"ChecksumAlgorithm": checksum}
    kind = os.environ.get("DKD_S3_SSE", "")
    if kind not in ("", "AES256", "aws:kms"):
        raise UserError(f"DKD_S3_SSE={kind}: choose AES256 or aws:kms")
    if kind:
        arguments["ServerSideEncryption"] = kind
    if kind == "aws:kms" and (key := os.environ.get("DKD_S3_SSE_KMS_KEY_ID")):
        arguments["SSEKMSKeyId"] = key
    return arguments


KEY_FILES = ("accesskey", "secretkey")
"""Files of a mounted secret, named as Kubeflow Pipelines names its keys."""


def _secret_folder() -> Path | None:
    """The folder of a mounted secret with the keys; None where the keys come by boto3's chain.

    An empty folder is what Kubernetes mounts for an optional secret that is not there.
    """
    named = os.environ.get("DKD_S3_CREDENTIALS_DIR")
    if not named:
        return None
    folder = Path(named)
    absent = folder.is_dir() and not any((folder / name).exists() for name in KEY_FILES)
    return None if absent else folder


class _MountedKeys(Credentials, CredentialProvider):
    """Keys in the files of a mounted secret, read anew for every request that is signed.

    A transfer of hours, and a request that is tried again, go on with keys that were rotated
    meanwhile.
    """

    METHOD = CANONICAL_NAME = "dkd-mounted-secret"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        Credentials.__init__(self, "", "", method=self.METHOD)

    def load(self) -> Credentials:
        return self

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        access, secret = (_mounted_key(self._folder / name) for name in KEY_FILES)
        return ReadOnlyCredentials(access, secret, None)


def _mounted_key(path: Path) -> str:
    try:
        key = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read, but DKD_S3_CREDENTIALS_DIR names its folder "
            f"({error.strerror})"
        ) from error
    if not key:
        raise UserError(f"{path}: empty; put the S3 key there")
    return key


@cache
def _descriptions() -> Loader:
    """Files in which botocore describes S3, some 2 MB: a process reads them once."""
    session = botocore.session.get_session()
    loader: Loader = session.get_component("data_loader")
    return loader


def load_descriptions() -> None:
    """Reads what every client needs now; forks of this process then need not."""
    loader = _descriptions()
    loader.load_service_model("s3", "service-2")
    loader.load_service_model("s3", "endpoint-rule-set-1")
    loader.load_data("partitions")
    loader.load_data("endpoints")


@lru_cache(maxsize=8)
def _make_client(
    scheme: str,
    secret: Path | None,
    relevant: tuple[tuple[str, str], ...],  # noqa: ARG001 - part of the cache's key
    process: int,  # noqa: ARG001
) -> "S3Client":
    authorities = os.environ.get("AWS_CA_BUNDLE")
    if authorities and not Path(authorities).exists():
        raise UserError(f"AWS_CA_BUNDLE={authorities}: no such file")
    give_up = give_up_seconds()
    timeout = min(seconds("DKD_S3_TIMEOUT_SECONDS", 30), give_up)
    endpoint = None
    if scheme == "minio":
        named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        endpoint = os.environ.get("DKD_MINIO_ENDPOINT") or named or KUBEFLOW_ENDPOINT
    config = Config(
        connect_timeout=min(10, timeout),
        read_timeout=timeout,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": 1},  # RetryByTime does it
        s3={"addressing_style": "path"},
        # No checksum where we do not ask for one: not every store knows the newer kinds.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        core = botocore.session.get_session()
        core.register_component("data_loader", _descriptions())
        if secret:
            chain = CredentialResolver([_MountedKeys(secret)])
            core.register_component("credential_provider", chain)
        session = boto3.Session(botocore_session=core)
        client: S3Client = session.client(
            "s3",
            # AWS_REGION is what pods with IRSA get; boto3 itself reads AWS_DEFAULT_REGION.
            region_name=os.environ.get("AWS_REGION") or session.region_name or "us-east-1",
            endpoint_url=endpoint,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise UserError(f"S3 settings in the environment or ~/.aws: {error}") from error
    client.meta.events.register(
        "needs-retry.s3", cast(Any, RetryByTime(give_up, keys_rotate=secret is not None))
    )
    return client


def endpoint_name(client: "S3Client") -> str:
    """The endpoint's URL without user information."""
    parts = urlsplit(client.meta.endpoint_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@contextmanager
def in_our_words(client: "S3Client", uri: str) -> Iterator[None]:
    """Turn what boto3 raises in the block into a line for a person."""
    try:
        yield
    except (ClientError, BotoCoreError, OSError) as error:
        raise explain(error, uri, endpoint_name(client)) from error


def explain(error: Exception, uri: str, endpoint: str) -> UserError:
    """Say what an S3 error means and what to do. Holds no part of the server's own text.

    Args:
        error: what boto3 or a socket raised.
        uri: what was wanted.
        endpoint: where it was wanted from.
    """
    tried = f"after {give_up_seconds():g} s of trying (DKD_S3_GIVE_UP_SECONDS)"
    if isinstance(error, ClientError):
        return _explain_answer(error, uri, endpoint, tried)
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return UserError(
            f"{uri}: no S3 credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name "
            "the folder of a mounted secret in DKD_S3_CREDENTIALS_DIR"
        )
    if isinstance(error, NoRegionError):
        return UserError(f"{uri}: no region; set AWS_REGION")
    if isinstance(error, SSLError) and not is_transient(error):
        return UserError(
            f"{uri}: the certificate of {endpoint} is not trusted; name the file of the authority "
            "that signed it in AWS_CA_BUNDLE"
        )
    if isinstance(error, ProxyConnectionError):
        return UserError(f"{uri}: no answer from the proxy {tried}; check HTTPS_PROXY and NO_PROXY")
    if isinstance(error, OSError) and error.filename:
        return disk_error(error, Path(str(error.filename)))
    if is_transient(error):
        return UserError(
            f"{uri}: no answer from {endpoint} {tried} ({type(error).__name__}); is the server up, "
            "and is AWS_ENDPOINT_URL_S3 correct?"
        )
    return UserError(f"{uri}: {endpoint}: {type(error).__name__}")


def _explain_answer(error: ClientError, uri: str, endpoint: str, tried: str) -> UserError:
    code = error_code(error.response)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    bucket = urlsplit(uri).netloc
    if is_transient(error):
        return UserError(f"{uri}: {endpoint} still answered {status} {code} {tried}; try later")
    match code:
        case "NoSuchKey" | "404" | "NotFound":
            return NotFound(f"{uri}: not there")
        case "NoSuchBucket":
            what = f"{uri}: no bucket {bucket} at {endpoint}; create it or correct the URI"
        case _ if code in REFUSED_KEYS:
            what = f"{uri}: {endpoint} refuses the keys ({code}); check the S3 credentials"
        case "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "RequestExpired":
            what = f"{uri}: the S3 credentials have expired; get new ones and start again"
        case "RequestTimeTooSkewed" | "RequestInTheFuture":
            what = f"{uri}: this machine's clock and the clock of {endpoint} differ; set the clock"
        case "AccessDenied" | "AllAccessDisabled" | "403":
            what = f"{uri}: access denied; the keys lack a right to this bucket or folder"
        case "PermanentRedirect" | "301" | "AuthorizationHeaderMalformed":
            what = f"{uri}: the bucket {bucket} is in another region; set AWS_REGION"
        case "InvalidBucketName":
            what = f"{uri}: {bucket} is not a valid bucket name"
        case _:
            what = f"{uri}: {endpoint} answered {status} {code} to {error.operation_name}"
    return UserError(what)
