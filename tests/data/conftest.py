"""That data sets are refused as they have to be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dkd.data import index
from dkd.errors import UserError
from dkd.scenario.data import Data


@pytest.fixture
def refuse(tmp_path: Path) -> Callable[..., None]:
    """That a data set is refused in one line which holds all of the words."""

    def check(root: Path, format_: str, *words: str, **fields: str) -> None:
        with pytest.raises(UserError) as caught:
            index.build(
                Data.model_validate({"format": format_, "root": str(root), **fields}),
                tmp_path / "cache",
            )
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)

    return check
