"""Settings from the environment, and what a person is told when they are wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from fault_proxy import FaultProxy
from waiting import wait_until

from dkd import storage
from dkd.errors import UserError
from dkd.storage import artifacts
from dkd.storage.client import KUBEFLOW_ENDPOINT, s3_client
from dkd.storage.embedded import IDENTITIES, EmbeddedStore

Use = Callable[[str], object]
USES: list[Use] = [
    storage.read_bytes,
    storage.exists,
    lambda uri: storage.write_bytes(uri, b"1"),
    lambda uri: storage.upload(Path(__file__), uri),
    lambda uri: storage.download(uri, Path("/never")),
    lambda uri: list(storage.list_objects(uri)),
    lambda uri: storage.delete([uri]),
    artifacts.find,
    artifacts.load,
]


def message(use: Use, uri: str) -> str:
    with pytest.raises(UserError) as error:
        use(uri)
    text = str(error.value)
    assert text.startswith(uri)
    assert "\n" not in text
    for name, value in os.environ.items():
        if "KEY" in name and value:
            assert value not in text
    return text


@pytest.mark.parametrize("use", USES)
def test_wrong_keys(use: Use, s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-right-secret")
    assert "refuses the keys (SignatureDoesNotMatch)" in message(use, s3_root)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "UNKNOWN")
    assert "refuses the keys (InvalidAccessKeyId)" in message(use, s3_root)


@pytest.mark.parametrize("use", [use for use in USES if use is not USES[6]])
def test_missing_bucket(use: Use, s3_root: str) -> None:
    assert "no bucket elsewhere at http" in message(use, "s3://elsewhere/folder")


def test_unreachable_endpoint(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("DKD_S3_GIVE_UP_SECONDS", "0.5")
    for use in (storage.read_bytes, storage.exists, USES[3]):
        text = message(use, s3_root)
        assert "no answer from http://127.0.0.1:1 after 0.5 s" in text
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://no-such-host.invalid")
    assert "no answer from http://no-such-host.invalid" in message(storage.read_bytes, s3_root)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://user:secret@127.0.0.1:1")
    assert "secret" not in message(storage.read_bytes, s3_root)


@pytest.mark.parametrize("endpoint", ["nonsense", "127.0.0.1:8333"])
def test_an_endpoint_that_is_no_url(
    endpoint: str, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    with pytest.raises(UserError, match=endpoint):
        storage.read_bytes(s3_root)


def test_no_credentials(s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "set AWS_ACCESS_KEY_ID" in message(storage.read_bytes, s3_root)


def test_a_profile_that_does_not_exist(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(UserError, match="nobody"):
        storage.read_bytes(s3_root)


def test_credentials_from_a_shared_file(
    s3: EmbeddedStore, s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link of boto3's usual chain."""
    keys = s3.environment()
    file = tmp_path / "credentials"
    file.write_text(
        f"[default]\naws_access_key_id={keys['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key={keys['AWS_SECRET_ACCESS_KEY']}\n"
    )
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    assert storage.write_bytes(s3_root + "/object", b"1")


