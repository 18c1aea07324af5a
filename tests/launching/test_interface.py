"""Jobs and their names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkd.errors import UserError
from dkd.launching.interface import MAX_NAME, Job, job_name

RFC_1035_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@pytest.mark.parametrize("name", ["", "Step", "0-step", "step-", "a_b", "a.b", "a" * 46, "a\n"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="job name"):
        Job(name=name, module="dkd.train", arguments=(), result="/r")


def test_longest_name_is_accepted() -> None:
    assert Job(name="a" * 45, module="dkd.train", arguments=(), result="/r").name == "a" * 45


@given(st.text(max_size=80), st.lists(st.text(), max_size=3))
def test_every_prefix_gives_a_valid_name(prefix: str, identity: list[str]) -> None:
    name = job_name(prefix, *identity)
    assert RFC_1035_LABEL.fullmatch(name)
    assert len(name) <= MAX_NAME
    Job(name=name, module="dkd.train", arguments=(), result="/r")


@given(st.lists(st.text(alphabet="ab\0"), min_size=1, max_size=3, unique=True))
def test_names_differ_when_runs_or_steps_do(identities: list[str]) -> None:
    assert len({job_name("step-1", identity) for identity in identities}) == len(identities)


def test_names_are_stable_and_readable() -> None:
    assert job_name("voc 15-1 step 2", "run", "2") == job_name("voc 15-1 step 2", "run", "2")
    assert job_name("voc 15-1 step 2", "run", "2").startswith("voc-15-1-step-2-")
    assert job_name("voc", "a", "b") != job_name("voc", "ab")
