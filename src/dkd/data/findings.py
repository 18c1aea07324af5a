"""What a person should know of a data set before a model is trained on it.

Files that are not taken, photographs that appear twice, masks that say something else than
they seem to. What is surely wrong is marked so; published data sets are taken as they are.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dkd.data import images
from dkd.data.formats import FORMATS, Finding, Layout, Pair
from dkd.data.palettes import Colour
from dkd.data.scan import Found


def of(layout: Layout, found: Mapping[Pair, Found]) -> list[Finding]:
    """Everything found in a data set, what was left out first.

    Args:
        layout: the folder's.
        found: what the scan saw of all its pairs.
    """
    own = not FORMATS[layout.format].source
    return [
        *layout.findings,
        *_turned(layout, found),
        *_twice(layout, found, wrong=own),
        *_in_both(layout, found),
        *_without_class(layout, found, wrong=own),
        *_colours(layout, found),
    ]


def _turned(layout: Layout, found: Mapping[Pair, Found]) -> Iterator[Finding]:
    tagged = [p for pairs in layout.splits.values() for p in pairs if found[p].orientation != 1]
    stored = [p.image for p in tagged if found[p].fit == "stored"]
    upright = [p.image for p in tagged if found[p].fit == "upright"]
    either = [p.image for p in tagged if found[p].fit == "either"]
    if upright:
        yield Finding("images are turned upright, as their EXIF data say", tuple(upright))
    if stored:
        yield Finding(
            "images are turned upright with their masks, which have the size of the image as "
            "it is stored",
            tuple(stored),
        )
    if either and stored:
        yield Finding(
            "images have EXIF data that turn them and masks that do not show whether they "
            f"were drawn upright, as others here were not ({stored[0]}); write these images and "
            "masks upright, without EXIF data",
            tuple(either),
            wrong=True,
        )
    elif either:
        yield Finding(
            "images are turned upright, as their EXIF data say, and their masks are taken as "
            "drawn upright",
            tuple(either),
        )


def _twice(layout: Layout, found: Mapping[Pair, Found], wrong: bool) -> Iterator[Finding]:
    for split, pairs in layout.splits.items():
        alike: dict[str, list[Pair]] = defaultdict(list)
        for pair in pairs:
            alike[found[pair].image_digest].append(pair)
        several = [group for group in alike.values() if len(group) > 1]
        agreeing = [group for group in several if _agree(layout, group, found)]
        against = [group for group in several if group not in agreeing]
        if agreeing:
            yield Finding(f"photographs appear in {split} more than once", _pairs(agreeing))
        if against:
            yield Finding(
                f"photographs appear in {split} more than once, with masks that contradict each "
                "other; keep the right one",
                _pairs(against),
                wrong,
            )


def _agree(layout: Layout, group: Sequence[Pair], found: Mapping[Pair, Found]) -> bool:
    if len({found[pair].digest for pair in group}) == 1:
        return True
    masks = []
    for pair in group:
        paths = (layout.image_path(pair), layout.mask_path(pair))
        files = images.read_file(paths[0], "image"), images.read_file(paths[1], "mask")
        masks.append(np.asarray(images.decode_pair(*files, *paths, layout.mask_colours)[1]))
    return all(np.array_equal(masks[0], mask) for mask in masks[1:])


def _in_both(layout: Layout, found: Mapping[Pair, Found]) -> Iterator[Finding]:
    trained = {found[pair].image_digest: pair for pair in layout.splits["train"]}
    both = [
        (trained[found[pair].image_digest], pair)
        for pair in layout.splits["validation"]
        if found[pair].image_digest in trained
    ]
    if both:
        yield Finding(
            "validation images are training images too, so scores say less than they seem to",
            _pairs(both),
        )


def _without_class(layout: Layout, found: Mapping[Pair, Found], wrong: bool) -> Iterator[Finding]:
    classes = layout.classes.keys()
    for split, pairs in layout.splits.items():
        held = any(not classes.isdisjoint(found[pair].values) for pair in pairs)
        void = [
            pair.mask
            for pair in pairs
            if set(found[pair].values) - {0} and classes.isdisjoint(found[pair].values)
        ]
        if void and not held:
            yield Finding(
                f"{split} masks, as far as they hold anything, hold only 0 and {layout.void}: "
                "background and void; give the class its label value, as classes.yaml has it",
                tuple(void),
                wrong and split == "train",
            )
        elif void:
            yield Finding(f"{split} masks hold only void", tuple(void))


def _colours(layout: Layout, found: Mapping[Pair, Found]) -> Iterator[Finding]:
    names = {0: "background", 255: "void", **layout.classes}
    owners = {colour: value for value, colour in layout.colours.items()}
    others: dict[tuple[int, Colour], list[str]] = defaultdict(list)
    for pair in dict.fromkeys(pair for pairs in layout.splits.values() for pair in pairs):
        item = found[pair]
        for value, colour in zip(item.values, item.colours, strict=False):
            if layout.colours.get(value, colour) != colour:
                others[value, colour].append(pair.mask)
    for (value, colour), masks in others.items():
        owner = f", the colour of {names[owners[colour]]}" if colour in owners else ""
        yield Finding(
            f"masks have a palette that shows {names[value]} ({value}) in {_rgb(colour)}{owner}, "
            f"where {_rgb(layout.colours[value])} is its colour; do the label values mean "
            "what they should?",
            tuple(masks),
        )


def _pairs(groups: Sequence[Sequence[Pair]]) -> tuple[str, ...]:
    return tuple(" = ".join(pair.image for pair in group) for group in groups)


def _rgb(colour: Colour) -> str:
    return ",".join(map(str, colour))
