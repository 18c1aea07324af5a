"""S3 faults and what comes of them; the table is printed by

    python tests/storage/fault_cases.py

Every case goes through :mod:`fault_proxy` to the real server. Times are short here: 1 s for an
answer, and where it is to be given up 2 s of trying again (elsewhere what a busy machine needs).
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import botocore.auth
from fault_proxy import Fault, FaultProxy

from dkd import storage
from dkd.errors import UserError
from dkd.storage import artifacts
from dkd.storage.embedded import EmbeddedStore
from dkd.storage.s3 import CHUNK

SETTINGS = {
    "DKD_S3_GIVE_UP_SECONDS": "60",
    "DKD_S3_TIMEOUT_SECONDS": "1",
    "DKD_S3_SETTLE_SECONDS": "60",
}
GIVING_UP = {"DKD_S3_GIVE_UP_SECONDS": "2", "DKD_S3_SETTLE_SECONDS": "1"}
ALWAYS = 1_000_000
SIZE = CHUNK + (1 << 20)  # two parts, or ranges
CONTENT = os.urandom(SIZE)
MIDDLE = 300_000
MIB3 = 3 << 20
NO = "no answer from"


@dataclass(frozen=True)
class Case:
    """A fault, the operation that meets it, and a part of the error; "" where it succeeds."""

    name: str
    act: str
    fault: Fault | None
    error: str = ""
    clock: timedelta = timedelta()


@dataclass
class Outcome:
    """What happened: the error ("" for none) and what was left behind."""

    error: str
    seconds: float
    hits: int
    leftovers: list[str] = field(default_factory=list)


def _download(**fault: Any) -> dict[str, Any]:
    return {"act": "download", "fault": Fault(method="GET", where="/object", **fault)}


def _upload(**fault: Any) -> dict[str, Any]:
    return {"act": "upload", "fault": Fault(method="PUT", where="partNumber", **fault)}


SLOW = {"kind": "answer", "status": 503, "code": "SlowDown"}
ERROR = {"kind": "answer", "status": 500, "code": "InternalError"}
EXPIRED = Fault("answer", "GET HEAD POST PUT", times=ALWAYS, status=400, code="ExpiredToken")
ABSENT = Fault("answer", where="parts/", status=404, code="NoSuchKey", method="GET HEAD")

CASES = [
    Case(
        "download: connection reset in mid-body", **_download(kind="reset", after=MIDDLE, times=3)
    ),
    Case(
        "download: reset before the body, always", **_download(kind="reset", times=ALWAYS), error=NO
    ),
    Case("download: body stalls", **_download(kind="stall", after=MIDDLE)),
    Case("download: body stalls, always", **_download(kind="stall", times=ALWAYS), error=NO),
    Case("download: body truncated, header right", **_download(kind="cut", after=MIDDLE, times=3)),
    Case(
        "download: truncated after 3 MiB, always", **_download(kind="cut", after=MIB3, times=ALWAYS)
    ),
    Case("download: truncated, header fits", **_download(kind="shorten", after=MIDDLE, times=3)),
    Case("download: a byte changed", **_download(kind="corrupt", after=MIDDLE)),
    Case(
        "download: a byte changed, always",
        **_download(kind="corrupt", after=MIDDLE, times=ALWAYS),
        error="altered since it was written",
    ),
    Case("download: burst of 503 SlowDown", **_download(**SLOW, times=3)),
    Case(
        "download: 503 SlowDown, always",
        **_download(**SLOW, times=ALWAYS),
        error="still answered 503 SlowDown",
    ),
    Case("download: burst of 500", **_download(**ERROR, times=3)),
    Case("upload: connection reset in mid-body", **_upload(kind="reset-upload", after=9, times=3)),
    Case("upload: reset, always", **_upload(kind="reset-upload", times=ALWAYS), error=NO),
    Case("upload: body stalls", **_upload(kind="stall-upload", after=MIDDLE)),
    Case("upload: body stalls, always", **_upload(kind="stall-upload", times=ALWAYS), error=NO),
    Case("upload: a byte changed", **_upload(kind="corrupt-upload", after=MIDDLE)),
    Case("upload: burst of 503 SlowDown", **_upload(**SLOW, times=3)),
    Case(
        "upload: 503 SlowDown, always",
        **_upload(**SLOW, times=ALWAYS),
        error="still answered 503 SlowDown",
    ),
    Case("upload: a part's answer lost", **_upload(kind="lose", times=2)),
    Case("upload: the last answer lost", "upload", Fault("lose", "POST", "uploadId")),
    Case("small object: a byte changed", "write", Fault("corrupt-upload", "PUT", "/new")),
    Case("first writer: its answer lost", "write", Fault("lose", "PUT", "/new")),
    Case("download: credentials expired", "download", EXPIRED, error="credentials have expired"),
    Case("upload: credentials expired", "upload", EXPIRED, error="credentials have expired"),
    Case(
        "clock an hour wrong",
        "download",
        None,
        error="clock and the clock of",
        clock=timedelta(hours=1),
    ),
    Case("fetch: a part shows up late", "fetch", replace(ABSENT, times=4)),
    Case(
        "fetch: a part never shows up",
        "fetch",
        replace(ABSENT, times=ALWAYS),
        error="part object is missing",
    ),
]


def act(kind: str, root: str, folder: Path) -> None:
    """Do what a case names, and check its result if it claims to have succeeded."""
    source, target = folder / "source", folder / "target"
    match kind:
        case "download":
            storage.download(storage.join(root, "object"), target)
            assert target.read_bytes() == CONTENT
        case "fetch":
            artifacts.fetch(storage.join(root, "artifact"), folder / "parts")
            assert (folder / "parts" / "object").read_bytes() == b"content"
        case "upload":
            source.write_bytes(CONTENT)
            storage.upload(source, storage.join(root, "uploaded"))
        case "write":  # as the manifest is
            assert storage.write_bytes(storage.join(root, "new"), b"content", if_absent=True)
            assert storage.read_bytes(storage.join(root, "new")) == b"content"


def run(case: Case, store: EmbeddedStore, root: str, folder: Path) -> Outcome:
    """Meet a fault and see what comes of it.

    Args:
        case: fault and operation.
        store: the real server.
        root: an empty folder of it.
        folder: an empty local one.
    """
    with _environment(store.environment() | SETTINGS):
        if case.act == "download":
            storage.write_bytes(storage.join(root, "object"), CONTENT)
        if case.act == "fetch":
            uri = storage.join(root, "artifact")
            artifacts.publish(uri, {"object": b"content"}, kind="test", metadata={})
    settings = store.environment() | SETTINGS | (GIVING_UP if case.error else {})
    began = time.monotonic()
    with FaultProxy(store.endpoint) as proxy, _clock_off_by(case.clock):
        fault = replace(case.fault) if case.fault else None
        proxy.faults += [fault] if fault else []
        try:
            with _environment(settings | {"AWS_ENDPOINT_URL_S3": proxy.endpoint}):
                act(case.act, root, folder)
            error = ""
        except UserError as raised:
            error = str(raised)
    seconds = time.monotonic() - began
    with _environment(store.environment() | SETTINGS):
        until = time.monotonic() + 20  # the server may list an upload a moment after its end
        while (unfinished := list(storage.unfinished(root))) and time.monotonic() < until:
            time.sleep(0.1)
        leftovers = [f"{each.uri} unfinished" for each in unfinished]
        uploaded = storage.join(root, "uploaded")
        if case.act == "upload" and not error and storage.read_bytes(uploaded) != CONTENT:
            leftovers.append(f"{uploaded} with other content")
        if case.act == "upload" and error and storage.exists(uploaded):
            leftovers.append(uploaded)
    leftovers += [str(path) for path in folder.rglob("*.partial")]
    return Outcome(error, seconds, fault.hits if fault else 1, leftovers)


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    before = os.environ.copy()
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _clock_off_by(difference: timedelta) -> Iterator[None]:
    """Let requests be signed by a wrong clock, as on a machine whose clock is wrong."""
    right: Callable[..., Any] = botocore.auth.get_current_datetime
    botocore.auth.get_current_datetime = lambda *given: right(*given) + difference
    try:
        yield
    finally:
        botocore.auth.get_current_datetime = right


def main() -> None:
    print("| fault | requests hit | outcome | seconds | left behind |")
    print("|---|---:|---|---:|---|")
    failures = 0
    with tempfile.TemporaryDirectory() as scratch, EmbeddedStore(Path(scratch, "s3")) as store:
        for number, case in enumerate(CASES):
            folder = Path(scratch, str(number))
            folder.mkdir()
            root = f"s3://{store.bucket}/{number}"
            outcome = run(case, store, root, folder)
            expected = case.error in outcome.error and bool(case.error) == bool(outcome.error)
            failures += not expected or bool(outcome.leftovers)
            told = outcome.error.replace(root, "s3://…")
            told = re.sub(r"http://127\.0\.0\.1:\d+", "ENDPOINT", told)
            print(
                f"| {case.name} | {outcome.hits} | {told or 'succeeds, content verified'} | "
                f"{outcome.seconds:.1f} | {', '.join(outcome.leftovers) or 'nothing'} |",
                flush=True,
            )
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
