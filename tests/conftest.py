"""Fixtures of the whole suite."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# One thread a process, as each rank of a job has it, before anything imports torch: sums in another
# order are other bits, and threads that wait for each other on busy cores take many times as long.
os.environ["OMP_NUM_THREADS"] = "1"

# Triton's kernels run in its interpreter where there is no GPU. It looks when it is imported.
if not any(Path("/dev").glob("nvidia*")):
    os.environ["TRITON_INTERPRET"] = "1"

# A shell that starts the suite in the background has SIGINT ignored, and programs inherit that:
# those which the tests interrupt must hear it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes to make says how busy the machine is, not whether the code is right. The
# examples are the same each time, so that a change is judged by what it changes: new ones are
# looked for on purpose (--hypothesis-profile=explore).
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dkd", settings.get_profile("explore"), derandomize=True)
settings.load_profile("dkd")

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
