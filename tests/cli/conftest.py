"""A small trained run that the tests of several commands share."""

import os
import re
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from fixtures.data_sets import make_squares

from dkd.cli import main
from dkd.network import checkpoint, deeplab
from dkd.scenario.network import Network
from dkd.storage import artifacts

SCENARIO = {
    "name": "squares",
    "data": {"format": "folder", "root": "data"},
    "task": [["red", "green"], ["blue"]],
    "method": "dkd",
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


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set and its scenario."""
    folder = tmp_path_factory.mktemp("squares")
    make_squares(folder / "data")
    data = {"data": {"format": "folder", "root": str(folder / "data")}}
    (folder / "squares.yaml").write_text(yaml.safe_dump({**SCENARIO, **data}))
    return folder


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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
