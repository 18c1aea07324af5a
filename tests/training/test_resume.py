"""A job that dies goes on from its last save: with several ranks, with others, at the very end."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from step_runs import ALONE, Run, scenario

from dkd.errors import UserError
from dkd.launching import launcher
from dkd.launching.interface import Job, JobFailed
from dkd.scenario.launch import Launch
from dkd.steps.step import Step
from dkd.storage import artifacts
from dkd.training.loop import Trainer
from dkd.training.resume import Preempted, Saver

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


def dying(job: Job, iteration: int) -> Job:
    """The same job, whose last rank is killed once that iteration's state is saved."""
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    arguments = (str(iteration), *job.arguments)
    return replace(job, module="dying_worker", arguments=arguments, environment=environment)


def test_ranks_that_were_killed_go_on_in_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    values = {"training.epochs.first": 4, "training.save_interval": 1e-6, "memory_size": 0}
    runs = [Run(tmp_path / name, scenario(**values)) for name in ("whole", "broken")]
    local = launcher(Launch(processes_per_node=RANKS))
    local.run(job(runs[0]))
    with pytest.raises(JobFailed, match="SIGKILL"):
        local.run(dying(job(runs[1]), iteration=3))
    capfd.readouterr()
    local.run(job(runs[1]))
    assert "on 4 ranks (cpu), from iteration 3" in capfd.readouterr().out
    whole, broken = (artifacts.load(job(run).result) for run in runs)
    assert broken.digest == whole.digest
    assert not [path for path in (tmp_path / "broken/saves").rglob("*") if path.is_file()]
    assert not list((tmp_path / "cache").rglob("state.safetensors"))


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


def save_and_die(run: Run, iteration: int) -> None:
    """Trains step 0 in this process up to an iteration, whose state is saved."""
    with pytest.MonkeyPatch.context() as patch:
        train_step = Trainer.train_step

        def step(self: Trainer, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            terms = train_step(self, batch)
            if self.iteration == iteration:
                os.kill(os.getpid(), signal.SIGTERM)
            return terms

        patch.setattr(Trainer, "train_step", step)
        with pytest.raises(Preempted):
            run.job(0).perform("train")


def test_a_save_that_a_writer_further_on_removed_is_missed_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two train the same step: between a publication and what follows it, the other one trims."""
    step = Run(tmp_path / "root", scenario()).job(0).step
    further = f"{step.saves_uri}/00000009-other"
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    saver = Saver(step, ALONE, print)
    artifacts.publish(further, {"x": b"1"}, kind="save", metadata={})
    saver._trim()
    assert artifacts.find(further) is not None


def test_a_save_of_other_arguments_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other arguments have saves of their own; one that was put there by hand is not taken."""
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    run = Run(tmp_path / "root", scenario(memory_size=0))
    save_and_die(run, 3)
    other = Run(tmp_path / "root", scenario(memory_size=0, **{"training.lr.first": 0.02}))
    saves = [Path(each.job(0).step.saves_uri) for each in (run, other)]
    assert saves[0] != saves[1]
    saves[0].rename(saves[1])
    told = r"saved with other arguments \(training\.lr: 0\.01 before, 0\.02 now\)"
    with pytest.raises(UserError, match=told):
        other.job(0).perform("train")


def test_another_number_of_ranks_goes_on_at_the_same_iteration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    run = Run(tmp_path / "root", scenario(memory_size=0))
    save_and_die(run, 3)  # of 4 iterations an epoch
    launcher(Launch(processes_per_node=2)).run(job(run))
    output = capfd.readouterr().out
    assert "saved by 1 ranks, resumed by 2: the data order stays; dropout and rounding" in output
    assert "on 2 ranks (cpu), from iteration 3" in output


PREEMPTED_WITH_LOADERS = """
import os, signal, sys, time
from pathlib import Path
from step_runs import Run, scenario
from dkd.data.loading import StepImages
from dkd.training.resume import Preempted, Saver

values = {"training.loader_workers": 2, "training.epochs.first": 4, "memory_size": 0}
run = Run(Path(sys.argv[1]), scenario(**values))
after_iteration, item = Saver.after_iteration, StepImages.__getitem__

def after(self, trainer):
    after_iteration(self, trainer)
    if trainer.iteration == 2:
        os.killpg(0, signal.SIGTERM)  # as torchrun does, while the next batch is waited for

def slow(self, draw):
    time.sleep(0.1)
    return item(self, draw)

Saver.after_iteration, StepImages.__getitem__ = after, slow
try:
    run.job(0).perform("train")
except Preempted:
    print(run.said[-1])
"""


def test_a_signal_to_the_whole_group_leaves_the_loaders_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PREEMPTED_WITH_LOADERS, str(tmp_path / "root")],
        env={**os.environ, "DKD_CACHE": str(tmp_path / "cache")},
        cwd=Path(__file__).parents[1],
        start_new_session=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "  saved at iteration 3\n", done.stderr
