"""Namespaces as an administrator would make them from k8s/."""

import json
import os
from pathlib import Path

from commands import apply, get, kubectl

ROOT = Path(__file__).parents[2]
ACCOUNT = "dkd-launcher"
KEYS = "mlpipeline-minio-artifact"


def copy_keys(namespace: str) -> None:
    """As Kubeflow does it for every profile."""
    found = get("secret", KEYS, "kubeflow")
    assert found
    metadata = {"name": KEYS, "namespace": namespace}
    apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": found["data"]})


def apply_base(namespace: str, folder: Path, *components: str) -> None:
    """An overlay that sets the namespace alone, with components of k8s/ if any are named."""
    overlay = {
        "namespace": namespace,
        "resources": [os.path.relpath(ROOT / "k8s/base", folder)],
        "components": [os.path.relpath(ROOT / "k8s/components" / x, folder) for x in components],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(overlay))
    kubectl("apply", "-k", str(folder))
