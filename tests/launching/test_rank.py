"""What workers leave behind for the launching task."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dkd.launching import rank
from dkd.launching.kubernetes import pods


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty file, as kubelet mounts it."""
    path = tmp_path / "termination-log"
    path.touch()
    monkeypatch.setenv(rank.LAST_WORDS, str(path))
    monkeypatch.setenv("RANK", "3")
    return path


def test_the_launching_task_reads_what_a_rank_wrote(log: Path) -> None:
    rank.last_words("first\n\nlast\n", bad_input=True)
    words = pods.last_words(log.read_text())
    assert (words.rank, words.lines, words.bad_input) == (3, ("first", "last"), True)


def test_the_first_rank_is_heard(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rank.last_words("the cause")
    monkeypatch.setenv("RANK", "0")
    rank.last_words("connection closed by peer")
    assert pods.last_words(log.read_text()).lines == ("the cause",)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.text(max_size=5000), max_size=30))
def test_words_fit_into_kubernetes(log: Path, lines: list[str]) -> None:
    log.write_text("")
    rank.last_words("\n".join(lines))
    assert len(log.read_bytes()) <= 4096
    assert pods.last_words(log.read_text()).rank == 3


@pytest.mark.parametrize(
    ("kind", "final"),
    [("ValueError", False), ("RuntimeError", False), ("KeyError", True), ("AssertionError", True)],
)
def test_an_exception_is_reported_and_still_printed(log: Path, kind: str, final: bool) -> None:
    program = (
        "from dkd.launching.rank import report_exceptions\n"
        "report_exceptions()\n"
        f"raise {kind}('7 is no class')"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    said = f"{kind}: {'7 is no class'!r}" if kind == "KeyError" else f"{kind}: 7 is no class"
    assert result.stderr.endswith(f"{said}\n")
    words = pods.last_words(log.read_text())
    assert words.lines[-1] == said
    assert not words.bad_input
    assert words.final == final


@pytest.mark.parametrize("path", [None, "/nowhere/at/all"])
def test_no_place_for_words_is_no_error(path: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if path is None:
        monkeypatch.delenv(rank.LAST_WORDS, raising=False)
    else:
        monkeypatch.setenv(rank.LAST_WORDS, path)
    rank.last_words("unheard")


def test_a_worker_whose_torchrun_is_gone_already_does_not_start() -> None:
    program = "from dkd.launching.rank import follow_parent; follow_parent(); print('alive')"
    for parent, output in ((os.getpid(), "alive\n"), (1, "")):
        result = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, rank.PARENT: str(parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.stdout == output


def test_a_killed_rank_is_found_in_what_real_torchrun_says(tmp_path: Path) -> None:
    """Bare torchrun, told everything by the environment, as the operators start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = subprocess.run(
        [str(Path(sys.executable).parent / "torchrun"), "-m", "launched_worker", "killed"],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent),
            "PET_NNODES": "1",
            "PET_NPROC_PER_NODE": "2",
            "PET_NODE_RANK": "0",
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    kept = result.stdout.encode()[-2048:].decode(errors="ignore")  # all that Kubernetes keeps
    words = pods.last_words(kept)
    assert (words.rank, words.signal) == (1, "SIGKILL")
