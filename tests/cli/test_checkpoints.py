"""A model's name wherever a command takes a checkpoint."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from click.testing import Result
from PIL import Image

from dkd.cli import main
from dkd.models import adding, catalogue

Command = Callable[..., Result]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def root(trained: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """An artifact root with two versions of *street*, the first one in production."""
    place = str(tmp_path_factory.mktemp("named"))
    for step in (0, 1):
        name = "street" if step == 0 else "lane"
        adding.add_checkpoint(
            place, name, trained[f"{step} train"], registry="", say=lambda _: None
        )
    adding.add_checkpoint(place, "street", trained["1 train"], registry="", say=lambda _: None)
    catalogue.promote(place, "street", 1, by="Ada")
    return place


def test_a_name_is_segmented_with_as_its_checkpoint_is(
    dkd: Command, trained: dict[str, str], root: str, tmp_path: Path
) -> None:
    photograph = tmp_path / "a.png"
    Image.effect_noise((40, 30), 90).convert("RGB").save(photograph)
    masks = {}
    for given in (trained["0 train"], "street", "street:1", trained["1 train"], "street:2"):
        words = ("--checkpoint", given, "--output", tmp_path / "out", "--root", root)
        result = dkd("predict", photograph, *words)
        assert result.exit_code == 0, result.output
        masks[given] = (tmp_path / "out/masks/a.png").read_bytes()
        assert (result.stderr.count("model street version") == 1) == given.startswith("street")
        (tmp_path / "out/classes.json").unlink()
        (tmp_path / "out/masks/a.png").unlink()
    assert masks["street"] == masks["street:1"] == masks[trained["0 train"]]
    assert masks["street:2"] == masks[trained["1 train"]] != masks["street"]


def test_every_command_that_takes_a_checkpoint_takes_a_name(
    dkd: Command, refused: Refused, root: str, place: Path
) -> None:
    named = dkd("classes", "street", "--root", root)
    assert named.stdout == "step 0: red, green\n"
    assert dkd("classes", "street:2", "--root", root).stdout.endswith("step 1: blue\n")
    data = ("--data", place / "data", "--format", "folder")
    commands = (
        ("classes", "road"),
        ("evaluate", "--checkpoint", "road", *data),
        ("export", "road", "--format", "onnx", "-o", "road.onnx"),
        ("predict", place / "data", "--checkpoint", "road", "-o", "out"),
        ("serve", "road"),
        ("statistics", "road", *data, "-o", "made"),
    )
    for words in commands:
        line = refused(*words, "--root", root)
        assert line == (
            f"road: no folder with a checkpoint, and no model of that name under {root}; models "
            "there: lane, street"
        )
        line = refused(*words, "--workspace", "none")
        assert line.startswith("road: no folder with a checkpoint, and no workspace of `dkd run` ")
    assert not Path("none").exists()
    line = refused("classes", "lane", "--root", root)
    assert line == "model lane: no version is in production; dkd models promote lane 1"


def test_the_shell_completes_names_and_files(
    dkd: Command, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))  # a shell's process is its own

    def completed(root: str, *words: str) -> list[tuple[str, str]]:
        os.environ["DKD_ROOT"] = root
        shell = ShellComplete(main, {}, "dkd", "_DKD_COMPLETE")
        return [(each.type, each.value) for each in shell.get_completions(["serve"], *words)]

    both = [("plain", "lane"), ("plain", "street")]
    assert completed(root, "") == [*both, ("file", "")]
    assert completed(root, "st") == [("plain", "street"), ("file", "st")]
    assert completed(root, "st/") == [("file", "st/")]
    for place in ("", "nothing://there"):
        assert completed(place, "st") == [("file", "st")]
