"""Errors a person can act on."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Bad input or a failed environment, told in one line.

    The message names the file, field or object and says what to do. The command line prints
    it as ``dkd: <message>`` and exits with status 2; nothing half-written is left behind.
    """


@contextmanager
def told() -> Iterator[None]:
    """Turns a :class:`UserError` into its line on standard error and exit status 2."""
    try:
        yield
    except UserError as error:
        print(f"dkd: {error}", file=sys.stderr, flush=True)
        raise SystemExit(2) from None
