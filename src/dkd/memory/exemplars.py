"""The exemplar memory as an artifact: images and masks themselves, old data may be gone by then.

Parts: ``memory.json`` lists the exemplars; ``images-NNNNN.tar`` hold each exemplar's image, as
it was, and its mask as a PNG of channel numbers with the labels that its own step had;
``thumbnails/N.jpg`` are for the report.
"""

import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dkd.data import contents, labels
from dkd.data.images import read_image
from dkd.data.index import Record
from dkd.data.loading import EvaluationImages, load_to_score
from dkd.errors import UserError
from dkd.evaluation.evaluator import jpeg, png
from dkd.memory.pseudo_labels import pseudo_classes
from dkd.memory.selection import Candidate, choose
from dkd.network.deeplab import SegmentationModel
from dkd.network.preparation import prepare_frozen, prepare_images
from dkd.network.speed import decided
from dkd.steps.step import Step
from dkd.training.ranks import Ranks

MEMORY = "memory.json"
THUMBNAILS = 36
THUMBNAIL_SIDE = 96
SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Exemplar:
    """An image in the memory.

    Attributes:
        id: of the image in its data set.
        step: at which it was trained on; its labels are that step's.
        image: member of a shard.
        mask: likewise; PNG of channel numbers, 0 background, 255 void.
        height: of image and mask, in pixels.
        width: likewise.
        classes: names of the classes in its mask.
        digest: of the data set's record it was made from.
        dataset: digest of that data set.
    """

    id: str
    step: int
    image: str
    mask: str
    height: int
    width: int
    classes: tuple[str, ...]
    digest: str
    dataset: str


@dataclass(frozen=True)
class Memory:
    """An opened exemplar memory.

    Attributes:
        classes: class names by step that its masks' channel numbers refer to.
        exemplars: what it holds.
        folder: where its members lie, extracted.
    """

    classes: tuple[tuple[str, ...], ...]
    exemplars: tuple[Exemplar, ...]
    folder: Path

    @classmethod
    def open(cls, parts: Path, folder: Path) -> "Memory":
        """Extracts a downloaded memory's shards, unless another rank has done so.

        Args:
            parts: folder with the artifact's parts.
            folder: where to extract to; only the listed members, as plain files. It appears
                whole: ranks that share a machine open a memory at the same time.

        Raises:
            UserError: a member is missing, or its name would leave the folder.
        """
        document = json.loads((parts / MEMORY).read_text(encoding="utf-8"))
        exemplars = tuple(
            Exemplar(**{**row, "classes": tuple(row["classes"])}) for row in document["exemplars"]
        )
        wanted = {name for e in exemplars for name in (e.image, e.mask)}
        if not folder.is_dir():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".memory-", dir=folder.parent) as work:
                arriving = Path(work) / "members"
                arriving.mkdir()
                for shard in sorted(parts.glob("images-*.tar")):
                    _extract(shard, wanted, arriving)
                for name in wanted:
                    if not (arriving / name).is_file():
                        raise UserError(
                            f"{parts / MEMORY}: no shard holds {name!r}; publish it again"
                        )
                try:
                    arriving.rename(folder)
                except OSError:
                    if not folder.is_dir():  # else another rank was first: theirs is the same
                        raise
        return cls(tuple(map(tuple, document["classes"])), exemplars, folder)

    def records(self, classes: Sequence[str]) -> tuple[Record, ...]:
        """The exemplars as records of a data set whose label values are channel numbers.

        Args:
            classes: the task's classes in channel order.
        """
        channel = {name: number for number, name in enumerate(classes, start=1)}
        return tuple(
            Record(
                id=e.id,
                image=e.image,
                mask=e.mask,
                height=e.height,
                width=e.width,
                classes=tuple(sorted(channel[name] for name in e.classes)),
                digest=e.digest,
            )
            for e in self.exemplars
        )

    def table(self, classes: Sequence[str], keep: bool) -> np.ndarray:
        """Look-up table of the masks' values to the task's channels, uint8[256].

        Args:
            classes: the task's classes in channel order.
            keep: keep the old labels; else they become background.
        """
        table = np.zeros(256, np.uint8)
        table[255] = 255
        if keep:
            for value, name in enumerate((n for names in self.classes for n in names), start=1):
                table[value] = classes.index(name) + 1
        return table


