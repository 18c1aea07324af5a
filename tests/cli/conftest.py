"""What the tests of the commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dkd.cli import main


@pytest.fixture
def dkd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in a folder of its own, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DKD_ROOT", raising=False)

    def run(*words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words])

    return run


@pytest.fixture
def refused(dkd: Callable[..., Result]) -> Callable[..., str]:
    """Runs a command that must fail with status 2 and one line, which is returned."""

    def run(*words: object) -> str:
        result = dkd(*words)
        assert result.exit_code == 2, result.output
        lines = result.stderr.splitlines()
        assert lines[-1].startswith("dkd: ")
        assert len([line for line in lines if line.startswith("dkd: ")]) == 1
        return lines[-1].removeprefix("dkd: ")

    return run
