"""What a format reads from a folder, before any image is opened: pairs, splits, classes."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dkd.data.palettes import Colour, distinct_colours
from dkd.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Pair:
    """An image and its mask, as paths below the root."""

    id: str
    image: str
    mask: str


@dataclass(frozen=True)
class Layout:
    """What a folder promises. Fields as in :class:`dkd.data.index.Dataset`."""

    name: str
    format: str
    root: str
    classes: dict[int, str]
    palette: dict[int, Colour]
    future_is_void: bool
    splits: dict[str, tuple[Pair, ...]]


@dataclass(frozen=True)
class Format:
    """A way in which data sets lie in folders.

    Attributes:
        name: as ``data.format`` has it.
        train: name of the training split where ``data.train`` gives none.
        validation: likewise.
        read: the layout of a folder, given the two splits' names. It raises
            :class:`~dkd.errors.UserError` for what is missing or cannot be understood.
        source: where the published data set of this format can be had; empty if there is none.
    """

    name: str
    train: str
    validation: str
    read: Callable[[Path, str, str], Layout]
    source: str = ""


def folder_split(root: Path, masks: str, name: str) -> tuple[Pair, ...]:
    """The pairs ``images/NAME/ID.jpg`` and ``MASKS/NAME/ID.png``, in the order of file names.

    Args:
        root: the data set's folder.
        masks: name of the folder of masks.
        name: of the split.

    Raises:
        UserError: a folder is missing, holds no image, or two images share a mask.
    """
    folder = root / "images" / name
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; images of the {name} split lie there")
    if not (root / masks / name).is_dir():
        raise UserError(f"{root / masks / name}: no such folder; masks of the split lie there")
    files = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    pairs = [
        Pair(Path(file).stem, f"images/{name}/{file}", f"{masks}/{name}/{Path(file).stem}.png")
        for file in files
    ]
    return split_of(pairs, str(folder))


def split_of(pairs: Iterable[Pair], source: str) -> tuple[Pair, ...]:
    """The pairs as a split.

    Args:
        pairs: in their order.
        source: the list or folder they come from, for messages.

    Raises:
        UserError: there is none, or an id stands there twice.
    """
    by_id: dict[str, Pair] = {}
    for pair in pairs:
        if pair.id in by_id:
            raise UserError(f"{source}: {pair.id} stands there twice; keep one")
        by_id[pair.id] = pair
    if not by_id:
        raise UserError(f"{source}: no image; a split holds at least one")
    return tuple(by_id.values())


def full_palette(classes: Iterable[int], given: Mapping[int, Colour]) -> dict[int, Colour]:
    """A colour for background, void and every class: the given ones, others made up."""
    made = distinct_colours((v for v in classes if v not in given), taken=given.values())
    palette = {0: (0, 0, 0), **made, **given, 255: (255, 255, 255)}
    return dict(sorted(palette.items()))
