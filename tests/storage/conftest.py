"""The real S3 server of the storage tests, and roots in it and in folders."""

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from dkd.storage.embedded import EmbeddedStore

_numbers = count()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture
def s3_root(s3: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty folder of the server, with short times and the environment set up for it."""
    for name in os.environ:
        if name.startswith(("AWS_", "DKD_")):
            monkeypatch.delenv(name)
    settings = {
        "DKD_S3_GIVE_UP_SECONDS": "3",
        "DKD_S3_TIMEOUT_SECONDS": "2",
        "DKD_S3_SETTLE_SECONDS": "0.2",
    }
    for name, value in {**s3.environment(), **settings}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3.bucket}/test-{next(_numbers)}"


@pytest.fixture(params=["path", "file://", "s3://", "minio://"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty folder in every kind of store."""
    folder = tmp_path / "a folder"
    match request.param:
        case "path":
            return str(folder)
        case "file://":
            return folder.as_uri()
        case scheme:
            s3_root: str = request.getfixturevalue("s3_root")
            return s3_root.replace("s3://", scheme)
