"""Storage that fails: every fault of the table, and a server that is killed and comes back."""

import os
import threading
import time
from pathlib import Path

import pytest
from fault_cases import CASES, Case, run
from hypothesis import given
from hypothesis import strategies as st

from dkd import storage
from dkd.storage.embedded import EmbeddedStore
from dkd.storage.retries import LONGEST_PAUSE, Patience


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault(case: Case, s3: EmbeddedStore, s3_root: str, tmp_path: Path) -> None:
    outcome = run(case, s3, s3_root, tmp_path)
    assert outcome.hits > 0
    assert outcome.leftovers == []
    if case.error:
        assert case.error in outcome.error
        assert "\n" not in outcome.error
        keys = [value for name, value in s3.environment().items() if "KEY" in name]
        assert not any(key in outcome.error for key in keys)
    else:
        assert outcome.error == ""


def test_transfers_outlive_a_server_that_is_killed(
    tmp_path: Path, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(40 << 20))
    monkeypatch.setenv("DKD_S3_GIVE_UP_SECONDS", "60")
    with EmbeddedStore(tmp_path / "s3") as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        uri = f"s3://{store.bucket}/object"

        def meanwhile() -> None:
            time.sleep(0.1)  # somewhere in the transfer
            store.restart()

        for act in (
            lambda: storage.upload(source, uri),
            lambda: storage.download(uri, tmp_path / "target"),
        ):
            killer = threading.Thread(target=meanwhile)
            killer.start()
            act()
            killer.join()
        assert storage.file_sha256(tmp_path / "target") == storage.file_sha256(source)
        assert list(storage.unfinished(f"s3://{store.bucket}")) == []


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
