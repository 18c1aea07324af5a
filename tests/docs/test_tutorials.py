"""The tutorials' own commands, taken from their pages and run, on less data and for fewer epochs.

A reader's steps in order: a block with a title is a file that is saved, a line of a block of the
shell is run. :data:`SMALLER` are the only changes; a test fails if the page does not say what is
changed. What is not run here is named with its reason. Every command is also held against the
command line's definition (``test_commands.py``).
"""

import json
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from fake_kfp import FakeKfp
from fixtures.data_sets import make_voc
from fixtures.web import Web, named
from PIL import Image
from shown import ROOT, SHELL, blocks, lines

from dkd.cli import main
from dkd.scenario import imagenet

TUTORIALS = ROOT / "docs/tutorials"


class Reader:
    """Follows a page in the current folder.

    Attributes:
        printed: what each command printed, by its text on the page.
        server: that the page had started, if any.
    """

    def __init__(
        self,
        page: str,
        smaller: Mapping[str, str],
        left_out: Sequence[str],
        refused: Sequence[str] = (),
    ) -> None:
        self.blocks = blocks(TUTORIALS / page)
        self.smaller, self.left_out, self.refused = smaller, left_out, refused
        self.printed: dict[str, str] = {}
        self.server: subprocess.Popen[str] | None = None
        whole = "\n".join(block.text for block in self.blocks)
        for said in (*smaller, *left_out, *refused):
            assert said in whole, f"{page} does not say {said!r}"

    def follow(self) -> None:
        for block in self.blocks:
            if block.title:
                Path(block.title).write_text(self._less(block.text), encoding="utf-8")
            elif block.language in SHELL:
                for line in lines(block):
                    if not line.startswith(tuple(self.left_out)):
                        self._run(line)

    def _less(self, text: str) -> str:
        for said, instead in self.smaller.items():
            text = text.replace(said, instead)
        return text

    def _run(self, line: str) -> None:
        program, *words = shlex.split(self._less(line))
        if program == "python":
            runpy.run_path(words[0], run_name="__main__")
            return
        if program == "curl":
            ended = subprocess.run([program, *words], capture_output=True, check=True)
            self.printed[line] = ended.stdout.decode()
            return
        assert program == "dkd", f"this test knows no {program}"
        if words[0] == "serve":
            command = [sys.executable, "-m", "dkd", *words]
            self.server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert self.server.stdout
            self.printed[line] = self.server.stdout.readline()
            return
        if words[0] in ("run", "extend"):  # KFP's runner wants a process of its own
            command = [sys.executable, "-m", "dkd", *words]
            ended = subprocess.run(command, capture_output=True, text=True)
            status, told = ended.returncode, ended.stderr
        else:
            ended = CliRunner().invoke(main, words)
            status, told = ended.exit_code, ended.stderr
        assert status == (2 if line in self.refused else 0), f"{line}: {ended.stdout}{told}"
        self.printed[line] = told if status else ended.stdout

    def said(self, start: str) -> str:
        """What the command that begins so printed."""
        (text,) = [text for line, text in self.printed.items() if line.startswith(start)]
        return text


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_your_own_data(folder: Path) -> None:
    smaller = {
        "--train 1000 --validation 200": "--train 40 --validation 10 --size 32",
        "epochs: {first: 14, later: 16}": "epochs: {first: 1, later: 1}",
        "  finetune: {method: finetune}\n": "",
    }
    reader = Reader("your-own-data.md", smaller, ())
    reader.follow()
    assert re.search(r"^validation +\d+ +32..32", reader.said("dkd data check"), re.M)
    assert "<img" in (folder / "labels.html").read_text()
    assert re.search(r"^DKD-M( +\d+\.\d){4}", reader.said("dkd run"), re.M)
    report = (folder / "dkd-workspace/report.html").read_text()
    assert "seven" in report
    assert re.search(r"\b1\b.*production", reader.said("dkd models list"))


