"""The files of a record, as they were indexed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index, labels
from dkd.data.loading import Draw, EvaluationImages, Source, StepImages, load
from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.scenario.tasks import Task


def test_an_image_that_changed_since_it_was_indexed(folder: Path) -> None:
    """In pixels alone: a mask edited, or replaced by one of the same size and time."""
    dataset = index.build(Data(format="folder", root=str(folder)))
    task, table = Task.of([[1, 7]], dataset.classes), np.arange(256, dtype=np.uint8)
    source = Source(dataset.train, folder, table, labels.covered(task, 0, 4))
    mask = folder / dataset.train[1].mask
    pixels = np.array(Image.open(mask))
    Image.fromarray(np.flip(pixels, 1)).save(mask)
    changed = r"train/1\.png: image or mask changed since it was indexed"
    for workers in (0, 1):
        with pytest.raises(UserError, match=changed):
            list(load(StepImages([source], 16, 1), [[Draw(1, 0, 0)]], workers))
    with pytest.raises(UserError, match=changed):
        EvaluationImages(dataset.train, folder, table, 16, whole=True)[1]
    # Of exemplars the digests are those of other files.
    exemplars = replace(source, verify=False)
    (batch,) = load(StepImages([exemplars], 16, 1), [[Draw(1, 0, 0)]], 0)
    assert batch["id"] == ["1"]


def test_a_file_is_verified_once_whichever_worker_reads_it(folder: Path) -> None:
    dataset = index.build(Data(format="folder", root=str(folder)))
    task, table = Task.of([[1, 7]], dataset.classes), np.arange(256, dtype=np.uint8)
    images = StepImages([Source(dataset.train, folder, table, labels.covered(task, 0, 4))], 16, 1)
    assert len(list(load(images, [[Draw(k, 0, k)] for k in range(3)], workers=2))) == 3
    for number in (0, 3):
        mask = folder / dataset.train[number].mask
        Image.fromarray(np.flip(np.array(Image.open(mask)), 1)).save(mask)
    assert images[Draw(0, 0, 0)]["id"] == "0"
    with pytest.raises(UserError, match=r"train/3\.png"):
        images[Draw(3, 0, 0)]
