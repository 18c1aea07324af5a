"""A step's training: the same bits every time, whole or resumed; frozen what must be frozen."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from step_runs import Run, scenario

from dkd.errors import UserError
from dkd.steps.step import read_json
from dkd.storage import artifacts
from dkd.training import resume
from dkd.training.loop import LossCurve, Trainer
from dkd.training.resume import Preempted


@pytest.fixture(autouse=True, scope="module")
def _alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DKD_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def tensors(manifest: artifacts.Manifest) -> dict[str, torch.Tensor]:
    return load_file(manifest.part_uri("model.safetensors"))


def test_three_steps_twice_give_the_same_bits(tmp_path: Path) -> None:
    first, second = Run(tmp_path / "a", scenario()), Run(tmp_path / "b", scenario())
    for number in range(3):
        assert first.step(number).digest == second.step(number).digest
        assert artifacts.load(first.memory).digest == artifacts.load(second.memory).digest


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    one, other = Run(tmp_path, scenario()), Run(tmp_path, scenario(seed=2))
    assert one.step(0).digest != other.step(0).digest


@pytest.mark.parametrize("workers", [1, 2])
def test_loader_workers_change_nothing(tmp_path: Path, workers: int) -> None:
    plain = Run(tmp_path / "a", scenario())
    parallel = Run(tmp_path / "b", scenario(**{"training.loader_workers": workers}))
    assert plain.step(0).digest == parallel.step(0).digest


def interrupt_at(patch: pytest.MonkeyPatch, iteration: int, how: Callable[[], None]) -> None:
    train_step = Trainer.train_step

    def step(self: Trainer, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        terms = train_step(self, batch)
        if self.iteration == iteration:
            how()
        return terms

    patch.setattr(Trainer, "train_step", step)


class Killed(Exception):  # noqa: N818
    pass


def killed() -> None:
    raise Killed


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("iteration", [3, 4])  # the save before the last is whole by then
def test_resumed_training_ends_in_the_same_bits(tmp_path: Path, step: int, iteration: int) -> None:
    always = scenario(**{"training.save_interval": 1e-6})
    whole, broken = Run(tmp_path / "a", scenario()), Run(tmp_path / "b", always)
    for number in range(step):
        whole.step(number)
        broken.step(number)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, iteration, killed)
        with pytest.raises(Killed):
            broken.job(step).perform("train")
    assert broken.step(step).digest == whole.step(step).digest
    assert any(line.startswith("resumed from") for line in broken.said)


def test_sigterm_saves_and_leaves(tmp_path: Path) -> None:
    import os
    import signal

    whole, broken = Run(tmp_path / "a", scenario()), Run(tmp_path / "b", scenario())
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Preempted):
            broken.job(0).perform("train")
    assert broken.step(0).digest == whole.step(0).digest
    assert any("00000003" in line for line in broken.said)


def test_saves_are_gone_once_the_step_is_done(tmp_path: Path) -> None:
    run = Run(tmp_path, scenario(**{"training.save_interval": 1e-6}))
    run.step(0)
    assert not [path for path in (tmp_path / "saves").rglob("*") if path.is_file()]


def test_a_finished_step_does_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, scenario())
    before = run.step(0)
    run.teacher = run.memory = ""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 1, killed)
        assert run.step(0) == before


def test_later_steps_leave_batch_normalisation_bit_identical(tmp_path: Path) -> None:
    run = Run(tmp_path, scenario())
    before, after = tensors(run.step(0)), tensors(run.step(1))
    frozen = [k for k in before if "running_" in k or k.endswith("num_batches_tracked")]
    norms = {k.rsplit(".", 1)[0] for k in frozen}
    frozen += [f"{norm}.{name}" for norm in norms for name in ("weight", "bias")]
    assert len(norms) > 5
    for key in frozen:
        assert torch.equal(before[key], after[key]), key
    assert not torch.equal(before["cls.1.weight"], after["cls.1.weight"])


def test_a_part_at_rate_0_stays_bit_identical_and_the_rate_is_told_all_the_same(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, scenario(**{"training.rates": {"backbone": 0}}))
    before, after = tensors(run.step(0)), tensors(run.step(1))
    backbone = [name for name in before if name.startswith("backbone.")]
    assert backbone
    assert all(torch.equal(before[name], after[name]) for name in backbone)
    assert not torch.equal(before["cls.1.weight"], after["cls.1.weight"])
    (told,) = [line for line in run.said if "epoch 1/2:" in line and "kd" in line]
    # Half-way but for one iteration: 0.001 (1 - progress)^0.9.
    rate = float(told.partition("; rate ")[2].partition(";")[0])
    assert 0.001 * 0.5**0.9 <= rate < 0.001


def test_a_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    run = Run(tmp_path, scenario())
    teacher = run.step(0)
    memory = artifacts.load(run.memory)
    checkpoint = run.step(1)
    described: dict[str, Any] = read_json(checkpoint, "checkpoint.json")
    assert described["classes"] == [["zero", "one", "two", "three"], ["four", "five"]]
    assert described["parent"] == teacher.digest
    assert described["memory"] == memory.digest
    assert checkpoint.metadata["teacher"] == {"uri": teacher.uri, "digest": teacher.digest}


def test_step_0_is_the_same_artifact_whichever_method_trained_it_first(tmp_path: Path) -> None:
    """Else the digest, which is part of later keys, would tell who came first."""
    made = [
        Run(tmp_path / method, scenario(method=method, memory_size=0)).step(0)
        for method in ("dkd", "finetune")
    ]
    assert made[0].digest == made[1].digest


def test_the_memory_carries_images_and_masks(tmp_path: Path) -> None:
    run = Run(tmp_path, scenario())
    run.step(0)
    run.step(1)
    listed = read_json(artifacts.load(run.memory), "memory.json")
    exemplars = listed["exemplars"]
    assert len(exemplars) == 8
    assert len({e["digest"] for e in exemplars}) == 8
    assert {e["step"] for e in exemplars} == {0, 1}  # some of the previous memory's are kept


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path, scenario(memory_size=0))
    run.step(0)
    other = Run(tmp_path, scenario(memory_size=0, task=[["zero", "one"], ["two"]]))
    other.teacher = run.teacher
    with pytest.raises(UserError, match=r"this model knows .*three.* but the task says"):
        other.job(1)


def broken_at(patch: pytest.MonkeyPatch, iteration: int, value: float) -> None:
    """The update of an iteration (0 is the last) breaks a weight; its loss was finite."""
    train_step = Trainer.train_step

    def step(self: Trainer, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        terms = train_step(self, batch)
        if self.iteration == (iteration or self.total):
            with torch.no_grad():
                next(self.student.parameters()).view(-1)[0] = value
        return terms

    patch.setattr(Trainer, "train_step", step)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_the_last_update_broke_are_not_published(
    tmp_path: Path, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, scenario())
    job = run.job(0)
    broken_at(monkeypatch, 0, value)
    message = r"^training\.lr: a weight is no longer finite at iteration \d+; use a lower rate$"
    with pytest.raises(UserError, match=message):
        job.perform("train")
    assert artifacts.find(job.step.checkpoint_uri) is None


def test_a_state_that_is_not_finite_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, scenario(**{"training.save_interval": 1e-6}))
    job = run.job(0)
    broken_at(monkeypatch, 3, float("inf"))
    with pytest.raises(UserError, match=r"^training\.lr: .* no longer finite at iteration [345]; "):
        job.perform("train")
    saved = [path.parent.name for path in (tmp_path / "saves").rglob(artifacts.MANIFEST)]
    saved = [name.partition("-")[0] for name in saved]  # behind it, whose save it is
    assert set(saved) <= {"00000001", "00000002"}


def test_a_save_that_is_not_finite_is_not_resumed(tmp_path: Path) -> None:
    whole = Run(tmp_path / "a", scenario())
    broken = Run(tmp_path / "b", scenario(**{"training.save_interval": 1e-6}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resume, "_is_finite", lambda *_: True)
        patch.setattr(LossCurve, "add", lambda *_: None)
        broken_at(patch, 1, float("nan"))
        interrupt_at(patch, 4, killed)
        job = broken.job(0)
        with pytest.raises(Killed):
            job.perform("train")
        assert job._saver is not None
        job._saver.wait()
    assert broken.step(0).digest == whole.step(0).digest
    told = [line for line in broken.said if line.startswith("save skipped")]
    assert told
    assert all("the training had diverged" in line for line in told)
    assert not any(line.startswith("resumed from") for line in broken.said)


def test_a_diverging_loss_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path, scenario(**{"training.lr.first": 1e12}))
    with pytest.raises(UserError, match=r"training\.lr: the loss is no longer finite"):
        run.step(0)
