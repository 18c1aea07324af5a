"""The index of a data set: every image with its mask, size and classes, found by one scan.

Splits, label tables, training and packing read the index, never the folder. It is JSON with a
digest of the contents, so a step's result can be keyed by what it was trained on, wherever the
files lie.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dkd.data import findings, formats, made, making, scan
from dkd.data.palettes import Colour, MaskColours
from dkd.data.records import Record, Records
from dkd.errors import UserError, require_known_format
from dkd.scenario.data import MADE, Data
from dkd.scenario.tasks import BACKGROUND, VOID, WIDE_VOID, void_value

Progress = Callable[[int, int], None]
"""Called with the number of images done and of all."""

INDEX_FORMAT = 1
"""Version of the index's form."""


@dataclass(frozen=True)
class Dataset:
    """What a data set holds and where.

    Attributes:
        name: for people.
        format: a folder's (:data:`dkd.data.formats.FORMATS`) or ``packed``.
        root: absolute folder; for a packed data set the URI of its artifact.
        classes: name by label value (from 1 on), names being unique.
        palette: colour by label value, background and void included.
        future_is_void: in a test, classes that are not yet learned are void instead of
            background (ADE20K's custom).
        splits: ``train`` and ``validation``, in the order of their lists; as
            :class:`~dkd.data.records.Records` they take little memory.
        void_values: label values that are void, besides :attr:`void`.
        mask_colours: what the masks' colours stand for; empty where they hold label values.
        masks: absolute folder of this machine in which the masks lie that were drawn; empty where
            they lie below the root.
    """

    name: str
    format: str
    root: str
    classes: dict[int, str]
    palette: dict[int, Colour]
    future_is_void: bool
    splits: Mapping[str, Sequence[Record]]
    void_values: tuple[int, ...] = ()
    mask_colours: MaskColours = ()
    masks: str = ""

    @property
    def train(self) -> Sequence[Record]:
        return self.splits["train"]

    @property
    def validation(self) -> Sequence[Record]:
        return self.splits["validation"]

    @cached_property
    def values(self) -> dict[str, int]:
        """Label value by class name."""
        return {name: value for value, name in self.classes.items()}

    @cached_property
    def void(self) -> int:
        """Label value of void: 255, or 65,535 where a class has a value beyond 254."""
        return void_value(self.classes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the contents: classes, colours and every image and mask by split.

        Name, format, root and paths are left out: a packed copy has the digest of its folder.
        """
        found = hashlib.sha256()
        for piece in self._canonical({}, lambda record: record.row):
            found.update(piece)
        return found.hexdigest()

    def to_json(self) -> bytes:
        """The index as JSON; equal data sets give equal bytes."""
        fields = {
            "version": INDEX_FORMAT,
            "name": self.name,
            "format": self.format,
            "root": self.root,
            **({"masks": self.masks} if self.masks else {}),
        }

        def row(record: Record) -> list[Any]:
            id_, *others = record.row
            return [id_, record.image, record.mask, *others]

        return b"".join(self._canonical(fields, row))

    def _canonical(
        self, fields: dict[str, Any], row: Callable[[Record], list[Any]]
    ) -> Iterator[bytes]:
        """The contents and other fields as JSON, keys in their order; an image at a time."""
        document = {
            "classes": sorted(self.classes.items()),
            "palette": sorted(self.palette.items()),
            "future_is_void": self.future_is_void,
            "splits": {},
            **self._reading,
            **fields,
        }
        for number, (key, value) in enumerate(sorted(document.items())):
            yield (b"," if number else b"{") + _json(key) + b":"
            if key != "splits":
                yield _json(value)
                continue
            for order, split in enumerate(sorted(self.splits)):
                yield (b"," if order else b"{") + _json(split) + b":["
                for place, record in enumerate(self.splits[split]):
                    yield (b"," if place else b"") + _json(row(record))
                yield b"]"
            yield b"}" if self.splits else b"{}"
        yield b"}"

    @property
    def _reading(self) -> dict[str, Any]:
        """How masks are read, where that is not the plain way."""
        fields = {"void_values": sorted(self.void_values), "mask_colours": self.mask_colours}
        return {name: value for name, value in fields.items() if value}

    @classmethod
    def from_json(cls, data: bytes, source: str = "data set index") -> "Dataset":
        """The data set that :meth:`to_json` wrote.

        Args:
            data: JSON.
            source: where it is from, for messages.

        Raises:
            UserError: not an index, one of another version, or one with unsafe paths.
        """
        try:
            document = json.loads(data)
            version = document["version"]
            require_known_format(version, INDEX_FORMAT, source)
            if version != INDEX_FORMAT:
                raise UserError(
                    f"{source}: index version {version}, this program reads {INDEX_FORMAT}; "
                    "index the data set again"
                )
            mask_colours = tuple(
                ((int(r), int(g), int(b)), int(value))
                for (r, g, b), value in document.get("mask_colours", ())
            )
            masks = str(document.get("masks", ""))
            dataset = cls(
                name=document["name"],
                format=document["format"],
                root=document["root"],
                classes={int(value): str(name) for value, name in document["classes"]},
                palette={int(v): (int(r), int(g), int(b)) for v, (r, g, b) in document["palette"]},
                future_is_void=bool(document["future_is_void"]),
                splits={
                    split: Records(
                        Record(
                            *(i, image, mask, int(h), int(w), tuple(classes), digest),
                            orientation=int(*turned or (1,)),
                            mask_colours=mask_colours,
                            masks=masks,
                        )
                        for i, image, mask, h, w, classes, digest, *turned in rows
                    )
                    for split, rows in document["splits"].items()
                },
                void_values=tuple(int(value) for value in document.get("void_values", ())),
                mask_colours=mask_colours,
                masks=masks,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{source}: not an index of a data set ({error!r})") from None
        for records in dataset.splits.values():
            for record in records:
                safe_path(record.image, source)
                safe_path(record.mask, source)
        return dataset


def build(
    data: Data,
    cache: Path | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    anew: bool = False,
    layout: formats.Layout | None = None,
) -> Dataset:
    """Indexes a data set: finds its images and masks and scans every one of them.

    Every file is read and decoded once, in parallel; what was found is cached by path, size and
    time of change, so that a second call only asks the file system.

    Args:
        data: which one, not packed. Scenes are drawn first, at ``data.root`` or below ``cache``.
        cache: folder for the cache (and made data); None caches nothing.
        progress: called now and then.
        tell: called with a line for everything that a person should know of, e.g. files that
            are not taken (:mod:`dkd.data.findings`).
        anew: read and make every file, whatever the cache knows.
        layout: of the data set, from :func:`dkd.data.formats.read`, where it was read already.

    Raises:
        UserError: a folder, list, image or mask is missing, corrupt, empty, too large or does
            not fit the others; a label value is none of the classes; a finding is surely wrong.
    """
    if layout is None:
        layout = _layout(data, cache)
    layout = making.write(layout, data, cache, progress, anew)
    found = scan.scan(layout, cache / "scans" if cache else None, progress, anew)
    known = {*layout.classes, BACKGROUND, layout.void, WIDE_VOID, *layout.void_values}
    splits = {
        split: Records(_record(pair, found[pair], layout, known) for pair in members)
        for split, members in layout.splits.items()
    }
    told = findings.of(layout, found)
    for finding in told:
        if tell is not None and not finding.wrong:
            tell(str(finding))
    for finding in told:
        if finding.wrong:
            raise UserError(f"{layout.root}: {finding}")
    return Dataset(
        name=layout.name,
        format=layout.format,
        root=layout.root,
        classes=layout.classes,
        palette=layout.palette,
        future_is_void=layout.future_is_void,
        splits=splits,
        void_values=layout.void_values,
        mask_colours=layout.mask_colours,
        masks=layout.masks,
    )


def _record(
    pair: formats.Pair, found: scan.Found, layout: formats.Layout, known: Set[int]
) -> Record:
    """What is indexed of an image and its mask, which may hold the known label values.

    Raises:
        UserError: the mask holds another label value.
    """
    if unknown := set(found.values) - known:
        value = min(unknown)
        wide = f" (void is {WIDE_VOID} here, as a class is beyond 254)" if value == VOID else ""
        raise UserError(
            f"{layout.sources(pair)[1]}: label value {value} is none of the classes "
            f"of {layout.name} ({min(layout.classes)}..{max(layout.classes)}){wide}; correct the "
            "mask or name the class"
        )
    return Record(
        pair.id,
        pair.image,
        pair.mask,
        found.height,
        found.width,
        tuple(value for value in found.values if value in layout.classes),
        found.digest,
        found.orientation,
        layout.mask_colours,
        layout.masks,
    )


def safe_path(path: str, source: str) -> str:
    """The path, if it stays below a root.

    Raises:
        UserError: it is absolute, empty, or leads outside the root.
    """
    if not path or path[0] == "/" or ".." in path.split("/") or "\\" in path or "\0" in path:
        raise UserError(f"{source}: the path {path!r} leads outside the data set's folder")
    return path


def _layout(data: Data, cache: Path | None) -> formats.Layout:
    if data.format not in MADE:
        return formats.read(data)
    if not data.root and cache is None:
        raise UserError(f"data.root: name a folder for the {data.format} data set")
    folder = Path(data.root) if data.root else made.folder(cache or Path(), data)
    made.make(folder, data)
    return formats.read(Data(format="folder", root=str(folder)), name=data.format)


_json_of = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def _json(value: Any) -> bytes:
    return _json_of(value).encode()
