"""The result as plain text for a terminal and as Markdown for a README."""

import unicodedata
from collections.abc import Sequence

from dkd.report.comparison import ALL, MEASURES, Comparison, compare
from dkd.report.model import RunResult

WIDTH = 100


def table(runs: Sequence[RunResult]) -> str:
    """The scores after the last step, a variant a line, and mIoU_all after every step.

    The columns of the steps are left out if a line would be longer than 100 characters. Several
    seeds of a variant stand as mean ± sample standard deviation. Percent.

    Raises:
        UserError: there is no run, or the runs are not of one task.
    """
    comparison = compare(runs)
    rows = _final(comparison)
    history = _history(comparison)
    last = f"after step {comparison.steps[-1]}"
    if len(comparison.steps) > 1 and _line_width(rows) + 3 + _line_width(history) <= WIDTH:
        left, right = _aligned(rows, left_column=True), _aligned(history)
        head = " " * (_display_width(left[0]) - len(last)) + last + " | mIoU_all after step"
        lines = [head, *(f"{a} | {b}" for a, b in zip(left, right, strict=True))]
    else:
        lines = _aligned(rows, left_column=True)
        lines.insert(0, " " * (_display_width(lines[0]) - len(last)) + last)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def markdown_table(runs: Sequence[RunResult]) -> str:
    """The scores after the last step as a Markdown table, a variant a row. Percent.

    Raises:
        UserError: there is no run, or the runs are not of one task.
    """
    head, *body = _final(compare(runs))
    rule = ["---", *("---:" for _ in head[1:])]
    lines = [head, rule, *([escaped(row[0]), *row[1:]] for row in body)]
    return "".join(f"| {' | '.join(row)} |\n" for row in lines)


def _final(comparison: Comparison) -> list[list[str]]:
    rows = [["method", *(measure.text for measure in MEASURES)]]
    for variant in comparison.variants:
        scores = (variant.final(measure) for measure in MEASURES)
        rows.append([plain(variant.label), *("–" if s is None else str(s) for s in scores)])
    return rows


def _history(comparison: Comparison) -> list[list[str]]:
    rows = [[str(step) for step in comparison.steps]]
    for variant in comparison.variants:
        if variant.is_joint:
            final = variant.final(ALL)
            scores = [*([None] * (len(comparison.steps) - 1)), final]
        else:
            scores = [variant.score(ALL, step) for step in comparison.steps]
        rows.append(["–" if s is None else f"{s.mean:.1f}" for s in scores])
    return rows


def _widths(rows: list[list[str]]) -> list[int]:
    return [max(map(_display_width, column)) for column in zip(*rows, strict=True)]


def _line_width(rows: list[list[str]]) -> int:
    widths = _widths(rows)
    return sum(widths) + 2 * (len(widths) - 1)


def _aligned(rows: list[list[str]], left_column: bool = False) -> list[str]:
    widths = _widths(rows)

    def cell(column: int, text: str) -> str:
        padding = " " * (widths[column] - _display_width(text))
        return text + padding if left_column and column == 0 else padding + text

    return ["  ".join(cell(i, text) for i, text in enumerate(row)) for row in rows]


def _display_width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def plain(text: str) -> str:
    """Without control characters: a label must not move a terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, in a table's cell too."""
    text = plain(text)
    for character, replacement in (
        ("\\", "\\\\"),
        ("&", "&amp;"),
        ("<", "&lt;"),
        ("|", "\\|"),
        ("`", "\\`"),
        ("*", "\\*"),
        ("_", "\\_"),
    ):
        text = text.replace(character, replacement)
    return text
