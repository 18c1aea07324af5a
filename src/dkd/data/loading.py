"""Training batches and evaluation images from records.

The order of a step is one permutation per epoch, cut into batches, of which every rank takes its
share; a sample's augmentation follows from the seed, the epoch and its position in that order. So
what a step trains on depends neither on the number of ranks nor on that of loader workers, and a
run can go on from any iteration.
"""

import os
import traceback
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data as torch_data

from dkd.data import contents, on_device, transforms
from dkd.data.images import at_a_time
from dkd.data.labels import Covered, Table
from dkd.data.records import Record, Records
from dkd.errors import UserError


class Draw(NamedTuple):
    """One sample of a batch.

    Attributes:
        image: its index.
        epoch: counted from 0.
        position: in the epoch's order over all ranks; with the epoch, what augmentation depends on.
    """

    image: int
    epoch: int
    position: int


@dataclass(frozen=True)
class Source:
    """Images that share a folder and a label table: a step's own ones, or its exemplars.

    Attributes:
        records: the images.
        folder: in which their paths lie.
        table: channel number by label value.
        covered: for each image (row) and foreground channel (column k - 1 for channel k),
            whether the image's labels tell about it; see :func:`dkd.data.labels.covered`.
        verify: the records' digests are those of these files (an exemplar's is that of the files
            it was made from); each file is compared with them when it is first read.
    """

    records: Sequence[Record]
    folder: Path
    table: Table
    covered: Covered
    verify: bool = True


class StepImages(torch_data.Dataset[dict[str, Any]]):
    """Everything a step trains on, as augmented crops.

    An item is asked for by a :class:`Draw` and is ``image`` (float32, 3 x crop x crop,
    normalised), ``label`` (crop x crop, :mod:`dkd.data.channels`), ``covered`` (bool,
    one per foreground channel) and ``id``.

    Attributes:
        exemplars: how many images are the memory's; they come behind the others.

    Args:
        sources: the step's own images, and the exemplar memory's.
        crop: side of the crops, in pixels.
        seed: the run's.
    """

    def __init__(self, sources: Sequence[Source], crop: int, seed: int) -> None:
        self.crop, self.seed = crop, seed
        self.exemplars = sum(len(source.records) for source in sources[1:])
        self._sources = tuple(sources)
        self._ends = list(accumulate(len(source.records) for source in sources))
        # Shared with the loader workers, so that a file is verified once and not by each of them.
        verified = torch.cat(
            [torch.full((len(source.records),), not source.verify) for source in sources]
        )
        self._verified = verified.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        source, row, image, mask, crop = self._open(draw)
        pixels, labels = transforms.training_sample(image, mask, source.table, self.crop, crop)
        return {
            "image": pixels,
            "label": labels,
            "covered": torch.from_numpy(source.covered[row]),
            "id": source.records[row].id,
        }

    def region(self, draw: Draw) -> dict[str, Any]:
        """The same item before resizing, as :func:`dkd.data.on_device.collate` takes it.

        A region of more than twice the crop's side is resized here all the same: one of those
        would pad its whole batch.
        """
        source, row, image, mask, crop = self._open(draw)
        if max(crop.height, crop.width) > 2 * self.crop:
            pixels, labels = transforms.resized_region(image, mask, source.table, self.crop, crop)
            flip = False
        else:
            pixels = transforms.to_tensor(image.crop(crop.box))
            labels = torch.from_numpy(transforms.look_up(mask.crop(crop.box), source.table))
            flip = crop.flip
        return {
            "pixels": pixels,
            "label": labels,
            "flip": flip,
            "covered": torch.from_numpy(source.covered[row]),
            "id": source.records[row].id,
        }

    def _open(self, draw: Draw) -> tuple[Source, int, Image.Image, Image.Image, transforms.Crop]:
        number = bisect_right(self._ends, draw.image)
        source = self._sources[number]
        row = draw.image - (self._ends[number - 1] if number else 0)
        record = source.records[row]
        files = contents.read(source.folder, record, verify=not self._verified[draw.image])
        self._verified[draw.image] = True
        image, mask = contents.decode(source.folder, record, *files)
        uniforms = transforms.stream(self.seed, draw.epoch, draw.position)
        return source, row, image, mask, transforms.draw_crop(record.height, record.width, uniforms)


