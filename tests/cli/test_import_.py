"""``dkd import``: checkpoints of the released program, and models of others."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result

from dkd.network import checkpoint
from dkd.scenario.data import Data
from dkd.scenario.network import Network
from dkd.steps import stages
from dkd.steps.step import StepSpec
from dkd.storage import artifacts

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


@pytest.fixture(scope="module")
def softmax_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of segmentation_models_pytorch's, of background and two classes."""
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(5)
    model = smp.DeepLabV3("resnet18", encoder_weights=None, decoder_channels=8, classes=3)
    path = tmp_path_factory.mktemp("smp") / "model.pth"
    torch.save(model.state_dict(), path)
    return path


def test_a_softmax_of_another_program_is_imported_and_extended(
    dkd: Command, refused: Refused, softmax_file: Path, place: Path, tmp_path: Path
) -> None:
    ours = tmp_path / "ours"
    (tmp_path / "classes.yaml").write_text("2: green\n1: red")
    words = ("--crop", 32, "--output", ours)
    imported = dkd("import", softmax_file, "--classes-file", tmp_path / "classes.yaml", *words)
    assert imported.exit_code == 0, imported.output
    assert "segmentation_models_pytorch's DeepLabV3 (resnet18)" in imported.stdout
    assert "2 classes in 1 steps" in imported.stdout
    assert "output stride 8, ASPP dilations 12/24/36, dropout 0.5" in imported.stderr
    manifest = artifacts.load(str(ours))
    assert manifest.metadata["source"]["architecture"].startswith("segmentation_models_py")
    kept = manifest.metadata["scenario"]["network"]
    assert (kept["output_stride"], kept["align_corners"]) == (8, True)
    assert dkd("import", softmax_file, "--classes", "red,green", *words).exit_code == 0  # the same
    message = refused("import", softmax_file, "--classes", "green,red", *words)
    assert message == f"{ours}: another checkpoint is already there; name another place"

    added = stages.prepare_extension(
        str(ours),
        ["blue"],
        Data(format="folder", root=str(place / "data")),
        lambda scenario: scenario.override(
            {
                "training.epochs.later": 1,
                "training.batch_size": 3,
                "training.loader_workers": 0,
            }
        ),
        str(tmp_path / "root"),
        lambda _: None,
    )
    assert added.task.steps == (("red", "green"), ("blue",))
    assert added.scenario.network.structure() == Network(**kept).structure()
    assert added.scenario.protocol == "corrected"
    spec = StepSpec(
        scenario=added.scenario,
        task=added.task.steps,
        step=1,
        dataset=added.dataset,
        root=str(tmp_path / "root"),
        teacher=str(ours),
    )
    made = stages.ensure(spec, "blue")
    assert made.keys() == {"train", "evaluate"}
    description = checkpoint.fetch(made["train"].uri).description
    assert description["classes"] == [["red", "green"], ["blue"]]
    assert description["network"]["align_corners"] is True
    assert description["parent"] == manifest.digest


def test_import_refuses_what_does_not_go_with_a_softmax(
    refused: Refused, softmax_file: Path, released_file: Path, tmp_path: Path
) -> None:
    common = ("import", softmax_file, "--output", tmp_path / "ours")
    assert "not a release; name its classes (--classes)" in refused(*common, "--task", "voc-15-1")
    message = refused(*common, "--classes", "red", "--classes", "green")
    assert "which learned all in one step; give --classes once" in message
    message = refused(*common, "--classes", "a,b,c")
    assert "3 names, but" in message
    assert "has 3 channels; name those of a softmax" in message
    sigmoids = ("--classes", "a,b,c", "--activation", "sigmoid")
    assert refused(*common, *sigmoids, "--background", 1).startswith("--background: belongs to a s")
    listed = tmp_path / "classes.yaml"
    listed.write_text("{1: red, 3: green}")
    message = refused(*common, "--classes-file", listed)
    assert "no class has the value 2; values are channel numbers here, 1 to 2" in message
    message = refused(*common, "--classes", "a,b", "--set", "network.output_stride=12")
    assert message.startswith("output_stride:") or "network" in message
    release = ("import", released_file, "--task", "voc-15-5", "--output", tmp_path / "ours")
    assert refused(*release, "--activation", "softmax").endswith("and has sigmoids")
    assert not (tmp_path / "ours").exists()
