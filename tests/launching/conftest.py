"""A fake API server, and jobs of each kind on it."""

from collections.abc import Iterator
from pathlib import Path

import fake_api
import pytest
from cluster_stage import Stage


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_api.FakeApi]:
    with fake_api.serving(tmp_path) as (api, config):
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield api


@pytest.fixture(params=["trainjob", "pytorchjob"])
def stage(api: fake_api.FakeApi, tmp_path: Path, request: pytest.FixtureRequest) -> Stage:
    return Stage(api, tmp_path / "result", request.param)


@pytest.fixture
def trainjob(api: fake_api.FakeApi, tmp_path: Path) -> Stage:
    return Stage(api, tmp_path / "result", "trainjob")


@pytest.fixture
def pytorchjob(api: fake_api.FakeApi, tmp_path: Path) -> Stage:
    return Stage(api, tmp_path / "result", "pytorchjob")
