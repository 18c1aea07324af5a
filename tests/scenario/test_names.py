"""Names of runs and files."""

import re

import pytest

from dkd.data.index import safe_path
from dkd.errors import UserError
from dkd.scenario.names import check_run_name, of_extension, slug


def test_slugs() -> None:
    assert slug("voc-15-1", "DKD-M", "seed3") == "voc-15-1-dkd-m-seed3"
    assert slug("demo", "") == "demo"
    assert slug("a", "No memory (1.5)") == "a-no-memory-1.5"


def test_names_in_other_scripts_stay_different() -> None:
    names = [slug("demo", label) for label in ("羊", "牛", "овца", "коза", "Schäfer", "Schöfer")]
    assert len(set(names)) == len(names)
    assert names[4].startswith("demo-sch-fer-")
    assert all(re.fullmatch(r"[a-z0-9.-]+", name) for name in names)
    assert slug("demo", "羊") == names[0]


def test_an_extension_is_called_after_classes_and_teacher() -> None:
    one = of_extension(["sheep"], "s3://b/checkpoints/1")
    assert re.fullmatch(r"add-sheep-[0-9a-f]{8}", one)
    assert one != of_extension(["sheep"], "s3://b/checkpoints/2")
    assert of_extension(["羊"], "t") != of_extension(["牛"], "t")
    assert len(of_extension([f"class {n}" for n in range(100)], "t")) < 40


@pytest.mark.parametrize("name", ["mine", "dkd-demo-x7k2p", "my run", "羊", "v1.5 (b)", "a" * 128])
def test_names_that_runs_can_have(name: str) -> None:
    assert check_run_name(name) == name
    assert str(safe_path(name, "test")) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "a/b", "../up", "a\\b", "a\nb", " a", "羊" * 43, "a" * 129]
)
def test_names_that_no_run_can_have(name: str) -> None:
    with pytest.raises(UserError, match=r"^run name .*slashes"):
        check_run_name(name)
