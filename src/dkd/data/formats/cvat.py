"""``cvat``: "Segmentation mask 1.1" as CVAT exports it, with images.

VOC's folders with a ``labelmap.txt`` of its own: a line ``NAME:RED,GREEN,BLUE::`` for each label.
Masks are in these colours. Labels are numbered from 1 in the order of the file; background is
what is called so, and black. Lists are called as the task's subsets (``Train.txt``,
``Validation.txt``); a single one, which is ``default.txt`` without subsets, is divided.
"""

from pathlib import Path

from dkd.data.formats.layout import (
    NO_CLASSES,
    Finding,
    Format,
    Layout,
    Pair,
    by_colour,
    divided,
    full_palette,
    no_class,
    split_of,
    there,
)
from dkd.data.formats.voc import LISTS, list_of
from dkd.data.images import IMAGE_SUFFIXES
from dkd.data.palettes import Colour, MaskColours
from dkd.errors import UserError
from dkd.scenario.names import alike, class_name
from dkd.scenario.tasks import BACKGROUND, MOST_CLASSES, void_value

_VALIDATION = ("val", "validation", "valid")


def read(root: Path, train: str, validation: str) -> Layout:
    """The layout of an export; splits are lists of ``ImageSets/Segmentation``."""
    file = root / "labelmap.txt"
    classes, colours = _labels(file)
    splits, findings = _splits(root, train, validation)
    listed = {pair.mask for pairs in splits.values() for pair in pairs}
    masks = (
        path.relative_to(root).as_posix()
        for path in sorted(root.glob("SegmentationClass/**/*.png"))
    )
    lonely = tuple(mask for mask in masks if mask not in listed)
    known = {value: colour for value, colour in colours.items() if value in classes}
    return Layout(
        name=root.name,
        format="cvat",
        root=str(root),
        classes=classes,
        palette=full_palette(classes, known),
        future_is_void=False,
        splits=splits,
        mask_colours=_with_black(by_colour(colours, file)),
        findings=(
            *findings,
            *((Finding("masks whose images are on neither list", lonely),) if lonely else ()),
        ),
    )


def _splits(
    root: Path, train: str, validation: str
) -> tuple[dict[str, tuple[Pair, ...]], tuple[Finding, ...]]:
    """The two lists; CVAT writes one, ``default.txt``, where images have no subset."""
    there_are = {path.stem.casefold(): path.stem for path in (root / LISTS).glob("*.txt")}
    if (train, validation) == (FORMAT.train, FORMAT.validation):
        if len(there_are) == 1:
            (name,) = there_are.values()
            splits, note = divided(_split(root, name), str(root / LISTS / f"{name}.txt"))
            return splits, (note,)
        validation = next((name for name in _VALIDATION if name in there_are), validation)
    names = (there_are.get(name.casefold(), name) for name in (train, validation))
    return {s: _split(root, n) for s, n in zip(("train", "validation"), names, strict=True)}, ()


def _with_black(colours: MaskColours) -> MaskColours:
    """Black too is background, unless a label has it: it is where no label is."""
    black = (0, 0, 0)
    return colours if any(c == black for c, _ in colours) else ((black, BACKGROUND), *colours)


def _labels(file: Path) -> tuple[dict[int, str], dict[int, Colour]]:
    """Names of the classes by label value; colours of these, of background and of void."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(
            f"{file}: missing; export the task as 'Segmentation mask' from CVAT again"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text: {error}") from None
    classes: dict[int, str] = {}
    colours: dict[int, Colour] = {}
    labels = [
        (number, *_label(file, number, line))
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.startswith("#")
    ]
    void = void_value([sum(name not in NO_CLASSES for _, name, _ in labels)])
    for number, name, colour in labels:
        value = no_class(name, void) if name in NO_CLASSES else len(classes) + 1
        if name not in NO_CLASSES:
            if value > MOST_CLASSES:
                raise UserError(f"{file}: line {number}: more than {MOST_CLASSES} labels")
            if alike(name) in map(alike, classes.values()):
                raise UserError(f"{file}: line {number}: {name!r} appears twice; keep one")
            classes[value] = name
        if value in colours:
            raise UserError(f"{file}: line {number}: {name!r} is a second background or void")
        colours[value] = colour
    if not classes:
        raise UserError(f"{file}: no label; a line is NAME:RED,GREEN,BLUE::")
    return classes, colours


def _label(file: Path, number: int, line: str) -> tuple[str, Colour]:
    name, _, rest = line.strip().partition(":")
    levels = rest.partition(":")[0].split(",")
    if len(levels) == 3 and all(
        level.strip().isascii() and level.strip().isdigit() for level in levels
    ):
        red, green, blue = (int(level) for level in levels)
        if max(red, green, blue) <= 255:
            try:
                return class_name(name) if name not in NO_CLASSES else name, (red, green, blue)
            except UserError as error:
                raise UserError(f"{file}: line {number}: {error}") from None
    raise UserError(f"{file}: line {number}: {line.strip()!r} is not NAME:RED,GREEN,BLUE::")


def _split(root: Path, name: str) -> tuple[Pair, ...]:
    file, lines = list_of(root, name)
    pairs = []
    for number, line in enumerate(lines, start=1):
        id_ = line.strip('"')  # names with a space are quoted
        if id_.startswith("/") or ".." in id_.split("/"):
            raise UserError(f"{file}: line {number} leads outside {root}; correct it")
        images = [f"JPEGImages/{id_}{suffix}" for suffix in IMAGE_SUFFIXES]
        found = [image for image in images if there(root / image)]
        pairs.append(Pair(id_, (found or images)[0], f"SegmentationClass/{id_}.png"))
    return split_of(pairs, str(file))


def recognises(root: Path) -> bool:
    return (root / LISTS).is_dir() and (root / "labelmap.txt").is_file()


FORMAT = Format("cvat", "train", "val", read, recognises)
