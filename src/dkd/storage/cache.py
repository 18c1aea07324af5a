"""Where things are kept on this machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Downloads and indexes: ``$DKD_CACHE``, else ``dkd`` in the user's cache folder."""
    if given := os.environ.get("DKD_CACHE"):
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dkd"


def dataset_cache() -> Path:
    """Scans of data sets."""
    return cache_folder() / "datasets"


def artifact_cache() -> Path:
    """Downloaded artifacts and images."""
    return cache_folder() / "artifacts"
