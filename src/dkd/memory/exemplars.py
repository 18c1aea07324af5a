"""The exemplar memory as an artifact: images and masks themselves, old data may be gone by then.

Parts: ``memory.json`` lists the exemplars; ``images-NNNNN.tar`` hold each exemplar's image, as
it was, and its mask as a PNG of channel numbers with the labels that its own step had;
``thumbnails/N.jpg`` are for the report.
"""

import json
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dkd.data.channels import void_of
from dkd.data.labels import Table, empty_table
from dkd.data.records import Record
from dkd.errors import UserError
from dkd.scenario.tasks import void_value
from dkd.steps.step import MEMORY


@dataclass(frozen=True)
class Exemplar:
    """An image in the memory.

    Attributes:
        id: of the image in its data set.
        step: at which it was trained on; its labels are that step's.
        image: member of a shard.
        mask: likewise; PNG of channel numbers, 0 background, void 255 (of 16 bits: 65,535).
        height: of image and mask, in pixels.
        width: likewise.
        classes: names of the classes in its mask.
        digest: of the data set's record it was made from.
        dataset: digest of that data set.
        seen: names of the classes that the model which chose it was sure to see in its background.
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
    seen: tuple[str, ...] = ()


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
            Exemplar(
                **{**row, "classes": tuple(row["classes"]), "seen": tuple(row.get("seen", ()))}
            )
            for row in document["exemplars"]
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

    def table(self, classes: Sequence[str], keep: bool) -> Table:
        """Look-up table of the masks' values to the task's channels.

        Args:
            classes: the task's classes in channel order.
            keep: keep the old labels; else they become background.
        """
        own = [name for names in self.classes for name in names]
        table = empty_table(len(classes))
        table[void_value([len(own)])] = void_of(table)
        if keep:
            for value, name in enumerate(own, start=1):
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
