"""Rank 0's log, read in pieces and printed once."""

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from dkd.launching.kubernetes.api import Cluster, Object, Unavailable
from dkd.log import passed_on

_OVERLAP = 10.0  # seconds read again, for clocks that differ; no line is printed twice


class _Instant(NamedTuple):
    """A time stamp, to the nanosecond."""

    second: datetime
    nanoseconds: int


_BEGINNING = _Instant(datetime.min.replace(tzinfo=UTC), 0)


class LogReader:
    """Prints a container's new lines, whichever pod is rank 0's by now.

    Each reading asks for the time since the last one that was answered; the time stamp that
    Kubernetes keeps with each line tells which were printed before. Nothing is held open, so
    there is nothing that could break or hang.

    A line without a stamp is not the container's but a kubelet's, which could not read the log
    (``unable to retrieve container logs for containerd://...``). It is printed, once while it
    is repeated, and the reading counts as not answered.

    Args:
        cluster: where.
        container: the container that trains.
        say: prints a line.
        clock: seconds that pass.
    """

    def __init__(
        self,
        cluster: Cluster,
        container: str,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster, self._container, self._say = cluster, container, say
        self._clock = clock
        self._pod: Object | None = None
        self._begin()

    def _begin(self) -> None:
        self._answered: float | None = None
        self._last = (_BEGINNING, 0)  # stamp of the last printed line, and how many had it
        self._excuse = ""  # the last line without a stamp

    def read(self, pod: Object) -> None:
        """Prints what the pod's log has gained.

        Raises:
            Unavailable: the API server did not answer; nothing is lost.
        """
        if self._pod and self._pod["metadata"]["uid"] != pod["metadata"]["uid"]:
            self.finish()
            self._begin()
        self._pod = pod
        if not pod["spec"].get("nodeName"):
            return
        since = None
        now = self._clock()
        if self._answered is not None:
            since = int(now - self._answered + _OVERLAP)
        text = self._cluster.log(pod["metadata"]["name"], self._container, since)
        if text is not None and self._print_new(text):
            self._answered = now

    def finish(self) -> None:
        """Prints what is left, if the pod can still be read."""
        if self._pod is not None:
            pod, self._pod = self._pod, None
            try:
                self.read(pod)
            except Unavailable:
                return

    def _print_new(self, text: str) -> bool:
        """Prints what was not printed before; whether all of it is the container's."""
        stamp, count = self._last
        again = 0
        whole = True
        for at, words in _stamped(text):
            if at is None:
                whole = False
                if words != self._excuse:
                    self._say(words)
                    self._excuse = words
                continue
            if at < stamp:
                continue
            if at == stamp:
                again += 1
                if again <= count:
                    continue
            self._say(passed_on(words))
            self._excuse = ""
            self._last = (at, self._last[1] + 1 if at == self._last[0] else 1)
        return whole


def plain(log: str) -> str:
    """A log without its time stamps."""
    return "\n".join(words for _, words in _stamped(log))


_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)(?: (.*))?", re.DOTALL
)
"""A line of Kubernetes with its RFC 3339 stamp; Go leaves trailing zeros of the second away."""


def _stamped(text: str) -> Iterator[tuple[_Instant | None, str]]:
    """A log's lines, each with its stamp; the whole line where it has none."""
    # Not splitlines: what a program separates by other means than a newline has one stamp.
    for line in text.removesuffix("\n").split("\n") if text else ():
        found = _STAMP.fullmatch(line)
        try:
            second = datetime.fromisoformat(f"{found[1]}{found[3]}") if found else None
        except ValueError:
            second = None
        if found is None or second is None:
            yield None, line
        else:
            yield _Instant(second.astimezone(UTC), int(f"{found[2] or 0:<09}")), found[4] or ""
