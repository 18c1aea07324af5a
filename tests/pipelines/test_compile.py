"""Compiled pipelines: every scenario passes KFP's own loader; the DAG is what it should be.

``dags.yaml`` holds the DAG of every scenario: what a node is called and what it waits for. When
a change of them is meant, write it anew and look at the difference:

    python tests/pipelines/test_compile.py > tests/pipelines/dags.yaml
"""

import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp import components

from dkd.cli.compile import load
from dkd.launching.kubernetes import nodes
from dkd.pipelines import compiled, incremental
from dkd.pipelines.incremental import step_title
from dkd.scenario import catalogue
from dkd.scenario.launch import Launch
from dkd.scenario.schema import Scenario

DAGS = Path(__file__).with_name("dags.yaml")
NAMES = [name for name in catalogue.documents() if name != "demo"]
Spec = dict[str, Any]


@cache
def text(name: str, variant: str | None = None) -> str:
    if name == "add-classes":
        return compiled.of_extension(Launch(backend="trainjob")).decode()
    return compiled.of_scenario(load(name, None, (), variant, "r/dkd-training:1")).decode()


def documents(name: str, variant: str | None = None) -> tuple[Spec, Spec]:
    """The pipeline's specification and the cluster's part."""
    spec, platform = yaml.safe_load_all(text(name, variant))
    return spec, platform


def dag(name: str, variant: str | None = None) -> dict[str, list[str]]:
    """What every node waits for, by its shown name."""
    tasks = documents(name, variant)[0]["root"]["dag"]["tasks"]
    shown = {task: each["taskInfo"]["name"] for task, each in tasks.items()}
    waits = {
        shown[task]: sorted(shown[before] for before in each.get("dependentTasks", []))
        for task, each in tasks.items()
    }
    return dict(sorted(waits.items()))


def summary() -> dict[str, dict[str, list[str]]]:
    return {name: dag(name) for name in ["demo", "add-classes", *NAMES]}


def test_the_dag_of_every_scenario() -> None:
    expected = yaml.safe_load(DAGS.read_text())
    found = summary()
    assert found.keys() == expected.keys()
    for name, nodes_ in found.items():
        assert nodes_ == expected[name], name


@pytest.mark.parametrize("name", ["demo", "add-classes", *NAMES])
def test_every_pipeline_loads_in_kfp(name: str) -> None:
    loaded = components.load_component_from_text(text(name))
    assert loaded.name == f"dkd-{name}"
    images = {
        executor["container"]["image"]
        for executor in documents(name)[0]["deploymentSpec"]["executors"].values()
    }
    assert len(images) == 1, "one image for all components"


@pytest.mark.parametrize("variant", ["finetune", "DKD", "DKD-M", "joint"])
def test_every_variant_loads_in_kfp(variant: str) -> None:
    loaded = components.load_component_from_text(text("voc-15-5", variant))
    steps = 1 if variant == "joint" else 2
    assert len(loaded.pipeline_spec.root.dag.tasks) == steps + 1
    assert loaded.name == f"dkd-voc-15-5-{variant.lower()}"


def test_teacher_and_memory_are_handed_from_step_to_step() -> None:
    tasks = documents("demo")[0]["root"]["dag"]["tasks"]
    steps = ["step-0", "step-1", "step-2"]
    for before, name in pairwise(steps):
        inputs = tasks[name]["inputs"]["parameters"]
        for handed, output in (("teacher", "checkpoint"), ("memory", "memory")):
            assert inputs[handed]["taskOutputParameter"] == {
                "outputParameterKey": output,
                "producerTask": before,
            }


@pytest.mark.parametrize(("name", "pods"), [("demo", 9), ("add-classes", 9)])
def test_how_many_pods_a_run_is(name: str, pods: int) -> None:
    """A driver for the run and for every task, and a component for every task: no sub-DAGs."""
    spec, _ = documents(name)
    assert not [each for each in spec["components"].values() if "dag" in each]
    assert 1 + 2 * len(spec["root"]["dag"]["tasks"]) == pods


def test_what_a_step_shows() -> None:
    spec, _ = documents("demo")
    shown = {
        name: {
            output: kind["artifactType"]["schemaTitle"]
            for output, kind in spec["components"][f"comp-{name}"]["outputDefinitions"]
            .get("artifacts", {})
            .items()
        }
        for name in ("step-0", "report")
    }
    assert shown == {
        "step-0": {
            "model": "system.Model",
            "metrics": "system.Metrics",
            "confusion_matrix": "system.ClassificationMetrics",
            "step_page": "system.HTML",
            "model_card": "system.HTML",
        },
        "report": {"report_page": "system.HTML"},
    }


# ---- the form


def parameters(name: str) -> Spec:
    found: Spec = documents(name)[0]["root"]["inputDefinitions"]["parameters"]
    return found


@pytest.mark.parametrize("name", ["voc-15-1", "demo", "add-classes"])
def test_every_parameter_can_be_left_as_it_is(name: str) -> None:
    """The UI (2.17) does not start a run with a parameter that has no default."""
    for parameter, each in parameters(name).items():
        assert "defaultValue" in each, parameter


