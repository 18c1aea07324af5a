"""``voc``: PASCAL VOC 2012's folder, with SBD's masks for training where they are."""

from pathlib import Path

from dkd.data.formats.layout import Format, Layout, Pair, split_of
from dkd.data.palettes import voc_colour
from dkd.errors import UserError
from dkd.scenario.class_names import VOC_CLASSES

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
    return Layout(
        name="voc",
        format="voc",
        root=str(root),
        classes=dict(VOC_CLASSES),
        palette={value: voc_colour(value) for value in (0, *VOC_CLASSES, 255)},
        future_is_void=False,
        splits={
            "train": _split(root, train, training=True),
            "validation": _split(root, validation, training=False),
        },
    )


def _split(root: Path, name: str, training: bool) -> tuple[Pair, ...]:
    lists = root / "ImageSets" / "Segmentation"
    if not lists.is_dir():
        inner = root / "VOCdevkit" / "VOC2012"
        hint = f"; did you mean {inner}?" if inner.is_dir() else "; is this the VOC2012 folder?"
        raise UserError(f"{lists}: no such folder{hint}")
    file = lists / f"{name}.txt"
    try:
        lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
    except FileNotFoundError:
        have = ", ".join(sorted(path.stem for path in lists.glob("*.txt"))) or "none"
        raise UserError(f"{file}: no such list; the folder has {have}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text: {error}") from None
    # SBD's masks, where they are; the augmented list makes no sense without them.
    augmented = training and (name == "train_aug" or (root / "SegmentationClassAug").is_dir())
    masks = "SegmentationClassAug" if augmented else "SegmentationClass"
    pairs = []
    for number, words in enumerate(lines, start=1):
        match words:
            case [id_] if "/" not in id_:
                pairs.append(Pair(id_, f"JPEGImages/{id_}.jpg", f"{masks}/{id_}.png"))
            case [image, mask]:
                image, mask = image.lstrip("/"), mask.lstrip("/")
                if ".." in f"{image}/{mask}".split("/"):
                    raise UserError(f"{file}: line {number} leads out of {root}; correct it")
                pairs.append(Pair(Path(image).stem, image, mask))
            case _:
                raise UserError(
                    f"{file}: line {number} is neither an id nor the paths of an image and a mask"
                )
    return split_of(pairs, str(file))


FORMAT = Format("voc", "train_aug", "val", read, SOURCE)
