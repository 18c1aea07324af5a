from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dkd.data import index, labels, splits
from dkd.data.index import Dataset
from dkd.data.loading import Draw, EvaluationImages, Source, StepBatches, StepImages, load
from dkd.data.records import Record
from dkd.data.transforms import SCALE
from dkd.errors import UserError
from dkd.scenario.data import Data
from dkd.scenario.tasks import Task


@pytest.fixture(scope="module")
def dataset(voc: Data) -> Dataset:
    return index.build(voc)


@pytest.fixture(scope="module")
def sources(dataset: Dataset) -> list[Source]:
    """A step's own images and some exemplars."""
    task = Task.of([[1, 2, 3], [4, 5]], dataset.classes)
    new = splits.training(dataset, task, "overlap", 1)
    old = splits.training(dataset, task, "overlap", 0)[:7]
    table = labels.training_table(dataset, task, 1)
    seen = labels.test_table(dataset, task, 1)
    root = Path(dataset.root)
    kept = labels.covered_with_labelled(labels.covered(task, 1, len(old)), seen, old)
    return [
        Source(new, root, table, labels.covered(task, 1, len(new))),
        Source(old, root, seen, kept),
    ]


@pytest.fixture(scope="module")
def images(sources: list[Source]) -> StepImages:
    return StepImages(sources, crop=32, seed=4)


SHAPE = {"n": st.integers(1, 40), "per_rank": st.integers(1, 6), "world": st.integers(1, 4)}


