"""Rank 0's log, read in pieces and printed once."""

import time
from collections.abc import Callable

from dkd.launching.kubernetes.api import Cluster, Object, Unavailable

_OVERLAP = 10.0  # seconds read again, for clocks that differ; no line is printed twice


class LogReader:
    """Prints a container's new lines, whichever pod is rank 0's by now.

    Each reading asks for the time since the last one that was answered; the time stamp that
    Kubernetes keeps with each line tells which were printed before. Nothing is held open, so
    there is nothing that could break or hang.

    Args:
        cluster: where.
        container: the container that trains.
        say: prints a line.
    """

    def __init__(self, cluster: Cluster, container: str, say: Callable[[str], None]) -> None:
        self._cluster, self._container, self._say = cluster, container, say
        self._pod: Object | None = None
        self._answered: float | None = None
        self._last = ("", 0)  # stamp of the last printed line, and how many had it

    def read(self, pod: Object) -> None:
        """Prints what the pod's log has gained.

        Raises:
            Unavailable: the API server did not answer; nothing is lost.
        """
        if self._pod and self._pod["metadata"]["uid"] != pod["metadata"]["uid"]:
            self.finish()
            self._answered, self._last = None, ("", 0)
        self._pod = pod
        if not pod["spec"].get("nodeName"):
            return
        since = None
        now = time.monotonic()
        if self._answered is not None:
            since = int(now - self._answered + _OVERLAP)
        text = self._cluster.log(pod["metadata"]["name"], self._container, since)
        if text is not None:
            self._answered = now
            self._print_new(text)

    def finish(self) -> None:
        """Prints what is left, if the pod can still be read."""
        if self._pod is not None:
            pod, self._pod = self._pod, None
            try:
                self.read(pod)
            except Unavailable:
                return

    def _print_new(self, text: str) -> None:
        stamp, count = self._last
        again = 0
        for line in text.splitlines():
            at, _, words = line.partition(" ")
            at = _comparable(at)
            if at < stamp:
                continue
            if at == stamp:
                again += 1
                if again <= count:
                    continue
            self._say(words)
            self._last = (at, self._last[1] + 1 if at == self._last[0] else 1)


def plain(log: str) -> str:
    """A log without its time stamps."""
    return "\n".join(line.partition(" ")[2] for line in log.splitlines())


def _comparable(stamp: str) -> str:
    """An RFC 3339 time stamp in UTC with nine decimals: Go leaves trailing zeros away."""
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction:<09}"
