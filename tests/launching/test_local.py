"""The local backend with the real torchrun."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import wait_until

from dkd.errors import UserError
from dkd.launching import launcher, local
from dkd.launching.interface import Interrupted, Job, JobFailed
from dkd.scenario.launch import Launch
from dkd.storage import artifacts

HERE = Path(__file__).parent
TOKEN = "DKD_TEST_TOKEN"


def living(token: str) -> list[int]:
    """Processes with the token in their environment, by a reading of /proc of the test's own."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{TOKEN}={token}".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass
    return found


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Marks all that a test starts; afterwards no process and no temporary file may be left."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    token = uuid.uuid4().hex
    yield token
    assert living(token) == []
    assert list(temporary.iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", None)


def job(token: str, *arguments: str, result: str = "/nowhere") -> Job:
    return Job(
        name="test-job",
        module="launched_worker",
        arguments=arguments,
        environment={"PYTHONPATH": str(HERE), TOKEN: token},
        result=result,
    )


def test_ranks_publish_and_only_rank_0_is_heard(
    token: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = str(tmp_path / "result")
    launcher(Launch(nodes=2, threads=1)).run(job(token, "publish", result, result=result))
    assert artifacts.find(result) is not None
    assert capfd.readouterr().out == "sum 3 seen by rank 0 with 1 thread\n"


def test_a_rank_that_raises_is_the_one_named(token: str) -> None:
    with pytest.raises(JobFailed) as caught:
        launcher(Launch(processes_per_node=2)).run(job(token, "raise"))
    message = str(caught.value)
    # An interpreter that ends with a live process group is sometimes aborted by gloo's thread.
    how = r"(failed with exit code 1|was killed by SIGABRT)"
    assert re.match(rf"job test-job: rank 1 of 2 {how}; its last lines:", message)
    assert "RuntimeError: the cat ate the gradient" in message
    assert len(message.splitlines()) <= 1 + local.LAST_LINES


def test_a_killed_rank_takes_the_others_along(token: str) -> None:
    with pytest.raises(JobFailed) as caught:
        launcher(Launch(processes_per_node=3)).run(job(token, "killed"))
    assert str(caught.value) == (
        "job test-job: rank 1 of 3 was killed by SIGKILL (out of memory?); its last lines:\n"
        "    about to go"
    )


@pytest.mark.parametrize("way", ["text", "json"])
def test_bad_input_found_by_a_worker_stays_one_line(
    token: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DKD_LOG", way)
    with pytest.raises(JobFailed, match=r"^images/7.jpg: its mask is missing; add masks/7.png$"):
        launcher(Launch()).run(job(token, "bad-input"))


def test_workers_that_publish_nothing_have_failed(token: str, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match=r"published nothing at .*result"):
        launcher(Launch()).run(job(token, "leave", result=str(tmp_path / "result")))


@pytest.fixture
def launching(token: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A launching process whose two ranks, each with a child, are running."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "launching_process.py"), str(tmp_path)],
        env={**os.environ, TOKEN: token, "DKD_GRACE_SECONDS": "20"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_until(lambda: all((tmp_path / f"ready-{rank}").exists() for rank in (0, 1)))
    # Launching process and its caretaker, torchrun, two ranks with a child each.
    wait_until(lambda: len(living(token)) == 7)
    yield process
    process.kill()
    process.communicate()


def test_sigterm_lets_workers_save(
    launching: subprocess.Popen[str], token: str, tmp_path: Path
) -> None:
    launching.terminate()
    output, _ = launching.communicate(timeout=120)
    assert launching.returncode == 143
    assert output == "stopping signalled: its workers have 20 s to save\n"
    assert all((tmp_path / f"saved-{rank}").exists() for rank in (0, 1))
    assert living(token) == []  # at once, not some time later


def test_ctrl_c_stops_quickly(launching: subprocess.Popen[str], token: str) -> None:
    launching.send_signal(signal.SIGINT)
    output, _ = launching.communicate(timeout=120)
    assert launching.returncode == -signal.SIGINT
    assert output.startswith("stopping signalled: its workers have 5 s to save\n")
    assert living(token) == []


def test_nothing_survives_a_sigkilled_launching_process(
    launching: subprocess.Popen[str], token: str, tmp_path: Path
) -> None:
    launching.kill()
    wait_until(lambda: not living(token))
    wait_until(lambda: not list((tmp_path / "tmp").iterdir()))


def test_nothing_survives_a_sigkilled_torchrun(
    launching: subprocess.Popen[str], token: str, tmp_path: Path
) -> None:
    torchrun = int((tmp_path / "ready-0").read_text())
    os.kill(torchrun, signal.SIGKILL)
    output, _ = launching.communicate(timeout=120)
    assert "job signalled: torchrun was killed by SIGKILL (out of memory?)" in output
    assert living(token) == []


def failure(rank: int, exit_code: int, time: float = 0.0) -> local.Failure:
    return local.Failure(rank, exit_code, time)


@pytest.mark.parametrize(
    ("failures", "last_written", "rank"),
    [
        ([failure(0, 1), failure(1, 1)], {0: 5.0, 1: 4.9}, 1),  # wrote its error first
        ([failure(0, 1), failure(1, -9)], {0: 4.0, 1: 4.9}, 1),  # a signal explains the rest
        ([failure(0, -15), failure(1, 1, time=3)], {0: 1.0, 1: 9.0}, 1),  # stopped by torchrun
        ([failure(0, 143), failure(1, -15)], {0: 2.0, 1: 1.0}, 1),  # nothing else to say
        ([failure(0, 1, time=9), failure(1, 1, time=2)], {0: 0.0, 1: 3.0}, 1),  # seen long before
    ],
)
def test_root_cause(
    failures: list[local.Failure], last_written: dict[int, float], rank: int
) -> None:
    assert local.root_cause(failures, last_written).rank == rank


@pytest.mark.parametrize("text", ["", "soon", "-1", "inf", "nan"])
def test_grace_must_be_seconds(text: str) -> None:
    with pytest.raises(UserError, match=f"DKD_GRACE_SECONDS={text}: "):
        local.grace_seconds({"DKD_GRACE_SECONDS": text})


def test_grace_defaults_to_a_minute() -> None:
    assert local.grace_seconds({}) == 60


def test_interrupted_ends_the_process_as_sigterm_does() -> None:
    assert Interrupted().code == 128 + signal.SIGTERM
