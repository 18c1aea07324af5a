"""Reading a container's log in pieces: what a kubelet says instead of it moves nothing."""

import json
from typing import Any

import pytest

from dkd.launching.kubernetes.logs import LogReader, plain

POD: dict[str, Any] = {
    "metadata": {"name": "w-0", "uid": "1"},
    "spec": {"nodeName": "node1"},
}
HICCUP = "unable to retrieve container logs for containerd://4f0c\n"


class Answers:
    """A cluster's answers for a log, one after the other; remembers what time was asked for."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[int | None] = []

    def log(self, _pod: str, _container: str, since_seconds: int | None) -> str:
        self.asked.append(since_seconds)
        return self.answers.pop(0)


def said(*answers: str) -> list[str]:
    lines: list[str] = []
    cluster = Answers(*answers)
    reader = LogReader(cluster, "node", lines.append)  # type: ignore[arg-type]
    while cluster.answers:
        reader.read(POD)
    return lines


def line(second: int, words: str, fraction: str = "") -> str:
    return f"2026-11-27T00:33:{second:02}{fraction}Z {words}\n"


@pytest.mark.parametrize("before", ["", line(1, "epoch 1")])
def test_a_kubelets_hiccup_silences_nothing(before: str) -> None:
    again = before + line(2, "epoch 2")
    printed = said(before, HICCUP, HICCUP, again)
    assert printed == [*(["epoch 1"] if before else []), HICCUP.strip(), "epoch 2"]


def test_workers_events_are_told_as_the_launching_task_tells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = {"time": "", "level": "info", "run": "r", "step": 1, "rank": 0, "event": "epoch 1"}
    told = line(1, json.dumps(fields))
    monkeypatch.delenv("DKD_LOG", raising=False)
    assert said(told) == ["epoch 1"]
    monkeypatch.setenv("DKD_LOG", "json")
    assert [json.loads(each) for each in said(told)] == [fields]


def test_a_hiccup_within_a_log() -> None:
    before = line(1, "one")
    assert said(before + HICCUP, before + line(2, "two")) == ["one", HICCUP.strip(), "two"]


def test_after_a_hiccup_the_time_from_before_it_is_asked_for() -> None:
    cluster = Answers(line(1, "one"), HICCUP, line(2, "two"))
    clock = iter([0.0, 100.0, 200.0])
    reader = LogReader(cluster, "node", lambda _line: None, clock=lambda: next(clock))  # type: ignore[arg-type]
    for _ in range(3):
        reader.read(POD)
    assert cluster.asked == [None, 110, 210]


def test_stamps_compare_as_times() -> None:
    """Go leaves trailing zeros away, and a node may write its own zone."""
    first = line(1, "a", ".5") + line(1, "b", ".50000001")
    later = "2026-11-27T01:33:02+01:00 c\n" + "2026-11-26T23:33:03-01:00 d\n"
    assert said(first, first + later, first + later) == ["a", "b", "c", "d"]


def test_what_begins_like_a_year_is_no_stamp() -> None:
    assert said("2026 was a good year\n" + line(1, "a")) == ["2026 was a good year", "a"]


def test_a_line_is_what_ends_with_a_newline() -> None:
    """Not what a program separates otherwise, such as a progress bar."""
    assert said(line(1, "10 %\r20 %") + line(2, "a\x0cb")) == ["10 %\r20 %", "a\x0cb"]


def test_a_plain_log_keeps_what_has_no_stamp() -> None:
    assert plain(line(1, "Killed") + HICCUP) == f"Killed\n{HICCUP.strip()}"
