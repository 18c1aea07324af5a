"""Two steps on squares of three colours, which any method learns in seconds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fixtures.data_sets import make_colours
from step_runs import Run, scenario

from dkd.steps.step import read_json
from dkd.storage import artifacts


@dataclass(frozen=True)
class Learned:
    """What came of step 1, which adds blue to red and green.

    Attributes:
        curve: points of its training.
        iou: of each class, from 0 to 1.
        run: the run.
    """

    curve: list[dict[str, float]]
    iou: dict[str, float]
    run: Run

    def first(self, term: str) -> float:
        return sum(point[term] for point in self.curve[:4])

    def last(self, term: str) -> float:
        return sum(point[term] for point in self.curve[-4:])


def learn(folder: Path, method: str, **values: Any) -> Learned:
    colours = make_colours(folder / "colours")
    given = scenario(
        method=method,
        memory_size=0,
        data={"format": "folder", "root": str(colours)},
        task=[["red", "green"], ["blue"]],
        **{
            "training.epochs.first": 60,
            "training.epochs.later": 20,
            "training.lr.first": 0.02,
            **values,
        },
    )
    run = Run(folder / "root", given)
    run.step(0)
    curve = run.step(1).metadata["curve"]
    matrix = np.array(read_json(artifacts.load(run.evaluation), "evaluation.json")["confusion"])
    union = matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    iou = (matrix.diagonal() / union.clip(1)).tolist()
    return Learned(curve, dict(zip(("background", "red", "green", "blue"), iou, strict=True)), run)
