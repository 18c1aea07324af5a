"""Each component's folder is as the ecosystem's catalogue (kubeflow/pipelines-components) asks.

READMEs are made from the components. When a change of them is meant, write them anew:

    PYTHONPATH=src python tests/pipelines/test_component_folders.py
"""

import importlib
from pathlib import Path
from typing import Any

import docstring_parser
import pytest
import yaml
from kfp import compiler, components

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(file.parent.name for file in ROOT.glob("components/*/component.py"))


def component(name: str) -> Any:
    return getattr(importlib.import_module(f"dkd.components.{name}.component"), name)


def metadata(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "components" / name / "metadata.yaml").read_text())


def readme(name: str) -> str:
    """What a component's README says."""
    found, known = component(name), metadata(name)
    told = docstring_parser.parse(found.python_func.__doc__)
    said = {each.arg_name: " ".join((each.description or "").split()) for each in told.params}
    summary = " ".join(f"{told.short_description} {told.long_description or ''}".split())
    spec = found.component_spec
    inputs = [f"| `{key}` | {each.type} | {said[key]} |" for key, each in spec.inputs.items()]
    outputs = [
        f"| `{key}` | {each.type} | {said.get(key, '')} |" for key, each in spec.outputs.items()
    ]
    needs = [
        f"{each['name']} {each['version']}"
        for group in known["dependencies"].values()
        for each in group
    ]
    links = known["links"]
    lines = [
        f"# {name}",
        "",
        f"Stability: {known['stability']}. Tags: {', '.join(known['tags'])}.",
        "",
        summary,
        "",
        "## Inputs",
        "",
        "| name | type | |",
        "|---|---|---|",
        *inputs,
        "",
        "## Outputs",
        "",
        "| name | type | |",
        "|---|---|---|",
        *outputs,
        "",
        *([" ".join(told.returns.description.split()), ""] if told.returns else []),
        "## Needs",
        "",
        f"{'; '.join(needs)}. Runs in the image `dkd-launcher` (`docker/launcher`).",
        "",
        "Used in [example_pipelines.py](example_pipelines.py); tested in "
        f"[{Path(links['tests']).name}](../../{links['tests']}); described in "
        f"[{Path(links['documentation']).name}](../../{links['documentation']}).",
        "",
        "<!-- Made by tests/pipelines/test_component_folders.py -->",
        "",
    ]
    return "\n".join(lines)


@pytest.mark.parametrize("name", FOLDERS)
def test_the_readme_is_current(name: str) -> None:
    assert (ROOT / "components" / name / "README.md").read_text() == readme(name)


@pytest.mark.parametrize("name", FOLDERS)
def test_every_parameter_is_described(name: str) -> None:
    told = docstring_parser.parse(component(name).python_func.__doc__)
    described = {each.arg_name for each in told.params if each.description}
    assert component(name).component_spec.inputs.keys() <= described


@pytest.mark.parametrize("name", FOLDERS)
def test_the_metadata_is_what_the_catalogue_asks_for(name: str) -> None:
    known = metadata(name)
    assert known["name"] == name == component(name).python_func.__name__
    assert known["stability"] in ("experimental", "alpha", "beta", "stable")
    assert all({"name", "version"} == each.keys() for each in known["dependencies"]["kubeflow"])
    assert "Pipelines" in {each["name"] for each in known["dependencies"]["kubeflow"]}
    assert known["tags"] == list(dict.fromkeys(known["tags"]))
    assert known["lastVerified"].tzinfo is not None
    for link in known["links"].values():
        assert (ROOT / link).is_file()
    assert name in (ROOT / known["links"]["tests"]).read_text()
    owners = yaml.safe_load((ROOT / "components" / name / "OWNERS").read_text())
    assert owners.keys() == {"approvers", "reviewers"}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_example_compiles(name: str, tmp_path: Path) -> None:
    example = importlib.import_module(f"dkd.components.{name}.example_pipelines").example
    file = tmp_path / "pipeline.yaml"
    compiler.Compiler().compile(example, str(file))
    loaded = components.load_component_from_file(str(file))
    used = {each.component_ref.name for each in loaded.pipeline_spec.root.dag.tasks.values()}
    assert {each.removeprefix("comp-").rstrip("-0123456789") for each in used} == {
        name.replace("_", "-")
    }


if __name__ == "__main__":
    for name in FOLDERS:
        (ROOT / "components" / name / "README.md").write_text(readme(name))
