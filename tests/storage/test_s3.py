"""Storage that fails: every fault of the table, and a server that is killed and comes back."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from fault_cases import ALWAYS, CASES, CONTENT, Case, run
from fault_proxy import Fault, FaultProxy
from waiting import wait_until

from dkd import storage
from dkd.storage.embedded import EmbeddedStore


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
    with ExitStack() as stores:
        store = stores.enter_context(EmbeddedStore(tmp_path / "s3"))
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        uri = f"s3://{store.bucket}/object"

        def meanwhile() -> None:
            time.sleep(0.1)  # somewhere in the transfer
            nonlocal store
            store.close()
            store = stores.enter_context(EmbeddedStore(store.data_dir))  # at the same address

        for act in (
            lambda: storage.upload(source, uri),
            lambda: storage.download(uri, tmp_path / "target"),
        ):
            killer = threading.Thread(target=meanwhile)
            killer.start()
            act()
            killer.join()
        assert storage.file_sha256(tmp_path / "target") == storage.file_sha256(source)
        wait_until(lambda: not list(storage.unfinished(f"s3://{store.bucket}")))


INTERRUPTED = """
import sys
from pathlib import Path
from dkd import storage
act, uri, path = sys.argv[1:]
if act == "upload":
    storage.upload(Path(path), uri)
else:
    storage.download(uri, Path(path))
"""


@pytest.mark.parametrize("act", ["upload", "download"])
def test_an_interrupt_ends_a_transfer_that_is_being_tried_again(
    act: str, s3: EmbeddedStore, s3_root: str, tmp_path: Path
) -> None:
    path, uri = tmp_path / "source", storage.join(s3_root, "object")
    path.write_bytes(CONTENT)
    storage.write_bytes(uri, CONTENT)
    with FaultProxy(s3.endpoint) as proxy:
        method, where = ("PUT", "partNumber") if act == "upload" else ("GET", "object")
        fault = Fault("answer", method, where, times=ALWAYS)
        proxy.faults.append(fault)
        environment = {"AWS_ENDPOINT_URL_S3": proxy.endpoint, "DKD_S3_GIVE_UP_SECONDS": "500"}
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED, act, uri, str(path)],
            env=os.environ | environment,
            stderr=subprocess.PIPE,
        )
        while fault.hits < 4:  # both parts, and again
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate()
        assert told.rstrip().endswith(b"KeyboardInterrupt")
    wait_until(lambda: not list(storage.unfinished(s3_root)))
    assert [found.name for found in tmp_path.iterdir()] == ["source"]
