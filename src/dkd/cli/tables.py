"""Tables on standard output: on a terminal fitted to its width, else whole and plain."""

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Literal

from rich.box import Box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dkd.report.tables import plain

_UNBOUNDED = 10_000  # characters: a file or pipe has no width
_RULE = Box("    \n    \n    \n    \n -- \n    \n    \n    \n")  # nothing but a rule between rows


def lines(
    rows: Iterable[Sequence[str]],
    *,
    header: bool = True,
    right: Collection[int] = (),
    indent: int = 0,
    apart: int = 0,
) -> list[str]:
    """Rows with aligned columns.

    Args:
        rows: of equal length.
        header: the first row holds the columns' names.
        right: columns that are aligned on the right, from 0 on.
        indent: spaces before every line.
        apart: rows at the end that a rule sets apart.

    Returns:
        Lines without white space at their ends. On a terminal long cells go on in the next line.
    """
    cells = [[Text(plain(cell)) for cell in row] for row in rows]
    table = Table(
        box=_RULE,
        show_header=False,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),  # and the box's own space: two between columns
    )
    for column in range(len(cells[0]) if cells else 0):
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(justify=justify, overflow="fold")
    for number, row in enumerate(cells, start=1):
        style = "bold" if header and number == 1 else None
        table.add_row(*row, style=style, end_section=apart > 0 and number == len(cells) - apart)
    width = None if sys.stdout.isatty() else _UNBOUNDED
    console = Console(file=sys.stdout, width=width)
    with console.capture() as captured:
        console.print(Padding(table, (0, 0, 0, indent), expand=False))
    return [line.rstrip() for line in captured.get().splitlines()]
