"""Evaluation and exemplar memory do not depend on how many ranks share the work."""

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from step_runs import Run, scenario

from dkd.launching import launcher
from dkd.launching.interface import Job
from dkd.scenario.launch import Launch
from dkd.steps.step import Step
from dkd.storage import artifacts
from dkd.training import ranks
from dkd.training.ranks import Ranks

RANKS = 3


def test_any_number_of_ranks_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three real ranks against one process, where neither images nor candidates divide by three."""
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    run = Run(tmp_path / "artifacts", scenario(**{"data.digits.validation": 13}))
    run.step(0)
    spec = run.spec(1)
    opened = Step.open(spec)
    assert len(opened.test_records) % RANKS
    assert (len(opened.training_records) + 8) % RANKS  # eight exemplars are candidates too
    run.step(1)
    alone = [artifacts.load(uri) for uri in (run.evaluation, run.memory)]
    for made in alone:
        artifacts.remove(made.uri)
    launcher(Launch(processes_per_node=RANKS)).run(
        Job(
            name="ranks",
            module="dkd.train",
            arguments=(
                *("--step", spec.model_dump_json()),
                *("--stages", "evaluate,memory", "--run-name", "ranks"),
            ),
            environment={},
            result=run.memory,
        )
    )
    shared_out = [artifacts.load(made.uri) for made in alone]
    assert [m.metadata["ranks"] for m in shared_out] == [RANKS, RANKS]
    assert [m.digest for m in shared_out] == [m.digest for m in alone]


@pytest.mark.parametrize(
    "ask",
    [lambda place: place.any_of(False), lambda place: place.average(torch.ones(3))],
    ids=["flags", "gradients"],
)
def test_a_rank_that_does_not_answer_is_given_up(
    ask: Callable[[Ranks], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two real ranks, one of which stands still: as where nothing reaches it any more."""
    monkeypatch.setattr(ranks, "ANSWERS_WITHIN", timedelta(seconds=1))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    given_up = fork.Event()
    told = fork.Queue()

    def be(rank: int) -> None:
        os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0")
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        with ranks.ranks() as place:
            place.barrier()
            if rank:
                given_up.wait(60)
                return
            began = time.monotonic()
            try:
                ask(place)
            except RuntimeError as error:
                told.put((str(error), time.monotonic() - began))
            given_up.set()

    both = [fork.Process(target=be, args=(rank,)) for rank in range(2)]
    for process in both:
        process.start()
    error, seconds = told.get(timeout=60)
    for process in both:
        process.join(60)
    assert "Timed out waiting 1000ms" in error
    assert seconds < 30
