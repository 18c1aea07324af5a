"""Scoring images together, ahead and with folded layers, beside one by one with NumPy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dkd.data.loading import EvaluationImages, load_to_score
from dkd.data.records import Record
from dkd.errors import UserError
from dkd.evaluation.confusion import ConfusionMatrix
from dkd.evaluation.evaluator import evaluated
from dkd.network.deeplab import SegmentationModel, build
from dkd.network.preparation import prepare_frozen
from dkd.network.speed import decided
from dkd.scenario.network import Network
from dkd.scenario.speed import Speed

TABLE = np.arange(256, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(7):
        size = (40, 30) if number % 3 else (30, 44)
        pixels = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(tmp_path / f"{number}.png")
        mask = rng.integers(0, 5, (5, 5), dtype=np.uint8)
        mask[0, 0] = 255
        Image.fromarray(mask).resize(size, 0).save(tmp_path / f"{number}.mask.png")
    return tmp_path


@pytest.fixture
def model() -> SegmentationModel:
    torch.manual_seed(3)
    made = build(Network(backbone="demo", aspp_channels=16), [3, 1]).double()
    for head in made.cls:
        torch.nn.init.normal_(head.weight)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    made.train()(torch.randn(8, 3, 32, 32, dtype=torch.float64))  # statistics that spread features
    return made.eval()


def images_of(folder: Path, whole: bool, rank: int = 0, world_size: int = 1) -> EvaluationImages:
    records = [
        Record(str(k), f"{k}.png", f"{k}.mask.png", *((30, 40) if k % 3 else (44, 30)), (1,), "")
        for k in range(7)
    ]
    images = EvaluationImages(records, folder, TABLE, 32, whole, rank, world_size, verify=False)
    plain = images.__class__.__getitem__

    class Doubled(EvaluationImages):
        """In double precision predictions do not hang on rounding."""

        def __getitem__(self, index: int) -> dict[str, object]:
            item = plain(self, index)
            return {**item, "image": item["image"].double()}

    images.__class__ = Doubled
    return images


def one_by_one(model: SegmentationModel, images: EvaluationImages) -> np.ndarray:
    matrix = np.zeros((5, 5), np.int64)
    for k in range(len(images)):
        item = images[k]
        with torch.no_grad():
            features = model.features(item["image"][None])
            logits = model.logits(features, tuple(item["label"].shape))[0, 1:].numpy()
        probability = 1 / (1 + np.exp(-logits))
        predicted = np.where(probability.max(0) > 0.5, logits.argmax(0) + 1, 0)
        truth = item["label"].numpy()
        for t, p in zip(truth[truth != 255], predicted[truth != 255], strict=True):
            matrix[t, p] += 1
    return matrix


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("most", [1, 2, 16])
@pytest.mark.parametrize("workers", [0, 2])
def test_the_matrix_is_that_of_images_one_by_one(
    folder: Path, model: SegmentationModel, whole: bool, most: int, workers: int
) -> None:
    expected = one_by_one(model, images_of(folder, whole))
    speed = decided(
        Speed(evaluation_batch=most, fold_norms=True, channels_last=most > 1, prefetch=True),
        gpu=False,
    )
    told: list[tuple[int, int]] = []
    found = evaluated(
        prepare_frozen(model, speed),
        [images_of(folder, whole)],
        ConfusionMatrix(model.classes + 1),
        torch.device("cpu"),
        speed,
        workers,
        progress=lambda done, of: told.append((done, of)),
    )
    assert (expected > 0).sum() > 10
    assert np.array_equal(found.numpy(), expected)
    assert told[-1] == (7, 7)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_each_images_pixels_are_those_of_the_image_alone(
    folder: Path, model: SegmentationModel, ranks: int
) -> None:
    alone = []
    for place in range(7):
        image = images_of(folder, True)
        image.records = image.records[place : place + 1]
        matrix = one_by_one(model, image)
        alone.append([matrix.diagonal(), matrix.sum(1), matrix.sum(0)])
    speed = decided(Speed(evaluation_batch=3), gpu=False)
    prepared = prepare_frozen(model, speed)
    shares = []
    for rank in range(ranks):
        share = ConfusionMatrix(model.classes + 1, images=7)
        device, images = torch.device("cpu"), images_of(folder, True, rank, ranks)
        evaluated(prepared, [images], share, device, speed)
        shares.append(share.by_image())
    assert np.array_equal(sum(shares).numpy(), alone)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("most", [1, 3, 100])
def test_every_image_is_loaded_once_with_others_of_its_size(
    folder: Path, whole: bool, most: int
) -> None:
    seen: list[str] = []
    for rank in range(2):
        images = images_of(folder, whole, rank, 2)
        for batch in load_to_score(images, most, workers=0):
            assert len(batch["id"]) == len(batch["image"]) <= most
            assert [images.records[i].id for i in batch["index"].tolist()] == batch["id"]
            seen += batch["id"]
    assert sorted(seen) == [str(k) for k in range(7)]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_line(folder: Path, workers: int) -> None:
    (folder / "3.png").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"3\.png: not a JPEG, PNG, TIFF or WebP file") as caught:
        list(load_to_score(images_of(folder, True), 2, workers))
    assert "\n" not in str(caught.value)
