"""More than 254 classes, from masks of 16 bits to everything that shows channel numbers."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from step_runs import Run, scenario

from dkd.data import packed
from dkd.evaluation import predict
from dkd.evaluation.segmenter import Segmenter
from dkd.memory.exemplars import Memory
from dkd.report import collect
from dkd.storage import artifacts

CLASSES, FIRST, VOID = 258, 256, 65535
ORDER = list(range(CLASSES, 0, -1))
"""Label values in the order of learning: channel k is ``ORDER[k - 1]``."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Each of 43 images shows six classes in its upper half, void beside them."""
    root, rng = tmp_path / "many", np.random.default_rng(0)
    for split in ("train", "validation"):
        for name in ("images", "masks"):
            (root / name / split).mkdir(parents=True)
        for number in range(0, CLASSES, 6):
            labels = np.zeros((16, 16), np.uint16)
            labels[:8, :12] = np.repeat(np.arange(number + 1, number + 7), 2)
            labels[:8, 12:] = VOID
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / f"images/{split}/{number:03}.png")
            Image.fromarray(labels).save(root / f"masks/{split}/{number:03}.png")
    (root / "classes.yaml").write_text("".join(f"{v}: class {v}\n" for v in ORDER))
    return root


def channels_of(labels: np.ndarray, void: int) -> np.ndarray:
    return np.select([labels == VOID, labels > 0], [void, CLASSES + 1 - labels.astype(int)], 0)


def grey(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.mode == "I;16"
        return np.asarray(picture)


def test_what_shows_channel_numbers_shows_them_whole(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    names = [f"class {value}" for value in ORDER]
    training = {
        "epochs": {"first": 1, "later": 1},
        "batch_size": 8,
        "crop": 16,
        "loader_workers": 0,
        "lr": {"first": 1e-4, "later": 1e-4},
        "pos_weight": {"first": 1, "later": 1},
    }
    given = scenario(
        data={"format": "folder", "root": str(images), "pack": True},
        task=[names[:FIRST], names[FIRST:]],
        memory_size=6,
        training=training,
    )
    run = Run(tmp_path / "root", given)
    run.step(0)
    run.step(1)
    dataset, _ = packed.open_dataset(run.prepared.dataset)
    truth = {
        record.id: np.asarray(Image.open(images / record.mask)) for record in dataset.validation
    }

    evaluation = artifacts.load(run.evaluation)
    shown = collect.so_far(run.spec(1), evaluation, "many")
    for number, reference in enumerate(shown.references):
        found = grey(artifacts.read_part(evaluation, f"pictures/{number}.truth.png"))
        assert np.array_equal(found, channels_of(truth[reference.id], VOID))
    assert f"class {ORDER[-1]}" in collect.page([shown])

    _, parts = artifacts.fetch_cached(run.memory, tmp_path / "cache")
    memory = Memory.open(parts, tmp_path / "memory")
    for exemplar in memory.exemplars:
        labels = np.asarray(Image.open(images / f"masks/train/{exemplar.id}.png"))
        expected = channels_of(labels, VOID)
        own = range(1, 1 + FIRST) if exemplar.step == 0 else range(1 + FIRST, 1 + CLASSES)
        expected[~np.isin(expected, [*own, VOID])] = 0
        assert np.array_equal(grey((memory.folder / exemplar.mask).read_bytes()), expected)
    assert memory.table(names, keep=True)[[0, 1, 255, 258, VOID]].tolist() == [
        0,
        1,
        255,
        258,
        32767,
    ]

    segmenter = Segmenter.load(run.teacher, "cpu")
    with torch.no_grad():
        segmenter._model.cls[-1].bias[:] = 99.0  # so that a class of the second step is seen
    files = predict.sources([images / "images/validation"])[:1]
    predict.predict(
        segmenter,
        files,
        tmp_path / "seen",
        batch=1,
        alpha=0.5,
        progress=lambda *_: None,
        complain=print,
    )
    seen = grey((tmp_path / "seen" / files[0].mask).read_bytes())
    assert seen.min() > FIRST
    assert np.array_equal(seen, segmenter.predict(files[0].path).mask)
