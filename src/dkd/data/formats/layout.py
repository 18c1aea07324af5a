"""What a format reads from a folder, before any image is opened: pairs, splits, classes."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dkd.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from dkd.data.palettes import Colour, MaskColours, distinct_colours
from dkd.errors import UserError
from dkd.scenario.names import alike
from dkd.scenario.tasks import BACKGROUND, MOST_CLASSES, VOID, WIDE_VOID, void_value

_OTHER_IMAGES = (
    *(".avif", ".bmp", ".dng", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jxl"),
    *(".pgm", ".pnm", ".ppm", ".raw", ".tga"),
)
_NAMED = 5  # how many names a finding says

_BACKGROUND = ("background", "_background_")
NO_CLASSES = (*_BACKGROUND, "__ignore__", "ignore", "ignored", "void")
"""What labelling tools call background and void."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask, as paths below the root."""

    id: str
    image: str
    mask: str


@dataclass(frozen=True)
class Finding:
    """Something in a data set that a person should know of.

    Attributes:
        what: it is, e.g. "masks without an image".
        names: the files, or whatever it is about.
        wrong: surely: nothing can be trained on this.
    """

    what: str
    names: tuple[str, ...]
    wrong: bool = False

    def __str__(self) -> str:
        more = len(self.names) - _NAMED
        named = ", ".join(self.names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{len(self.names)} {self.what}: {named}"


@dataclass(frozen=True, slots=True)
class Made:
    """An image or mask that is no file of its own, e.g. a mask that annotations describe.

    Attributes:
        source: what it is made from, for messages.
        stamp: what the bytes follow from, in short: they are made again where it changed.
        data: the bytes of the file, given the label value of pixels that nothing labels. It raises
            :class:`~dkd.errors.UserError` for what is wrong in the source.
    """

    source: str
    stamp: Callable[[], str]
    data: Callable[[int], bytes]


@dataclass(frozen=True)
class Layout:
    """What a folder promises.

    Attributes:
        name: as in :class:`dkd.data.index.Dataset`, as what follows.
        format: likewise.
        root: likewise.
        classes: likewise.
        palette: likewise.
        future_is_void: likewise.
        splits: images and masks by split.
        void_values: likewise.
        mask_colours: what the masks' colours stand for; empty where they hold label values.
        colours: of label values that masks with a palette should show them in.
        findings: of the format's own, e.g. what lies in the folder and is not taken.
        made: images and masks that are no files yet, by path.
        masks: absolute folder in which the masks lie; empty if that is the root.
    """

    name: str
    format: str
    root: str
    classes: dict[int, str]
    palette: dict[int, Colour]
    future_is_void: bool
    splits: dict[str, tuple[Pair, ...]]
    void_values: tuple[int, ...] = ()
    mask_colours: MaskColours = ()
    colours: dict[int, Colour] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    made: Mapping[str, Made] = field(default_factory=dict)
    masks: str = ""

    @property
    def void(self) -> int:
        """Likewise."""
        return void_value(self.classes)

    def image_path(self, pair: Pair) -> Path:
        return Path(self.root, pair.image)

    def mask_path(self, pair: Pair) -> Path:
        return Path(self.root, self.masks, pair.mask)

    def sources(self, pair: Pair) -> tuple[Path, Path]:
        """What messages call the image and the mask: their files, or what they are made from."""
        image, mask = self.made.get(pair.image), self.made.get(pair.mask)
        return (
            Path(image.source) if image else self.image_path(pair),
            Path(mask.source) if mask else self.mask_path(pair),
        )


@dataclass(frozen=True)
class Format:
    """A way in which data sets lie in folders.

    Attributes:
        name: as ``data.format`` has it.
        train: name of the training split where ``data.train`` gives none.
        validation: likewise.
        read: the layout of a folder, given the two splits' names. It raises
            :class:`~dkd.errors.UserError` for what is missing or cannot be understood.
        recognises: whether a folder looks like one of this format, and of no other.
        source: where the published data set of this format can be had; empty if there is none.
        annotated: masks are drawn from annotations, so that pixels may be unlabelled.
    """

    name: str
    train: str
    validation: str
    read: Callable[[Path, str, str], Layout]
    recognises: Callable[[Path], bool]
    source: str = ""
    annotated: bool = False


def folder_split(root: Path, masks: str, name: str) -> tuple[Pair, ...]:
    """The pairs ``images/NAME/ID.jpg`` and ``MASKS/NAME/ID.png``, in the order of file names.

    Images and masks may be of any kind that is read.

    Args:
        root: the data set's folder.
        masks: name of the folder of masks.
        name: of the split.

    Raises:
        UserError: a folder is missing, holds no image, or two images share a mask.
    """
    folder = root / "images" / name
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; images of the {name} split belong there")
    if not (root / masks / name).is_dir():
        raise UserError(f"{root / masks / name}: no such folder; masks of the split belong there")
    found: dict[str, str] = {}
    for file in _names(root / masks / name):
        stem, suffix = _split_suffix(file)
        if suffix in MASK_SUFFIXES:
            if stem in found:
                raise UserError(
                    f"{root / masks / name}: {found[stem]} and {file} are masks of one image; keep "
                    "one"
                )
            found[stem] = file
    pairs = []
    for file in _names(folder):
        stem, suffix = _split_suffix(file)
        if suffix in IMAGE_SUFFIXES:
            mask = found.get(stem, f"{stem}.png")
            pairs.append(Pair(stem, f"images/{name}/{file}", f"{masks}/{name}/{mask}"))
    return split_of(pairs, str(folder))


def split_of(pairs: Iterable[Pair], source: str) -> tuple[Pair, ...]:
    """The pairs as a split.

    Args:
        pairs: in their order.
        source: the list or folder they come from, for messages.

    Raises:
        UserError: there is none, or an id appears twice.
    """
    by_id: dict[str, Pair] = {}
    for pair in pairs:
        for path in (pair.image, pair.mask):
            if not _is_utf8(path):
                raise UserError(f"{source}: {path!r} is not UTF-8; rename the file")
            if min(path, default=" ") < " ":
                raise UserError(f"{source}: {path!r} has invisible characters; correct the name")
        if pair.id in by_id:
            raise UserError(f"{source}: {pair.id} appears twice; keep one")
        by_id[pair.id] = pair
    if not by_id:
        raise UserError(f"{source}: no image; a split holds at least one")
    return tuple(by_id.values())


def divided(pairs: Sequence[Pair], source: str) -> tuple[dict[str, tuple[Pair, ...]], Finding]:
    """A list without a split as two: a fifth of the images is for validation.

    An image is if the SHA-256 of its id is below a fifth of the largest, so one that is added later
    moves no other; where that is none or all, the one of lowest SHA-256 is.

    Args:
        pairs: at least two.
        source: where they come from, for messages.

    Raises:
        UserError: there are fewer.
    """
    if len(pairs) < 2:
        raise UserError(f"{source}: {len(pairs)} image; training and validation need one each")
    score = {pair.id: hashlib.sha256(pair.id.encode()).digest() for pair in pairs}
    held_out = {id_ for id_, digest in score.items() if digest[0] < 51}
    if len(held_out) in (0, len(pairs)):
        held_out = {min(score, key=lambda id_: score[id_])}
    splits = {
        "train": tuple(pair for pair in pairs if pair.id not in held_out),
        "validation": tuple(pair for pair in pairs if pair.id in held_out),
    }
    note = Finding(
        f"images for validation, by the SHA-256 of their ids, as {source} has no splits",
        tuple(pair.id for pair in splits["validation"]),
    )
    return splits, note


def made_layout(
    root: Path,
    format_: str,
    classes: dict[int, str],
    splits: dict[str, tuple[Pair, ...]],
    made: Mapping[str, Made],
    findings: Iterable[Finding],
    source: Path,
    colours: Mapping[int, Colour] | None = None,
) -> Layout:
    """The layout of a data set whose masks are no files yet.

    Args:
        root: its folder.
        format_: the format's name.
        classes: name by label value.
        splits: ``train`` and ``validation``, or one list (``""``) that is divided.
        made: images and masks by path.
        findings: what a person should know of.
        source: of the list, for messages.
        colours: of classes; others get one.

    Raises:
        UserError: the list is too short to be divided.
    """
    if "" in splits:
        splits, note = divided(splits[""], str(source))
        findings = (note, *findings)
    return Layout(
        name=root.name,
        format=format_,
        root=str(root),
        classes=classes,
        palette=full_palette(classes, colours or {}),
        future_is_void=False,
        splits=splits,
        findings=tuple(findings),
        made=made,
    )


def numbered(names: Sequence[str], source: Path) -> dict[str, int]:
    """Label values by name: classes from 1 on in their order; background and void have theirs.

    Args:
        names: of classes, background and void (:data:`NO_CLASSES`).
        source: where they are from, for messages.

    Raises:
        UserError: two names look alike, there is no class, or more than a mask tells apart.
    """
    named = [name for name in names if name not in NO_CLASSES]
    refuse_alike(named, source)
    if not 1 <= len(named) <= MOST_CLASSES:
        raise UserError(
            f"{source}: {len(named)} classes; a data set has 1 to {MOST_CLASSES}, besides "
            "background and void"
        )
    values = {name: value for value, name in enumerate(named, start=1)}
    void = void_value(values.values())
    return values | {name: no_class(name, void) for name in names if name in NO_CLASSES}


def listed_void(named: Mapping[int, str]) -> int:
    """The label value of void where label values are listed with their names: 255 or 65,535.

    A list may name void, so 255 is a class only if one lies beyond it, or if it is the last of 255
    and is not called void.
    """
    values = named.keys() - {BACKGROUND, VOID, WIDE_VOID}
    beyond = max(values, default=0) > VOID
    last = VOID in named and len(values) == VOID - 1 and named[VOID].casefold() not in NO_CLASSES
    return WIDE_VOID if beyond or last else VOID


def no_class(name: str, void: int) -> int:
    """The label value of a name among :data:`NO_CLASSES`: background's or void's."""
    return BACKGROUND if name in _BACKGROUND else void


def refuse_alike(names: Iterable[str], source: Path) -> None:
    """Checks that a person can tell names of classes apart.

    Args:
        names: of classes.
        source: where they are from, for messages.

    Raises:
        UserError: two look alike.
    """
    seen: dict[str, str] = {}
    for name in names:
        if alike(name) in seen:
            other = seen[alike(name)]
            also = "" if other == name else f" and {other!r}, which look alike"
            raise UserError(f"{source}: two classes are called {name!r}{also}; names are unique")
        seen[alike(name)] = name


def left_out(root: Path, masks: str, splits: Mapping[str, Sequence[Pair]]) -> tuple[Finding, ...]:
    """What lies where :func:`folder_split` looks, and is not taken.

    Args:
        root: the data set's folder.
        masks: name of the folder of masks.
        splits: pairs by the name of their sub-folder.
    """
    findings = []
    for name, pairs in splits.items():
        ids = {pair.id for pair in pairs}
        others, folders = _besides(root, root / "images" / name)
        findings.append(
            Finding(f"{name} images of other kinds than JPEG, PNG, TIFF and WebP, not used", others)
        )
        findings.append(Finding(f"sub-folders of {name} images, not used", folders))
        lonely = [
            f"{masks}/{name}/{file}"
            for file in _names(root / masks / name)
            if _is_image(file) and _split_suffix(file)[0] not in ids
        ]
        findings.append(Finding(f"{name} masks without an image that is used", tuple(lonely)))
    others, folders = _besides(root, root / "images")
    unsorted = [
        f"images/{file}"
        for file in _names(root / "images")
        if file.lower().endswith(IMAGE_SUFFIXES) and (root / "images" / file).is_file()
    ]
    used = {f"images/{name.split('/')[0]}" for name in splits}
    findings.append(Finding("images outside the splits' folders, not used", (*unsorted, *others)))
    findings.append(
        Finding(
            "folders of images that are not a split, not used",
            tuple(folder for folder in folders if folder.split(" ")[0] not in used),
        )
    )
    return tuple(finding for finding in findings if finding.names)


def _besides(root: Path, folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Images of other kinds, and folders that hold images, with the number of these."""
    others, folders = [], []
    below = folder.relative_to(root).as_posix()
    with os.scandir(folder) as entries:
        found = sorted((each.name, each.is_dir()) for each in entries)
    for name, is_folder in found:
        if name.startswith("."):
            continue
        if is_folder:
            count = sum(
                _is_image(inner) for _, _, files in os.walk(folder / name) for inner in files
            )
            if count:
                folders.append(f"{below}/{name} ({count} images)")
        elif name.lower().endswith(_OTHER_IMAGES):
            others.append(f"{below}/{name}")
    return tuple(others), tuple(folders)


def _names(folder: Path) -> list[str]:
    """What lies in a folder, hidden files left out; names, as 100,000 paths take seconds."""
    with os.scandir(folder) as entries:
        return sorted(each.name for each in entries if not each.name.startswith("."))


def _split_suffix(name: str) -> tuple[str, str]:
    """A file's name without its suffix, and that in small letters, with its dot."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix.lower()) if stem else (name, "")


def _is_image(name: str) -> bool:
    return name.lower().endswith((*IMAGE_SUFFIXES, *_OTHER_IMAGES))


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # Python's stand-ins for other bytes
        return False
    return True


def there(path: Path) -> bool:
    """Whether a path that a file names is a file; one that cannot be is none, however long."""
    try:
        return path.is_file()
    except OSError:
        return False


def by_colour(palette: Mapping[int, Colour], source: Path) -> MaskColours:
    """What a mask's colours stand for.

    Args:
        palette: colour by label value.
        source: where it is from, for messages.

    Raises:
        UserError: two label values have one colour.
    """
    values: dict[Colour, int] = {}
    for value, colour in palette.items():
        if colour in values:
            red, green, blue = colour
            raise UserError(
                f"{source}: {red},{green},{blue} is the colour of {values[colour]} and of {value}; "
                "masks in colours cannot tell them apart"
            )
        values[colour] = value
    return tuple(sorted(values.items()))


def full_palette(classes: Iterable[int], given: Mapping[int, Colour]) -> dict[int, Colour]:
    """A colour for background, void and every class: the given ones, others made up."""
    values = list(classes)
    made = distinct_colours((v for v in values if v not in given), taken=given.values())
    palette = {0: (0, 0, 0), **made, **given, void_value(values): (255, 255, 255)}
    return dict(sorted(palette.items()))
