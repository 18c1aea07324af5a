"""Every field, option, variable, file and import that a page names is one that exists."""

import ast
import importlib
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

import click
import pytest
from pydantic import BaseModel
from shown import PAGES, ROOT, SOURCES, Block, blocks, spans, text_of, where

from dkd.cli import COMMANDS, main
from dkd.errors import UserError
from dkd.scenario import catalogue, form, strict_yaml
from dkd.scenario.schema import Scenario, parse

BLOCKS = [block for page in PAGES for block in blocks(page)]
SPANS = [(where(page), text) for page in PAGES for text in dict.fromkeys(spans(page))]


def models(kind: Any) -> list[type[BaseModel]]:
    """The models that a field may hold."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [model for inner in get_args(kind) for model in models(inner)]


def known(path: str, start: type[BaseModel] = Scenario) -> bool:
    """Whether there is such a field of a scenario, ``training.lr.first``."""
    name, _, rest = path.partition(".")
    if name not in start.model_fields:
        return False
    inner = models(start.model_fields[name].annotation)
    if not rest:
        return True
    free = {"losses", "method_options", "variants", "rates", "node_selector"}  # any names
    return name in free or any(known(rest, model) for model in inner)


def test_fields_of_a_scenario_are_told_apart() -> None:
    assert known("training.lr.first")
    assert known("method_options.variant")
    assert not known("training.learning_rate")
    assert not known("network.weight")


PARTS = [
    name
    for name, field in Scenario.model_fields.items()
    if models(field.annotation) or name in ("losses", "method_options")
]


def fields_in(text: str) -> list[str]:
    """What a span of code names as fields: ``training.crop``, ``--set training.crop=128``."""
    if not (
        found := re.fullmatch(
            rf"(?:--set )?((?:{'|'.join(PARTS)})\.[a-z_.]*[a-z])(?![/\w]).*", text
        )
    ):
        return []
    return [] if re.search(r"\.(py|yaml|json|md)$", found[1]) or "(" in text else [found[1]]


def test_fields_that_are_named_exist() -> None:
    named = [(place, field) for place, text in SPANS for field in fields_in(text)]
    modules = {where(file)[len("src/dkd/") : -len(".py")].replace("/", ".") for file in SOURCES}
    assert len(named) > 20
    assert [each for each in named if not known(each[1]) and each[1] not in modules] == []


@cache
def options() -> frozenset[str]:
    found = set()
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        inner = command.commands.values() if isinstance(command, click.Group) else [command]
        for each in (command, *inner):
            found |= {text for parameter in each.params for text in parameter.opts}
    return frozenset(found | {"--help", "-h", "--version"})


ELSEWHERE = {
    "--build-arg": "docker",
    "--cascade": "kubectl",
    "--help": "every program",
    "--pytorch-init-container-template-file": "the Training Operator",
    "--table": "python -m benchmarks.kills",
}
"""Options of other programs that stand alone in a sentence."""


def test_options_that_are_named_exist() -> None:
    named = {
        (place, found[1])
        for place, text in SPANS
        if (found := re.match(r"(--[a-z][a-z-]+)(?=[ =]|$)", text))
    }
    assert len(named) > 10
    assert sorted(each for each in named if each[1] not in options() | ELSEWHERE.keys()) == []


def test_variables_that_are_named_exist() -> None:
    """Variables of this program, in pages as in code."""
    read = "\n".join(text_of(file) for file in SOURCES)
    folders = ("docker", "k8s", "tests", ".ci", ".github", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    kinds = {".py", ".yaml", ".yml", ".sh", ""}
    read += "\n".join(
        text_of(path) for path in files if path.suffix in kinds and path.name != "test_names.py"
    )
    read += text_of(ROOT / "Makefile")
    named = {
        (where(page), name)
        for page in PAGES
        for name in re.findall(r"\bDKD_[A-Z0-9_]+[A-Z0-9]\b", text_of(page))
    }
    assert len(named) > 10
    assert sorted(each for each in named if not re.search(rf"\b{each[1]}\b", read)) == []


FOLDERS = "src|tests|docs|k8s|docker|pipelines|components|benchmarks|requirements"


def test_files_that_are_named_exist() -> None:
    named = {
        (place, found[0].rstrip("/"))
        for place, text in SPANS
        if (
            found := re.fullmatch(
                rf"(?:{FOLDERS})(?:/[\w.-]+)*/?(?=$|::.*)", text.partition("::")[0]
            )
        )
    }
    patterns = re.compile(r"\bX\b|NAME|SIDE")
    bases = (ROOT, ROOT / "src/dkd")
    faults = [
        each
        for each in sorted(named)
        if not patterns.search(each[1]) and not any((base / each[1]).exists() for base in bases)
    ]
    assert len(named) > 20
    assert faults == []


def of_language(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def ids(block: Block) -> str:
    return f"{block.place}:{(block.text.strip() or '-').splitlines()[0][:30]}"


def is_scenario(document: object) -> bool:
    return isinstance(document, Mapping) and bool(document.keys() & Scenario.model_fields.keys())


@pytest.mark.parametrize("block", of_language("yaml"), ids=ids)
def test_scenarios_that_are_shown_are_understood(block: Block) -> None:
    """A whole scenario by the schema; of a part of one, whether it fits into a whole one."""
    document = strict_yaml.load(block.text, block.place)
    if not is_scenario(document):
        return
    assert isinstance(document, dict)
    whole = {**catalogue.documents()["demo"], "variants": {}}
    merged = {
        key: {**whole.get(key, {}), **value} if isinstance(value, dict) else value
        for key, value in document.items()
    }
    parse({**whole, **merged}, block.place)


def test_a_scenario_with_a_field_that_is_refused_is_noticed() -> None:
    block = Block("page", "yaml", "", "name: mine\ntraining: {epoch: 3}\n")
    with pytest.raises(UserError, match=r"training.epoch: no such field"):
        test_scenarios_that_are_shown_are_understood(block)


@pytest.mark.parametrize("block", of_language("toml"), ids=ids)
def test_toml_that_is_shown_is_understood(block: Block) -> None:
    document = tomllib.loads(block.text)
    groups = document["project"]["entry-points"]
    read = "\n".join(text_of(file) for file in SOURCES)
    for group in groups:
        assert f'"{group}"' in read


@pytest.mark.parametrize("block", of_language("python"), ids=ids)
def test_python_that_is_shown_imports_what_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dkd"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(
                    f"{node.module}.{alias.name}"
                )
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "dkd":
            assert hasattr(importlib.import_module("dkd"), node.attr), node.attr


def test_fields_of_the_form_that_are_named_exist() -> None:
    names = {field.name for field in (*form.INCREMENTAL, *form.EXTENSION)}
    named = {
        (place, text)
        for place, text in SPANS
        if re.fullmatch(r"(add_|training_|epochs_|learning_rate|exemplar_|data_set_)[a-z_]+", text)
    }
    tables = {"training_table", "training_step", "training_set"}  # functions and benchmarks
    assert {text for _, text in named} & names
    assert sorted(each for each in named if each[1] not in names | tables) == []
