"""A training that stands still: ranks that wait for each other print nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dkd.training.state import TrainingState

SILENCE = 300.0
"""Seconds without an iteration after which it is said, and again."""


@contextmanager
def stalls_told(
    state: TrainingState, say: Callable[[str], None], silence: float = SILENCE
) -> Iterator[None]:
    """Says it when no iteration ends for long while the block lasts, and when they go on.

    Args:
        state: the training's; read from a thread beside it.
        say: prints a line.
        silence: seconds.
    """
    ended = threading.Event()

    def watch() -> None:
        last, since, told = state.iteration, time.monotonic(), 0
        while not ended.wait(silence / 30):
            stood = time.monotonic() - since
            if state.iteration != last:
                if told:
                    say(f"iterations go on, after {minutes(stood)}")
                last, since, told = state.iteration, time.monotonic(), 0
            elif stood > silence * (told + 1):
                told += 1
                say(
                    f"no iteration for {minutes(stood)} (last {last:,} of {state.total:,}): a "
                    "rank, the network between ranks or the loading of images does not answer"
                )

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def minutes(seconds: float) -> str:
    """A length of time for people, e.g. ``5 min``."""
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
