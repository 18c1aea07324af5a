"""Every command that the pages, the help texts and the manifests show is one that exists.

Each is parsed by the real command line, its ``--set`` and ``-p`` by the real schema and form; none
is run. Words in capitals, ``...`` and what stands in ``<>`` are placeholders: any value does. A
command in the middle of a sentence may leave out arguments; one in a block of code is whole.
"""

import functools
import importlib.util
import re
import shlex
import subprocess
import tomllib
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from typing import Any

import click
import pytest
from cluster.commands import program
from shown import (
    PAGES,
    PLACEHOLDER,
    ROOT,
    SHELL,
    SOURCES,
    Shown,
    blocks,
    commands,
    everything,
    lines,
    parts,
    text_of,
    words,
)

from dkd.cli import main
from dkd.errors import UserError
from dkd.scenario import catalogue, form
from dkd.scenario.parsing import load, parse_assignments, parse_value, split_items
from dkd.scenario.schema import Scenario


def sample(parameter: click.Parameter, value: str) -> str:
    """The value, or one of the parameter's kind where it is a placeholder."""
    if not PLACEHOLDER.fullmatch(value):
        return value
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return str(kind.choices[0])
    if isinstance(kind, click.IntRange | click.FloatRange):
        return str(kind.min if kind.min is not None else 1)
    return "1" if kind in (click.INT, click.FLOAT) else value


def parsed(arguments: list[str], whole: bool) -> click.Context | None:
    """The command line as click takes it; None where it is but a command's name.

    Raises:
        click.UsageError: there is no such command or option, or a value does not fit.
    """
    command: click.Command = main
    context = click.Context(main)
    name = "dkd"
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        inner = command.get_command(context, name)
        if inner is None:
            raise click.UsageError(f"no command {name}")
        command = inner
    if isinstance(command, click.Group) or (not arguments and not whole):
        return None
    options = {text: p for p in command.params for text in p.opts if text.startswith("-")}
    filled = []
    for before, word in zip(["", *arguments], arguments, strict=False):
        filled.append(sample(options[before], word) if before in options else word)
    try:
        with redirect_stdout(StringIO()):
            return command.make_context(name, filled)
    except click.exceptions.Exit:  # --help
        return None
    except click.MissingParameter:
        if whole:
            raise
        return None


@functools.cache
def stand_in(name: str | None) -> Scenario:
    """The scenario that a command is about: the shown one, or any where a person has their own."""
    if name and (ROOT / name).is_file():
        return load(ROOT / name)
    known = name if name in catalogue.documents() else "voc-15-1"
    return catalogue.scenario(str(known), {"data.root": "DATA"})


def check_values(parameters: dict[str, Any]) -> None:
    """What the command itself would check of a scenario, its fields and its form."""
    name = parameters.get("scenario")
    if isinstance(name, str) and not PLACEHOLDER.fullmatch(name):
        known = name in (*catalogue.documents(), "add-classes") or name.endswith(".yaml")
        assert known, f"no scenario {name}"
        assert not name.startswith("docs/") or (ROOT / name).is_file(), f"no file {name}"
    scenario = stand_in(name if isinstance(name, str) else None)
    for variant in filter(None, [parameters.get("variant"), *parameters.get("variants", ())]):
        if not PLACEHOLDER.fullmatch(variant):
            scenario.variant(variant)
    check_assignments(scenario, parameters.get("assignments") or ())
    fields = form.EXTENSION if name == "add-classes" else form.INCREMENTAL
    check_form(scenario, fields, parameters.get("parameters") or ())


def check_assignments(scenario: Scenario, items: tuple[str, ...]) -> None:
    for item in items:
        if PLACEHOLDER.fullmatch(item.partition("=")[0].rpartition(".")[2]):
            continue
        (field, value), *_ = parse_assignments([item]).items()
        if isinstance(value, str) and PLACEHOLDER.fullmatch(value):
            value = scenario.model_dump()
            for part in field.split("."):
                assert part in value, f"no field {field}"
                value = value[part]
        scenario.override({field: value})


