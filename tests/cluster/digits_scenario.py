"""What the suites on a cluster train: handwritten digits in three steps, with a memory."""

import os
from pathlib import Path

from commands import dkd

from dkd.scenario.schema import Scenario, parse

BUCKET = "mlpipeline"


def image(name: str) -> str:
    """An image of docker/ by digest, as it was pushed."""
    return (Path(os.environ["DKD_TEST_IMAGES"]) / name).read_text().strip()


def pack_digits(folder: Path, uri: str) -> None:
    """Draws scenes of digits in a folder and packs them into the cluster's store."""
    dkd("data", "digits", str(folder / "scenes"), "--train", "160", "--validation", "40")
    dkd("data", "pack", str(folder / "scenes"), uri, "--format", "folder")


def digits_scenario(name: str, data: str, training_image: str, *, ranks: int) -> Scenario:
    """A scenario whose steps are TrainJobs of two nodes with so many ranks each."""
    document = {
        "name": name,
        "data": {"format": "packed", "root": data},
        "task": [["zero", "one", "two", "three"], ["four", "five"], ["six", "seven"]],
        "method": "dkd",
        "memory_size": 12,
        "network": {"backbone": "demo", "aspp_channels": 16},
        "training": {
            "epochs": {"first": 2, "later": 2},
            "batch_size": 8,
            "crop": 64,
            "lr": {"first": 0.015, "later": 0.0006},
            "precision": "fp32",
            "loader_workers": 1,
            "save_interval": 5,
        },
        "launch": {
            "backend": "trainjob",
            "image": training_image,
            "nodes": 2,
            "processes_per_node": ranks,
            "cpu": "100m",
            "memory": "3Gi",
            "shared_memory": "256Mi",
        },
    }
    return parse(document, source="tests/cluster")
