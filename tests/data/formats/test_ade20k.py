"""ADE20K's layout as the challenge published it."""

from pathlib import Path

from dkd.data import formats
from dkd.scenario.data import Data


def test_classes_are_the_challenges_and_future_ones_void(ade20k: Data) -> None:
    layout = formats.read(ade20k)
    assert (layout.classes[1], layout.classes[150]) == ("wall", "flag")
    assert len(layout.classes) == 150
    assert layout.future_is_void
    assert [len(layout.splits[split]) for split in ("train", "validation")] == [50, 20]
    first = layout.splits["train"][0]
    assert (Path(ade20k.root) / first.mask).is_file()
    assert first.mask.startswith("annotations/training/")
