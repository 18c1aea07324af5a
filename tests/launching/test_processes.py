"""Processes found by a mark in their environment, whoever started them."""

import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from waiting import wait_until

from dkd.launching import processes


def test_marked_processes_are_found_and_killed() -> None:
    process = subprocess.Popen(["sleep", "600"], env={"MARK": "a-test"})
    try:
        wait_until(
            lambda: [each.pid for each in processes.marked("a-test", "MARK")] == [process.pid]
        )
        assert processes.marked("another", "MARK") == []
    finally:
        processes.kill_marked("a-test", "MARK")
    assert process.wait(120) == -signal.SIGKILL
    assert processes.marked("a-test", "MARK") == []


def test_sockets_fit_into_the_temporary_folder_of_any_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else loader workers, which hand tensors over through sockets, hang without a word."""
    deep = tmp_path / ("deep" * 15)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with processes.owned("DKD_TEST_MARK") as (_mark, folder):
        inside = Path(tempfile.mkdtemp(prefix="pymp-", dir=folder))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(inside / "listener-12345678"))
    assert not folder.exists()
