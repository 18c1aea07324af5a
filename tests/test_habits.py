"""What keeps contributions in order: the hook before a commit, updates, owners, forms."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))


def test_before_a_commit_make_lint_is_run() -> None:
    config = ROOT / ".pre-commit-config.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", config], check=True)
    ((hook,),) = [repository["hooks"] for repository in yaml.safe_load(config.read_text())["repos"]]
    assert hook["entry"] == "make lint"
    assert re.search(r"^lint:", (ROOT / "Makefile").read_text(), re.M)


def test_updates_look_where_something_is_pinned() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    looked = {
        each["package-ecosystem"]: set(each.get("directories", [each.get("directory")]))
        for each in updates
    }
    images = {
        f"/{file.parent.relative_to(ROOT)}" for file in (ROOT / "docker").glob("*/Dockerfile")
    }
    assert looked == {"github-actions": {"/"}, "docker": images, "pip": {"/", "/requirements"}}


def test_owned_folders_are_there() -> None:
    owned = re.findall(r"^#? ?(/\S+) +@", (ROOT / ".github/CODEOWNERS").read_text(), re.M)
    assert owned
    for path in owned:
        assert (ROOT / path.strip("/")).is_dir(), path


@pytest.mark.parametrize("file", FORMS, ids=lambda file: file.stem)
def test_forms_are_as_github_wants_them(file: Path) -> None:
    form = yaml.safe_load(file.read_text())
    if file.stem == "config":
        assert set(form) == {"blank_issues_enabled"}
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [each["id"] for each in form["body"]]
    assert len(set(ids)) == len(ids)
    for each in form["body"]:
        assert each["type"] in ("textarea", "dropdown", "input", "checkboxes")
        assert each["attributes"]["label"]
        assert each["type"] != "dropdown" or each["attributes"]["options"]


def test_contributing_names_what_is_there() -> None:
    """Paths below src/dkd or the root, and names of tests' folders."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", text):
        path = name.replace("NAME", "folder").replace("X/y", "losses/terms")
        if "X/test_y" in name:
            continue
        assert any((base / path).exists() for base in (ROOT, ROOT / "src/dkd")), name
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (ROOT / target).exists(), target


def test_no_result_of_a_run_is_kept() -> None:
    """What programs write has a place that git ignores; what is kept is small."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a clone: git lists nothing")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    assert files
    assert not [each for each in files if each.is_file() and each.stat().st_size > 1 << 20]
