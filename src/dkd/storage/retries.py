"""When a failed S3 request is tried again, and when it is given up.

botocore's own modes count attempts, and stop ten parallel transfers early by a common quota. A
training step rather needs a time: every failure that may pass is tried again, with exponential
backoff and jitter, until ``DKD_S3_GIVE_UP_SECONDS`` have gone by without progress.
"""

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import (
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's, wider than the builtin
    HTTPClientError,
    IncompleteReadError,
    SSLError,
)

log = logging.getLogger("dkd.storage")

FIRST_PAUSE = 0.2  # seconds; doubles with every failure in a row
LONGEST_PAUSE = 10.0
ABORT_SECONDS = 5.0  # cleaning up after a failure is not worth the whole time again
HURRY_SECONDS = 15.0  # after an interrupt; longer than a pause that has begun
TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
TRANSIENT_CODES = frozenset(
    {
        "BadDigest",  # these three: damaged on the way
        "IncompleteBody",
        "XAmzContentSHA256Mismatch",
        "ConditionalRequestConflict",  # another writer at the same moment
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
    }
)

REFUSED_KEYS = frozenset({"InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"})


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later."""
    if isinstance(error, ClientError):
        return is_transient_answer(error.response)
    if isinstance(error, SSLError):
        return "CERTIFICATE_VERIFY_FAILED" not in str(error)
    # OSError: what a socket raises while a body is read.
    kinds = (ConnectionError, HTTPClientError, IncompleteReadError, OSError)
    return isinstance(error, kinds)


def is_transient_answer(answer: Mapping[str, Any]) -> bool:
    """Whether a server's parsed error answer is one that may pass."""
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in TRANSIENT_STATUS or error_code(answer) in TRANSIENT_CODES


def error_code(answer: Mapping[str, Any]) -> str:
    """The error code in a parsed answer (``NoSuchKey``); empty if it is no error."""
    return str(answer.get("Error", {}).get("Code", ""))


class Patience:
    """The pauses of one operation that keeps failing.

    An interrupt (Ctrl-C, SIGTERM as SystemExit) must not wait for all of them: :func:`hurry`.

    Args:
        give_up: seconds from the first failure without progress till no more is tried.
        clock: tells the time in seconds.
    """

    hurried_until = 0.0  # no pauses before this time, in the whole process

    def __init__(self, give_up: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.give_up = give_up
        self._clock = clock
        self.failures = 0
        self._since = 0.0

    def progress(self) -> None:
        """Something came through: the time starts anew."""
        self.failures = 0

    def pause(self, reason: str) -> float | None:
        """Return the seconds to wait after a failure, None when it is time to give up."""
        now = self._clock()
        if self.failures == 0:
            self._since = now
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self.failures, 10))
        # The jitter keeps many ranks from coming back in the same moment.
        pause = longest * random.uniform(0.5, 1)  # noqa: S311
        self.failures += 1
        left = self._since + self.give_up - now
        if left <= 0 or now < Patience.hurried_until:
            return None
        if self.failures == 3:
            log.warning("S3: %s; trying again for up to %.0f s", reason, left)
        return min(pause, left)


@contextmanager
def hurry() -> Iterator[None]:
    """Let transfers that fail give up at once when the block is interrupted."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        Patience.hurried_until = time.monotonic() + HURRY_SECONDS
        raise


class RetryByTime:
    """Handler of botocore's ``needs-retry.s3`` event: seconds to wait, or None to stop.

    Args:
        give_up: seconds without progress till no more is tried.
        keys_rotate: whether keys that were accepted before, and are refused now, may be followed
            by others: those of a mounted secret, which a kubelet brings some time (a minute or
            two) after they were rotated.
    """

    def __init__(self, give_up: float, *, keys_rotate: bool = False) -> None:
        self.give_up = give_up
        self._keys_rotate = keys_rotate
        self._accepted = False

    def __call__(
        self,
        *,
        operation: Any,
        request_dict: dict[str, Any],
        response: tuple[Any, dict[str, Any]] | None,
        caught_exception: Exception | None,
        **_: Any,
    ) -> float | None:
        answer = response[1] if response else {}
        if caught_exception is not None:
            transient, reason = is_transient(caught_exception), type(caught_exception).__name__
        else:
            transient, reason = is_transient_answer(answer), error_code(answer)
            if reason in REFUSED_KEYS:
                transient = self._keys_rotate and self._accepted
            elif not reason:
                self._accepted = True
        if not transient:
            return None
        context = request_dict["context"]  # of this request's tries
        if "dkd_patience" not in context:
            short = operation.name == "AbortMultipartUpload"
            longest = min(ABORT_SECONDS, self.give_up) if short else self.give_up
            context["dkd_patience"] = Patience(longest)
        patience: Patience = context["dkd_patience"]
        return patience.pause(f"{operation.name} failed ({reason})")