class EvaluationImages(torch_data.Dataset[dict[str, Any]]):
    """This rank's share of the images to score: every ``world_size``-th, none twice.

    An item is ``image`` (float32, 3 x h x w, normalised, short side ``crop``), ``label``
    (:mod:`dkd.data.channels`), ``id`` and ``index`` in this rank's share. See
    :func:`dkd.data.transforms.evaluation_sample`.

    Args:
        records: all images, over all ranks.
        folder: in which their paths lie.
        table: channel number by label value.
        crop: short side of the resized image, in pixels.
        whole: whole images with labels at their original size, instead of centre crops.
        rank: this process.
        world_size: number of processes.
        verify: as in :class:`Source`.

    Attributes:
        places: of this rank's images among all.
    """

    def __init__(
        self,
        records: Sequence[Record],
        folder: Path,
        table: Table,
        crop: int,
        whole: bool,
        rank: int = 0,
        world_size: int = 1,
        verify: bool = True,
    ) -> None:
        self.places = range(len(records))[rank::world_size]
        self.records, self.verify = Records.of(records)[rank::world_size], verify
        self.folder, self.table, self.crop, self.whole = folder, table, crop, whole

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        files = contents.read(self.folder, record, self.verify)
        image, mask = contents.decode(self.folder, record, *files)
        pixels, labels = transforms.evaluation_sample(
            image, mask, self.table, self.crop, self.whole
        )
        return {"image": pixels, "label": labels, "id": record.id, "index": index}

    def batches(self, most: int) -> list[list[int]]:
        """Indices of images whose items are of one size, at most ``most`` at a time.

        Fewer of large ones (:data:`dkd.data.images.BATCH_PIXELS`), whose labels are as large.
        """
        if most == 1:
            return [[index] for index in range(len(self))]
        alike: dict[tuple[int, int], list[int]] = {}
        for index, (height, width) in enumerate(self.records.sizes.tolist()):
            size = (height, width) if self.whole else (self.crop, self.crop)
            alike.setdefault(size, []).append(index)
        found = []
        for (height, width), indices in alike.items():
            count = at_a_time(most, width, height)
            found += [indices[first : first + count] for first in range(0, len(indices), count)]
        return found


_EXEMPLARS = 3  # purpose of the words that order them (dkd.data.transforms.raw_stream)


class StepBatches:
    """The order in which a step sees its images.

    Each epoch is a permutation of its own, cut into batches; an incomplete last batch is
    dropped. A step with fewer images than one batch repeats its permutation to fill one.

    With exemplars, each batch begins with images of the step's own and ends with a share of
    exemplars, which have a permutation of their own, repeated until the epoch ends.

    Args:
        n: number of images.
        batch_size: images of an iteration, over all ranks.
        seed: the run's.
        rank: this process; it takes every ``world_size``-th image of a batch.
        world_size: number of processes.
        exemplars: number of exemplars that are drawn on their own; their indices come behind
            the n images.
        share: of a batch that is drawn from them, rounded to whole images, at least one of them
            and of the others.

    Raises:
        UserError: no image, a batch that cannot be divided among the ranks, or one of a single
            image that is to be shared.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        exemplars: int = 0,
        share: float = 0,
    ) -> None:
        if n < 1:
            raise UserError("the step has no training image")
        if batch_size % world_size:
            raise UserError(
                f"training.batch_size: {batch_size} images cannot be divided among {world_size} "
                f"ranks; use a multiple of {world_size}"
            )
        if exemplars and share and batch_size < 2:
            raise UserError(
                "training.memory_share: a batch of 1 image cannot be shared; raise "
                "training.batch_size"
            )
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.exemplars = exemplars if share else 0
        drawn = min(max(1, round(share * batch_size)), batch_size - 1)
        self.own = batch_size - drawn if self.exemplars else batch_size
        self.rank, self.world_size = rank, world_size

    @property
    def of_a_rank(self) -> int:
        """Images of a batch that are this rank's."""
        return self.batch_size // self.world_size

    @property
    def per_epoch(self) -> int:
        """Iterations of an epoch."""
        return max(1, self.n // self.own)

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[Draw]]:
        """This rank's batches of an epoch, from its iteration ``start`` on."""
        order = self._order(epoch)
        for batch in range(start, self.per_epoch):
            first = batch * self.batch_size
            yield [
                Draw(int(order[position]), epoch, position)
                for position in range(first + self.rank, first + self.batch_size, self.world_size)
            ]

    def iterations(self, stop: int, start: int = 0) -> Iterator[list[Draw]]:
        """This rank's batches of the iterations ``start`` to ``stop``, counted over all epochs."""
        at = start
        while at < stop:
            epoch, begin = divmod(at, self.per_epoch)
            for batch in self.batches(epoch, begin):
                if at == stop:
                    return
                yield batch
                at += 1

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        words = transforms.raw_stream(2, self.seed, epoch, 0, self.n)
        order = np.resize(np.argsort(words, kind="stable"), max(self.n, self.own))
        if not self.exemplars:
            return order
        words = transforms.raw_stream(_EXEMPLARS, self.seed, epoch, 0, self.exemplars)
        drawn = (self.batch_size - self.own) * self.per_epoch
        kept = self.n + np.resize(np.argsort(words, kind="stable"), drawn)
        batches = (self.per_epoch, -1)
        own = order[: self.own * self.per_epoch]
        return np.hstack([own.reshape(batches), kept.reshape(batches)]).reshape(-1)


