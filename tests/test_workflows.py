"""Workflow files: nothing runs that is not pinned, nothing has rights that it does not need."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOWS = sorted((Path(__file__).parents[1] / ".github/workflows").glob("*.yml"))


RIGHTS = {
    "handbook": {"publish": {"pages", "id-token"}},
    "release": {"image": {"packages"}, "pipelines": {"contents"}, "package": {"id-token"}},
}
"""What a job of a workflow may write."""


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
    assert {name: rights for name, rights in writing.items() if rights} == RIGHTS.get(file.stem, {})
    for job in jobs(file).values():
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_there_are_workflows() -> None:
    assert [file.stem for file in WORKFLOWS] == ["ci", "cluster", "handbook", "release"]


def test_the_package_is_published_without_a_token() -> None:
    """PyPI trusts one workflow and one environment."""
    (file,) = (file for file in WORKFLOWS if file.stem == "release")
    job = jobs(file)["package"]
    assert job["environment"] == "pypi"
    assert job["permissions"]["id-token"] == "write"
    assert "secrets." not in str(job)
    assert any("uv publish --trusted-publishing always" in str(step) for step in job["steps"])


def test_every_python_that_is_promised_is_tested() -> None:
    """The classifiers, the Makefile and the matrix of CI name the same versions."""
    root = Path(__file__).parents[1]
    (file,) = (file for file in WORKFLOWS if file.stem == "ci")
    tested = jobs(file)["test"]["strategy"]["matrix"]["python"]
    assert tested == ["3.11", "3.12", "3.13", "3.14"]
    candidates = re.findall(r"python(3\.\d+)", (root / "Makefile").read_text(encoding="utf-8"))
    assert sorted(set(candidates)) == tested
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    prefix = "Programming Language :: Python :: "
    named = [c.removeprefix(prefix) for c in project["classifiers"] if c.startswith(prefix + "3.")]
    assert named == tested
