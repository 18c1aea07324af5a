"""``dkd import``: checkpoints of the released program."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from dkd.network import checkpoint
from dkd.scenario.schema import Data, Network
from dkd.steps import stages

Command = Callable[..., Result]
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def released_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pth file of the names and shapes of a released checkpoint (15-5, step 1), all zeros."""
    reference = Path(__file__).parents[1] / "reference" / "official_state_dict.json"
    shapes = json.loads(reference.read_text())
    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    path = tmp_path_factory.mktemp("released") / "15-5-step-1.pth"
    torch.save({"state_dict": state}, path)
    return path


def test_import_gives_a_checkpoint_that_loads(
    dkd: Command, refused: Refused, released_file: Path, tmp_path: Path
) -> None:
    words = ("import", released_file, "--task", "voc-15-5", "--output", tmp_path / "ours")
    result = dkd(*words)
    assert result.exit_code == 0, result.output
    assert "20 classes in 2 steps" in result.stdout
    model, description, _ = checkpoint.fetch(str(tmp_path / "ours"))
    assert model.counts == (15, 5)
    assert description["classes"][1] == ["pottedplant", "sheep", "sofa", "train", "tvmonitor"]
    assert description["training"]["crop"] == 512
    assert dkd(*words).exit_code == 0  # again: the same
    other = ("import", released_file, "--output", tmp_path / "other")
    message = refused(*other, "--task", "voc-15-1")
    assert re.search(r"tensor 'cls\.2\.\w+' is of another shape|'cls\.3\.\w+' is missing", message)
    names = [f"n{number}" for number in range(20)]
    message = refused(
        *other, "--classes", ",".join(names[:15]), "--classes", ",".join(names[15:19])
    )
    assert "'cls.2.bias' is of another shape" in message
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "known",
    [
        ("--task", "voc-15-5"),
        ("--classes", ",".join(f"n{i}" for i in range(15)), "--classes", "a,b,c,d,e"),
    ],
    ids=["published", "own"],
)
def test_an_imported_model_can_be_extended(
    dkd: Command, released_file: Path, place: Path, tmp_path: Path, known: tuple[str, ...]
) -> None:
    imported = dkd("import", released_file, *known, "--output", tmp_path / "ours")
    assert imported.exit_code == 0, imported.output
    data = Data(format="folder", root=str(place / "data"))
    added = stages.prepare_extension(
        str(tmp_path / "ours"), ["blue"], data, lambda s: s, str(tmp_path / "root"), lambda _: None
    )
    assert added.step == 2
    assert added.task.steps[2] == ("blue",)
    assert added.scenario.network == Network(backbone="resnet101")
    assert added.scenario.training.lr.later == 1e-4
    assert added.scenario.training.crop == 512


def test_an_imported_model_can_be_scored(
    dkd: Command, released_file: Path, place: Path, tmp_path: Path
) -> None:
    first = ",".join(["red", "green", *(f"n{i}" for i in range(13))])
    known = ("--classes", first, "--classes", "blue,b,c,d,e", "--crop", "32")
    imported = dkd("import", released_file, *known, "--output", tmp_path / "ours")
    assert imported.exit_code == 0, imported.output
    words = ("--data", place / "data", "--format", "folder")
    scored = dkd("evaluate", "--checkpoint", tmp_path / "ours", *words)
    assert scored.exit_code == 0, scored.output
    assert "6 validation images" in scored.stdout
    # Its tensors are zeros: it sees nothing but background.
    assert re.search(r"^ *1 +blue +0\.00 +0\.0 to 0\.0$", scored.stdout, re.M), scored.stdout


def test_import_refuses_bad_input(refused: Refused, tmp_path: Path) -> None:
    common = ("import", tmp_path / "gone.pth", "--output", tmp_path / "ours")
    assert refused(*common).startswith("--task or --classes: name the published task")
    assert refused(*common, "--task", "voc-1-1").startswith("--task voc-1-1: none of voc-19-1")
    message = refused(*common, "--task", "voc-15-1", "--step", 6)
    assert message == "--step 6: voc-15-1 has the steps 0 to 5"
    assert "empty names" in refused(*common, "--classes", "a,,b")
    assert "class 'a' is already in step 0" in refused(*common, "--classes", "a", "--classes", "a")
    assert "gone.pth: no such file" in refused(*common, "--classes", "a")
