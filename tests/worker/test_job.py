"""The numbers that a data set gives its classes change nothing, whatever their order in a task.

The released program trains the wrong targets where a task lists classes out of index order.
"""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from step_runs import Run, scenario

from dkd.data import made
from dkd.scenario.data import Data
from dkd.steps.step import read_json
from dkd.storage import artifacts

NUMBERS = {1: 7, 2: 3, 3: 10, 4: 1, 5: 9, 6: 2, 7: 5, 8: 8, 9: 4, 10: 6}
"""New label value by old one."""

WIDE = {1: 700, 2: 3, 3: 65534, 4: 255, 5: 256, 6: 2, 7: 5000, 8: 8, 9: 4, 10: 40000}
"""Likewise, of 16 bits."""


@pytest.fixture
def numbered_anew(tmp_path: Path) -> tuple[Path, Path, Path]:
    """The same scenes three times: with digit d labelled d + 1, and as the tables above say."""
    plain, other, wide = tmp_path / "plain", tmp_path / "other", tmp_path / "wide"
    for folder in (plain, other, wide):
        few = Data.Made(train=60, validation=12, size=32)
        made.make(folder, Data(format="digits", digits=few))
    names = yaml.safe_load((plain / "classes.yaml").read_text())
    for folder, numbers, void in ((other, NUMBERS, 255), (wide, WIDE, 65535)):
        table = np.zeros(256, np.uint8 if void == 255 else np.uint16)
        table[list(numbers)], table[255] = list(numbers.values()), void
        for path in (folder / "masks").rglob("*.png"):
            with Image.open(path) as mask:
                changed = table[np.asarray(mask)]
            Image.fromarray(changed).save(path)
        renamed = {numbers[value]: name for value, name in names.items()}
        (folder / "classes.yaml").write_text(yaml.safe_dump(renamed))
    return plain, other, wide


def test_the_result_is_the_same_in_every_bit(
    numbered_anew: tuple[Path, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    results = []
    for folder in numbered_anew:
        # Without a memory: it breaks ties by digests, and the masks' bytes differ here.
        given = scenario(data={"format": "folder", "root": str(folder)}, memory_size=0)
        run = Run(tmp_path / f"{folder.name}-artifacts", given)
        checkpoints = [run.step(number) for number in range(3)]
        evaluation = artifacts.load(run.evaluation)
        results.append(
            (
                [each.parts["model.safetensors"].sha256 for each in checkpoints],
                read_json(evaluation, "evaluation.json")["confusion"],
            )
        )
    assert results[0] == results[1] == results[2]
