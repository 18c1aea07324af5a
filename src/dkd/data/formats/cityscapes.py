"""``cityscapes``: Cityscapes' fine annotations, by their label ids.

Images are ``leftImg8bit/SPLIT/CITY/ID_leftImg8bit.png``, masks
``gtFine/SPLIT/CITY/ID_gtFine_labelIds.png`` with the ids of the benchmark's ``labels.py``. The 19
classes that it evaluates are learned; every other id is void, so nothing is background until a
step makes it so. (In ``labelTrainIds`` masks 0 is a class; they are not read.)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dkd.data.formats.layout import Finding, Format, Layout, Pair, split_of
from dkd.data.images import IMAGE_SUFFIXES
from dkd.data.palettes import Colour
from dkd.errors import UserError

_CLASSES: dict[int, tuple[str, Colour]] = {
    7: ("road", (128, 64, 128)),
    8: ("sidewalk", (244, 35, 232)),
    11: ("building", (70, 70, 70)),
    12: ("wall", (102, 102, 156)),
    13: ("fence", (190, 153, 153)),
    17: ("pole", (153, 153, 153)),
    19: ("traffic light", (250, 170, 30)),
    20: ("traffic sign", (220, 220, 0)),
    21: ("vegetation", (107, 142, 35)),
    22: ("terrain", (152, 251, 152)),
    23: ("sky", (70, 130, 180)),
    24: ("person", (220, 20, 60)),
    25: ("rider", (255, 0, 0)),
    26: ("car", (0, 0, 142)),
    27: ("truck", (0, 0, 70)),
    28: ("bus", (0, 60, 100)),
    31: ("train", (0, 80, 100)),
    32: ("motorcycle", (0, 0, 230)),
    33: ("bicycle", (119, 11, 32)),
}
CLASSES = {value: name for value, (name, _) in _CLASSES.items()}
"""Names by label id."""

VOID_VALUES = tuple(value for value in range(34) if value not in CLASSES)

_IMAGE, _MASK = "_leftImg8bit.png", "_gtFine_labelIds.png"

SOURCE = """\
Cityscapes, in a folder with leftImg8bit and gtFine (both after a free registration):
  leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB):
    https://www.cityscapes-dataset.com/downloads/"""


def read(root: Path, train: str, validation: str) -> Layout:
    """The layout of a Cityscapes folder."""
    splits = {"train": _split(root, train), "validation": _split(root, validation)}
    colours = {value: colour for value, (_, colour) in _CLASSES.items()}
    return Layout(
        name="cityscapes",
        format="cityscapes",
        root=str(root),
        classes=dict(CLASSES),
        palette={0: (0, 0, 0), **colours, 255: (255, 255, 255)},
        future_is_void=False,
        splits=splits,
        void_values=VOID_VALUES,
        findings=_left_out(root, {train: splits["train"], validation: splits["validation"]}),
    )


def _split(root: Path, name: str) -> tuple[Pair, ...]:
    folder = root / "leftImg8bit" / name
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; the cities of the {name} split belong there")
    if not (root / "gtFine" / name).is_dir():
        raise UserError(
            f"{root / 'gtFine' / name}: no such folder; masks of the split belong there"
        )
    pairs = []
    for path in sorted(folder.glob(f"*/*{_IMAGE}")):
        id_, city = path.name.removesuffix(_IMAGE), path.parent.name
        mask = f"gtFine/{name}/{city}/{id_}{_MASK}"
        pairs.append(Pair(id_, f"leftImg8bit/{name}/{city}/{path.name}", mask))
    return split_of(pairs, str(folder))


def _left_out(root: Path, splits: Mapping[str, Sequence[Pair]]) -> tuple[Finding, ...]:
    findings = []
    for name, pairs in splits.items():
        taken = {path for pair in pairs for path in (pair.image, pair.mask)}
        others = tuple(
            path.relative_to(root).as_posix()
            for path in sorted((root / "leftImg8bit" / name).rglob("*"))
            if path.suffix.lower() in IMAGE_SUFFIXES
            and path.relative_to(root).as_posix() not in taken
        )
        lonely = tuple(
            path.relative_to(root).as_posix()
            for path in sorted((root / "gtFine" / name).rglob(f"*{_MASK}"))
            if path.relative_to(root).as_posix() not in taken
        )
        if others:
            findings.append(Finding(f"{name} images that are not called *{_IMAGE}", others))
        if lonely:
            findings.append(Finding(f"{name} masks without an image that is used", lonely))
    return tuple(findings)


def recognises(root: Path) -> bool:
    return (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir()


FORMAT = Format("cityscapes", "train", "val", read, recognises, SOURCE)
