"""Jobs and their names."""

import pytest

from dkd.errors import UserError
from dkd.launching.interface import Job


@pytest.mark.parametrize("name", ["", "Step", "0-step", "step-", "a_b", "a.b", "a" * 46, "a\n"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="job name"):
        Job(name=name, module="dkd.train", arguments=(), result="/r")


def test_longest_name_is_accepted() -> None:
    assert Job(name="a" * 45, module="dkd.train", arguments=(), result="/r").name == "a" * 45
