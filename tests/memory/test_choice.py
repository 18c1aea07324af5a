"""Which classes a candidate counts for: its mask's, those a model saw, and which model's."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dkd.data import index
from dkd.memory.choice import choose_exemplars
from dkd.memory.exemplars import Memory
from dkd.network import deeplab
from dkd.scenario.schema import parse
from dkd.steps.step import Step, StepSpec
from dkd.training.ranks import Ranks

ALONE = Ranks(0, 1, 0, torch.device("cpu"), None)


def step_of(folder: Path, protocol: str, number: int) -> Step:
    given = parse(
        {
            "name": "choice",
            "data": {"format": "folder", "root": str(folder)},
            "task": [["cat"], ["dog"]],
            "protocol": protocol,
            "memory_size": 100,
            "network": {"backbone": "demo", "weights": "none", "aspp_channels": 16},
            "training": {
                "epochs": {"first": 1, "later": 1},
                "batch_size": 4,
                "crop": 32,
                "lr": {"first": 0.01, "later": 0.01},
                "loader_workers": 0,
            },
        },
        source="test",
    )
    spec = StepSpec(scenario=given, task=(("cat",), ("dog",)), step=number, dataset="", root="")
    return Step(spec, index.build(given.data), None, None)


def chosen(
    folder: Path, step: Step, sees_cats: bool, previous: Memory | None, work: Path
) -> list[dict[str, Any]]:
    """The exemplars chosen by a model that sees a cat everywhere, or nothing anywhere."""
    model = deeplab.build(step.scenario.network, [1] * (step.number + 1)).eval()
    with torch.no_grad():
        for head in model.cls:
            head.weight.zero_()
            head.bias.fill_(-20)
        model.cls[1].bias.fill_(20 if sees_cats else -20)
    work.mkdir()
    said: list[str] = []
    parts = choose_exemplars(step, model, previous, lambda _: folder, ALONE, work, said.append)
    rows: list[dict[str, Any]] = json.loads(parts["memory.json"].read_text())["exemplars"]
    return rows


@pytest.mark.parametrize("protocol", ["paper", "corrected"])
@pytest.mark.parametrize("sees_cats", [False, True])
@pytest.mark.parametrize("stored", [(), ("cat",)])
def test_an_exemplar_keeps_the_classes_it_was_stored_with_under_paper(
    folder: Path, tmp_path: Path, protocol: str, sees_cats: bool, stored: tuple[str, ...]
) -> None:
    first = chosen(folder, step_of(folder, protocol, 0), True, None, tmp_path / "first")
    assert first
    assert all(row["seen"] == [] for row in first)  # no teacher is asked before the second step
    memory = Memory.open(tmp_path / "first", tmp_path / "members")
    # Of another data set, so that no image is both an exemplar and the step's own.
    kept = [replace(e, digest=f"kept {n}", seen=stored) for n, e in enumerate(memory.exemplars)]
    memory = replace(memory, exemplars=tuple(kept))
    rows = chosen(folder, step_of(folder, protocol, 1), sees_cats, memory, tmp_path / "second")
    old = [row for row in rows if row["step"] == 0]
    own = [row for row in rows if row["step"] == 1]
    assert len(old) == len(kept)
    assert own
    looked = ["cat"] if sees_cats else []
    assert all(row["seen"] == looked for row in own)
    assert all(row["seen"] == (list(stored) if protocol == "paper" else looked) for row in old)


def test_older_memories_say_nothing_of_what_was_seen(folder: Path, tmp_path: Path) -> None:
    chosen(folder, step_of(folder, "paper", 0), True, None, tmp_path / "first")
    file = tmp_path / "first" / "memory.json"
    document = json.loads(file.read_text())
    for row in document["exemplars"]:
        del row["seen"]
    file.write_text(json.dumps(document))
    memory = Memory.open(tmp_path / "first", tmp_path / "members")
    assert {e.seen for e in memory.exemplars} == {()}
