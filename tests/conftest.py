"""Fixtures of the whole suite."""

from pathlib import Path

import pytest

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
