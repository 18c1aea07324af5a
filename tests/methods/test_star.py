"""STAR's steps: what they keep, what they ask of a teacher, and that they learn."""

import copy
import multiprocessing
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from learning import learn
from safetensors.torch import load_file
from step_runs import ALONE, Run, scenario

from dkd.data.loading import StepBatches
from dkd.errors import UserError
from dkd.launching import launcher
from dkd.launching.interface import Job
from dkd.methods.star import STAR
from dkd.scenario.launch import Launch
from dkd.steps.step import Step
from dkd.storage import artifacts
from dkd.training.loop import Trainer
from dkd.training.resume import Preempted, Saver


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))


def star(**values: Any) -> Any:
    return scenario(**{"method": "star", "memory_size": 0, **values})


@pytest.fixture(scope="module")
def first_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root in which the first steps of ``star`` and ``dkd`` are done."""
    root = tmp_path_factory.mktemp("first-steps") / "root"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DKD_CACHE", str(root.parent / "cache"))
        for method in ("star", "dkd"):
            Run(root, star(method=method)).step(0)
    return root


@pytest.fixture
def begun(first_steps: Path, tmp_path: Path) -> Callable[..., Run]:
    """Runs under roots of the test's own, which find such a first step, or do theirs."""

    def begin(given: Any, name: str = "root") -> Run:
        shutil.copytree(first_steps, tmp_path / name, dirs_exist_ok=True)
        run = Run(tmp_path / name, given)
        run.step(0)
        return run

    return begin


def statistics(checkpoint: artifacts.Manifest) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.part_uri("statistics.safetensors"))


def test_tables_grow_by_the_new_classes_and_keep_the_old_ones(begun: Callable[..., Run]) -> None:
    run = begun(star())
    kept = [statistics(artifacts.load(run.teacher))]
    kept += [statistics(run.step(number)) for number in (1, 2)]
    for tables, classes in zip(kept, (4, 6, 7), strict=True):
        shapes = {name: tuple(table.shape) for name, table in tables.items()}
        assert shapes == {
            "numbers": (1 + classes,),
            "prototypes": (classes, 16),
            "deviations": (classes, 16),
            "norms": (classes, 2),
        }
        assert all(table.isfinite().all() for table in tables.values())
    for name in ("prototypes", "deviations", "norms"):
        assert torch.equal(kept[1][name][:4], kept[0][name])
        assert torch.equal(kept[2][name][:6], kept[1][name])
    torch.testing.assert_close(kept[2]["prototypes"].norm(dim=1), torch.ones(7))
    assert (kept[2]["numbers"] > 0).all()


def test_new_classes_are_learned_and_the_old_ones_kept(tmp_path: Path) -> None:
    values = {"training.lr.later": 0.001, "training.pos_weight.later": 8}
    learned = learn(tmp_path, "star", **values)
    assert {"mbce", "pkd", "contrast", "total"} < learned.curve[0].keys()
    assert learned.last("mbce") < 0.5 * learned.first("mbce")
    assert learned.iou["blue"] > 0.4
    assert learned.iou["red"] > 0.4


@pytest.mark.parametrize("variant", ["full", "basic"])
def test_a_step_that_was_stopped_ends_in_the_same_bits(
    begun: Callable[..., Run], variant: str
) -> None:
    digests = []
    for name in ("whole", "broken"):
        run = begun(star(**{"method_options.variant": variant}), name)
        if name == "broken":
            with pytest.MonkeyPatch.context() as patch:
                train_step = Trainer.train_step

                def step(self: Trainer, batch: Any, train_step: Any = train_step) -> Any:
                    terms = train_step(self, batch)
                    if self.iteration == 2:
                        os.kill(os.getpid(), signal.SIGTERM)
                    return terms

                patch.setattr(Trainer, "train_step", step)
                with pytest.raises(Preempted):
                    run.job(1).perform("train")
        digests.append(run.step(1).digest)
    assert digests[0] == digests[1]


