"""Evaluation and exemplar memory do not depend on how many ranks share the work."""

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