def test_add_a_class(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models.segmentation import (
        DeepLabV3_MobileNet_V3_Large_Weights,
        deeplabv3_mobilenet_v3_large,
    )

    # In the place of torchvision's download: a model of its shape that has learned nothing.
    torch.manual_seed(1)
    model = deeplabv3_mobilenet_v3_large(num_classes=21, weights_backbone=None, aux_loss=True)
    downloads = folder / "torch/hub/checkpoints"
    downloads.mkdir(parents=True)
    address = DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.url
    torch.save(model.state_dict(), downloads / address.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(folder / "torch"))

    smaller = {
        "--crop 520": "--crop 64",
        "--train 200 --validation 60": "--train 30 --validation 10",
        "training.epochs.later=5": "training.epochs.later=1",
        "training.batch_size=8": "training.batch_size=4",
    }
    reader = Reader("add-a-class.md", smaller, ())
    reader.follow()
    assert "torchvision's deeplabv3_mobilenet_v3_large" in reader.said("dkd import")
    assert "20 classes in 1 steps" in reader.said("dkd import")
    assert (folder / "dkd-workspace/extension.html").exists()
    known = json.loads((folder / "segmented/classes.json").read_text())
    assert "seven" in json.dumps(known)
    (mask, *_) = sorted((folder / "segmented/masks").glob("*.png"))
    assert Image.open(mask).size == (64, 64)
    versions = [line.split()[:2] for line in reader.said("dkd models list").splitlines()[1:]]
    assert [number for number, _ in versions] == ["1", "2"]
    assert versions[0][1] == "production"
    assert "version 2 in production instead of version 1" in reader.said(
        "dkd models promote street 2"
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands need curl")
def test_into_service(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step is trained in the place of two, so the gates differ in its place, too."""
    monkeypatch.setenv("DKD_ROOT", str(folder / "root"))
    make_voc(folder / "VOC2012")
    shutil.copy(folder / "VOC2012/JPEGImages/2007_000000.jpg", folder / "photograph.jpg")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    smaller = {
        "- [car, cat, chair, cow, dog, horse]": "- [aeroplane, bicycle, bird]",
        "{backbone: mobilenet_v2, weights: imagenet}": (
            "{backbone: demo, weights: none, aspp_channels: 16}"
        ),
        "epochs: {first: 15, later: 16}": "epochs: {first: 1, later: 1}",
        "crop: 128": "crop: 32",
        "{miou_all_at_least: 30, new_classes_at_least: 3, old_classes_may_lose_at_most: 5}": (
            "{new_classes_at_least: 0}"
        ),
        "--classes sheep": "--classes car",
        "--set training.epochs.later=1": "--set gate.new_classes_at_least=99",
        "serve street-1.onnx": f"serve street-1.onnx --port {port}",
        "127.0.0.1:8080": f"127.0.0.1:{port}",
    }
    reader = Reader("into-service.md", smaller, (), ("dkd models promote street 2",))
    try:
        reader.follow()
    finally:
        if reader.server:
            reader.server.terminate()
            reader.server.communicate()
    assert "model street version 1: Gate: passed, " in reader.said("dkd run")
    seen = json.loads(reader.said("curl -s --data-binary @photograph.jpg 'http"))
    assert (seen["width"], seen["height"]) == Image.open(folder / "mask.png").size
    assert "send one" in json.loads(reader.said("curl -s --data-binary @street.yaml"))["error"]
    assert "Gate: failed, car " in reader.said("dkd models promote street 2")
    assert "instead of version 1" in reader.said("dkd models promote street 3")
    assert "version 1 back in production" in reader.said("dkd models rollback")
    listed = reader.said("dkd models list").splitlines()
    assert [line.split()[0] for line in listed] == ["VERSION", "1", "3"]


def test_reproduce_a_row(
    folder: Path, kfp: FakeKfp, web: Web, mobilenet: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but the training, which needs VOC and a GPU: ``test_commands.py`` checks its commands."""
    make_voc(folder / "VOCdevkit/VOC2012")
    file = named("mobilenet_v2", mobilenet)
    web.files[f"/{file}"] = mobilenet
    monkeypatch.setitem(imagenet.FILES, "mobilenet_v2", file)
    monkeypatch.setenv("DKD_WEIGHTS_URL", web.address)
    monkeypatch.setenv("DKD_ROOT", "kept")  # instead of a store in the workspace
    smaller = {
        "VOC2012 --format voc --published": "VOC2012 --format voc",
        "fetch resnet101 --root s3://bucket/dkd": "fetch mobilenet_v2 --root kept",
        "fetch resnet101": "fetch mobilenet_v2",
        "VOC2012 s3://bucket/datasets/voc": "VOC2012 packed",
        "-o voc-15-1.yaml": "--training-image R/training@sha256:2 -o voc-15-1.yaml",
    }
    reader = Reader("reproduce-a-row.md", smaller, ("dkd run voc", "dkd report"))
    reader.follow()
    page = (TUTORIALS / "reproduce-a-row.md").read_text()
    (row,) = re.findall(r"^DKD-M .*$", reader.said("dkd scenarios voc-15-1"), re.M)
    said = re.search(r"([\d.]+) hIoU and ([\d.]+) mIoU", page)
    assert said
    assert row.split()[-2:] == list(said.groups())
    assert "This is not the data set of the published tables" in reader.said("dkd data check")
    assert web.asked == [f"/{file}"]  # the page's second command finds what the first one kept
    assert "60 train, 25 validation" in reader.said("dkd data pack")
    assert re.search(r"succeeded +voc-15-1 ", reader.said("dkd submit").splitlines()[-1])
    (run,) = kfp.runs
    given = run["runtime_config"]["parameters"]
    assert [given[f"training_{name}"] for name in ("nodes", "gpus_per_node")] == [2, 8]


def test_first_cluster(folder: Path, kfp: FakeKfp) -> None:
    """The data, the scenario, its pipeline and the run, with a stand-in for Kubeflow Pipelines;
    the cluster's own commands are those of its workflow.
    """
    outside = ("docker", "kind ", "kubectl", "echo ", "export ")
    smaller = {
        "s3://mlpipeline/datasets/scenes --format": "packed --format",
        "--launcher-image $(cat build/images/launcher)": "--launcher-image R/launcher@sha256:1",
        "--training-image $(cat build/images/training)": "--training-image R/training@sha256:2",
        " --endpoint http://127.0.0.1:8080": "",
        "runs --root s3://mlpipeline/first": "runs --root first",
    }
    reader = Reader("first-cluster.md", smaller, outside)
    reader.follow()
    assert "160 train, 40 validation" in reader.said("dkd data pack")
    documents = list(yaml.safe_load_all((folder / "first-run-pipeline.yaml").read_text()))
    fields = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert fields["data_set_uri"]["defaultValue"] == "s3://mlpipeline/datasets/scenes"
    assert fields["training_nodes"]["defaultValue"] == 2
    assert reader.said("dkd submit").splitlines()[-1].endswith("succeeded  first")
    assert "first" in reader.said("dkd status")
    assert "=== Step 1: + four, five" in reader.said("dkd logs first")


def test_the_cluster_is_made_as_its_workflow_makes_it() -> None:
    """The same versions and addresses, so that what the workflow runs is what a reader types."""
    workflow = (ROOT / ".github/workflows/cluster.yml").read_text()
    variables = dict(re.findall(r"^      ([A-Z_]+): ([0-9a-f]{40})$", workflow, re.M))
    releases = re.search(r"releases ([\d.]+), (v[\d.]+) and", workflow)
    assert releases
    named = {variables["PIPELINES"]: releases[1], variables["TRAINER"]: releases[2]}
    for name, value in variables.items():
        workflow = workflow.replace(f"${name}", named.get(value, value))
    for name, value in re.findall(r"^ +(kustomize|overlays)=(\S+)$", workflow, re.M):
        workflow = workflow.replace(f"${name}", value)
    shown = [line for block in blocks(TUTORIALS / "first-cluster.md") for line in lines(block)]
    made = [
        line for line in shown if "://github.com" in line or line.startswith(("docker ", "kind "))
    ]
    same = [line for line in made if line.replace('"', "") in workflow.replace('"', "")]
    different = ("kind create cluster", "docker exec -i", "kind delete", "docker rm", "docker/")
    assert len(same) >= 6
    assert [line for line in made if line not in same and not line.startswith(different)] == []
