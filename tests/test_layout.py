"""Tests mirror the package: whoever changes ``dkd/X/y.py`` finds ``tests/X/test_y.py``.

What a package's ``__init__.py`` holds is in ``tests/X/test_X.py``, and one side of a module that is
large, or needs a GPU, in ``test_y_SIDE.py``. Modules of few lines do without: who uses them tests
them. So does ``dkd.pipelines`` with ``dkd.components``: they are compiled and run together.
"""

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
SRC, TESTS = REPO / "src" / "dkd", REPO / "tests"
FEW_LINES = 40
SUITES = ("benchmarks", "cluster", "docker", "docs", "handbook", "k8s", "kfp", "pipelines")
"""Folders of tests of what lies outside ``src``: each names a folder there, or what it needs."""

ELSEWHERE = {
    "cli/extend.py": ("pipelines/test_whole_runs.py", "runs a pipeline"),
    "cli/kubeflow.py": ("kubeflow/test_client.py", "options of the commands that are tested there"),
    "cli/run.py": ("pipelines/test_whole_runs.py", "runs a pipeline"),
    "cli/export.py": ("export/test_export.py", "all that the command does"),
    "cli/serve.py": ("serving/test_server.py", "starts the same server"),
    "evaluation/any_dataset.py": ("cli/test_evaluate.py", "all that the command does"),
    "evaluation/stage.py": ("memory/test_exemplars.py", "takes a step with its model"),
    "export/files.py": ("export/test_export.py", "writes and runs every file"),
    "launching/kubernetes/operators.py": (
        "launching/kubernetes/test_cluster.py",
        "an interface: each test there runs with both operators",
    ),
    "launching/torchrun.py": ("launching/test_local.py", "a program that the launcher starts"),
    "losses/reference.py": ("losses/test_blockwise.py", "is itself what others are held against"),
    "memory/candidates.py": ("memory/test_choice.py", "records that are chosen from"),
    "memory/influence.py": ("memory/test_erasure.py", "takes trained models"),
    "memory/writer.py": ("memory/test_exemplars.py", "writes what is read there"),
    "methods/plop.py": ("methods/test_mib.py", "trains the same small steps as MiB"),
    "network/layer_normalised.py": ("network/test_backbones.py", "every backbone is tested there"),
    "scenario/backbones.py": ("network/test_backbones.py", "a table of those backbones"),
    "scenario/speed.py": ("network/test_preparation.py", "every switch is turned there"),
    "serving/__main__.py": ("serving/test_server.py", "is started there"),
    "serving/model.py": ("serving/test_rest.py", "every request asks it"),
    "serving/open_inference_pb2.py": ("serving/test_grpc_service.py", "made from the protocol"),
    "serving/service.py": ("serving/test_rest.py", "every request passes it"),
    "steps/importing.py": ("cli/test_import_.py", "all that the command does"),
}
"""Modules without a test module of their own: where they are tested, and why there."""

SEVERAL = {
    "data/formats/test_as_written.py": "exports as several tools lay them out",
    "data/formats/test_faults.py": "every format with every fault, as one table",
    "data/formats/test_datumaro.py": "several formats, as another program writes them",
    "storage/test_upgrade.py": "every kind of artifact, as an older version wrote it",
    "methods/test_documented_method.py": "a page of docs/",
}
"""Test modules that are of no one module: what they are of."""

MODULES = sorted(
    path.relative_to(SRC).as_posix()
    for path in SRC.rglob("*.py")
    if path.relative_to(SRC).parts[0] not in ("components", "pipelines")
)


def mirrored(module: str) -> str:
    """``X/test_y.py`` of ``X/y.py``, and ``X/test_X.py`` of a package."""
    path = Path(module)
    if path.name == "__init__.py":
        return (path.parent / f"test_{path.parent.name or 'dkd'}.py").as_posix()
    return path.with_name(f"test_{path.name}").as_posix()


@pytest.mark.parametrize("module", MODULES)
def test_a_module_has_its_test(module: str) -> None:
    there = (TESTS / mirrored(module)).exists()
    if module in ELSEWHERE:
        where, _why = ELSEWHERE[module]
        assert not there, f"{module} has a test of its own: take it out of the list"
        assert (TESTS / where).exists(), f"{module} is said to be tested in {where}"
    elif Path(module).name != "__init__.py":
        few = len((SRC / module).read_text().splitlines()) < FEW_LINES
        assert there or few, f"tests/{mirrored(module)} is missing"


def test_a_test_has_its_module() -> None:
    stems = [mirrored(module).removesuffix(".py") for module in MODULES]
    lonely = []
    for path in TESTS.rglob("test_*.py"):
        name = path.relative_to(TESTS).as_posix()
        if "/" not in name or name.split("/")[0] in SUITES or name in SEVERAL:
            continue
        stem = name.removesuffix(".py")
        if not any(stem == each or stem.startswith(f"{each}_") for each in stems):
            lonely.append(name)
    assert not lonely


def test_the_lists_hold_what_is_there() -> None:
    assert set(ELSEWHERE) <= set(MODULES)
    assert all((TESTS / name).exists() for name in SEVERAL)


SAME_NAME = {
    "Colour": "red, green, blue; a report's model imports nothing of data sets",
    "Interval": "both ends; a report's model imports nothing of evaluations",
    "FORMAT": "what each module of data.formats is found by",
    "SOURCE": "what such a module's FORMAT says of where to get it",
    "VERSION": "of what each module draws that dkd.data.made knows",
    "Options": "what each method's are found by",
}
"""Public names that stand in several modules: why they are one thing, or are found by the name."""


def public_names(module: Path) -> set[str]:
    """Classes, and constants and types that are assigned, at the top of a module."""
    names: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            names |= {each.id for each in ast.walk(target) if isinstance(each, ast.Name)}
    return {name for name in names if name[0].isupper() and len(name) > 1}


def test_one_name_is_one_thing() -> None:
    found: dict[str, list[str]] = {}
    for module in MODULES:
        for name in public_names(SRC / module):
            found.setdefault(name, []).append(module)
    several = {name: places for name, places in found.items() if len(places) > 1}
    assert {n: p for n, p in several.items() if n not in SAME_NAME} == {}
    assert set(SAME_NAME) <= set(several), "names that are no longer shared: take them out"