@given(**SHAPE, seed=st.integers(0, 5), epoch=st.integers(0, 5))
def test_an_epoch_is_one_permutation_whatever_the_ranks(
    n: int, per_rank: int, world: int, seed: int, epoch: int
) -> None:
    size = per_rank * world
    whole = list(StepBatches(n, size, seed).batches(epoch))
    ranks = [list(StepBatches(n, size, seed, r, world).batches(epoch)) for r in range(world)]
    assert len(whole) == StepBatches(n, size, seed).per_epoch == max(1, n // size)
    for number, batch in enumerate(whole):
        assert len(batch) == size
        shares = [rank[number] for rank in ranks]
        assert {len(share) for share in shares} == {per_rank}
        assert [d for together in zip(*shares, strict=True) for d in together] == batch
    drawn = list(chain(*whole))
    assert [d.position for d in drawn] == list(range(len(drawn)))
    order = [d.image for d in drawn]
    assert set(order) <= set(range(n))
    if n >= size:
        assert len(set(order)) == len(order)
    else:  # the permutation repeats
        assert order == [order[k % n] for k in range(size)]
        assert len(set(order)) == n


@given(**SHAPE, start=st.integers(0, 30))
def test_an_order_can_be_taken_up_anywhere(n: int, per_rank: int, world: int, start: int) -> None:
    batches = StepBatches(n, per_rank * world, 1, world - 1, world)
    whole = list(batches.iterations(30))
    assert len(whole) == 30
    assert list(batches.iterations(30, start)) == whole[start:]
    epoch, begin = divmod(start, batches.per_epoch)
    first = list(batches.batches(epoch, begin))
    assert first == list(batches.iterations((epoch + 1) * batches.per_epoch, start))


@given(
    n=st.integers(1, 30),
    exemplars=st.integers(1, 30),
    size=st.integers(2, 12),
    share=st.floats(0.01, 0.99),
)
def test_exemplars_have_their_share_of_every_batch(
    n: int, exemplars: int, size: int, share: float
) -> None:
    order = StepBatches(n, size, 3, exemplars=exemplars, share=share)
    drawn = min(max(1, round(share * size)), size - 1)
    assert order.per_epoch == max(1, n // (size - drawn))
    own, kept = list[int](), list[int]()
    for number, batch in enumerate(order.batches(2)):
        images = [d.image for d in batch]
        assert [d.position for d in batch] == [number * size + k for k in range(size)]
        assert all(image < n for image in images[:-drawn])
        assert all(n <= image < n + exemplars for image in images[-drawn:])
        own, kept = own + images[:-drawn], kept + images[-drawn:]
    plain = [d.image for batch in StepBatches(n, size - drawn, 3).batches(2) for d in batch]
    assert own == plain
    times = np.bincount(np.array(kept) - n, minlength=exemplars)
    assert times.max() - times.min() <= 1
    halves = [StepBatches(n, 2 * size, 3, r, 2, exemplars, share).batches(2) for r in range(2)]
    whole = StepBatches(n, 2 * size, 3, exemplars=exemplars, share=share).batches(2)
    for together, *parts in zip(whole, *halves, strict=True):
        assert [d for pair in zip(*parts, strict=True) for d in pair] == together


def test_a_share_of_no_exemplars_is_nothing() -> None:
    plain, shared = StepBatches(20, 6, 1), StepBatches(20, 6, 1, share=0.5)
    assert list(plain.batches(1)) == list(shared.batches(1))


def test_epochs_and_seeds_differ() -> None:
    orders = {
        tuple(d.image for d in next(StepBatches(50, 50, seed).batches(epoch)))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_order_is_uniform() -> None:
    first = [next(StepBatches(4, 1, seed).batches(0))[0].image for seed in range(800)]
    assert np.bincount(first, minlength=4).min() > 150


def test_batches_that_cannot_be() -> None:
    with pytest.raises(UserError, match=r"training\.batch_size: 6 images .* 4 ranks"):
        StepBatches(20, 6, 1, 0, 4)
    with pytest.raises(UserError, match=r"memory_share: a batch of 1 image cannot be shared"):
        StepBatches(20, 1, 1, exemplars=3, share=0.5)
    with pytest.raises(UserError, match="no training image"):
        StepBatches(0, 6, 1)


def test_the_number_of_workers_changes_nothing(images: StepImages) -> None:
    batches = StepBatches(len(images), 6, seed=4)
    assert batches.per_epoch >= 2
    runs = [list(load(images, batches.iterations(5), workers)) for workers in (0, 1, 2)]
    for run in runs[1:]:
        for one, other in zip(runs[0], run, strict=True):
            assert one["id"] == other["id"]
            for name in ("image", "label", "covered"):
                assert torch.equal(one[name], other[name])


def test_the_number_of_ranks_changes_no_sample(images: StepImages) -> None:
    whole = {d: images[d] for batch in StepBatches(len(images), 6, 4).batches(0) for d in batch}
    for rank in range(3):
        for batch in StepBatches(len(images), 6, 4, rank, 3).batches(0):
            for draw in batch:
                assert torch.equal(images[draw]["image"], whole[draw]["image"])


def test_a_sample_differs_by_epoch_and_position(images: StepImages) -> None:
    draws = [Draw(0, 0, 0), Draw(0, 0, 1), Draw(0, 1, 0)]
    seen = {images[draw]["image"].numpy().tobytes() for draw in draws}
    assert len(seen) == 3


@pytest.mark.parametrize("crop", [12, 16, 32, 50])
@pytest.mark.parametrize("workers", [0, 1])
def test_finishing_on_a_device_gives_the_same_batches(
    sources: list[Source], crop: int, workers: int
) -> None:
    """Regions of 14 to 40 pixels: shrunk, enlarged, and (12) so large that the workers do it."""
    ours = StepImages(sources, crop, seed=4)
    batches = StepBatches(len(ours), 8, seed=4)
    plain = load(ours, batches.iterations(4), 0)
    device = load(ours, batches.iterations(4), workers, device_transforms=True)
    for one, other in zip(plain, device, strict=True):
        assert one.keys() == other.keys()
        assert one["id"] == other["id"]
        for name in ("label", "covered"):
            assert one[name].dtype == other[name].dtype
            assert torch.equal(one[name], other[name])
        levels = (one["image"] - other["image"]).abs() / SCALE
        assert levels.max() < 1.51
        assert levels.mean() < 0.3


def test_items(images: StepImages) -> None:
    (batch,) = load(images, [[Draw(k, 0, k) for k in range(4)]], workers=0)
    assert batch["image"].shape == (4, 3, 32, 32)
    assert batch["image"].dtype == torch.float32
    assert batch["label"].shape == (4, 32, 32)
    assert batch["label"].dtype == torch.uint8
    assert batch["covered"].tolist() == [[False, False, False, True, True]] * 4
    assert set(batch["label"].unique().tolist()) <= {0, 4, 5, 255}
    exemplar = images[Draw(len(images) - 1, 0, 0)]
    assert exemplar["covered"][3:].all()
    assert exemplar["covered"][:3].any()


def test_an_unreadable_file_is_one_line_from_any_worker(folder: Path) -> None:
    dataset = index.build(Data(format="folder", root=str(folder)))
    task = Task.of([[1, 7]], dataset.classes)
    images = StepImages(
        [Source(dataset.train, folder, np.arange(256, dtype=np.uint8), labels.covered(task, 0, 4))],
        crop=16,
        seed=1,
    )
    (folder / "images/train/2.png").write_bytes(b"junk")
    for workers in (0, 1):
        with pytest.raises(UserError) as caught:
            list(load(images, [[Draw(k, 0, k) for k in range(4)]], workers))
        assert str(caught.value).startswith(f"{folder}/images/train/2.png: image or mask changed")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("orientations", "masks"), [((3, 6, 7, 8), "upright"), ((5, 6, 7, 8), "stored")]
)
def test_training_and_evaluation_see_a_tagged_photograph_as_the_turned_one(
    folder: Path, orientations: tuple[int, ...], masks: str
) -> None:
    """With masks drawn upright, as labelling tools draw them, and as the camera stored them."""
    data, table = Data(format="folder", root=str(folder)), np.arange(256, dtype=np.uint8)

    def items() -> list[dict[str, Any]]:
        dataset = index.build(data)
        task = Task.of([[1, 7]], dataset.classes)
        step = StepImages(
            [Source(dataset.train, folder, table, labels.covered(task, 0, 4))], 16, seed=1
        )
        scored = EvaluationImages(dataset.train, folder, table, 16, whole=True)
        return [*(step[Draw(k, 0, k)] for k in range(4)), *scored]

    expected = items()
    back = {3: "ROTATE_180", 5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    for record, orientation in zip(index.build(data).train, orientations, strict=True):
        turn = Image.Transpose[back[orientation]]
        exif = Image.Exif()
        exif[0x0112] = orientation
        for path, drawn in ((record.image, "stored"), (record.mask, masks)):
            if drawn == "stored":
                tag = {"exif": exif} if path == record.image else {}
                Image.open(folder / path).transpose(turn).save(folder / path, **tag)
    for one, other in zip(expected, items(), strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["label"], other["label"])


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("whole", [True, False])
def test_evaluation_is_shared_out_none_twice(dataset: Dataset, world: int, whole: bool) -> None:
    table = np.arange(256, dtype=np.uint8)
    shares = [
        EvaluationImages(dataset.validation, Path(dataset.root), table, 16, whole, rank, world)
        for rank in range(world)
    ]
    items = [item for share in shares for item in share]
    assert sorted(item["id"] for item in items) == sorted(r.id for r in dataset.validation)
    assert sum(len(share) for share in shares) == len(dataset.validation)
    sizes = {r.id: (r.height, r.width) for r in dataset.validation}
    for item in items:
        expected = sizes[item["id"]] if whole else (16, 16)
        assert tuple(item["label"].shape) == expected
        assert min(item["image"].shape[1:]) == 16


def test_batches_to_score_are_bounded_by_pixels() -> None:
    def sizes(*sides: int, whole: bool = True) -> list[int]:
        records = [Record(str(n), "", "", side, side, (), "") for n, side in enumerate(sides)]
        images = EvaluationImages(records, Path(), np.zeros(256, np.uint8), 512, whole)
        batches = images.batches(16)
        assert sorted(index for batch in batches for index in batch) == list(range(len(sides)))
        return [len(batch) for batch in batches]

    assert sizes(*[500] * 20) == [16, 4]
    assert sizes(*[4096] * 5) == [2, 2, 1]
    assert sizes(8192, 8192) == [1, 1]
    assert sizes(*[4096] * 20, whole=False) == [16, 4]  # a crop's labels are as large as the crop
