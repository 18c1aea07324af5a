"""Commands that a person runs at a desk work without Linux: compile, scenarios, report, runs,
predict and submit.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_kfp import FakeKfp, serving
from PIL import Image

from dkd import storage
from dkd.network import checkpoint, deeplab
from dkd.report.model import DatasetRef, RunResult, Scores, StepResult
from dkd.scenario.network import Network
from dkd.storage import artifacts

HERE = Path(__file__).parent
EVERY_MODULE = """
import importlib, os, pkgutil, signal, elsewhere
import dkd
for module in pkgutil.walk_packages(dkd.__path__, "dkd."):
    if module.name != "dkd.__main__":
        importlib.import_module(module.name)

def refused(code):
    try:
        exec(code, {"__name__": "dkd.some.module"})
    except (ImportError, AttributeError):
        return True

assert refused("import fcntl") and refused("import os; os.fork") and not refused("import json")
assert refused("from signal import SIGHUP") and refused("import os; os.sched_getaffinity(0)")
print("all")
"""


def elsewhere(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    python = [sys.executable, "-X", "warn_default_encoding"]
    return subprocess.run(
        [*python, *map(str, words)],
        env={**os.environ, "DKD_CACHE": str(folder / "cache")},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def dkd(tmp_path: Path) -> Callable[..., str]:
    """Runs a command where nothing is that Unix alone has; returns its output."""

    def run(*words: object) -> str:
        done = elsewhere(HERE / "elsewhere.py", *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_every_module_is_imported_without_what_unix_alone_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (str(HERE), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    done = elsewhere("-c", EVERY_MODULE, folder=tmp_path)
    assert done.stdout == "all\n", done.stderr


def test_scenarios_and_compile(dkd: Callable[..., str], tmp_path: Path) -> None:
    assert "voc-15-1" in dkd("scenarios")
    (tmp_path / "own.yaml").write_text(dkd("scenarios", "demo", "--yaml"))
    assert dkd("compile", "own.yaml", "-o", "pipeline.yaml") == "pipeline.yaml\n"
    assert (tmp_path / "pipeline.yaml").stat().st_size > 1000


def test_runs_and_report_of_a_root_in_s3(dkd: Callable[..., str], s3_root: str) -> None:
    result = RunResult(
        scenario="tiny",
        variant="DKD",
        method="dkd",
        seed=1,
        task=(("Kätzchen",),),
        colours=((0, 0, 0), (64, 0, 0)),
        dataset=DatasetRef(name="pets", digest="0" * 64),
        steps=(StepResult(step=0, new_classes=("Kätzchen",), scores=Scores(iou=(90.0, 60.0))),),
    )
    assert dkd("runs", "--root", s3_root) == f"{s3_root}: no runs\n"
    storage.write_bytes(storage.join(s3_root, "runs/tiny/result.json"), result.to_json())
    assert "DKD" in dkd("report", "tiny", "--root", s3_root, "-o", "page.html")


def test_predict_with_a_model_in_s3(dkd: Callable[..., str], s3_root: str, tmp_path: Path) -> None:
    network = Network(backbone="demo", aspp_channels=16)
    description = {
        "classes": [["cat"], ["dog"]],
        "network": network.model_dump(),
        "training": {"crop": 32},
        "dataset": {"name": "pets"},
    }
    parts = checkpoint.write(tmp_path, deeplab.build(network, [1, 1]), description)
    uri = storage.join(s3_root, "model")
    artifacts.publish(uri, parts, kind="checkpoint", metadata={})
    Image.new("RGB", (40, 32)).save(tmp_path / "image.png")
    dkd("predict", "image.png", "--checkpoint", uri, "-o", "masks")
    assert list((tmp_path / "masks").iterdir())


def test_submit(dkd: Callable[..., str]) -> None:
    kfp = FakeKfp()
    with serving(kfp) as url:
        words = ("--data", "s3://b/voc", "--training-image", "r/t@sha256:1")
        dkd("submit", "voc-15-5", "--endpoint", url, "--root", "s3://b/dkd", *words)
    assert len(kfp.runs) == 1
