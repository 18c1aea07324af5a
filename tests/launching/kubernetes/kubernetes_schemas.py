"""Kubernetes' and the operators' schemas, offline, and the restricted Pod Security Standard."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

VERSIONS = tuple(f"1.{minor}" for minor in range(29, 38))
TRAINERS = ("2.0.1", "2.1.0", "2.3.0")

Object = dict[str, Any]


def check_core(found: Object, version: str) -> None:
    """Checks a built-in object against one release, unknown fields included."""
    validator = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate has the schemas; it is not installed"
    )
    validator.validate(found, version, strict=True)


def check_custom(found: Object, definition: str) -> None:
    """Checks a custom resource against one of schemas/operators.json.gz."""
    jsonschema = pytest.importorskip(
        "jsonschema", reason="jsonschema comes with kubernetes-validate; it is not installed"
    )
    schemas = json.loads(
        gzip.decompress((Path(__file__).parent / "schemas" / "operators.json.gz").read_bytes())
    )
    jsonschema.validate(found, schemas[definition])


def restricted_violations(pod: Object) -> list[str]:
    """What keeps a pod spec from the restricted standard.

    After https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted .
    """
    found = [field for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field)]
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral",
               "persistentVolumeClaim", "projected", "secret"}  # fmt: skip
    found += [f"volume {each['name']}" for each in pod.get("volumes", [])
              if not allowed & (each.keys() - {"name"})]  # fmt: skip
    shared = pod.get("securityContext", {})
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container.get("securityContext", {})
        where = container["name"]
        if own.get("privileged"):
            found.append(f"{where}: privileged")
        if own.get("allowPrivilegeEscalation") is not False:
            found.append(f"{where}: allowPrivilegeEscalation")
        if own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
            found.append(f"{where}: runAsNonRoot")
        if own.get("runAsUser", shared.get("runAsUser")) == 0:
            found.append(f"{where}: runAsUser")
        profile = own.get("seccompProfile", shared.get("seccompProfile", {}))
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            found.append(f"{where}: seccompProfile")
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []):
            found.append(f"{where}: capabilities.drop")
        if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            found.append(f"{where}: capabilities.add")
        if any("hostPort" in each for each in container.get("ports", [])):
            found.append(f"{where}: hostPort")
    return found
