"""Initial weights where pods have no way out: told, put there from outside, trained from."""

from pathlib import Path

import pytest
from commands import dkd
from fixtures.web import Web, named, saved
from tasks import Task, Tasks

from dkd import storage
from dkd.scenario.schema import Scenario
from dkd.steps import initial_weights, stages
from dkd.storage import artifacts

BACKBONE = "mobilenet_v2"


@pytest.fixture(scope="module")
def weights() -> bytes:
    """A file of torchvision's format."""
    from torchvision.models import mobilenet_v2

    return saved(mobilenet_v2().state_dict())


def first_step(tasks: Tasks, scenario: Scenario, root: str, weights: str) -> Task:
    """Starts a run's first task."""
    network = {"network.backbone": BACKBONE, "network.weights": weights}
    return tasks.start(
        "first-step",
        scenario=scenario.override(network).model_dump_json(),
        workflow="weights-workflow",
        **{**tasks.pipeline.form, "initial_weights": "", "artifact_root": root, "run_name": ""},
    )


def test_imagenet_weights_are_put_there_from_outside(
    tasks: Tasks, scenario: Scenario, store: str, web: Web, weights: bytes
) -> None:
    root = f"{store}/no-way-out"
    said = first_step(tasks, scenario, root, "imagenet").failure()
    assert said.startswith("dkd: network.weights: https://download.pytorch.org/models/mobilenet_v2")
    assert "\n" not in said.strip()
    assert f"dkd weights add FILE --backbone {BACKBONE} --root {root}; " in said

    # The machine of whoever reads that has a way out: here to a server with such a file.
    name = named("copy-of-mobilenet_v2", weights)
    web.files[f"/{name}"] = weights
    dkd("weights", "add", f"{web.address}/{name}", "--backbone", BACKBONE, "--root", root)

    trained = first_step(tasks, scenario, root, "imagenet")
    checkpoint = artifacts.load(trained.result(600)["checkpoint"])
    found = initial_weights.kept(root, BACKBONE)
    assert found is not None
    assert f"initial weights: {initial_weights.describe(found)}" in trained.log
    assert checkpoint.metadata["initial_weights"] == initial_weights.reference(found)
    assert f"step 0 starts from {initial_weights.describe(found)}" in trained.log


def test_a_file_in_s3_is_converted_by_a_job(
    tasks: Tasks, scenario: Scenario, store: str, weights: bytes, tmp_path: Path
) -> None:
    root, given = f"{store}/given", f"{store}/files/mine.pth"
    path = tmp_path / "mine.pth"
    path.write_bytes(weights)
    storage.upload(path, given)
    trained = first_step(tasks, scenario, root, given)
    resolved = stages.parsed(storage.read_bytes(trained.result(600)["scenario"]))
    assert "initial weights: converting mine.pth" in trained.log
    uri = initial_weights.given_uri(root, BACKBONE, storage.file_sha256(path))
    assert resolved.network.weights == uri
    assert artifacts.load(uri).metadata["backbone"] == BACKBONE
