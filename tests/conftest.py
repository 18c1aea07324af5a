"""Fixtures of the whole suite."""

import os
import signal
from pathlib import Path

import pytest

# Triton's kernels run in its interpreter where there is no GPU. It looks when it is imported.
if not any(Path("/dev").glob("nvidia*")):
    os.environ["TRITON_INTERPRET"] = "1"

# A shell that starts the suite in the background has SIGINT ignored, and programs inherit that:
# those which the tests interrupt must hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = [
    "fixtures.cluster_api",
    "fixtures.command_line",
    "fixtures.data_sets",
    "fixtures.kfp",
    "fixtures.stores",
    "fixtures.two_runs",
    "fixtures.web",
]

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photographs and weights beside a checkout; tests skip without it."""
    if not SHARED.is_dir():
        pytest.skip("no folder ../shared with photographs and weights beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def reference() -> Path:
    """Figures of the authors' program, kept with the tests."""
    return Path(__file__).parent / "reference"
