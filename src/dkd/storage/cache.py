"""Where things are kept on this machine."""

import os
from pathlib import Path

_DATASETS, _ARTIFACTS = "datasets", "artifacts"


def cache_folder() -> Path:
    """Downloads and indexes: ``$DKD_CACHE``, else ``dkd`` in the user's cache folder."""
    if given := os.environ.get("DKD_CACHE"):
        return Path(given)
    return _users_cache()


def workspace_cache(workspace: Path) -> Path:
    """The cache of runs on this machine, where ``$DKD_CACHE`` names no other."""
    return workspace / "cache"


def dataset_cache() -> Path:
    """Scans of data sets."""
    return cache_folder() / _DATASETS


def artifact_cache() -> Path:
    """Downloaded artifacts and images."""
    return cache_folder() / _ARTIFACTS


def artifact_caches(workspace: Path) -> tuple[Path, ...]:
    """Every folder in which commands on this machine may have kept artifacts and images."""
    folders = (cache_folder(), workspace_cache(workspace), _users_cache())
    return tuple(dict.fromkeys(folder.absolute() / _ARTIFACTS for folder in folders))


def _users_cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dkd"
