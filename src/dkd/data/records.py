"""Images with their masks, as an index has them: a few dozen bytes of arrays each.

A data set has 100,000 of them and more. As objects they would take a kilobyte each, in every rank,
and again in every loader worker, since counting references writes to the pages that processes
share. So they lie in arrays, and an object is made when one is asked for.
"""

from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from dkd.data.palettes import MaskColours


@dataclass(frozen=True, slots=True)
class Record:
    """An image with its mask.

    Attributes:
        id: unique within its split.
        image: path below the data set's root, with ``/``.
        mask: likewise.
        height: of image and mask, upright, in pixels.
        width: likewise.
        classes: label values in the mask, ascending, without background and void.
        digest: SHA-256 (hex) of the image file's bytes followed by the mask file's.
        orientation: of the image in its file, as EXIF numbers them; 1 is upright.
        mask_colours: the data set's.
        masks: the data set's.
    """

    id: str
    image: str
    mask: str
    height: int
    width: int
    classes: tuple[int, ...]
    digest: str
    orientation: int = 1
    mask_colours: MaskColours = ()
    masks: str = ""

    @property
    def row(self) -> list[Any]:
        """What is told of the contents: all but the paths, orientation only where it turns."""
        turned = [self.orientation] if self.orientation != 1 else []
        return [self.id, self.height, self.width, self.classes, self.digest, *turned]


class _Texts:
    """Texts, one behind the other."""

    def __init__(self) -> None:
        self._joined, self._ends = bytearray(), array("q", [0])

    def append(self, text: str) -> None:
        self._joined += text.encode()
        self._ends.append(len(self._joined))

    def __getitem__(self, number: int) -> str:
        return self._joined[self._ends[number] : self._ends[number + 1]].decode()


class _Columns:
    """What records say, a column for each attribute; classes of all rows one behind the other."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.ids, self.images, self.mask_files = _Texts(), _Texts(), _Texts()
        self.digests = _Texts()
        self.reading: tuple[MaskColours, str] | None = None
        self._sizes, self._classes, self._ends = array("i"), array("i"), array("q", [0])
        for r in records:
            reading = (r.mask_colours, r.masks)
            if self.reading not in (None, reading):
                raise ValueError("the masks of these records are read in several ways")
            self.reading = reading
            self.ids.append(r.id)
            self.images.append(r.image)
            self.mask_files.append(r.mask)
            self.digests.append(r.digest)
            self._sizes.extend((r.height, r.width, r.orientation))
            self._classes.extend(r.classes)
            self._ends.append(len(self._classes))

    @property
    def sizes(self) -> npt.NDArray[np.int32]:
        """Height, width and orientation."""
        return np.frombuffer(self._sizes, np.int32).reshape(-1, 3)

    @property
    def classes(self) -> npt.NDArray[np.int32]:
        """Of all rows, one behind the other."""
        return np.frombuffer(self._classes, np.int32)

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """Where the classes of each row begin, and where those of the last end."""
        return np.frombuffer(self._ends, np.int64)

    def record(self, row: int) -> Record:
        height, width, orientation = self._sizes[3 * row : 3 * row + 3]
        return Record(
            self.ids[row],
            self.images[row],
            self.mask_files[row],
            height,
            width,
            tuple(self._classes[self._ends[row] : self._ends[row + 1]]),
            self.digests[row],
            orientation,
            *(self.reading or ()),
        )


class Records(Sequence[Record]):
    """A tuple of records that takes little memory. Parts of it share its arrays.

    Args:
        records: in their order; their masks are read in one way.
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._columns = _Columns(records)
        self._rows: npt.NDArray[np.int64] = np.arange(len(self._columns.sizes))

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Records":
        """The records as they are, if they lie in arrays already."""
        return records if isinstance(records, cls) else cls(records)

    def take(self, places: npt.NDArray[np.integer[Any]] | slice) -> "Records":
        """Those at some places, in the places' order."""
        part = object.__new__(Records)
        part._columns, part._rows = self._columns, self._rows[places]
        return part

    def hold(self, values: Collection[int]) -> npt.NDArray[np.bool_]:
        """Of each record, whether one of these label values is among its classes."""
        columns = self._columns
        found = np.isin(columns.classes, np.array(sorted(values), np.int32))
        before = np.concatenate(([0], np.cumsum(found)))
        held: npt.NDArray[np.bool_] = (before[columns.ends[1:]] > before[columns.ends[:-1]])[
            self._rows
        ]
        return held

    @property
    def values(self) -> set[int]:
        """The label values that are among the classes of any of them."""
        columns = self._columns
        own = np.zeros(len(columns.sizes), np.bool_)
        own[self._rows] = True
        of_own = np.repeat(own, np.diff(columns.ends))
        return set(columns.classes[of_own].tolist())

    @property
    def sizes(self) -> npt.NDArray[np.int32]:
        """Height and width in pixels, by record: ``N x 2``."""
        return self._columns.sizes[self._rows, :2]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Record: ...

    @overload
    def __getitem__(self, place: slice) -> "Records": ...

    def __getitem__(self, place: int | slice) -> "Record | Records":
        if isinstance(place, slice):
            return self.take(place)
        return self._columns.record(int(self._rows[place]))

    def __iter__(self) -> Iterator[Record]:
        return map(self._columns.record, self._rows.tolist())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Records | tuple):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash((len(self), self[0] if self else None))

    def __repr__(self) -> str:
        return f"Records({list(self)!r})"
