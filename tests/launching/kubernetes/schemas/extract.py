"""Extracts what the tests need from the operators' CRDs, as published in their Go modules.

    python extract.py MODULE_CACHE      # after `go mod download` of the versions below

Descriptions and Kubernetes' extensions are dropped, pod templates are cut out (the tests check
them against Kubernetes' own schemas), and unknown fields are made errors, as `kubectl apply`
with strict validation does.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import yaml

TRAINER = "github.com/kubeflow/trainer/v2@v{}/manifests/base/crds/trainer.kubeflow.org_{}.yaml"
SOURCES = {
    **{
        f"trainer-{version}-{plural}": TRAINER.format(version, plural)
        for version in ("2.0.1", "2.1.0", "2.3.0")
        for plural in ("trainjobs", "trainingruntimes")
    },
    "training-operator-1.9.2-pytorchjobs": "github.com/kubeflow/training-operator@v1.9.2/"
    "manifests/base/crds/kubeflow.org_pytorchjobs.yaml",
    "kueue-0.15.0-localqueues": "sigs.k8s.io/kueue@v0.15.0/"
    "config/components/crd/bases/kueue.x-k8s.io_localqueues.yaml",
}


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of an OpenAPI schema."""
    if "containers" in schema.get("properties", {}).get("spec", {}).get("properties", {}):
        return {"type": "object"}  # a pod template
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    kept = {
        key: value
        for key, value in schema.items()
        if key
        in (
            "type",
            "enum",
            "required",
            "minLength",
            "maxLength",
            "maxItems",
            "minimum",
            "maximum",
            "pattern",
        )
    }
    if "properties" in schema:
        kept["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        kept["additionalProperties"] = False
    if isinstance(schema.get("additionalProperties"), dict):
        kept["additionalProperties"] = strict(schema["additionalProperties"])
    if "items" in schema:
        kept["items"] = strict(schema["items"])
    return kept


def main() -> None:
    cache = Path(sys.argv[1])
    schemas = {}
    for name, path in SOURCES.items():
        definition = yaml.safe_load((cache / path).read_text())
        versions = {each["name"]: each["schema"] for each in definition["spec"]["versions"]}
        for version, schema in versions.items():
            extracted = strict(schema["openAPIV3Schema"])
            extracted["properties"]["metadata"] = {"type": "object"}
            schemas[f"{name}-{version}"] = extracted
    text = json.dumps(schemas, sort_keys=True, separators=(",", ":"))
    with gzip.GzipFile(Path(__file__).with_name("operators.json.gz"), "wb", mtime=0) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
