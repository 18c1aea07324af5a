"""A Kubeflow Pipelines to run on: whatever ``DKD_KFP_ENDPOINT`` names, and the S3 store that its
pods and this machine reach (``AWS_ENDPOINT_URL_S3`` and keys, as this machine reaches it).
"""

import os
import uuid
from pathlib import Path

import pytest
from commands import dkd
from digits_scenario import BUCKET, digits_scenario, image, pack_digits

from dkd.scenario.parsing import dump

NEEDED = ("DKD_KFP_ENDPOINT", "DKD_TEST_IMAGES", "AWS_ENDPOINT_URL_S3")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(1800))
            if missing:
                why = f"no Kubeflow Pipelines: {', '.join(missing)} not set; see `make test-kfp`"
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def prefix() -> str:
    """A fresh prefix in the store, and the beginning of this session's runs' names."""
    return f"dkd-kfp-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def pipeline(prefix: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline of three steps with a memory, each a TrainJob of two nodes, compiled to a file."""
    folder = tmp_path_factory.mktemp("kfp")
    uri = f"s3://{BUCKET}/{prefix}/digits"
    pack_digits(folder, uri)
    scenario = folder / "scenario.yaml"
    scenario.write_text(dump(digits_scenario("kfp-suite", uri, image("training"), ranks=1)))
    file = folder / "pipeline.yaml"
    root = f"s3://{BUCKET}/{prefix}/root"
    images = ("--launcher-image", image("launcher"))
    dkd("compile", str(scenario), "--root", root, *images, "-o", str(file))
    return file
