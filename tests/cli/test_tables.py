"""Tables: whole and plain in a pipe, fitted to a terminal."""

from collections.abc import Callable

from dkd.cli import tables

ROWS = [
    ("RUN", "SIZE", "WITH"),
    ("one", "7 B", "a-run-of-a-very-long-name, " * 20 + "x"),
    ("飞机", "12.5 GiB", ""),
]


def test_a_pipe_gets_whole_lines() -> None:
    assert tables.lines(ROWS, right=(1,), indent=2) == [
        "  RUN       SIZE  WITH",
        "  one        7 B  " + ROWS[1][2],
        "  飞机  12.5 GiB",
    ]


def test_a_rule_sets_rows_apart() -> None:
    rows = [("step", "IoU"), ("0", "71.25"), ("", "2.00")]
    assert tables.lines(rows, right=(0, 1), apart=1) == [
        "step    IoU",
        "   0  71.25",
        "-----------",
        "       2.00",
    ]


def test_text_is_no_markup_and_moves_no_cursor() -> None:
    assert tables.lines([("[bold]a[/]", "b\x1b[2J\rc")]) == ["[bold]a[/]  b?[2J?c"]
    assert tables.lines([]) == []


def test_a_terminal_gets_lines_of_its_width(in_terminal: Callable[..., str]) -> None:
    shown = in_terminal("scenarios", "voc-15-1", columns=70).splitlines()
    start = next(n for n, line in enumerate(shown) if "training images" in line)
    first_step = shown[start + 1 : start + 6]
    assert first_step[0].startswith("0     9568")
    assert max(map(len, first_step)) <= 70
    assert "tv/monitor" not in first_step[0]
    assert "\x1b[1m" in shown[start]  # the head
