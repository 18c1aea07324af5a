"""Workflow files: nothing runs that is not pinned, nothing has rights that it does not need."""

import os
import re
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOWS = sorted((Path(__file__).parents[1] / ".github/workflows").glob("*.yml"))


RIGHTS = {
    "handbook": {"publish": {"pages", "id-token"}},
    "release": {
        "image": {"packages"},
        "publish": {"packages", "id-token"},
        "assets": {"contents", "id-token"},
        "package": {"id-token"},
    },
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


RELEASE = next(file for file in WORKFLOWS if file.stem == "release")


def script(job: str) -> str:
    """What a job of the release runs and uses, in order."""
    return "\n".join(
        f"{step.get('uses', '')}\n{step.get('run', '')}" for step in jobs(RELEASE)[job]["steps"]
    )


def test_only_a_commit_that_has_passed_is_released() -> None:
    """Every job waits for the one that looks for passed runs of CI and Cluster."""
    order = ["passed", "image", "publish", "assets", "package"]
    assert list(jobs(RELEASE)) == order
    for before, job in pairwise(order):
        assert jobs(RELEASE)[job]["needs"] == before
        assert "if" not in jobs(RELEASE)[job]  # such as always()
    asked = script("passed")
    assert "for workflow in ci.yml cluster.yml; do" in asked
    assert "--status success" in asked
    assert '--commit "$GITHUB_SHA"' in asked


@pytest.mark.parametrize("passed", [["1", "1"], ["1", "0"], ["0", "1"]])
def test_a_commit_without_passed_runs_is_refused(passed: list[str], tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    answers.write_text("\n".join(passed) + "\n")
    tool = tmp_path / "gh"
    tool.write_text(f"#!/bin/sh\nhead -n 1 {answers}; sed -i 1d {answers}\n")
    tool.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_SHA": "c0ffee",
                   "GITHUB_REPOSITORY": "us/dkd"}  # fmt: skip
    (step,) = jobs(RELEASE)["passed"]["steps"]
    ended = subprocess.run(
        ["bash", "-e", "-c", step["run"]], env=environment, capture_output=True, text=True
    )
    assert (ended.returncode == 0) == (passed == ["1", "1"]), ended.stdout
    if ended.returncode:
        assert f"no run of {'ci' if passed[0] == '0' else 'cluster'}.yml has passed" in ended.stdout


def test_images_are_scanned_before_they_have_a_name_and_signed() -> None:
    image = script("image")
    assert image.index("build-push-action") < image.index('/grype"')
    assert "--only-fixed --fail-on negligible" in image
    (build,) = (x for x in jobs(RELEASE)["image"]["steps"] if "build-push" in x.get("uses", ""))
    assert "push-by-digest=true" in build["with"]["outputs"]
    assert "tags" not in build["with"]
    publish = script("publish")
    assert publish.index("imagetools create") < publish.index("sign --yes")


def test_the_launcher_is_built_for_both_platforms() -> None:
    matrix = jobs(RELEASE)["image"]["strategy"]["matrix"]
    (more,) = matrix["include"]
    assert matrix["platform"] == ["amd64"]
    assert (more["image"], more["platform"]) == ("launcher", "arm64")


def test_wheel_and_bills_of_materials_are_attached() -> None:
    assets = script("assets")
    for made in ("uv build --wheel --out-dir assets", "spdx-json=assets/", "spdx-json=$wheel",
                 "sign-blob"):  # fmt: skip
        assert assets.index(made) < assets.index("gh release create")


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


def test_the_package_on_pypi_is_the_one_that_was_signed() -> None:
    """It is built once, by a job that has no right on PyPI."""
    kept, taken = (
        [step["with"] for step in jobs(RELEASE)[job]["steps"] if action in step.get("uses", "")]
        for job, action in (("assets", "upload-artifact"), ("package", "download-artifact"))
    )
    assert kept == [{"name": "package", "path": "assets/*.whl\nassets/*.tar.gz\n"}]
    assert taken == [{"name": "package", "path": "package"}]
    assert "always package/*" in script("package")
    assert "uv build" not in script("package")


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
