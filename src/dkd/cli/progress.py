"""How far a long command is, on standard error."""

import sys
import time
from collections.abc import Callable

import click


def progress(what: str, quiet: bool = False) -> Callable[[int, int], None]:
    """A line that is rewritten on a terminal; else one line every ten seconds.

    Args:
        what: e.g. ``scanning``.
        quiet: say nothing; another process does.

    Returns:
        To be called with the number of images done and of all.
    """
    terminal = sys.stderr.isatty()
    started = last = time.monotonic()

    def show(done: int, of: int) -> None:
        nonlocal last
        if quiet:
            return
        now = time.monotonic()
        if done < of and now - last < (0.2 if terminal else 10):
            return
        if done == of and not terminal and now - started < 10:
            return
        last = now
        end = "\n" if done == of or not terminal else ""
        click.echo(f"{chr(13) if terminal else ''}{what} {done} of {of} images", nl=False, err=True)
        click.echo(end, nl=False, err=True)

    return show
