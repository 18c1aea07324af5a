"""Compiled pipelines: every scenario passes KFP's own loader; the DAG is what it should be."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler, components

from dkd import catalogue
from dkd.pipelines.incremental import build, step_title
from dkd.scenario import Scenario


def load(name: str) -> Scenario:
    return catalogue.scenario(name, {} if name == "demo" else {"data.root": "s3://bucket/data"})


def compiled(scenario: Scenario, folder: Path) -> str:
    file = folder / "pipeline.yaml"
    compiler.Compiler().compile(build(scenario), str(file))
    return file.read_text()


def spec(text: str) -> dict[str, Any]:
    return next(iter(yaml.safe_load_all(text)))


def dag(tasks: dict[str, Any]) -> dict[str, tuple[str, list[str]]]:
    """Shown name and what it waits for, by task."""
    return {
        name: (task["taskInfo"]["name"], sorted(task.get("dependentTasks", [])))
        for name, task in tasks.items()
    }


@pytest.mark.parametrize("name", list(catalogue.documents()))
def test_every_scenario_loads_in_kfp(name: str, tmp_path: Path) -> None:
    scenario = load(name)
    text = compiled(scenario, tmp_path)
    loaded = components.load_component_from_text(text)
    tasks = loaded.pipeline_spec.root.dag.tasks
    assert len(tasks) == len(scenario.task) + 2  # prepare and report beside the steps
    assert loaded.name == f"dkd-{name}"
    images = {
        executor["container"]["image"]
        for executor in spec(text)["deploymentSpec"]["executors"].values()
    }
    assert len(images) == 1, "one image for all components"


@pytest.mark.parametrize("variant", ["finetune", "DKD", "DKD-M", "joint"])
def test_every_variant_loads_in_kfp(variant: str, tmp_path: Path) -> None:
    scenario = load("voc-15-5").variant(variant)
    loaded = components.load_component_from_text(compiled(scenario, tmp_path))
    steps = 1 if variant == "joint" else 2
    assert len(loaded.pipeline_spec.root.dag.tasks) == steps + 2


def test_the_demonstration_is_a_chain_of_steps(tmp_path: Path) -> None:
    document = spec(compiled(load("demo"), tmp_path))
    tasks = document["root"]["dag"]["tasks"]
    steps = ["step", "step-2", "step-3", "step-4"]
    assert dag(tasks) == {
        "prepare-data": ("Prepare data", []),
        "step": ("Step 0: zero, one, two and 1 more", ["prepare-data"]),
        "step-2": ("Step 1: + four, five", ["prepare-data", "step"]),
        "step-3": ("Step 2: + six, seven", ["prepare-data", "step-2"]),
        "step-4": ("Step 3: + eight, nine", ["prepare-data", "step-3"]),
        "report": ("Report", ["prepare-data", *steps]),
    }
    for before, name in zip([None, *steps], steps, strict=False):
        inputs = tasks[name]["inputs"]["parameters"]
        for handed, output in (("teacher", "checkpoint"), ("memory", "memory")):
            if before is None:
                assert inputs[handed]["runtimeValue"]["constant"] == ""
            else:
                assert inputs[handed]["taskOutputParameter"] == {
                    "outputParameterKey": output,
                    "producerTask": before,
                }


def test_inside_a_step_the_model_is_trained_first(tmp_path: Path) -> None:
    document = spec(compiled(load("demo"), tmp_path))
    reference = document["root"]["dag"]["tasks"]["step"]["componentRef"]["name"]
    inner = {
        name: waits
        for name, (_, waits) in dag(document["components"][reference]["dag"]["tasks"]).items()
    }
    assert inner.keys() == {"train", "evaluate", "choose-exemplars"}
    assert inner["train"] == []
    assert "train" in inner["evaluate"]
    assert "train" in inner["choose-exemplars"]


def test_compiling_twice_gives_the_same_text(tmp_path: Path) -> None:
    assert compiled(load("voc-19-1"), tmp_path) == compiled(load("voc-19-1"), tmp_path)


def test_titles_of_steps() -> None:
    scenario = load("voc-15-1")
    assert step_title(scenario, 0) == "Step 0: 1, 2, 3 and 12 more"
    assert step_title(scenario, 3) == "Step 3: + 18"
    assert step_title(scenario.variant("joint"), 0) == "All classes at once"
