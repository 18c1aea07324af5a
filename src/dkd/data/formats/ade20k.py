"""``ade20k``: ADE20K as the scene parsing challenge published it (ADEChallengeData2016)."""

from pathlib import Path

from dkd.data.formats.layout import Format, Layout, folder_split, full_palette, left_out
from dkd.scenario.class_names import ADE20K_CLASSES

SOURCE = """\
ADE20K, in the folder ADEChallengeData2016:
  images and masks (1 GB):
    http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"""


def read(root: Path, train: str, validation: str) -> Layout:
    """The layout of an ADE20K folder; label value 0 is "other"."""
    splits = {
        "train": folder_split(root, "annotations", train),
        "validation": folder_split(root, "annotations", validation),
    }
    return Layout(
        name="ade20k",
        format="ade20k",
        root=str(root),
        classes=dict(ADE20K_CLASSES),
        palette=full_palette(ADE20K_CLASSES, {}),
        future_is_void=True,
        splits=splits,
        findings=left_out(
            root, "annotations", dict(zip((train, validation), splits.values(), strict=True))
        ),
    )


def recognises(root: Path) -> bool:
    masks = root / "annotations"
    # COCO has files of JSON in a folder of this name.
    return masks.is_dir() and (root / "images").is_dir() and not any(masks.glob("*.json"))


FORMAT = Format("ade20k", "training", "validation", read, recognises, SOURCE)
