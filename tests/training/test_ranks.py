"""Evaluation and exemplar memory do not depend on how many ranks share the work."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from step_runs import Run, scenario

from dkd.launching import launcher
from dkd.launching.interface import Job
from dkd.scenario.launch import Launch
from dkd.steps.step import Step
from dkd.storage import artifacts

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


ASKED = """
import sys
from datetime import timedelta
import torch
from torch.distributed import distributed_c10d
from dkd.training import ranks

ask = {"flags": lambda: place.any_of(False), "gradients": lambda: place.average(torch.ones(3))}
with ranks.ranks() as place:
    place.barrier()
    if place.rank:
        sys.stdin.read()  # stands still
    else:
        # Only now: that the ranks find each other may take a busy machine longer.
        group = distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
        assert group.options._timeout == ranks.ANSWERS_WITHIN
        ranks.ANSWERS_WITHIN = timedelta(seconds=1)
        distributed_c10d._set_pg_timeout(ranks.ANSWERS_WITHIN)
        try:
            ask[sys.argv[1]]()
        except RuntimeError as error:
            print(error, flush=True)
"""


@pytest.mark.parametrize("ask", ["flags", "gradients"])
def test_a_rank_that_does_not_answer_is_given_up(ask: str) -> None:
    """Two real ranks, one of which stands still: as where nothing reaches it any more."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ASKED, ask],
            env={**os.environ, **place, "RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert both[0].stdout is not None
    try:
        assert "Timed out waiting 1000ms" in both[0].stdout.readline()
    finally:
        for process in both:
            process.kill()
            process.communicate()
