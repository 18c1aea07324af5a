"""Any data set: packed, or indexed where it lies."""

from collections.abc import Callable
from pathlib import Path

from dkd.data import index, packed
from dkd.data.index import Dataset, Progress
from dkd.scenario.data import Data


def dataset(
    data: Data,
    cache: Path | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    anew: bool = False,
) -> Dataset:
    """The data set that a scenario names; arguments as :func:`dkd.data.index.build` takes them.

    Raises:
        UserError: it is not there, or something in it is wrong.
    """
    if data.format == "packed":
        return packed.open_dataset(data.root)[0]
    return index.build(data, cache, progress, tell, anew)
