"""The commands that make and use models, end to end with tiny ones; artifacts in a folder."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from dkd.cli import main
from dkd.network import checkpoint, deeplab
from dkd.scenario.schema import Data, Network
from dkd.steps import stages
from dkd.storage import artifacts

Command = Callable[..., Result]
Refused = Callable[..., str]
CLASSES = {1: "red", 2: "green", 5: "blue"}
SCENARIO = {
    "name": "squares",
    "data": {"format": "folder", "root": "data"},
    "task": [["red", "green"], ["blue"]],
    "memory_size": 4,
    "network": {"backbone": "demo", "aspp_channels": 16},
    "training": {
        "epochs": {"first": 1, "later": 1},
        "batch_size": 4,
        "crop": 32,
        "lr": {"first": 0.01, "later": 0.001},
        "precision": "fp32",
        "loader_workers": 0,
    },
    "variants": {"DKD": {}},
}


def make_squares(root: Path) -> None:
    """Coloured squares on grey, one class an image."""
    rng = np.random.default_rng(3)
    for split, count in (("train", 9), ("validation", 6)):
        for number in range(count):
            value = list(CLASSES)[number % 3]
            pixels = rng.integers(90, 120, (40, 48, 3), dtype=np.uint8)
            labels = np.zeros((40, 48), np.uint8)
            top, left = rng.integers(0, 20, 2)
            pixels[top : top + 16, left : left + 16, number % 3] = 250
            labels[top : top + 16, left : left + 16] = value
            for folder, array in (("images", pixels), ("masks", labels)):
                path = root / folder / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    (root / "classes.yaml").write_text(yaml.safe_dump(CLASSES))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set and its scenario."""
    folder = tmp_path_factory.mktemp("squares")
    make_squares(folder / "data")
    data = {"data": {"format": "folder", "root": str(folder / "data")}}
    (folder / "squares.yaml").write_text(yaml.safe_dump({**SCENARIO, **data}))
    return folder


@pytest.fixture(scope="module")
def trained(place: Path) -> dict[str, str]:
    """URIs that ``dkd train`` names for both steps, e.g. ``1 train``."""
    words = ["train", place / "squares.yaml", "--variant", "DKD", "--root", place / "root"]
    words += ["--workspace", place / "workspace"]
    uris: dict[str, str] = {}
    for step in (0, 1):
        inputs: list[object] = ["--step", step]
        if step:
            inputs += ["--teacher", uris["0 train"], "--memory", uris["0 memory"]]
        before = dict(os.environ)
        result = CliRunner().invoke(main, [str(word) for word in (*words, *inputs)])
        assert result.exit_code == 0, result.output
        assert dict(os.environ) == before
        for stage, uri in re.findall(r"^(train|evaluate|memory) +(\S+)$", result.stdout, re.M):
            uris[f"{step} {stage}"] = uri
    return uris