def test_a_web_identity_is_asked_for_keys(
    s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IRSA is a link of the chain that reads a token and asks STS; no STS answers here."""
    (tmp_path / "token").write_text("token")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/dkd")
    with FaultProxy("http://127.0.0.1:1") as sts:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.endpoint)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        message(storage.read_bytes, s3_root)
        assert sts.requests == ["POST /"]


def test_keys_of_a_mounted_secret(
    s3: EmbeddedStore, s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = s3.environment()
    folder = tmp_path / "secret"
    monkeypatch.setenv("DKD_S3_CREDENTIALS_DIR", str(folder))
    with pytest.raises(UserError, match=r"secret/accesskey: cannot be read"):
        storage.exists(s3_root)
    folder.mkdir()
    (folder / "accesskey").write_text(keys["AWS_ACCESS_KEY_ID"] + "\n")
    (folder / "secretkey").write_text("")
    with pytest.raises(UserError, match=r"secret/secretkey: empty"):
        storage.exists(s3_root)
    (folder / "secretkey").write_text("of-yesterday")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not used")
    assert "refuses the keys" in message(storage.exists, s3_root)
    (folder / "secretkey").write_text(keys["AWS_SECRET_ACCESS_KEY"])  # rotated, no restart
    assert not storage.exists(s3_root + "/object")


def test_an_optional_secret_that_is_not_there_leaves_boto3s_chain(
    s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes mounts an empty folder then; the keys of the environment are used."""
    monkeypatch.setenv("DKD_S3_CREDENTIALS_DIR", str(tmp_path))
    assert not storage.exists(s3_root + "/object")
    (tmp_path / "secretkey").write_text("half a secret")
    with pytest.raises(UserError, match=r"accesskey: cannot be read"):
        storage.exists(s3_root + "/object")


def mounted(folder: Path, keys: tuple[str, str]) -> None:
    """The keys as a kubelet changes them: both at once, by one link."""
    version = folder / f"..{keys[0]}"
    version.mkdir(parents=True)
    for name, key in zip(("accesskey", "secretkey"), keys, strict=True):
        (version / name).write_text(key)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    link = folder / "..data_tmp"
    link.symlink_to(version.name)
    link.replace(folder / "..data")


def rotate(store: EmbeddedStore, keys: tuple[str, str]) -> None:
    """The server takes these keys and no others from now on."""
    identities = store.data_dir / IDENTITIES
    document = json.loads(identities.read_text())
    document["identities"][0]["credentials"] = [{"accessKey": keys[0], "secretKey": keys[1]}]
    identities.write_text(json.dumps(document))
    assert store._server is not None
    store._server._process.send_signal(signal.SIGHUP)


@pytest.fixture(scope="module")
def rotating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """A server of this module's own, whose keys no other test needs."""
    with EmbeddedStore(tmp_path_factory.mktemp("rotating")) as store:
        yield store


@pytest.mark.parametrize("use", ["write", "download", "upload"])
def test_keys_are_rotated_in_the_middle(
    use: str, rotating: EmbeddedStore, s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server changes its keys while they are in use; the kubelet brings them later."""
    environment = rotating.environment()
    identities = json.loads((rotating.data_dir / IDENTITIES).read_text())["identities"]
    (known,) = identities[0]["credentials"]
    folder, uri = tmp_path / "secret", f"s3://{rotating.bucket}/{use}"
    mounted(folder, (known["accessKey"], known["secretKey"]))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", environment["AWS_ENDPOINT_URL_S3"])
    monkeypatch.setenv("DKD_S3_CREDENTIALS_DIR", str(folder))
    monkeypatch.setenv("DKD_S3_GIVE_UP_SECONDS", "20")
    source, copy = tmp_path / "source", tmp_path / "copy"
    source.write_bytes(os.urandom(1 << 20))
    storage.upload(source, uri)  # the keys are good
    new = (f"{use.upper()}{os.getpid()}", "another-secret")
    rotate(rotating, new)
    wait_until(lambda: refused(environment["AWS_ENDPOINT_URL_S3"], known))
    late = threading.Timer(0.7, mounted, [folder, new])
    late.start()
    match use:
        case "write":
            assert storage.write_bytes(uri + "/object", b"1")
        case "download":
            storage.download(uri, copy)
            assert copy.read_bytes() == source.read_bytes()
        case "upload":
            storage.upload(source, uri + "/again")
            assert storage.exists(uri + "/again")
    assert not late.is_alive(), "the old keys were still good"


def refused(endpoint: str, known: dict[str, str]) -> bool:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=known["accessKey"],
        aws_secret_access_key=known["secretKey"],
    )
    try:
        client.list_buckets()
    except ClientError:
        return True
    return False


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DKD_S3_GIVE_UP_SECONDS", "soon"),
        ("DKD_S3_GIVE_UP_SECONDS", "-1"),
        ("DKD_S3_TIMEOUT_SECONDS", "nan"),
        ("DKD_S3_SSE", "rot13"),
        ("DKD_S3_CHECKSUM", "MD4"),
    ],
)
def test_unusable_settings_are_named(
    name: str, value: str, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name}={value}: "):
        storage.write_bytes(s3_root + "/object", b"1")


@pytest.mark.parametrize("checksum", ["CRC32", "SHA256", "none"])
def test_checksums(checksum: str, s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_S3_CHECKSUM", checksum)
    assert storage.write_bytes(s3_root + "/object", b"1")
    assert storage.read_bytes(s3_root + "/object") == b"1"


def test_server_side_encryption(
    s3: EmbeddedStore, s3_root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DKD_S3_SSE", "AES256")
    plain = b"to be encrypted at rest " * 4000
    (tmp_path / "file").write_bytes(plain)
    storage.write_bytes(s3_root + "/small", plain)
    storage.upload(tmp_path / "file", s3_root + "/file")
    bucket, _, key = s3_root.removeprefix("s3://").partition("/")
    for name in ("small", "file"):
        head = s3_client("s3").head_object(Bucket=bucket, Key=f"{key}/{name}")
        assert head["ServerSideEncryption"] == "AES256"
        assert storage.read_bytes(f"{s3_root}/{name}") == plain
    volumes = (s3.data_dir / "data").glob("dkd_*.dat")
    assert not any(plain[:100] in volume.read_bytes() for volume in volumes)


def test_minio_uris_mean_the_store_of_kubeflow_pipelines(
    s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert s3_client("minio").meta.endpoint_url == os.environ["AWS_ENDPOINT_URL_S3"]
    monkeypatch.setenv("DKD_MINIO_ENDPOINT", "http://minio:9000")
    assert s3_client("minio").meta.endpoint_url == "http://minio:9000"
    assert s3_client("s3").meta.endpoint_url == os.environ["AWS_ENDPOINT_URL_S3"]
    monkeypatch.delenv("DKD_MINIO_ENDPOINT")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    assert s3_client("minio").meta.endpoint_url == KUBEFLOW_ENDPOINT
    assert re.fullmatch(r"https://s3[.a-z0-9-]*\.amazonaws\.com", s3_client("s3").meta.endpoint_url)


def test_a_proxy_is_used_and_can_be_bypassed(
    s3: EmbeddedStore, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
        assert storage.write_bytes(s3_root + "/object", b"1")
        key = s3_root.removeprefix("s3:/")
        assert proxy.requests == [f"PUT {s3.endpoint}{key}/object"]
        for name, value in s3.environment().items():  # bypasses the proxy for the loopback
            monkeypatch.setenv(name, value)
        assert storage.read_bytes(s3_root + "/object") == b"1"
        assert len(proxy.requests) == 1
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("DKD_S3_GIVE_UP_SECONDS", "0.3")
    assert "no answer from the proxy" in message(storage.read_bytes, s3_root)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = (
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 "
        f"-subj /CN=test -addext subjectAltName=IP:127.0.0.1 -out {certificate} -keyout {key}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return str(certificate), str(key)


def test_an_authority_of_ones_own(
    s3: EmbeddedStore,
    s3_root: str,
    tmp_path: Path,
    certificate: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over https; there uploads carry their checksum as a trailer."""
    with FaultProxy(s3.endpoint, tls=certificate) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        text = message(storage.exists, s3_root)
        assert "is not trusted; name the file of the authority" in text
        monkeypatch.setenv("AWS_CA_BUNDLE", certificate[0])
        content = os.urandom(17 << 20)
        (tmp_path / "file").write_bytes(content)
        storage.write_bytes(s3_root + "/small", b"small")
        storage.upload(tmp_path / "file", s3_root + "/file")
        assert storage.read_bytes(s3_root + "/small") == b"small"
        storage.download(s3_root + "/file", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
        with pytest.raises(UserError, match=r"missing\.pem"):
            storage.exists(s3_root)
