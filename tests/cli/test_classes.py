"""``dkd classes``: edits of a model without training."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

import dkd as package
from dkd.data import transforms
from dkd.network import checkpoint
from dkd.storage import artifacts

Command = Callable[..., Result]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def balanced(random_checkpoint: str, place: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """That model with biases that let every class win somewhere."""
    model, description, _ = checkpoint.fetch(random_checkpoint)
    files = sorted((place / "data" / "images" / "validation").iterdir())
    pixels = torch.stack([transforms.to_tensor(Image.open(file)) for file in files])
    with torch.no_grad():
        logits = model.eval()(transforms.normalise(pixels)).logits[:, 1:]
        middle = logits.transpose(0, 1).flatten(1).median(1).values
        model.head(1).bias -= middle[:1]
        model.head(2).bias -= middle[1:]
    folder = tmp_path_factory.mktemp("balanced")
    parts = checkpoint.write(folder, model, description)
    uri = str(folder / "root" / "published")
    artifacts.publish(uri, parts, kind="checkpoint", metadata={})
    return uri


def test_without_an_edit_the_classes_are_listed(dkd: Command, balanced: str) -> None:
    assert dkd("classes", balanced).stdout == "step 0: blue\nstep 1: red, pink\n"


def test_edits_change_masks_as_they_say(dkd: Command, balanced: str, place: Path) -> None:
    """As if the old model's masks were painted over, but for what is dropped."""
    edits = ("--rename", "pink=rose", "--merge", "blue,red=any")
    result = dkd("classes", balanced, *edits)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("step 0: any\nstep 1: rose\n")
    uri = result.stdout.split()[-1]
    assert Path(uri).parent == Path(balanced).parent
    assert dkd("classes", balanced, *edits).stdout == result.stdout  # found again
    manifest = artifacts.load(uri)
    assert manifest.metadata["teacher"]["digest"] == artifacts.load(balanced).digest
    assert manifest.metadata["edits"]["merge"] == {"any": ["blue", "red"]}

    images = sorted((place / "data" / "images" / "validation").iterdir())
    table = np.array([0, 1, 1, 2], np.uint8)  # blue and red are one, rose comes after it
    old, new = package.load(balanced, "cpu"), package.load(uri, "cpu")
    seen = set[int]()
    for image in images:
        before = old.predict(image, probabilities=True)
        after = new.predict(image, probabilities=True)
        assert np.array_equal(after.mask, table[before.mask])
        likely = before.probabilities
        assert np.array_equal(after.probabilities, [likely[:2].max(0), likely[2]])
        seen |= set(np.unique(before.mask).tolist())
    assert seen == {0, 1, 2, 3}
    assert new.class_names == ("background", "any", "rose")

    again = dkd("classes", uri, "--merge", "rose,any=all", "--output", f"{uri}-all")
    assert again.exit_code == 0, again.output
    everything = package.load(f"{uri}-all", "cpu")
    for image in images:
        assert np.array_equal(everything.predict(image).mask, old.predict(image).mask > 0)

    dropped = dkd("classes", balanced, "--drop", "blue", "--output", f"{uri}-less")
    assert dropped.stdout.startswith("step 0: red, pink\n")
    less = package.load(f"{uri}-less", "cpu")
    for image in images:
        likely = old.predict(image, probabilities=True).probabilities[1:]
        expected = np.where(likely.max(0) > 0.5, 1 + likely.argmax(0), 0)
        assert np.array_equal(less.predict(image).mask, expected)


def test_a_checkpoint_in_this_folder_has_the_new_one_beside_it(
    dkd: Command, balanced: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(balanced).parent)
    result = dkd("classes", "published", "--rename", "red=rose")
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.split()[-1]).resolve().parent == Path(balanced).parent


def test_what_a_method_keeps_of_the_classes_stays_where_their_channels_do(
    dkd: Command, balanced: str, tmp_path: Path
) -> None:
    model, description, _ = checkpoint.fetch(balanced)
    (tmp_path / "parts").mkdir()
    kept = {"norms": torch.arange(3.0)}
    parts = checkpoint.write(tmp_path / "parts", model, description, kept)
    uri = str(tmp_path / "published")
    old = artifacts.publish(uri, parts, kind="checkpoint", metadata={})
    for edits, stays in (
        (("--rename", "pink=rose"), True),
        (("--drop", "red"), False),
        (("--merge", "red,pink=any"), False),
    ):
        made = artifacts.load(dkd("classes", uri, *edits).stdout.split()[-1])
        found = made.parts.get("statistics.safetensors")
        assert found == (old.parts["statistics.safetensors"] if stays else None)


BAD = {
    "unknown": (["--drop", "green"], "class 'green': the model knows blue, red, pink"),
    "twice": (["--drop", "red", "--rename", "red=x"], "class 'red': is named twice"),
    "equal": (["--rename", "red=blue"], "class 'blue' is already in step 0"),
    "all": (["--drop", "red,blue,pink"], "--drop: no class would be left"),
    "alone": (["--merge", "red=x"], "--merge red=x: name two classes or more, or --rename"),
    "no sign": (["--rename", "red"], "--rename red: write OLD=NEW"),
    "many": (["--rename", "red,blue=x"], "--rename red,blue=x: one at a time"),
    "background": (["--rename", "red=background"], "background is label value 0"),
    "again": (["--rename", "red=x", "--rename", "red=y"], "'red' has a new name already"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_edits(refused: Refused, balanced: str, fault: str) -> None:
    before = sorted(Path(balanced).parent.iterdir())
    words, message = BAD[fault]
    assert message in refused("classes", balanced, *words)
    assert sorted(Path(balanced).parent.iterdir()) == before


def test_another_artifact_is_not_replaced(
    refused: Refused, balanced: str, trained: dict[str, str]
) -> None:
    words = ("--rename", "red=x", "--output", trained["0 memory"])
    assert "another memory is already there" in refused("classes", balanced, *words)
    assert "memory; name a checkpoint" in refused("classes", trained["0 memory"])