def _extract(shard: Path, wanted: set[str], folder: Path) -> None:
    with tarfile.open(shard) as archive:
        for member in archive:
            if member.name not in wanted:
                continue
            target = folder / member.name
            inside = target.resolve().is_relative_to(folder.resolve())
            if not (member.isfile() and inside):
                raise UserError(f"{shard}: member {member.name!r} is not a plain file inside")
            target.parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(member)
            assert source is not None, "plain files have contents"
            target.write_bytes(source.read())


@dataclass(frozen=True)
class _Source:
    """A candidate and where its files lie."""

    record: Record
    folder: Path
    table: np.ndarray
    step: int
    classes: tuple[str, ...]
    dataset: str
    verify: bool  # as in dkd.data.loading.Source

    @property
    def files(self) -> tuple[bytes, bytes]:
        return contents.read(self.folder, self.record, self.verify)


def choose_exemplars(
    step: Step,
    model: SegmentationModel,
    previous: Memory | None,
    fetch: Callable[[tuple[Record, ...]], Path],
    ranks: Ranks,
    work: Path,
    say: Callable[[str], None],
) -> dict[str, Path]:
    """Chooses the memory for the step after this one.

    Candidates are the previous memory and the step's own images; a candidate's classes are
    those in its whole mask and, from the second model on, those that the model sees in its
    background (paper, section 3.4).

    Args:
        step: the step just trained.
        model: its model; it is prepared for speed in place.
        previous: the memory that it trained with.
        fetch: gives a folder in which the files of these records can be read.
        ranks: this process's place.
        work: folder for the parts, on rank 0.
        say: prints a line; called on rank 0 only.

    Returns:
        The memory's parts by name; complete on rank 0.
    """
    classes = step.task.seen(step.number)
    sources = _sources(step, previous, fetch, classes)
    channels = [frozenset(labels_of(source)) for source in sources]
    if step.number >= 1:
        seen = _seen_in_background(step, model, sources, ranks)
        channels = [own | seen[i] for i, own in enumerate(channels)]
    if not ranks.first:
        return {}
    candidates = [
        Candidate(f"{s.record.id} {s.record.digest}", c)
        for s, c in zip(sources, channels, strict=True)
    ]
    size = step.scenario.memory_size
    chosen = choose(candidates, tuple(range(1, len(classes) + 1)), size, step.scenario.seed)
    if len(chosen) < size:
        say(
            f"warning: memory_size is {size}, but only {len(chosen)} of {len(candidates)} "
            "candidates hold a class: all of them are taken"
        )
    return _write([sources[i] for i in chosen], step, work)


def labels_of(source: _Source) -> set[int]:
    """Channel numbers of the classes that are labelled in a candidate's mask."""
    return {int(source.table[value]) for value in source.record.classes} - {0, 255}


def _sources(
    step: Step,
    previous: Memory | None,
    fetch: Callable[[tuple[Record, ...]], Path],
    classes: tuple[str, ...],
) -> list[_Source]:
    own = step.training_records
    folder = fetch(own)
    table = labels.training_table(step.dataset, step.task, step.number)
    sources = [
        _Source(
            r,
            folder,
            table,
            step.number,
            tuple(step.dataset.classes[v] for v in r.classes if table[v] not in (0, 255)),
            step.dataset.digest,
            verify=True,
        )
        for r in own
    ]
    if previous is not None:
        taken = {record.digest for record in own}
        kept = previous.table(classes, keep=True)
        sources += [
            _Source(r, previous.folder, kept, e.step, e.classes, e.dataset, verify=False)
            for r, e in zip(previous.records(classes), previous.exemplars, strict=True)
            if e.digest not in taken
        ]
    return sources


