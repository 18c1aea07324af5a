"""What a process tells, as plain lines and as JSON lines."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from dkd import log
from dkd.errors import UserError

Told = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Told]]:
    """From its call on, this process tells as JSON; what it gives is what has been told."""
    handlers = list(logging.getLogger().handlers)

    def begin() -> Told:
        written = io.StringIO()
        monkeypatch.setenv(log.VARIABLE, "json")
        for name in ("stdout", "stderr", "excepthook"):
            monkeypatch.setattr(sys, name, getattr(sys, name) if name == "excepthook" else written)
        monkeypatch.setattr(log, "_about", dict.fromkeys(log._about))
        log.start()
        return lambda: [json.loads(line) for line in written.getvalue().splitlines()]

    yield begin
    logging.getLogger().handlers[:] = handlers


def test_a_line_is_an_event(start: Callable[[], Told]) -> None:
    events = start()
    before = datetime.now(UTC)
    print("nothing yet")
    log.about(run="voc", step=2, rank=0)
    print("  epoch 1/2: loss 1.0; 3 s", flush=True)
    first, second = events()
    assert list(first) == ["time", "level", "run", "step", "rank", "event"]
    assert [first[name] for name in ("run", "step", "rank")] == [None] * 3
    told = datetime.fromisoformat(second.pop("time"))
    assert told.utcoffset() is not None
    assert abs((told - before).total_seconds()) < 60
    expected = {"run": "voc", "step": 2, "rank": 0, "event": "epoch 1/2: loss 1.0; 3 s"}
    assert second == {"level": "info", **expected}


def test_what_one_call_prints_is_one_event(start: Callable[[], Told]) -> None:
    events = start()
    print("one", end="")
    print(" and the same\nand its second line")
    print()
    print("another")
    assert [each["event"] for each in events()] == [
        "one and the same\nand its second line",
        "another",
    ]


def test_levels(start: Callable[[], Told]) -> None:
    events = start()
    print("dkd: data.root: no such folder", file=sys.stderr)
    print("Error: no such option", file=sys.stderr)
    print("warning: the registry was not told")
    print("note: one file is not taken")
    logging.getLogger("dkd.storage").warning("%d attempts", 2)
    logging.getLogger("dkd.storage").info("not told")
    sys.stderr.write(warnings.formatwarning("old", UserWarning, "a.py", 3))
    try:
        raise ValueError("x")
    except ValueError:
        sys.excepthook(*sys.exc_info())
    print("dkd")
    found = [(each["level"], each["event"]) for each in events()]
    levels = ["error"] * 2 + ["warning"] * 4 + ["error", "info"]
    assert [level for level, _ in found] == levels
    assert found[4][1] == "2 attempts"
    assert found[6][1].endswith("\nValueError: x")


def test_events_of_another_process_are_passed_on(start: Callable[[], Told]) -> None:
    events = start()
    print("theirs")
    (theirs,) = events()
    log.about(run="other")
    print(json.dumps(theirs) + "\nours")
    assert [(each["run"], each["event"]) for each in events()[1:]] == [
        (None, "theirs"),
        ("other", "ours"),
    ]


def test_threads_do_not_cut_through_each_others_events(start: Callable[[], Told]) -> None:
    events = start()

    def tell(word: str) -> None:
        for _ in range(50):
            print(word, word, end=" ")
            print(word)

    threads = [threading.Thread(target=tell, args=(word,)) for word in ("a", "b", "c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [each["event"] for each in events()]
    assert sorted(told) == ["a a a"] * 50 + ["b b b"] * 50 + ["c c c"] * 50


def test_people_read_the_event(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"time": "", "level": "info", "run": None, "step": 1, "rank": 0, "event": "a\nb"}
    line = json.dumps(fields)
    others = ["plain", "", '{"time": "now"}', '{"time": "', "{}"]
    assert log.event_text(line) == "a\nb"
    assert [log.is_event(each) for each in (line, *others)] == [True] + [False] * 5
    assert list(log.event_lines([line, *others])) == ["a", "b", *others]
    monkeypatch.delenv(log.VARIABLE, raising=False)
    assert log.passed_on(line) == "a\nb"
    monkeypatch.setenv(log.VARIABLE, "json")
    assert log.passed_on(line) == line


def test_another_way_of_telling_is_refused() -> None:
    assert not log.wanted({})
    assert not log.wanted({log.VARIABLE: "text"})
    with pytest.raises(UserError, match="DKD_LOG=xml: write json or text"):
        log.wanted({log.VARIABLE: "xml"})


def test_what_a_person_did_wrong_is_told_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, log.told():
        raise UserError("field: is wrong")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "dkd: field: is wrong\n"


def dkd(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dkd", *words],
        env=os.environ | {log.VARIABLE: "json"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_tell_of_errors_as_events_and_give_results_as_they_are() -> None:
    failed = dkd("scenarios", "nothing-like-that")
    assert (failed.returncode, failed.stdout) == (2, "")
    (event,) = map(json.loads, failed.stderr.splitlines())
    assert event["level"] == "error"
    assert event["event"].startswith("dkd: ")
    shown = dkd("scenarios", "voc-15-1")
    assert shown.stdout.startswith("voc-15-1: PASCAL VOC 2012")
    assert shown.stderr == ""
