"""Workflow files: nothing runs that is not pinned, nothing has rights that it does not need."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOWS = sorted((Path(__file__).parents[1] / ".github/workflows").glob("*.yml"))


def jobs(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())["jobs"]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_actions_are_pinned_by_commit(file: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", file.read_text())
    assert used
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), f"{action}: say which version it is"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_rights_are_given_where_they_are_used(file: Path) -> None:
    given = yaml.safe_load(file.read_text())["permissions"]
    assert given in ({}, {"contents": "read"})
    writing = {
        name: {right for right, kind in job.get("permissions", {}).items() if kind == "write"}
        for name, job in jobs(file).items()
    }
    expected = {"image": {"packages"}, "pipelines": {"contents"}} if file.stem == "release" else {}
    assert {name: rights for name, rights in writing.items() if rights} == expected
    for job in jobs(file).values():
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_there_are_workflows() -> None:
    assert [file.stem for file in WORKFLOWS] == ["ci", "cluster", "release"]
