"""A run's model becomes a version."""

import pytest
from made_results import finished

from dkd.errors import UserError
from dkd.models import adding, catalogue


def test_what_a_version_was_made_from(root: str) -> None:
    said = list[str]()
    first = finished(root, "one", "road", "car")
    one = adding.add_result(root, "street", "one", first, registry="", say=said.append)
    second = finished(root, "two", "road", "car", "sheep", teacher=one.checkpoint)
    two = adding.add_result(
        root, "street", "two", second, registry="", say=said.append, kubeflow_run="4c"
    )
    assert (one.extends, two.extends, two.kubeflow_run) == (None, 1, "4c")
    assert said[1] == f"model street version 2: Gate: passed, {two.checkpoint.uri}"
    catalogue.promote(root, "street", 1, by="Ada")
    start = catalogue.start_of_extension(root, "street", said.append)
    assert one.memory is not None
    assert start == (one.checkpoint.uri, one.memory.uri)


def test_a_run_that_is_not_there(root: str) -> None:
    with pytest.raises(UserError, match="no finished run 'nine'; `dkd runs` lists them"):
        adding.add_run(root, "street", "nine", registry="", say=print)