class _Regions(torch_data.Dataset[dict[str, Any]]):
    """Items of :meth:`StepImages.region`."""

    def __init__(self, images: StepImages) -> None:
        self.images = images

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        return self.images.region(draw)


def _leave_group(_worker: int) -> None:
    """Takes a loader worker out of its rank's process group: torchrun sends SIGTERM to all of it.

    A worker that dies of that fails its rank before the training state is saved.
    """
    os.setpgid(0, 0)


def load(
    images: StepImages,
    batches: Iterable[list[Draw]],
    workers: int,
    device: torch.device | str = "cpu",
    device_transforms: bool = False,
    prefetch: bool = False,
) -> Iterator[dict[str, Any]]:
    """Loads batches in their order, in ``workers`` processes ahead of use (0: in this one).

    Args:
        images: the step's.
        batches: from :class:`StepBatches`; :meth:`StepBatches.iterations` starts the workers
            once for all epochs.
        workers: loader processes.
        device: where the batches are wanted.
        device_transforms: let the workers decode only, and resize and normalise whole batches
            on the device (:mod:`dkd.data.on_device`).
        prefetch: copy and finish a batch while the device computes with the one before
            (:func:`dkd.data.on_device.beside`).

    Yields:
        Items of :class:`StepImages`, stacked: N first, ``id`` as a list; tensors on the device.

    Raises:
        UserError: a file cannot be read.
    """
    device = torch.device(device)
    loader: torch_data.DataLoader[dict[str, Tensor]] = torch_data.DataLoader(
        _Regions(images) if device_transforms else images,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=device.type == "cuda",  # page-locked: only then copies are asynchronous
        prefetch_factor=4 if workers else None,
        collate_fn=on_device.collate if device_transforms else None,
        # The workers' base seed, which nothing here uses, must not be drawn from the stream that
        # dropout draws from: a resumed step would drop other features.
        generator=torch.Generator(),
        worker_init_fn=_leave_group,
    )
    finish: Callable[[dict[str, Any]], dict[str, Any]] = partial(on_device.move, device=device)
    if device_transforms:
        finish = on_device.Finisher(images.crop, device)
    with _one_line_errors():
        if prefetch:
            yield from on_device.beside(loader, finish, device)
        else:
            yield from map(finish, loader)


def load_to_score(
    images: EvaluationImages,
    most: int,
    workers: int,
    device: torch.device | str = "cpu",
    prefetch: bool = False,
) -> Iterator[dict[str, Any]]:
    """Loads every image to score once, in batches of one size.

    Args:
        images: this rank's share.
        most: images of a batch; 1 keeps their order.
        workers: loader processes; 0 loads in this one.
        device: where the batches are wanted.
        prefetch: copy a batch while the device computes with the one before.

    Yields:
        Items of :class:`EvaluationImages`, stacked; ``index`` as a tensor on the CPU.

    Raises:
        UserError: a file cannot be read.
    """
    device = torch.device(device)
    loader: torch_data.DataLoader[dict[str, Tensor]] = torch_data.DataLoader(
        images,
        batch_sampler=images.batches(most),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        prefetch_factor=4 if workers else None,
        generator=torch.Generator(),
    )

    def finish(batch: dict[str, Any]) -> dict[str, Any]:
        return {**on_device.move(batch, device), "index": batch["index"]}

    with _one_line_errors():
        if prefetch:
            yield from on_device.beside(loader, finish, device)
        else:
            yield from map(finish, loader)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Takes from a :class:`UserError` of a worker the worker's traceback around it."""
    try:
        yield
    except UserError as error:
        # The frames that it holds would keep the workers until the garbage collector comes,
        # which then waits for them.
        traceback.clear_frames(error.__traceback__)
        raise UserError(str(error).strip().rsplit("UserError: ", 1)[-1]) from None
