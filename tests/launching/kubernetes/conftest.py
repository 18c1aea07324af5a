"""What the tests of manifests share."""

from pathlib import Path

import pytest
import yaml
from manifests import LAUNCHES, Object

from dkd.scenario.launch import Launch


@pytest.fixture(scope="module")
def shipped() -> Object:
    text = (Path(__file__).parents[3] / "k8s" / "base" / "runtime.yaml").read_text()
    return yaml.safe_load(text)


@pytest.fixture(params=LAUNCHES)
def launch(request: pytest.FixtureRequest) -> Launch:
    return LAUNCHES[request.param]
