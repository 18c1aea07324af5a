"""Terminate: the command by which Argo ends a component, on real processes.

They stand as in a component's pod: KFP's launcher (2.17), which dies of SIGTERM and hands nothing
on, starts a shell, and the shell KFP's executor.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, dsl

from dkd.pipelines.policy import PREPARING, outliving_kills, place

LAUNCHER = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
ENDED_BY_SIGTERM = 143


@dsl.component(base_image="launcher", install_kfp_package=False)
def launches(folder: str) -> None:
    """Cleans up on SIGTERM, slowly, as one that deletes its job."""
    import signal
    import sys
    import time
    from pathlib import Path
    from typing import Any

    def stop(number: int, frame: Any) -> None:
        time.sleep(1)
        Path(folder, "cleaned-up").touch()
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)
    Path(folder, "started").touch()
    time.sleep(600)


@pytest.fixture(scope="module")
def compiled() -> tuple[dict[str, Any], dict[str, Any]]:
    """The component's container, and its pod's annotations."""

    @dsl.pipeline(name="terminated")
    def pipeline(folder: str) -> None:
        place(launches(folder=folder), PREPARING, "none", on_cluster=True)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(file))
        spec, platform = yaml.safe_load_all(file.read_text())
    executor = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-launches"]
    container = spec["deploymentSpec"]["executors"]["exec-launches"]["container"]
    return container, executor["podMetadata"]["annotations"]


def below(process: int) -> list[int]:
    """Ids of a process and its descendants."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in children for each in below(int(child)))]


def in_a_hurry(program: str) -> str:
    assert "pause=30" in program
    return program.replace("pause=30", "pause=1")


def wait_for_start(folder: Path) -> None:
    end = time.monotonic() + 60
    while not (folder / "started").exists():
        assert time.monotonic() < end, "the component does not start"
        time.sleep(0.05)


@pytest.fixture
def launcher(
    compiled: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """KFP's launcher, whose component is at work."""
    inputs = {
        "inputs": {"parameterValues": {"folder": str(tmp_path)}},
        "outputs": {"outputFile": str(tmp_path / "output.json")},
    }
    container = compiled[0]
    program = [
        text.replace("{{$}}", json.dumps(inputs))
        for text in outliving_kills([*container["command"], *container["args"]])
    ]
    program[2] = in_a_hurry(program[2])
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, *program],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        start_new_session=True,
    )
    wait_for_start(tmp_path)
    yield process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def argo(
    compiled: tuple[dict[str, Any], dict[str, Any]],
    launcher: subprocess.Popen[bytes],
    tmp_path: Path,
) -> Callable[[int], None]:
    """What Argo does in the container with a signal. The container's processes are the
    launcher's: no other process of this machine is looked at.
    """
    command = json.loads(compiled[1]["workflows.argoproj.io/kill-cmd-main"])
    assert "".join(command).count("%") == 1, "Argo formats it as Go's fmt does"

    def send(number: int) -> None:
        proc = tmp_path / "proc"
        proc.mkdir(exist_ok=True)
        for process in below(launcher.pid):
            (proc / str(process)).symlink_to(f"/proc/{process}")
        inside = [text.replace("%d", str(number)).replace("/proc", str(proc)) for text in command]
        subprocess.run([part.replace("kill -$signal 1", "exit 9") for part in inside], check=True)

    return send


def test_the_component_alone_is_told_and_has_the_time_to_clean_up(
    launcher: subprocess.Popen[bytes], argo: Callable[[int], None], tmp_path: Path
) -> None:
    argo(signal.SIGTERM)
    assert launcher.wait(120) == ENDED_BY_SIGTERM
    assert (tmp_path / "cleaned-up").exists()


def test_it_is_killed_when_it_takes_too_long(
    launcher: subprocess.Popen[bytes], argo: Callable[[int], None], tmp_path: Path
) -> None:
    argo(signal.SIGKILL)
    assert launcher.wait(120) == 128 + signal.SIGKILL
    assert not (tmp_path / "cleaned-up").exists()


def test_a_component_that_was_killed_is_started_again(
    launcher: subprocess.Popen[bytes], argo: Callable[[int], None], tmp_path: Path
) -> None:
    (tmp_path / "started").unlink()
    (component,) = [
        process
        for process in below(launcher.pid)
        if b"python3\0-m\0kfp.dsl.executor_main" in Path(f"/proc/{process}/cmdline").read_bytes()
    ]
    os.kill(component, signal.SIGKILL)
    wait_for_start(tmp_path)
    assert launcher.poll() is None
    argo(signal.SIGTERM)
    assert launcher.wait(120) == ENDED_BY_SIGTERM
    assert (tmp_path / "cleaned-up").exists()


@pytest.mark.parametrize(
    ("end", "status", "times"),
    [("exit 0", 0, 1), ("exit 2", 2, 1), ("kill -9 $$", 137, 3), ("kill -15 $$", 143, 1)],
    ids=["done", "bad input", "killed", "told to stop"],
)
def test_how_often_a_component_is_started(
    tmp_path: Path, end: str, status: int, times: int
) -> None:
    program = outliving_kills(["sh", "-c", f"echo >>{tmp_path}/starts; {end}"])
    program[2] = in_a_hurry(program[2])
    ended = subprocess.run(program, capture_output=True, text=True, check=False)
    assert ended.returncode == status
    assert len((tmp_path / "starts").read_text()) == times
    assert ended.stderr.count("starting it again in") == times - 1
