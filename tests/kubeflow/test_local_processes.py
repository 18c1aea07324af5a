"""What a run on this machine leaves behind, however it ends: nothing."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
from waiting import wait_until

from dkd.launching import processes

HERE = Path(__file__).parent


def living(token: str) -> list[str]:
    """Command lines of the processes with the token in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TEST_TOKEN={token}".encode() in path.read_bytes().split(b"\0"):
                found.append((path.parent / "cmdline").read_text())
        except OSError:
            pass
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_takes_processes_and_files_along(tmp_path: Path, number: signal.Signals) -> None:
    temporary, token = Path(tempfile.mkdtemp()), uuid.uuid4().hex  # a short name
    process = subprocess.Popen(
        [sys.executable, str(HERE / "running_process.py"), str(tmp_path)],
        env={**os.environ, "TMPDIR": str(temporary), "TEST_TOKEN": token},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until((tmp_path / "ready").exists)
        (folder,) = temporary.iterdir()  # all temporary files are in one folder
        assert len(list(folder.iterdir())) == 2
        assert len(living(token)) >= 3  # the run, its caretaker, what it started
        process.send_signal(number)
        expected = 143 if number == signal.SIGTERM else -number
        assert process.wait(120) == expected
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not living(token))
    wait_until(lambda: not list(temporary.iterdir()))
    temporary.rmdir()


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