def train_until_killed(run: Run, number: int, left: int) -> None:
    """Trains a step, and ends by SIGKILL after so many images and iterations.

    Every save is whole before the next of them, so that it is the count that decides what is found.
    """

    def one_more() -> None:
        nonlocal left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    train_step, walk, after_iteration = Trainer.train_step, Trainer.walk, Saver.after_iteration

    def step(self: Trainer, batch: Any) -> Any:
        one_more()
        return train_step(self, batch)

    def saved(self: Saver, state: Any) -> None:
        after_iteration(self, state)
        self.wait()

    def counting(self: Trainer, model: Any, epoch: int) -> Iterator[Any]:
        for each in walk(self, model, epoch):
            one_more()
            yield each

    Trainer.train_step, Trainer.walk = step, counting  # type: ignore[method-assign]
    Saver.after_iteration = saved  # type: ignore[method-assign]
    run.job(number).perform("train")


def killed(run: Run, number: int, at: int) -> bool:
    """Whether another process was killed while it trained a step."""
    # Not a fork of this one: it may have threads of autograd, which no child can use.
    new = multiprocessing.get_context("spawn")
    process = new.Process(target=train_until_killed, args=(run, number, at))
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_a_chain_that_was_killed_at_random_points_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole, broken = (
        Run(tmp_path / name, star(**{"training.save_interval": 0.001, "data.digits.train": 30}))
        for name in ("whole", "broken")
    )
    chance, kills, resumed = random.Random(2), 0, 0
    for number in range(3):
        expected = whole.step(number).digest
        for _ in range(2):
            kills += killed(broken, number, chance.randint(1, 20))
        assert broken.step(number).digest == expected
        resumed += any("from iteration" in line for line in broken.said)
    assert kills > 3
    assert resumed == 3, "a save was whole before the second kill of each step"


class Together:
    """Ranks that are threads of this process."""

    def __init__(self, count: int) -> None:
        self.count, self.box = count, list[Any]([None] * count)
        self.barrier = threading.Barrier(count)

    def gather(self, rank: int, value: Any) -> list[Any]:
        self.box[rank] = value
        self.barrier.wait()
        found = list(self.box)
        self.barrier.wait()
        return found


def test_any_number_of_ranks_remembers_the_same_bits(begun: Callable[..., Run]) -> None:
    run = begun(star())
    first, run.teacher = artifacts.load(run.teacher), ""
    job = run.job(0)
    model = job._model(first)

    def statistics_by(count: int) -> list[Any]:
        together = Together(count)

        def one(rank: int) -> Any:
            gather = partial(together.gather, rank)
            given = replace(job._circumstances(), gather=gather, rank=rank, world_size=count)
            method = STAR(copy.deepcopy(model), None, given)
            images = job._images()
            trainer = Trainer(job.step, method, images, ALONE, print)
            trainer.batches = StepBatches(len(images), 8, seed=0, rank=rank, world_size=count)
            return method.finish(lambda asked: trainer.walk(asked, epoch=2))

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, range(count)))

    (alone,) = statistics_by(1)
    for count in (2, 4, 8):
        for found in statistics_by(count):
            assert found.keys() == alone.keys()
            assert all(torch.equal(table, alone[name]) for name, table in found.items())


def alone_and_by_two_ranks(
    begun: Callable[..., Run], **values: Any
) -> tuple[artifacts.Manifest, artifacts.Manifest, artifacts.Manifest]:
    """Step 1 from one teacher: the teacher, what one process makes of it, and what two do."""
    one, two = (begun(star(**values), name) for name in ("one", "two"))
    teacher = artifacts.load(one.teacher)
    spec = two.spec(1)
    result = Step.open(spec).checkpoint_uri
    arguments = ("--step", spec.model_dump_json(), "--stages", "train", "--run-name", "two")
    launcher(Launch(processes_per_node=2)).run(
        Job(name="two", module="dkd.train", arguments=arguments, environment={}, result=result)
    )
    together = artifacts.load(result)
    assert together.metadata["ranks"] == 2
    return teacher, one.step(1), together