def check_form(scenario: Scenario, fields: Any, items: tuple[str, ...]) -> None:
    known = {field.name: field for field in fields}
    for name, text in split_items(items, "-p", "").items():
        assert name in known, f"the form has no field {name}"
        value = text if known[name].kind is str else parse_value(text, f"-p {name}")
        assert isinstance(value, known[name].kind), f"{name} is no {known[name].kind.__name__}"
        form.fill_in(scenario, fields, {name: value})


@pytest.fixture(scope="module")
def shown() -> list[Shown]:
    return commands("dkd")


def faults_of(shown: list[Shown]) -> list[str]:
    faults = []
    for command in shown:
        try:
            context = parsed(words(command, "dkd"), command.whole)
            if context is not None:
                check_values(context.params)
        except (click.UsageError, UserError, AssertionError, ValueError) as error:
            told = error.format_message() if isinstance(error, click.UsageError) else str(error)
            faults.append(f"{command.place}: {command.text}: {told.splitlines()[0]}")
    return faults


def test_shown_commands_are_understood(shown: list[Shown]) -> None:
    assert faults_of(shown) == []


def test_settings_that_are_shown_alone_are_understood() -> None:
    faults = []
    for one in everything():
        if not one.text.startswith(("--set ", "-p ")) or one.whole:
            continue
        option, *items = shlex.split(one.text)[:2]
        try:
            if option == "--set":
                check_assignments(stand_in(None), tuple(items))
            else:
                check_form(stand_in(None), form.INCREMENTAL, tuple(items))
        except (UserError, AssertionError) as error:
            faults.append(f"{one.place}: {one.text}: {error}")
    assert faults == []


def test_shown_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    found = {
        (shown.place, word)
        for shown in commands("make")
        for word in words(shown, "make")
        if "=" not in word
        and not PLACEHOLDER.fullmatch(word)
        and shown.place != "Makefile"
        and not shown.place.startswith("src/")
    }
    assert {word for _, word in found} >= {"demo", "test", "bench", "pipelines", "test-cluster"}
    assert [(place, word) for place, word in sorted(found) if word not in targets] == []


def test_commands_are_found_where_they_are(shown: list[Shown]) -> None:
    """So that a new way of writing them is not passed over."""
    places = {command.place.partition("/")[0] for command in shown}
    assert places >= {"README.md", "docs", "docker", "k8s", "src", "Makefile"}
    texts = {command.text for command in shown}
    assert "dkd run demo --all-variants" in texts
    assert any(text.startswith("dkd status 5f0c") for text in texts)
    assert len(shown) > 100


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("dkd demo", "no command demo"),
        ("dkd run demo --fast", "No such option"),
        ("dkd run", "Missing argument"),
        ("dkd run demo --set training.epochs=30", "training.epochs: set its fields"),
        ("dkd run demo --set training.lr.first=fast", "Input should be a valid number"),
        ("dkd run demo --set network.weight=FILE", "no field network.weight"),
        ("dkd run voc-15-2", "no scenario voc-15-2"),
        ("dkd run voc-15-1 --variant DKD-X", "variant 'DKD-X'"),
        ("dkd submit demo -p nodes=2", "the form has no field nodes"),
        ("dkd submit demo -p training_nodes=0", "greater than or equal to 1"),
        ("dkd data check FOLDER --format zip", "'zip' is not one of"),
        ("dkd data check FOLDER --format", "requires an argument"),
    ],
)
def test_a_command_that_is_refused_is_noticed(text: str, fault: str) -> None:
    (told,) = faults_of([Shown("page", text, whole=True)])
    assert fault in told


OTHERS = (
    "aws",
    "base64",
    "curl",
    "docker",
    "echo",
    "eval",
    "export",
    "git",
    "kind",
    "sed",
    "source",
    "tar",
    "unzip",
)
"""Programs of others in blocks of the shell, whose options are not looked at."""

CHECKED = ("dkd", "docker/build.sh", "kubectl", "make", "pip", "pytest", "python", "torchrun")


