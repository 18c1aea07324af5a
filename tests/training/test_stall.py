"""A training that stands still is told."""

import threading

from dkd.training.stall import stalls_told
from dkd.training.state import TrainingState


def test_it_is_said_that_no_iteration_ends_and_that_they_go_on() -> None:
    state, told = TrainingState(), list[str]()
    state.iteration, state.total = 1200, 3900
    again, over = threading.Event(), threading.Event()

    def say(line: str) -> None:
        told.append(line)
        (over if line.startswith("iterations go on") else again).set()

    with stalls_told(state, say, silence=0.06):
        assert again.wait(10)
        again.clear()
        assert again.wait(10)  # while it lasts it is said again
        state.iteration += 1
        assert over.wait(10)
    assert told[0].startswith("no iteration for 0 s (last 1,200 of 3,900): ")
    assert told[-1].startswith("iterations go on, after ")