def test_two_ranks_remember_in_the_bits_of_one(begun: Callable[..., Run]) -> None:
    """With a rate at which no weight moves, so that the models are the same."""
    values = {"training.lr.later": 1e-30, "training.weight_decay": 0}
    _, alone, together = alone_and_by_two_ranks(begun, **values)
    for part in ("model.safetensors", "statistics.safetensors"):
        assert together.parts[part].sha256 == alone.parts[part].sha256


def test_two_ranks_learn_what_one_does(begun: Callable[..., Run]) -> None:
    teacher, alone, together = alone_and_by_two_ranks(begun)
    before, one, two = (
        load_file(manifest.part_uri("model.safetensors")) for manifest in (teacher, alone, together)
    )
    for name, start in before.items():
        if start.is_floating_point() and not torch.equal(start, one[name]):
            moved = (one[name] - start).abs().max()
            assert float((two[name] - one[name]).abs().max() / moved) < 1e-2, name


@pytest.mark.parametrize("method", ["dkd", "finetune"])
def test_a_teacher_without_statistics_is_refused_before_anything_runs(
    begun: Callable[..., Run], method: str
) -> None:
    run = begun(scenario(method=method, memory_size=0))
    teacher = run.teacher
    run.scenario = star()
    with pytest.raises(UserError) as raised:
        Step.open(run.spec(1))
    assert str(raised.value).startswith(f"{teacher}: was trained by dkd and keeps no stat")
    assert "\n" not in str(raised.value)


def test_lite_needs_no_statistics_and_keeps_counts_alone(begun: Callable[..., Run]) -> None:
    run = begun(scenario(memory_size=0))
    run.scenario = star(**{"method_options.variant": "lite", "method_options.lite_iterations": 50})
    kept = statistics(run.step(1))
    assert kept.keys() == {"numbers"}
    assert kept["numbers"].shape == (7,)
    assert (kept["numbers"] > 0).all()
    run.scenario = star()
    job = run.job(2)
    with pytest.raises(UserError, match="full needs the teacher's prototypes, which it does not"):
        job.perform("train")


def test_basic_goes_on_from_what_full_keeps(begun: Callable[..., Run]) -> None:
    run = begun(star())
    before = statistics(artifacts.load(run.teacher))
    run.scenario = star(**{"method_options.variant": "basic"})
    kept = statistics(run.step(1))
    assert kept.keys() == {"numbers", "prototypes", "spreads"}
    torch.testing.assert_close(kept["spreads"][:4], before["deviations"].norm(dim=1))


def test_dkds_terms_beside_the_replay(begun: Callable[..., Run]) -> None:
    run = begun(star(losses={"kd": 5, "dkd_pos": 5, "dkd_neg": 5, "ac": 1}))
    curve = run.step(1).metadata["curve"]
    assert {"mbce", "pkd", "contrast", "kd", "dkd_pos", "dkd_neg", "ac"} < curve[0].keys()


def test_exemplars_beside_the_replay(tmp_path: Path) -> None:
    for protocol in ("paper", "corrected"):
        run = Run(tmp_path / protocol, star(memory_size=8, protocol=protocol))
        run.step(0)
        assert statistics(run.step(1))["prototypes"].shape[0] == 6


def test_the_new_head_learns_a_hundred_times_as_fast(begun: Callable[..., Run]) -> None:
    run = begun(star())
    job = run.job(1)
    teacher = job._model(job.step.teacher)
    student = STAR.grow(teacher, 2)
    method = STAR(student, teacher, job._circumstances())
    found = {g["name"]: (g["factor"], g["weight_decay"]) for g in method.groups() if g["params"]}
    assert found == {
        "backbone": (1.0, 1e-4),
        "aspp": (10.0, 1e-4),
        "old_heads": (10.0, 1e-4),
        "new_head": (100.0, 1e-4),
    }
    spread = student.head(-1).weight.detach().std()
    assert 0.5 < float(spread) / (2 / 16) ** 0.5 < 1.5