def shell() -> list[tuple[str, str]]:
    """Page and command of every block of the shell."""
    return [
        (block.place, part.removeprefix("sudo "))
        for page in PAGES
        for block in blocks(page)
        if block.language in SHELL
        for line in lines(block)
        for part in parts(line)
    ]


def test_every_program_of_a_block_is_known() -> None:
    """So that no line of a block is passed over without anybody noticing."""
    starts = {(place, re.sub(r"^([A-Z_]+=\S* ?)+", "", part)) for place, part in shell()}
    unknown = [
        (place, text) for place, text in starts if text and text.split()[0] not in CHECKED + OTHERS
    ]
    assert unknown == []


@functools.cache
def kubectl_options(verb: str) -> set[str]:
    """The options of a verb, as kubectl itself tells them; empty where there is no such verb."""
    ended = subprocess.run([program(), *verb.split(), "--help"], capture_output=True, text=True)
    usual = subprocess.run([program(), "options"], capture_output=True, text=True).stdout
    found = re.findall(r"^ +(?:(-\w), )?(--[\w-]+)[=\[]", ended.stdout + usual, re.M)
    return {text for pair in found for text in pair if text} if "Usage:" in ended.stdout else set()


def test_kubectl_knows_what_is_shown() -> None:
    faults = []
    for shown in commands("kubectl"):
        if shown.place.startswith("src/") or not shown.whole:
            continue
        arguments = words(shown, "kubectl")
        two = ("auth", "rollout", "set", "create")
        verb = " ".join(arguments[: 2 if arguments[0] in two and arguments[1][0] != "-" else 1])
        options = kubectl_options(verb) or kubectl_options(verb.split()[0])
        for argument in arguments:
            option = argument.partition("=")[0]
            if not options or (option[0] == "-" and option != "-" and option not in options):
                faults.append(f"{shown.place}: {shown.text}: {option}")
        for option, value in pairwise(arguments):
            local = option in ("-f", "-k") and value.startswith(("k8s/", "docs/", "."))
            if local and not (ROOT / value).exists():
                faults.append(f"{shown.place}: {shown.text}: no {value}")
    assert faults == []


def test_python_finds_what_is_shown() -> None:
    faults = []
    for shown in commands("python"):
        arguments = words(shown, "python")
        if shown.place.startswith("src/") or not arguments:
            continue
        if arguments[0] == "-m":
            name = arguments[1].split("@")[0]
            found = importlib.util.find_spec(name) is not None
        else:
            known = {block.title for page in PAGES for block in blocks(page)}
            found = arguments[0] in known or (ROOT / arguments[0]).is_file()
        if not found:
            faults.append(f"{shown.place}: {shown.text}")
    assert faults == []


def test_benchmarks_take_the_options_that_are_shown() -> None:
    faults = []
    for module in ("benchmarks", "benchmarks.kills"):
        files = sorted((ROOT / module.replace(".", "/")).glob("*.py"))
        told = "".join(text_of(file) for file in files)
        for shown in commands(module):
            options = [word for word in words(shown, module) if word.startswith("--")]
            faults += [(shown.text, option) for option in options if f'"{option}"' not in told]
    assert faults == []


def test_extras_that_are_shown_exist() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {
        (one.place, extra.strip())
        for one in everything()
        for listed in re.findall(r"\bdkd\[([\w, -]+)\]", one.text)
        for extra in listed.split(",")
    }
    messages = "\n".join(text_of(file) for file in SOURCES)
    named |= {("a message", extra) for extra in re.findall(r"\bdkd\[([\w-]+)\]", messages)}
    assert {extra for _, extra in named} >= {"labels", "export"}
    assert sorted(each for each in named if each[1] not in declared["optional-dependencies"]) == []


def test_tests_that_are_shown_exist() -> None:
    shown = [one.text for one in everything() if not one.place.startswith("src/")]
    paths = {
        path for text in shown for path in re.findall(r"\bpytest (?:-\S+ )*(tests/[\w/.-]+)", text)
    }
    assert "tests/losses" in paths
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
