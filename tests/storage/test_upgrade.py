"""What version 0.1 left under an artifact root, as today's commands read it.

``root_of_0.1`` is that of commit ce8e79e (formats and keys of 0.1.0), as it wrote it but for the
run's page and the name of a machine:

    dkd run digits.yaml --root root --model street; dkd models promote street 1 --root root

with two epochs of ``star`` on 10 scenes of the demonstration's digits, packed, and three exemplars:
a checkpoint with statistics, a memory, an evaluation, a data set, a result, a model's version.
``dkd extend`` of it is in ``tests/pipelines/test_whole_runs.py``.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from dkd.scenario.schema import parse
from dkd.steps import stages, step
from dkd.storage import artifacts

ROOT = Path(__file__).with_name("root_of_0.1")
CHECKPOINT = "root/checkpoints/5940e3a7f7268957aa2e922736456f9a"
EVALUATION = "root/evaluations/553cb6cc7deb4d57324b9e5161adf10d"
DATASET = "root/datasets/d40e7b4522536a1fee3b9f815c29c856"
MEMORY = "root/memories/4528d8c60e73bdf79fa0990f1556968a"
KINDS = {
    CHECKPOINT: "checkpoint",
    EVALUATION: "evaluation",
    DATASET: "dataset",
    MEMORY: "memory",
}


@pytest.fixture
def root(dkd: Callable[..., Result], tmp_path: Path) -> Path:
    """A copy of it where the command runs: it was given by that name."""
    return Path(shutil.copytree(ROOT, tmp_path / "root"))


def test_runs_and_models_are_listed_and_explained(dkd: Callable[..., Result], root: Path) -> None:
    for words, told in (
        (["runs"], "digits-of-0.1  finished"),
        (["runs", "why", "digits-of-0.1"], "trained 2026-11-28T09:43:46"),
        (["models", "show", "street"], "two, seven, four, five"),
        (["report", "digits-of-0.1", "--output", "report.html"], "star        23.5"),
    ):
        done = dkd(*words, "--root", "root")
        assert done.exit_code == 0, done.output
        assert told in done.stdout


def test_a_model_is_scored_as_it_was(dkd: Callable[..., Result], root: Path) -> None:
    words = ("--checkpoint", CHECKPOINT, "--data", DATASET, "--format", "packed", "-o", "now.json")
    done = dkd("evaluate", *words)
    assert done.exit_code == 0, done.output
    before = step.read_json(artifacts.load(EVALUATION), step.EVALUATION)
    assert json.loads(Path("now.json").read_text())["confusion"] == before["confusion"]


def test_a_model_segments_images(dkd: Callable[..., Result], root: Path) -> None:
    images = sorted((root / EVALUATION.removeprefix("root/")).rglob("*.image.jpg"))
    done = dkd("predict", "--checkpoint", CHECKPOINT, *images, "--output", "out")
    assert done.exit_code == 0, done.output
    assert f"masks and overlays of {len(images)} images" in done.stdout


def test_a_memory_is_shown(dkd: Callable[..., Result], root: Path) -> None:
    done = dkd("memory", "show", MEMORY)
    assert done.exit_code == 0, done.output
    assert "3 exemplars" in done.stdout


def test_what_it_trained_is_found(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(root.parent / "cache"))
    document = json.loads(Path("root/runs/digits-of-0.1/scenario.json").read_text())
    given = parse(document, source="scenario.json")
    prepared = stages.prepare(given, "root", progress=lambda _line: None)
    assert prepared.dataset == DATASET
    spec = step.StepSpec(
        scenario=prepared.scenario,
        task=prepared.task.steps,
        step=0,
        dataset=prepared.dataset,
        root="root",
    )
    found, checkpoint = step.Step.open(spec), artifacts.load(CHECKPOINT)
    assert found.checkpoint_uri == CHECKPOINT
    assert found.evaluation_uri(checkpoint) == EVALUATION
    assert found.memory_uri(checkpoint) == MEMORY


def test_what_a_newer_version_wrote_is_refused_in_one_line(
    refused: Callable[..., str], root: Path
) -> None:
    for uri, kind in KINDS.items():
        file = Path(uri, artifacts.MANIFEST)
        document = json.loads(file.read_text())
        assert (document["format"], document["kind"]) == (1, kind)
        file.write_text(json.dumps({**document, "format": 1 + artifacts.KIND_FORMATS[kind]}))
    expected = f"has format {1 + artifacts.KIND_FORMATS['checkpoint']}, written by a newer version"
    data = ("--data", DATASET, "--format", "packed")
    assert expected in refused("evaluate", "--checkpoint", CHECKPOINT, *data)
    assert expected in refused("predict", "--checkpoint", CHECKPOINT, root, "--output", "out")
    assert expected in refused("memory", "show", MEMORY)
    assert expected in refused("runs", "--root", "root")
    assert not Path("out").exists()
