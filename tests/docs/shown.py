"""What pages, help texts and manifests show: commands, blocks of code and spans of code."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from click.testing import CliRunner

from dkd.cli import main
from dkd.scenario import catalogue

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "docker/README.md",
    ROOT / "benchmarks/README.md",
]
MANIFESTS = sorted([*(ROOT / "k8s").rglob("*.yaml"), *(ROOT / "docs").rglob("*.yaml")])
SOURCES = sorted((ROOT / "src").rglob("*.py"))

PLACEHOLDER = re.compile(r"<.*>|\.\.\.|\[?[A-Z][A-Z0-9_]*(,[A-Z0-9_.]+)*\]?(\.\.\.)?")
"""A value that a reader replaces: words in capitals, ``...`` and what stands in ``<>``."""

SHELL = ("sh", "bash", "console", "shell")
"""Languages of the blocks whose every line is a command."""


@dataclass(frozen=True)
class Shown:
    """A command as it is shown: where, its text, and whether it is the whole of one."""

    place: str
    text: str
    whole: bool


@dataclass(frozen=True)
class Block:
    """A block of code: its page, its language, the file that a reader saves it as, its text."""

    place: str
    language: str
    title: str
    text: str


def where(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@cache
def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@cache
def prose(page: Path) -> str:
    """A page without the messages that begin the rows of its tables: they are no code."""
    text = text_of(page)
    messages = page.name == "troubleshooting.md"
    return re.sub(r"^\| `[^`]+` \|", "| |", text, flags=re.M) if messages else text


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order; those in lists and tabs are moved to the left."""
    fence = r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```\s*$"
    found = re.finditer(fence, text_of(page), re.M | re.S)
    return [_block(where(page), *each.groups()) for each in found]


def _block(place: str, indent: str, language: str, rest: str, text: str) -> Block:
    (title,) = re.findall(r'title="([^"]*)"', rest) or [""]
    return Block(place, language, title, re.sub(rf"^{indent}", "", text, flags=re.M))


def lines(block: Block) -> list[str]:
    """The commands of a block of the shell: no prompts, no output, no text that is handed in."""
    text = re.sub(r"<<'?(\w+)'?\n.*?^\1$", "", block.text, flags=re.M | re.S)
    found = joined(text)
    if block.language == "console":
        found = [line for line in found if line.startswith("$ ")]
    return [line.removeprefix("$ ") for line in found if line and not line.startswith("#")]


def spans(page: Path) -> list[str]:
    """The code in a page's sentences and tables, outside of blocks."""
    return [text for text, whole in of_markdown(prose(page)) if not whole]


def of_markdown(text: str) -> Iterator[tuple[str, bool]]:
    """Lines of code blocks (whole) and spans of code in sentences (not whole)."""
    block = re.compile(
        r"^ *```[^\n]*\n(.*?)^ *```|(?:^|(?<=\n\n))((?:^ {4}[^\n]*\n|^\n(?= {4}))+)", re.M | re.S
    )
    for found in block.finditer(text):
        yield from ((line, True) for line in joined(found[1] or found[2]))
    for found in re.finditer(r"(`+)(.+?)\1", block.sub("\n", text), re.S):
        yield " ".join(found[2].split()), False


def joined(text: str) -> list[str]:
    """Lines, those that end in a backslash with the next."""
    return [line.strip() for line in re.sub(r"\\\n\s*", " ", text).splitlines()]


@cache
def everything() -> tuple[Shown, ...]:
    return tuple(_everything())


def _everything() -> Iterator[Shown]:
    for page in PAGES:
        for text, whole in of_markdown(prose(page)):
            yield Shown(where(page), text, whole)
    for file in MANIFESTS:
        comments = re.findall(r"^#(.*)$", text_of(file), re.M)
        for text, whole in of_markdown("\n".join(comments)):
            yield Shown(where(file), text, whole)
        for line in joined("\n".join(comments)):
            yield Shown(where(file), line, True)
    for file in SOURCES:
        for node in ast.walk(ast.parse(text_of(file))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                help_text = ast.get_docstring(node) or ""
                for line in joined(help_text):
                    yield Shown(where(file), line, True)
                for found in re.finditer(r"(`+)(.+?)\1", help_text, re.S):
                    yield Shown(where(file), " ".join(found[2].split()), False)
    for line in joined(text_of(ROOT / "Makefile").replace("$(BIN)/", "")):
        yield Shown("Makefile", line.removeprefix("@"), True)
    for name in catalogue.documents():
        told = CliRunner().invoke(main, ["scenarios", name]).stdout
        for line in joined(told):
            yield Shown(f"dkd scenarios {name}", line, True)


def parts(text: str) -> list[str]:
    """The commands of a line of the shell: its comment cut off, pipes and redirections parted."""
    text = re.sub(r"\s#\s.*|\s{3,}\S.*", "", text)
    return [part.strip() for part in re.split(r" (?:&&|\|\|?|;|>>?|<) ", text)]


def commands(program: str) -> list[Shown]:
    """The shown commands of a program, each once a place, shell's other parts cut off."""
    found = dict.fromkeys(
        Shown(shown.place, part, shown.whole)
        for shown in everything()
        if program in shown.text
        for part in parts(shown.text)
        if re.match(rf"(\$ )?(.* -m )?{program} ", part + " ")
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
    text = re.sub(r"\$\([^)]*\)", "PRINTED", text)  # what another command prints
    return shlex.split(text, comments=True)
