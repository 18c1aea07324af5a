"""A job of several ranks that dies goes on from its last save and ends in the same bits."""

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from step_runs import Run, scenario

from dkd.launching import Job, JobFailed, launcher
from dkd.saves import Preempted, Saver
from dkd.scenario import Launch
from dkd.steps import Step
from dkd.storage import artifacts

RANKS = 4  # more than two: the order of a gradient's sums counts


def job(run: Run) -> Job:
    spec = run.spec(0)
    return Job(
        name="resumption",
        module="dkd.train",
        arguments=(
            *("--step", spec.model_dump_json()),
            *("--stages", "train", "--run-name", "resumption"),
        ),
        environment={},
        result=Step.open(spec).checkpoint_uri,
    )


def ranks_of(root: Path) -> list[int]:
    """Processes of a job that works under a root, torchrun's own aside."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:
            continue
        ours = "dkd.train" in words and any(f'"root":"{root}"' in word for word in words)
        if ours and "dkd.launching.torchrun" not in words:
            found.append(int(path.parent.name))
    return found


def kill_after_a_save(root: Path) -> None:
    end = time.monotonic() + 300
    while not list(root.glob("saves/*/*/manifest.json")):
        assert time.monotonic() < end, "no save came"
        time.sleep(0.01)
    os.kill(ranks_of(root)[-1], signal.SIGKILL)


def test_ranks_that_were_killed_go_on_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    values = {"training.epochs.first": 4, "training.save_interval": 0.05, "memory_size": 0}
    runs = [Run(tmp_path / name, scenario(**values)) for name in ("whole", "broken")]
    local = launcher(Launch(processes_per_node=RANKS))
    local.run(job(runs[0]))
    killer = threading.Thread(target=kill_after_a_save, args=(tmp_path / "broken",))
    killer.start()
    with pytest.raises(JobFailed, match="SIGKILL"):
        local.run(job(runs[1]))
    killer.join()
    capfd.readouterr()
    local.run(job(runs[1]))
    assert re.search(r"on 4 ranks \(cpu\), from iteration [1-9]", capfd.readouterr().out)
    whole, broken = (artifacts.load(job(run).result) for run in runs)
    assert broken.digest == whole.digest
    assert not [path for path in (tmp_path / "broken/saves").rglob("*") if path.is_file()]


def test_sigterm_while_a_checkpoint_is_published_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    run = Run(tmp_path / "root", scenario(memory_size=0))
    publish, before = artifacts.publish, signal.getsignal(signal.SIGTERM)

    def preempted(*given: Any, **named: Any) -> artifacts.Manifest:
        os.kill(os.getpid(), signal.SIGTERM)
        return publish(*given, **named)

    monkeypatch.setattr(artifacts, "publish", preempted)
    with pytest.raises(Preempted):
        run.job(0).perform("train")
    assert artifacts.find(run.job(0).step.checkpoint_uri) is not None
    assert signal.getsignal(signal.SIGTERM) == before


def test_no_save_is_left_though_one_is_under_way_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last save's upload is slower than the rest of the training."""
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    run = Run(tmp_path / "root", scenario(memory_size=0, **{"training.save_interval": 1e-6}))
    upload = Saver._upload

    def slow(self: Saver, *given: Any) -> None:
        time.sleep(0.5)
        upload(self, *given)

    monkeypatch.setattr(Saver, "_upload", slow)
    run.job(0).perform("train")
    assert run.said.index("  saved at iteration 7") < len(run.said) - 1
    assert not [path for path in (tmp_path / "root/saves").rglob("*") if path.is_file()]
