"""Every command that the pages, the help texts and the manifests show is one that exists.

Each is parsed by the real command line, its ``--set`` and ``-p`` by the real schema and form; none
is run. Words in capitals, ``...`` and what stands in ``<>`` are placeholders: any value does. A
command in the middle of a sentence may leave out arguments; one in a block of code is whole.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dkd.cli import main
from dkd.errors import UserError
from dkd.scenario import catalogue, form
from dkd.scenario.parsing import load, parse_assignments, parse_value, split_items
from dkd.scenario.schema import Scenario

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
    ROOT / "docker/README.md",
    ROOT / "benchmarks/README.md",
]
MANIFESTS = sorted([*(ROOT / "k8s").rglob("*.yaml"), *(ROOT / "docs").rglob("*.yaml")])
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PLACEHOLDER = re.compile(r"<.*>|\.\.\.|\[?[A-Z][A-Z0-9_]*(,[A-Z0-9_.]+)*\]?(\.\.\.)?")


@dataclass(frozen=True)
class Shown:
    """A command as it is shown: where, its text, and whether it is the whole of one."""

    place: str
    text: str
    whole: bool


def of_markdown(text: str) -> Iterator[tuple[str, bool]]:
    """Lines of code blocks (whole) and spans of code in sentences (not whole)."""
    block = re.compile(
        r"^```[^\n]*\n(.*?)^```|(?:^|(?<=\n\n))((?:^ {4}[^\n]*\n|^\n(?= {4}))+)", re.M | re.S
    )
    for found in block.finditer(text):
        yield from ((line, True) for line in joined(found[1] or found[2]))
    for found in re.finditer(r"(`+)(.+?)\1", block.sub("\n", text), re.S):
        yield " ".join(found[2].split()), False


def joined(text: str) -> list[str]:
    """Lines, those that end in a backslash with the next."""
    return [line.strip() for line in re.sub(r"\\\n\s*", " ", text).splitlines()]


def everything() -> Iterator[Shown]:
    for page in PAGES:
        for text, whole in of_markdown(page.read_text(encoding="utf-8")):
            yield Shown(str(page.relative_to(ROOT)), text, whole)
    for file in MANIFESTS:
        comments = re.findall(r"^#(.*)$", file.read_text(encoding="utf-8"), re.M)
        for text, whole in of_markdown("\n".join(comments)):
            yield Shown(str(file.relative_to(ROOT)), text, whole)
        for line in joined("\n".join(comments)):
            yield Shown(str(file.relative_to(ROOT)), line, True)
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                help_text = ast.get_docstring(node) or ""
                for line in joined(help_text):
                    yield Shown(str(file.relative_to(ROOT)), line, True)
                for found in re.finditer(r"(`+)(.+?)\1", help_text, re.S):
                    yield Shown(str(file.relative_to(ROOT)), " ".join(found[2].split()), False)
    for line in joined((ROOT / "Makefile").read_text().replace("$(BIN)/", "")):
        yield Shown("Makefile", line.removeprefix("@"), True)
    for name in catalogue.documents():
        told = CliRunner().invoke(main, ["scenarios", name]).stdout
        for line in joined(told):
            yield Shown(f"dkd scenarios {name}", line, True)


def commands(program: str) -> list[Shown]:
    """The shown commands of a program, each once a place, shell's other parts cut off."""
    found = dict.fromkeys(
        Shown(shown.place, part.strip(), shown.whole)
        for shown in everything()
        for part in re.split(r" (?:&&|\|\|?|;|>>?) ", re.sub(r"\s#\s.*|\s{3,}\S.*", "", shown.text))
        if re.match(rf"(\$ )?(.* -m )?{program} ", part.strip() + " ")
    )
    return [
        shown
        for shown in found
        # a sentence that begins with the program's name, in a docstring
        if re.match(rf"(\$ )?(.* -m )?{program}( [a-zA-Z<-]|$)", shown.text)
        and not (shown.whole and re.search(r"(?<!\.)\.$|[:,]$", shown.text))
    ]


def words(shown: Shown, program: str) -> list[str]:
    text = re.sub(rf"^(\$ )?(.* -m )?{program}\b", "", shown.text)
    return shlex.split(text, comments=True)


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
