"""Whole pipelines, as a person runs them: KFP's local runner, torchrun, a real S3 server."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
EXAMPLES = TESTS.parent / "docs" / "examples"
DEMO = [
    "demo",
    "--set",
    "data.pictograms.train=60",
    "--set",
    "data.pictograms.validation=12",
    "--set",
    "data.pictograms.size=32",
    "--set",
    "training.crop=32",
    "--set",
    "training.epochs.first=1",
    "--set",
    "training.epochs.later=1",
    "--set",
    "task=[[cat, fish, bird], [apple, tree], [plane]]",
]


def dkd(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dkd", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def first(workspace: Path) -> str:
    given = ("--variant", "DKD-M", "--model", "street", "--workspace", "w")
    done = dkd("run", *DEMO, *given, cwd=workspace)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_run_ends_with_a_table_and_a_report(first: str, workspace: Path) -> None:
    assert re.search(r"^DKD-M +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+", first, re.MULTILINE)
    assert "report: w/report.html" in first
    assert "<!doctype html>" in (workspace / "w/report.html").read_text()[:100].lower()


def test_every_step_is_a_job_of_two_ranks(first: str) -> None:
    assert len(re.findall(r"^step \d \(.*on 2 ranks \(cpu\)", first, re.MULTILINE)) == 3


def test_a_second_run_trains_nothing(first: str, workspace: Path) -> None:
    done = dkd("run", *DEMO, "--variant", "DKD-M", "--workspace", "w", cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert "ranks" not in done.stdout
    assert done.stdout.count("train: done") == 3


def test_another_variant_finds_step_0(first: str, workspace: Path) -> None:
    done = dkd("run", *DEMO, "--variant", "finetune", "--workspace", "w", cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert "step 0 train: found, made by run demo-dkd-m" in done.stdout
    assert len(re.findall(r"on 1 ranks", done.stdout)) == 2  # as the variant says


@pytest.fixture(scope="module")
def umbrellas(workspace: Path) -> str:
    """A data set with a class that the model does not know."""
    words = ("--new-class", "umbrella", "--train", "30", "--validation", "10", "--size", "32")
    made = dkd("data", "pictograms", "new", *words, cwd=workspace)
    assert made.returncode == 0, made.stderr
    return "new"


def test_a_model_is_extended_with_its_memory(first: str, workspace: Path, umbrellas: str) -> None:
    checkpoint = re.findall(r"step 2 train: .*?(s3://dkd/checkpoints/\w+)", first)[-1]
    memory = re.findall(r"step 2 memory: .*?(s3://dkd/memories/\w+)", first)[-1]
    done = dkd(
        "extend",
        "--teacher",
        checkpoint,
        "--memory",
        memory,
        "--classes",
        "umbrella",
        "--data",
        umbrellas,
        "--workspace",
        "w",
        "--set",
        "launch.processes_per_node=2",
        cwd=workspace,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"checkpoint: s3://dkd/checkpoints/\w+", done.stdout)
    assert "extension.html" in done.stdout


def test_a_named_model_finds_its_checkpoint_and_memory_itself(
    first: str, workspace: Path, umbrellas: str
) -> None:
    """They are those of the extension above, whose step is found. The result is version 2."""
    (made,) = re.findall(r"^model street version 1: .* (s3://\S+)$", first, re.MULTILINE)
    settings = ("--set", "launch.processes_per_node=2", "--workspace", "w")
    named = ("--model", "street", "--classes", "umbrella", "--data", umbrellas)
    extend = ("extend", *named, *settings)
    early = dkd(*extend, cwd=workspace)
    assert "model street: no version is in production; dkd models promote" in early.stderr
    promoted = dkd("models", "promote", "street", "1", "--workspace", "w", cwd=workspace)
    assert promoted.returncode == 0, promoted.stderr
    done = dkd(*extend, cwd=workspace)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"model street: from version 1, {made}\n" in done.stdout
    assert "step 3 train: done at " in done.stdout
    (second,) = re.findall(r"^model street version 2: Gate: .* (s3://\S+)$", done.stdout, re.M)
    assert done.stdout.splitlines()[-1] == f"checkpoint: {second}"


def test_a_model_of_an_older_version_is_extended(tmp_path: Path) -> None:
    """The root is that of ``tests/storage/test_upgrade.py``."""
    shutil.copytree(TESTS / "storage/root_of_0.1", tmp_path / "root")
    dataset = next((tmp_path / "root/datasets").iterdir()).name
    data = ["--data", f"root/datasets/{dataset}", "--format", "packed", "--classes", "three"]
    settings = ["--set", "launch.processes_per_node=1", "--set", "training.epochs.later=1"]
    done = dkd("extend", "--model", "street", *data, *settings, "--root", "root", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "step 1 starts from its teacher root/checkpoints/5940e3a7f72689" in done.stdout
    assert re.search(r"^step 1 \(three\): 5 images, 1 epochs", done.stdout, re.MULTILINE)
    assert "model street version 2: Gate: " in done.stdout


def test_bad_input_is_one_line_and_status_2(workspace: Path) -> None:
    done = dkd("run", *DEMO, "--set", "task=[[cat], [cat]]", "--workspace", "w2", cwd=workspace)
    assert done.returncode == 2
    assert "class 'cat' is already in step 0" in done.stderr.strip().splitlines()[-1]


@pytest.fixture
def photographs(shared: Path, tmp_path: Path) -> list[str]:
    scenario = str(EXAMPLES / "voc-photographs.yaml")
    weights = shared / "weights/mobilenet_v2_imagenet_fp16.safetensors"
    return [
        scenario,
        "--data",
        str(shared / "voc_subset"),
        "--set",
        f"network.weights={weights}",
        "--set",
        "training.epochs.first=1",
        "--set",
        "training.epochs.later=1",
        "--set",
        "training.crop=64",
        "--set",
        "task=[[cat, cow, horse], [sheep], [sofa]]",
        "--set",
        "network.aspp_channels=32",
        "--variant",
        "DKD-M",
        "--workspace",
        "w",
    ]


def test_photographs_in_voc_layout(photographs: list[str], tmp_path: Path) -> None:
    done = dkd("run", *photographs, "--root", str(tmp_path / "root"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = (tmp_path / "root/runs").glob("*/result.json")
    document = json.loads(result.read_text())
    assert document["task"] == [["cat", "cow", "horse"], ["sheep"], ["sofa"]]
    assert [len(step["scores"]["iou"]) for step in document["steps"]] == [4, 5, 6]
    assert len(document["steps"][0]["exemplars"]) > 0
