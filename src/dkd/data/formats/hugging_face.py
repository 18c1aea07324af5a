"""``hf``: a data set of Hugging Face, saved to disk (Arrow) or as Parquet, with masks as pictures.

A column of images and a column of masks (PNG of label values), both with the files' bytes inside.
Saved to disk, ``dataset_dict.json`` lists the splits; Parquet files are called by theirs, in the
folder or in ``data`` (``train-00000-of-00002.parquet``), or lie in a folder called so. The classes
are in ``classes.yaml``, as the format ``folder`` has it, or in ``id2label.json``.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dkd.data import images
from dkd.data.formats import documents
from dkd.data.formats.folder import read_classes
from dkd.data.formats.layout import (
    NO_CLASSES,
    Format,
    Layout,
    Made,
    Pair,
    listed_void,
    made_layout,
    refuse_alike,
    split_of,
)
from dkd.data.palettes import Colour
from dkd.errors import UserError
from dkd.scenario.names import class_name
from dkd.scenario.tasks import BACKGROUND, MOST_CLASSES, WIDE_VOID

_SPLITS, _STATE, _NAMES, _CLASSES = (
    *("dataset_dict.json", "state.json"),
    *("id2label.json", "classes.yaml"),
)
_ALIKE = {"validation": ("validation", "val", "valid")}
_IMAGES = ("image", "pixel_values", "img")
_MASKS = ("annotation", "label", "mask", "labels", "segmentation", "annotations", "semantic_mask")
_NOTHING = {*NO_CLASSES, "unlabeled", "unlabelled", "other", "none"}


@dataclass(frozen=True)
class _Table:
    """Rows of a file; reads them in parts, and keeps the last.

    Attributes:
        file: Arrow or Parquet.
        rows: how many.
        part: the part in which a row lies, and its number there.
    """

    file: Path
    rows: int
    columns: Mapping[str, Any]
    part: Callable[[int], tuple[Any, int]]

    def value(self, column: str, row: int) -> Any:
        table, number = self.part(row)
        return table.column(column)[number].as_py()


def read(root: Path, train: str, validation: str) -> Layout:
    """The layout of a data set of Arrow or Parquet files."""
    classes, colours = _classes(root)
    files = _files(root)
    if not files:
        raise UserError(f"{root}: neither {_SPLITS}, nor {_STATE}, nor *.parquet")
    wanted = {"train": train, "validation": validation}
    if len(files) == 1 and (train, validation) == ("train", "validation"):
        wanted = {"": next(iter(files))}
    splits: dict[str, tuple[Pair, ...]] = {}
    made: dict[str, Made] = {}
    for split, name in wanted.items():
        found = next((n for n in (name, *_ALIKE.get(name, ())) if n in files), None)
        if "" in files and split:
            raise UserError(f"{root}: the data set has no splits; leave out their names")
        if found is None:
            raise UserError(
                f"{root}: no split {name!r}; there is {', '.join(files)} (--train, --validation)"
            )
        pairs, written = _rows(root, found, [_open(file) for file in files[found]])
        splits[split] = split_of(pairs, str(files[found][0]))
        made |= written
    return made_layout(root, "hf", classes, splits, made, (), root, colours)


def _files(root: Path) -> dict[str, list[Path]]:
    """Files of each split, in their order."""
    if (root / _SPLITS).is_file():
        listed = documents.table(documents.load(root / _SPLITS), str(root / _SPLITS)).get("splits")
        if not isinstance(listed, list) or not all(isinstance(n, str) and n for n in listed):
            raise UserError(f"{root / _SPLITS}: splits is not a list of names")
        return {name: _saved(root / Path(name).name) for name in listed}
    if (root / _STATE).is_file():
        return {"": _saved(root)}
    files: dict[str, list[Path]] = {}
    for file in sorted({*root.glob("*.parquet"), *root.glob("*/*.parquet")}):
        name = file.stem.split("-")[0] if file.parent in (root, root / "data") else ""
        files.setdefault(name or file.parent.name, []).append(file)
    for found in files.values():
        of = re.search(r"-of-(\d+)$", found[0].stem)
        if of and len(found) != int(of[1]):
            raise UserError(
                f"{found[0]}: is one of {int(of[1])} files of its split, but {len(found)} are "
                "there; fetch the others too"
            )
    return files


def _saved(folder: Path) -> list[Path]:
    state = documents.table(documents.load(folder / _STATE), str(folder / _STATE))
    if state.get("_indices_data_files"):
        raise UserError(
            f"{folder / _STATE}: some of the rows were selected, in _indices_data_files, which is "
            "not read; call flatten_indices() and save the data set again"
        )
    rows = documents.rows(state, "_data_files", str(folder / _STATE))
    names = [documents.text(row, "filename", str(folder / _STATE)) for row in rows]
    if not names:
        raise UserError(f"{folder / _STATE}: _data_files names none; save the data set again")
    return [folder / Path(name).name for name in names]


def _open(file: Path) -> _Table:
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError:
        raise UserError(f"{file}: needs the package pyarrow: pip install 'dkd[labels]'") from None
    try:
        if file.suffix == ".parquet":
            whole = parquet.ParquetFile(file)
            counts = [whole.metadata.row_group(n).num_rows for n in range(whole.num_row_groups)]
            part = _kept(whole.read_row_group, counts)
            return _Table(file, sum(counts), _types(whole.schema_arrow), part)
        with pyarrow.memory_map(str(file)) as mapped:
            table = ipc.open_stream(mapped).read_all()  # nothing is copied
        return _Table(file, table.num_rows, _types(table.schema), lambda row: (table, row))
    except FileNotFoundError:
        raise UserError(f"{file}: missing; save the data set again") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(
            f"{file}: cannot be read, it is cut off or damaged ({_why(error)}); save it again"
        ) from None


def _kept(read: Callable[[int], Any], counts: Sequence[int]) -> Callable[[int], tuple[Any, int]]:
    """Looks a row up in the parts of a file, of which two stay in memory: rows come in order."""
    lock, parts = threading.Lock(), dict[int, Any]()

    def part(row: int) -> tuple[Any, int]:
        number = 0
        while row >= counts[number]:
            row, number = row - counts[number], number + 1
        with lock:
            if number not in parts:
                if len(parts) > 1:
                    parts.pop(next(iter(parts)))
                parts[number] = read(number)
            return parts[number], row

    return part


def _types(schema: Any) -> dict[str, Any]:
    return {field.name: field.type for field in schema}


def _columns(table: _Table) -> tuple[str, str]:
    """Names of the columns of images and of masks."""
    pictures = [name for name, type_ in table.columns.items() if _is_picture(type_)]
    image = next((name for name in _IMAGES if name in pictures), None)
    others = [name for name in pictures if name != image]
    mask = next(
        (name for name in _MASKS if name in others), others[0] if len(others) == 1 else None
    )
    if image is None or mask is None:
        raise UserError(
            f"{table.file}: columns of pictures are {', '.join(pictures) or 'none'}; one called "
            f"{_IMAGES[0]!r} holds the images and one called {_MASKS[0]!r} the masks"
        )
    return image, mask


def _is_picture(type_: Any) -> bool:
    from pyarrow import types

    if types.is_struct(type_):
        return {type_.field(n).name for n in range(type_.num_fields)} >= {"bytes"}
    return bool(types.is_binary(type_) or types.is_large_binary(type_))


def _rows(root: Path, split: str, tables: Sequence[_Table]) -> tuple[list[Pair], dict[str, Made]]:
    pairs: list[Pair] = []
    made: dict[str, Made] = {}
    folder = split or "all"
    for table in tables:
        image, mask = _columns(table)
        for row in range(table.rows):
            id_ = f"{len(pairs):06}"
            pair = Pair(id_, f"images/{folder}/{id_}", f"masks/{folder}/{id_}.png")
            made[pair.image] = _file(root, table, image, row)
            made[pair.mask] = _file(root, table, mask, row)
            pairs.append(pair)
    return pairs, made


def _file(root: Path, table: _Table, column: str, row: int) -> Made:
    source = f"{table.file}: row {row}, {column}"

    def stamp() -> str:
        at = table.file.stat()
        return f"{at.st_size} {at.st_mtime_ns} {row} {column}"

    def data(_unlabelled: int) -> bytes:
        try:
            value = table.value(column, row)
        except (OSError, ValueError) as error:  # those of pyarrow are
            raise UserError(f"{source} cannot be read: it is damaged ({_why(error)})") from None
        content = value.get("bytes") if isinstance(value, dict) else value
        path = value.get("path") if isinstance(value, dict) else None
        if isinstance(content, bytes) and content:
            return content
        if not path:
            raise UserError(f"{source} is empty; every row has an image and a mask")
        place = PurePosixPath(path)
        if place.is_absolute() or ".." in place.parts:
            raise UserError(
                f"{source} is the path {path} and not the file; save the data set with its files"
            )
        return images.read_file(root / place, column)

    return Made(source, stamp, data)


def _classes(root: Path) -> tuple[dict[int, str], dict[int, Colour]]:
    file = root / _NAMES
    if (root / _CLASSES).is_file():
        classes, colours = read_classes(root / _CLASSES)
        if file.is_file() and (other := dict(_named(file))) != classes:
            value = min(v for v in classes | other if classes.get(v) != other.get(v))
            raise UserError(
                f"{file}: value {value} is named {other.get(value)!r} there, but "
                f"{classes.get(value)!r} in {_CLASSES}; correct one of them, or remove it"
            )
        return classes, colours
    if not file.is_file():
        raise UserError(
            f"{root / _CLASSES}: missing, as is {_NAMES}; the columns do not name the classes: "
            "write a line 'VALUE: name' for every class"
        )
    classes = dict(_named(file))
    if not classes:
        raise UserError(f'{file}: no class; a line is "VALUE": "name"')
    refuse_alike(classes.values(), file)
    return classes, {}


def _named(file: Path) -> Iterator[tuple[int, str]]:
    named: dict[int, str] = {}
    for key, name in documents.table(documents.load(file), str(file)).items():
        value = int(key) if key.isascii() and key.isdigit() and len(key) <= 5 else -1
        if str(value) != key or value > WIDE_VOID or not isinstance(name, str):
            raise UserError(
                f"{file}: {documents.told(key)}: {documents.told(name)}; a line is "
                f'"VALUE": "name", with values from 0 to {MOST_CLASSES}'
            )
        named[value] = name
    void = listed_void(named)
    for value, name in named.items():
        place = f"{file}: '{value}'"
        if value in (BACKGROUND, void):
            if name.casefold() not in _NOTHING:
                taken = "void" if value else "background"
                raise UserError(
                    f"{place}: {name!r} has the label value of {taken}; number the classes "
                    f"of the masks from 1, and name them in {_CLASSES}"
                )
            continue
        try:
            name = class_name(name)
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
        yield value, name


def _why(error: Exception) -> str:
    return " ".join(str(error).split())


def recognises(root: Path) -> bool:
    if (root / _SPLITS).is_file() or (root / _STATE).is_file():
        return True
    return any(root.glob("*.parquet")) or any(root.glob("*/*.parquet"))


FORMAT = Format("hf", "train", "validation", read, recognises)
