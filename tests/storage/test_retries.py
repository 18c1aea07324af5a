"""How long a transfer is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from dkd.storage.retries import LONGEST_PAUSE, Patience


@given(give_up=st.floats(0.1, 1000), times=st.lists(st.floats(0, 50), min_size=1, max_size=60))
def test_patience_ends_at_its_time_and_not_before(give_up: float, times: list[float]) -> None:
    """Whatever the tries themselves take, no pause begins after the time nor goes beyond it."""
    now = 1000.0
    patience = Patience(give_up, clock=lambda: now)
    first = now
    for took in times:
        pause = patience.pause("test")
        if pause is None:
            assert now >= first + give_up
            break
        assert 0 < pause <= LONGEST_PAUSE
        assert now + pause <= first + give_up + 1e-6
        now += pause + took
    patience.progress()
    assert patience.pause("test") is not None
