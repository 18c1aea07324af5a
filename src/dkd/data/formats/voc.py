"""``voc``: PASCAL VOC 2012's folder, with SBD's masks for training where they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dkd.data.formats.layout import NO_CLASSES, Finding, Format, Layout, Pair, split_of
from dkd.data.palettes import voc_colour
from dkd.errors import UserError
from dkd.scenario.class_names import VOC_CLASSES

LISTS = Path("ImageSets", "Segmentation")

LABEL_MAPS = ("labelmap.txt", "label_map.txt", "labels.txt", "class_names.txt", "classes.txt")
"""Where labelling tools write a folder's own classes."""

_VALUES = {name: value for value, name in VOC_CLASSES.items()}

SOURCE = """\
PASCAL VOC 2012, in the folder VOCdevkit/VOC2012:
  images and masks (2 GB), VOCtrainval_11-May-2012.tar:
    http://host.robots.ox.ac.uk/pascal/VOC/voc2012/
  SegmentationClassAug, masks of the 10,582 training images (from SBD):
    https://www.dropbox.com/s/oeu149j8qtbs1x0/SegmentationClassAug.zip?dl=0
  ImageSets/Segmentation/train_aug.txt, their list: datasets/data/train_aug.txt of
    https://github.com/VainF/DeepLabV3Plus-Pytorch"""


def read(root: Path, train: str, validation: str) -> Layout:
    """The layout of a VOC folder; splits are lists of ``ImageSets/Segmentation``."""
    _refuse_other_classes(root)
    palette = {value: voc_colour(value) for value in (0, *VOC_CLASSES, 255)}
    splits = {
        "train": _split(root, train, training=True),
        "validation": _split(root, validation, training=False),
    }
    return Layout(
        name="voc",
        format="voc",
        root=str(root),
        classes=dict(VOC_CLASSES),
        palette=palette,
        future_is_void=False,
        splits=splits,
        colours=palette,
        findings=_left_out(root, splits),
    )


def _refuse_other_classes(root: Path) -> None:
    """A folder of VOC's layout, as labelling tools write it, may have classes of its own."""
    for name in LABEL_MAPS:
        file = root / name
        if not file.is_file():
            continue
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{file}: cannot be read as text: {error}") from None
        named = [line.split(":") for line in lines if line and not line.startswith("#")]
        for number, (class_, *rest) in enumerate(n for n in named if n[0] not in NO_CLASSES):
            # One name a line, in the order of label values; or names with their colours.
            value = number + 1 if not rest else _VALUES.get(class_)
            colour = ",".join(map(str, voc_colour(value or 0)))
            if VOC_CLASSES.get(value or 0) != class_ or (rest and rest[0] not in ("", colour)):
                raise UserError(
                    f"{file}: {':'.join([class_, *rest[:1]])!r} is not one of VOC's classes; "
                    "this folder has its own: use --format cvat, or folder with a classes.yaml"
                )


def _left_out(root: Path, splits: Mapping[str, Sequence[Pair]]) -> tuple[Finding, ...]:
    listed = {pair.id for pairs in splits.values() for pair in pairs}
    lonely = tuple(
        path.relative_to(root).as_posix()
        for folder in ("SegmentationClass", "SegmentationClassAug")
        for path in sorted((root / folder).glob("*.png"))
        if path.stem not in listed
    )
    return (Finding("masks whose images are on neither list", lonely),) if lonely else ()


def list_of(root: Path, name: str) -> tuple[Path, list[str]]:
    """The file of a list, and its lines, of which none is empty.

    Raises:
        UserError: it is missing or no text.
    """
    lists = root / LISTS
    if not lists.is_dir():
        inner = root / "VOCdevkit" / "VOC2012"
        hint = f"; did you mean {inner}?" if inner.is_dir() else "; is this the VOC2012 folder?"
        raise UserError(f"{lists}: no such folder{hint}")
    file = lists / f"{name}.txt"
    try:
        text = file.read_text(encoding="utf-8")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
    except FileNotFoundError:
        have = ", ".join(sorted(path.stem for path in lists.glob("*.txt"))) or "none"
        raise UserError(f"{file}: no such list; the folder has {have}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text: {error}") from None
    return file, lines


def _split(root: Path, name: str, training: bool) -> tuple[Pair, ...]:
    file, lines = list_of(root, name)
    # SBD's masks, where they are; the augmented list makes no sense without them.
    augmented = training and (name == "train_aug" or (root / "SegmentationClassAug").is_dir())
    masks = "SegmentationClassAug" if augmented else "SegmentationClass"
    pairs = []
    for number, line in enumerate(lines, start=1):
        match line.split():
            case [id_] if "/" not in id_:
                pairs.append(Pair(id_, f"JPEGImages/{id_}.jpg", f"{masks}/{id_}.png"))
            case [image, mask]:
                image, mask = image.lstrip("/"), mask.lstrip("/")
                if ".." in f"{image}/{mask}".split("/"):
                    raise UserError(f"{file}: line {number} leads outside {root}; correct it")
                pairs.append(Pair(Path(image).stem, image, mask))
            case _:
                raise UserError(
                    f"{file}: line {number} is neither an id nor the paths of an image and a mask"
                )
    return split_of(pairs, str(file))


def recognises(root: Path) -> bool:
    return (root / LISTS).is_dir() and not (root / "labelmap.txt").is_file()


FORMAT = Format("voc", "train_aug", "val", read, recognises, SOURCE)
