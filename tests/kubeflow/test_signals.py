"""What a signal does to a run on this machine: its component hears it, and nothing is left."""

import os
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import pytest
from waiting import wait_until

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
        heard = {path.name for path in tmp_path.iterdir()} - {"ready"}
        assert heard == (set() if number == signal.SIGKILL else {number.name.removeprefix("SIG")})
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not living(token))
    wait_until(lambda: not list(temporary.iterdir()))
    temporary.rmdir()