@pytest.fixture(scope="module")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of random weights for the squares, published by hand."""
    folder = tmp_path_factory.mktemp("random")
    torch.manual_seed(1)
    network = Network(backbone="demo", aspp_channels=16)
    description = {
        "classes": [["blue"], ["red", "pink"]],
        "network": network.model_dump(),
        "training": {"crop": 32},
        "dataset": {"name": "data"},
    }
    parts = checkpoint.write(folder, deeplab.build(network, [1, 2]), description)
    uri = str(folder / "published")
    artifacts.publish(uri, parts, kind="checkpoint", metadata={})
    return uri


def test_train_makes_each_stage_of_both_steps(trained: dict[str, str]) -> None:
    stages = [f"{step} {stage}" for step in (0, 1) for stage in ("train", "evaluate", "memory")]
    assert list(trained) == stages
    last = artifacts.load(trained["1 train"])
    assert last.metadata["run"] == "squares-dkd"
    assert last.metadata["teacher"]["uri"] == trained["0 train"]
    assert last.metadata["memory"]["uri"] == trained["0 memory"]


def test_train_finds_what_is_there(dkd: Command, trained: dict[str, str], place: Path) -> None:
    words = ("--step", 0, "--root", place / "root", "--run-name", "another")
    result = dkd("train", place / "squares.yaml", *words)
    assert result.exit_code == 0, result.output
    assert "step 0 train: found, made by run squares-dkd" in result.stdout
    assert trained["0 train"] in result.stdout


def test_training_shows_a_bar_on_a_terminal(
    in_terminal: Callable[..., str], place: Path, tmp_path: Path
) -> None:
    """What training prints is what the bar is moved by."""
    words = ("train", place / "squares.yaml", "--step", 0, "--root", tmp_path / "root")
    shown = in_terminal(*words)
    assert "step 0 epoch 1/1" in shown  # the bar
    assert "0:00:00" in shown.rpartition(" left ")[2]  # nothing is left
    assert "  epoch 1/1: " in shown  # the line itself, above it


def test_memory_show_counts_classes(dkd: Command, trained: dict[str, str]) -> None:
    result = dkd("memory", "show", trained["0 memory"], "--images")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert "4 exemplars (4 of step 0)" in result.stdout
    assert ["0", "red", "2"] in lines
    assert ["0", "green", "2"] in lines
    assert len(lines) == 2 + 2 + 4


def test_memory_choose_finds_the_steps_memory(
    dkd: Command, trained: dict[str, str], place: Path
) -> None:
    words = (place / "squares.yaml", "--step", 0, "--root", place / "root")
    result = dkd("memory", "choose", *words)
    assert result.exit_code == 0, result.output
    assert trained["0 memory"] in result.stdout


def test_evaluate_agrees_with_the_evaluation_that_training_made(
    dkd: Command, trained: dict[str, str], place: Path, tmp_path: Path
) -> None:
    words = ("--data", place / "data", "--format", "folder", "-o", tmp_path / "scores.json")
    result = dkd("evaluate", "--checkpoint", trained["1 train"], *words)
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "scores.json").read_text())
    published = artifacts.load(trained["1 evaluate"])
    made = json.loads(artifacts.read_part(published, "evaluation.json"))
    assert document["confusion"] == made["confusion"]
    assert document["images"] == made["images"] == 6
    rows = [line.split() for line in result.stdout.splitlines()]
    shown = {row[-5]: row[-4:] for row in rows if row[-2:-1] == ["to"]}
    scored, within = document["scores"], document["intervals"]

    def line(figure: float, ends: list[float]) -> list[str]:
        return [f"{figure:.2f}", f"{ends[0]:.1f}", "to", f"{ends[1]:.1f}"]

    assert shown["blue"] == line(scored["iou"][3], within["iou"][3])
    assert shown["mIoU_all"] == line(scored["miou_all"], within["miou_all"])


def test_evaluate_matches_classes_by_name(
    dkd: Command, random_checkpoint: str, place: Path
) -> None:
    words = ("--checkpoint", random_checkpoint, "--data", place / "data", "--format", "folder")
    for more in ((), ("--protocol", "paper"), ("--split", "train")):
        result = dkd("evaluate", *words, *more)
        assert result.exit_code == 0, result.output
        assert "not in the data set: pink" in result.stderr
    assert "6 train images of data, protocol corrected" in result.stdout


def test_predict_writes_masks_in_the_images_sizes(
    dkd: Command, trained: dict[str, str], place: Path, tmp_path: Path
) -> None:
    images = place / "data" / "images" / "validation"
    words = ("--checkpoint", trained["1 train"], images, "--output", tmp_path / "out")
    result = dkd("predict", *words)
    assert result.exit_code == 0, result.output
    assert "masks and overlays of 6 images" in result.stdout
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 6
    assert Image.open(tmp_path / "out" / "masks" / "0.png").size == (48, 40)


def test_predict_goes_on_after_a_bad_image_and_says_so(
    dkd: Command, random_checkpoint: str, tmp_path: Path
) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (9, 9)).save(good)
    bad.write_text("text")
    words = ("predict", good, bad, "--output", "out", "--checkpoint", random_checkpoint)
    for there in ("", ", 1 were there"):
        result = dkd(*words)
        assert result.exit_code == 1, result.output
        assert f"masks and overlays of 1 images{there}, classes.json" in result.stdout
        lines = result.stderr.splitlines()
        assert sum(line.startswith(f"dkd: {bad}: ") for line in lines) == 1
        assert lines[-1] == "1 of 2 images could not be read"
    assert Image.open(tmp_path / "out/masks/good.png").size == (9, 9)


def test_predict_refuses_bad_input_and_writes_nothing(
    refused: Refused, trained: dict[str, str], tmp_path: Path
) -> None:
    good = tmp_path / "good.png"
    Image.new("RGB", (9, 9)).save(good)
    common = ("predict", good, "--output", "out", "--checkpoint")
    assert "no whole artifact there" in refused(*common, tmp_path / "none")
    assert "is a memory, not a checkpoint" in refused(*common, trained["0 memory"])
    assert "no such file" in refused("predict", "gone", *common[2:], trained["0 train"])
    assert not (tmp_path / "out").exists()


def test_evaluate_refuses_bad_input(
    refused: Refused, random_checkpoint: str, place: Path, tmp_path: Path
) -> None:
    common = ("evaluate", "--checkpoint", random_checkpoint, "--format", "folder", "--data")
    assert "none: no such folder" in refused(*common, tmp_path / "none")
    other = tmp_path / "other"
    make_squares(other)
    (other / "classes.yaml").write_text("{1: oak, 2: elm, 5: fir}")
    assert "has none of the model's classes (blue, red, pink" in refused(*common, other)


def test_train_refuses_bad_input(refused: Refused, place: Path, trained: dict[str, str]) -> None:
    common = ("train", place / "squares.yaml", "--root", place / "root", "--step")
    assert refused(*common, 2) == "--step 2: squares has the steps 0 to 1"
    assert refused(*common, 1) == "--teacher: name the checkpoint of step 0"
    message = refused(*common, 0, "--teacher", trained["0 train"])
    assert message == "--teacher: step 0 has no teacher"
    message = refused(*common, 1, "--teacher", trained["1 train"])
    assert 'knows [["red", "green"], ["blue"]]' in message
    choose = ("memory", "choose", place / "squares.yaml", "--root", place / "root", "--step", 0)
    assert "memory_size: is 0" in refused(*choose, "--set", "memory_size=0")
    assert "step 0: not trained yet" in refused(*choose, "--set", "seed=9")


def test_memory_show_refuses_other_artifacts(refused: Refused, random_checkpoint: str) -> None:
    message = refused("memory", "show", random_checkpoint)
    assert message == f"{random_checkpoint}: is a checkpoint, not an exemplar memory"


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