def test_the_form_of_a_published_scenario() -> None:
    found = {name: each["defaultValue"] for name, each in parameters("voc-15-1").items()}
    assert list(found) == sorted(found)  # as the UI shows them
    assert found == {
        "artifact_root": "s3://mlpipeline/dkd",
        "data_set_uri": "s3://your-bucket/datasets/voc",
        "epochs_first_step": 60,
        "epochs_later_steps": 60,
        "exemplar_memory_size": 0,
        "initial_weights": "imagenet",
        "learning_rate_first_step": 0.001,
        "learning_rate_later_steps": 0.0001,
        "model_name": "",
        "model_registry_url": "",
        "other_settings": {},
        "protocol": "paper",
        "run_name": "",
        "s3_secret": "mlpipeline-minio-artifact",
        "seed": 1,
        "training_backend": "trainjob",
        "training_cpu_per_node": "",
        "training_gpus_per_node": 0,
        "training_image": "r/dkd-training:1",
        "training_memory_per_node": "",
        "training_node_selector": {},
        "training_nodes": 1,
        "training_processes_per_node": 1,
        "training_queue": "",
        "training_tolerations": [],
    }


def test_drop_downs() -> None:
    choices = {
        name: each["literals"]
        for name, each in parameters("voc-15-1").items()
        if "literals" in each
    }
    assert choices == {
        "protocol": ["paper", "corrected"],
        "training_backend": ["trainjob", "pytorchjob", "local"],
    }
    assert all(
        each["defaultValue"] in each["literals"]
        for name in ("voc-15-1", "add-classes")
        for each in parameters(name).values()
        if "literals" in each
    )


# ---- retries, time limits, caching, S3


@pytest.mark.parametrize("name", ["demo", "add-classes"])
def test_no_task_is_cached_by_kfp_and_none_says_how_often_it_is_tried(name: str) -> None:
    """Where Argo tries failures again, a number would have it try bad input again too."""
    for title, task in documents(name)[0]["root"]["dag"]["tasks"].items():
        assert task["cachingOptions"] == {}, title
        assert "retryPolicy" not in task, title


@pytest.mark.parametrize("name", ["demo", "add-classes"])
def test_every_executor_has_a_time_limit_and_the_s3_connection(name: str) -> None:
    spec, platform = documents(name)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors.keys() == spec["deploymentSpec"]["executors"].keys()
    for label, each in executors.items():
        hours = 12 if "prepare" in label else 1 if "report" in label else 30 * 24
        assert each["activeDeadlineSeconds"] == str(hours * 3600), label
        # Files, which follow a key that is rotated; a variable would not, in a pod of 30 days.
        assert "secretAsEnv" not in each
        (secret,) = each["secretAsVolume"]
        assert "componentInputParameter" in secret["secretNameParameter"]
        assert (secret["mountPath"], secret["optional"]) == (nodes.KEYS, True)
        variables = spec["deploymentSpec"]["executors"][label]["container"]["env"]
        assert variables == [{"name": "DKD_S3_CREDENTIALS_DIR", "value": nodes.KEYS}]
        (config,) = each["configMapAsEnv"]
        assert config["configMapName"] == nodes.S3_CONFIG_MAP
        assert config["optional"]


@pytest.mark.parametrize("name", ["demo", "add-classes"])
def test_every_executor_has_requests_limits_and_a_restricted_context(name: str) -> None:
    spec, platform = documents(name)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for label, each in executors.items():
        # KFP's backend adds the rest of the standard, but lets images run as root.
        assert each["securityContext"] == {"runAsNonRoot": True}, label
        assert each["podMetadata"]["labels"] == nodes.labels("launcher"), label
        resources = spec["deploymentSpec"]["executors"][label]["container"]["resources"]
        for kind in ("Cpu", "Memory"):
            assert resources[f"resource{kind}Request"], label
            assert resources[f"resource{kind}Limit"], label


def test_the_local_runner_is_told_nothing_of_pods() -> None:
    """It would put the variables that pods need into the processes of this machine."""
    scenario = load("demo", None, (), None, None)
    assert "deploymentSpec" not in incremental.build(scenario).platform_spec.platforms
    spec = json_format.MessageToDict(incremental.build(scenario).pipeline_spec)
    for each in spec["deploymentSpec"]["executors"].values():
        assert "env" not in each["container"]


def test_compiling_twice_gives_the_same_text() -> None:
    scenario = load("voc-19-1", None, (), None, None)
    assert compiled.of_scenario(scenario) == compiled.of_scenario(scenario)


@pytest.mark.parametrize(
    ("name", "variant", "title"),
    [
        ("voc-15-1", None, "VOC 15-1"),
        ("voc-15-1", "DKD-M", "VOC 15-1, DKD-M"),
        ("voc-19-1-disjoint", "joint", "VOC 19-1 disjoint, joint"),
        ("ade-100-50", None, "ADE20K 100-50"),
        ("add-classes", None, "Add classes to a model"),
    ],
)
def test_titles_of_pipelines(name: str, variant: str | None, title: str) -> None:
    assert documents(name, variant)[0]["pipelineInfo"]["displayName"] == title


def test_titles_of_steps() -> None:
    def scenario(**values: object) -> Scenario:
        return catalogue.scenario("voc-15-1", {"data.root": "s3://bucket/data", **values})

    packed = scenario(**{"data.format": "packed"})
    assert step_title(packed, 0) == "Step 0: 15 classes"
    assert step_title(packed, 3) == "Step 3: + 18 sofa"
    assert step_title(packed.variant("joint"), 0) == "All classes at once"
    named = scenario(task=[["a", "b"], ["c", "d"], ["e", "f", "g"]])
    assert [step_title(named, step) for step in range(3)] == [
        "Step 0: a, b",
        "Step 1: + c, d",
        "Step 2: + 3 classes",
    ]


if __name__ == "__main__":
    yaml.safe_dump(summary(), sys.stdout, sort_keys=False, width=100)
