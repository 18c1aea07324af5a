"""Every message of a ``UserError`` has a row in docs/troubleshooting.md, and every row a message.

Messages are taken from the source, with ``..`` for what is filled in. A row shows a message's first
words. What is filled in at a message's start (``..: ``: a file, a field, an address) is left out.
"""

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from shown import ROOT, SOURCES, text_of, where

PAGE = ROOT / "docs/troubleshooting.md"
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", re.M)
FILLED = ".."


@cache
def raised() -> frozenset[str]:
    """``UserError`` and what is derived from it."""
    names = {"UserError"}
    for file in SOURCES:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.ClassDef) and {ast.unparse(b) for b in node.bases} & names:
                names.add(node.name)
    return frozenset(names)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(text_of(file))


def texts(node: ast.expr | None, function: ast.AST) -> list[str]:
    """What an expression may say; ``..`` for what is known only when it runs."""
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            choices = [texts(part, function) for part in parts]
            return ["".join(each) for each in itertools.product(*choices)]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [a + b for a in texts(left, function) for b in texts(right, function)]
        case ast.IfExp(body=body, orelse=other):
            return texts(body, function) + texts(other, function)
        case ast.Call(func=ast.Name(id="one_line"), args=[text]):
            return texts(text, function)
        case ast.Name(id=name):
            assigned = [
                each.value
                for each in ast.walk(function)
                if isinstance(each, ast.Assign)
                and any(
                    isinstance(target, ast.Name) and target.id == name for target in each.targets
                )
            ]
            return [text for value in assigned for text in texts(value, function)] or [FILLED]
    return [FILLED]


def calls(module: ast.Module) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Every call with the function that it stands in."""
    functions = [each for each in ast.walk(module) if isinstance(each, ast.FunctionDef)]
    inner = {id(node): function for function in functions for node in ast.walk(function)}
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield node, inner.get(id(node), module)


@cache
def messages() -> dict[str, str]:
    """Where each message is raised, without what is filled in at its start."""
    found = {}
    for file in SOURCES:
        place = where(file)
        # What a part of a scenario refuses becomes a UserError with the field before it.
        kinds = raised() | ({"ValueError"} if place.startswith("src/dkd/scenario/") else set())
        for call, function in calls(tree(file)):
            if ast.unparse(call.func).rpartition(".")[2] in kinds and call.args:
                for text in texts(call.args[0], function):
                    message = re.sub(r"^(\.\.(: |=))+", "", text)
                    if re.search(r"[a-z]{2}", message):  # else it repeats another's
                        found[message] = f"{place}:{call.lineno}"
    return found


@cache
def rows() -> dict[str, tuple[str, str]]:
    """Cause and remedy of each row, by the message's first words."""
    return {words: (cause, remedy) for words, cause, remedy in ROW.findall(text_of(PAGE))}


@cache
def pattern(words: str) -> re.Pattern[str]:
    """What a row's words match: a message that begins so."""
    text = r"\.\.[^\w]*".join(re.escape(part) for part in words.split(FILLED))
    return re.compile(text)


def test_every_message_has_a_row() -> None:
    known = rows()
    missing = [
        f"{place}: {message}"
        for message, place in messages().items()
        if not any(pattern(words).match(message) for words in known)
    ]
    assert len(messages()) > 400
    assert missing == []


def test_every_row_has_a_message() -> None:
    idle = [words for words in rows() if not any(pattern(words).match(each) for each in messages())]
    assert idle == []


def test_rows_say_enough_to_be_found_and_stand_there_once() -> None:
    found = [words for words, _, _ in ROW.findall(text_of(PAGE))]
    assert len(found) == len(set(found))
    assert [words for words in found if not re.search(r"[A-Za-z]{2}", words)] == []
    lines = [line for line in text_of(PAGE).splitlines() if line.startswith("| `")]
    assert len(lines) == len(found), "a row of another shape"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('raise UserError(f"{file}: no list {name!r}; export it")', ["no list ..; export it"]),
        ('raise UserError("a" + f"b {c}")', ["ab .."]),
        ('raise UserError(f"{a}: {b}" if b else "other")', ["..: ..", "other"]),
        ('told = f"-p {x}"\nraise UserError(one_line(told))', ["-p .."]),
    ],
)
def test_messages_are_read_from_the_source(source: str, expected: list[str]) -> None:
    module = ast.parse(source)
    (call,) = [c for c, _ in calls(module) if ast.unparse(c.func) == "UserError"]
    found = texts(call.args[0], module)
    assert [re.sub(r"^\.\.: (?=no)", "", text) for text in found] == expected
