"""Candidates of the exemplar memory: images of a step, or of the memory before it."""

from dataclasses import dataclass
from pathlib import Path

from dkd.data import contents
from dkd.data.channels import void_of
from dkd.data.labels import Table
from dkd.data.records import Record
from dkd.scenario.tasks import BACKGROUND


@dataclass(frozen=True)
class CandidateImage:
    """A candidate and where its files lie.

    Attributes:
        record: of the image and its mask.
        folder: in which they lie.
        table: channel number by label value of the mask.
        step: at which it was trained on.
        classes: names of the classes that are labelled in it.
        dataset: digest of its data set.
        verify: as in :class:`dkd.data.loading.Source`.
        seen: names of the classes that a model was sure to see in its background.
    """

    record: Record
    folder: Path
    table: Table
    step: int
    classes: tuple[str, ...]
    dataset: str
    verify: bool
    seen: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What no other candidate is called."""
        return f"{self.record.id} {self.record.digest}"

    @property
    def channels(self) -> set[int]:
        """Channel numbers of the classes that are labelled in its mask."""
        return {int(self.table[value]) for value in self.record.classes} - {
            BACKGROUND,
            void_of(self.table),
        }

    @property
    def files(self) -> tuple[bytes, bytes]:
        """Image and mask, verified where that is asked."""
        return contents.read(self.folder, self.record, self.verify)