@torch.inference_mode()
def _seen_in_background(
    step: Step, model: SegmentationModel, sources: Sequence[_Source], ranks: Ranks
) -> dict[int, frozenset[int]]:
    """For each candidate, the channels that the model is sure to see in its background."""
    training = step.scenario.training
    speed = decided(step.scenario.speed, gpu=ranks.device.type == "cuda")
    model = prepare_frozen(model.to(ranks.device), speed)
    numbers, seen = list[int](), list[Tensor]()
    # Candidates that share a folder and a table: the step's own, and the previous memory's.
    together: dict[tuple[Path, bytes], list[int]] = {}
    for number, source in enumerate(sources):
        together.setdefault((source.folder, source.table.tobytes()), []).append(number)
    for alike in together.values():
        images = EvaluationImages(
            [sources[number].record for number in alike],
            sources[alike[0]].folder,
            sources[alike[0]].table,
            training.crop,
            whole=True,
            rank=ranks.rank,
            world_size=ranks.world_size,
            verify=sources[alike[0]].verify,
        )
        for batch in load_to_score(
            images,
            speed.evaluation_batch or 1,
            training.loader_workers,
            ranks.device,
            bool(speed.prefetch),
        ):
            features = model.features(prepare_images(batch["image"], model, speed))
            logits = model.logits(features, (features.shape[-2], features.shape[-1]))
            seen.append(pseudo_classes(logits, batch["label"]))
            numbers += [alike[ranks.rank + i * ranks.world_size] for i in batch["index"].tolist()]
    rows = torch.cat(seen).cpu().tolist() if seen else []
    mine = {
        number: frozenset(channel for channel, found in enumerate(row) if found)
        for number, row in zip(numbers, rows, strict=True)
    }
    return {number: found for part in ranks.gather(mine) for number, found in part.items()}


def _write(sources: Sequence[_Source], step: Step, work: Path) -> dict[str, Path]:
    parts: dict[str, Path] = {}
    exemplars = [_exemplar(number, source) for number, source in enumerate(sources)]
    for shard, numbers in enumerate(_shards(sources)):
        name = f"images-{shard:05d}.tar"
        parts[name] = work / name
        with tarfile.open(work / name, "w") as archive:
            for number in numbers:
                source, exemplar = sources[number], exemplars[number]
                image, mask = source.files
                _, drawn = contents.decode(source.folder, source.record, image, mask)
                labelled = png(source.table[np.asarray(drawn)])
                for member, data in ((exemplar.image, image), (exemplar.mask, labelled)):
                    header = tarfile.TarInfo(member)
                    header.size = len(data)
                    archive.addfile(header, io.BytesIO(data))
    for number, source in enumerate(sources[:THUMBNAILS]):
        thumbnail = read_image(source.folder / source.record.image)
        thumbnail.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        part = f"thumbnails/{number}.jpg"
        parts[part] = work / part.replace("/", "-")
        parts[part].write_bytes(jpeg(thumbnail))
    document: dict[str, Any] = {
        "classes": [list(names) for names in step.task.upto(step.number).steps],
        "exemplars": [asdict(e) for e in exemplars],
    }
    parts[MEMORY] = work / MEMORY
    parts[MEMORY].write_text(json.dumps(document, indent=1), encoding="utf-8")
    return parts


def _exemplar(number: int, source: _Source) -> Exemplar:
    record = source.record
    return Exemplar(
        id=record.id,
        step=source.step,
        image=f"{number:05d}{Path(record.image).suffix}",
        mask=f"{number:05d}.mask.png",
        height=record.height,
        width=record.width,
        classes=source.classes,
        digest=record.digest,
        dataset=source.dataset,
    )


def _shards(sources: Sequence[_Source]) -> list[list[int]]:
    """Numbers of the sources by shard, each of about :data:`SHARD_BYTES` of images."""
    shards: list[list[int]] = []
    size = SHARD_BYTES
    for number, source in enumerate(sources):
        if size >= SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(number)
        size += (source.folder / source.record.image).stat().st_size
    return shards
