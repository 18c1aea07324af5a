"""Pipelines as Kubeflow Pipelines' YAML, with what KFP's compiler leaves out."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from dkd.components import LAUNCHER_IMAGE
from dkd.pipelines import extension, incremental
from dkd.pipelines.policy import outliving_kills
from dkd.scenario import form
from dkd.scenario.launch import Launch
from dkd.scenario.names import slug
from dkd.scenario.schema import Scenario


def pipeline_name(scenario: Scenario) -> str:
    """Name under which a scenario's pipeline is uploaded, e.g. ``dkd-voc-15-1-dkd-m``."""
    return slug("dkd", scenario.name, scenario.label).replace(".", "-")


def of_scenario(
    scenario: Scenario,
    artifact_root: str = form.ARTIFACT_ROOT,
    launcher_image: str = LAUNCHER_IMAGE,
) -> bytes:
    """A scenario's pipeline.

    Args:
        scenario: its values are the form's defaults.
        artifact_root: proposed by the form.
        launcher_image: of the components.
    """
    pipeline = incremental.build(scenario, on_cluster=True)
    name = pipeline_name(scenario)
    return _compile(pipeline, name, form.INCREMENTAL, artifact_root, launcher_image)


def of_extension(
    launch: Launch,
    artifact_root: str = form.ARTIFACT_ROOT,
    launcher_image: str = LAUNCHER_IMAGE,
) -> bytes:
    """The pipeline that adds classes to a model.

    Args:
        launch: the form's defaults.
        artifact_root: proposed by the form.
        launcher_image: of the components.
    """
    pipeline = extension.build(launch, on_cluster=True)
    return _compile(pipeline, extension.NAME, form.EXTENSION, artifact_root, launcher_image)


def _compile(
    pipeline: Any,
    name: str,
    fields: Iterable[form.Field],
    artifact_root: str,
    launcher_image: str,
) -> bytes:
    with tempfile.TemporaryDirectory(prefix="dkd-compile-") as work:
        file = Path(work) / "pipeline.yaml"
        compiler.Compiler().compile(
            pipeline,
            str(file),
            pipeline_name=name,
            pipeline_parameters={"artifact_root": artifact_root},
        )
        documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        container = executor["container"]
        container["image"] = launcher_image
        container["command"] = outliving_kills(container["command"])
    parameters = documents[0]["root"]["inputDefinitions"]["parameters"]
    for field in fields:
        if field.choices:  # the SDK (2.17) cannot say them, the API server and the UI know them
            parameters[field.name]["literals"] = list(field.choices)
    return yaml.safe_dump_all(documents, width=100).encode()
