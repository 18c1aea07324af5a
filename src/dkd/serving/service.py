"""Requests on their way through the model: so many at once, so many waiting, all counted."""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import prometheus_client as prometheus

from dkd import __version__
from dkd.data.channels import Channels
from dkd.serving.model import ExportedModel, Pixels, RequestRefused

T = TypeVar("T")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True)
class Limits:
    """What is accepted.

    Attributes:
        most_bytes: of a request's body.
        most_pixels: of its images, as they are sent and as the model resizes them.
        at_once: images that are computed side by side.
        waiting: requests that may wait for their turn; further ones are told to come later.
    """

    most_bytes: int = 32 << 20
    most_pixels: int = 16 << 20
    at_once: int = os.cpu_count() or 1
    waiting: int = 64


class Service:
    """A model with a queue.

    Args:
        model: what is served.
        name: under which the protocol knows it.
        limits: what is accepted.

    Attributes:
        draining: the server is going: it is not ready, and finishes what it has.
    """

    def __init__(self, model: ExportedModel, name: str, limits: Limits) -> None:
        self.model, self.name, self.limits = model, name, limits
        self.draining = False
        self._pool = ThreadPoolExecutor(limits.at_once, "model")
        self._inside = 0
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "dkd_requests", "Requests by way in and status", ["way", "status"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = prometheus.Histogram(
            "dkd_request_seconds", "From the request's arrival to its answer", ["way"],
            buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip
        queue = prometheus.Gauge(
            "dkd_queue", "Requests that wait or are computed", registry=self.registry
        )
        queue.set_function(lambda: self._inside)
        about = prometheus.Info("dkd_model", "The model that is served", registry=self.registry)
        about.info(
            {
                "name": name,
                "sha256": model.sha256,
                "checkpoint": model.description.checkpoint,
                "version": __version__,
            }
        )

    @property
    def version(self) -> str:
        """The model's: the start of its file's digest."""
        return self.model.sha256[:12]

    @property
    def datatype(self) -> str:
        """Of a mask, as the protocol calls it."""
        return self.model.description.mask_type.upper()

    def require(self, name: str, version: str = "") -> None:
        """Checks that it is this model which is asked for.

        Raises:
            RequestRefused: it is another one (404).
        """
        if name != self.name or version not in ("", self.version):
            asked = f"{name} {version}".strip()
            raise RequestRefused(404, f"no model {asked!r} here, only {self.name!r} {self.version}")

    def masks(self, images: Pixels) -> Channels:
        """RGB ``N x H x W x 3`` to channel numbers ``N x H x W``.

        Raises:
            RequestRefused: many small images, or a long one, are too large once resized (413).
        """
        count, height, width, _ = images.shape
        side = self.model.description.short_side
        resized = count * side * (side * max(height, width) // min(height, width))
        if resized > self.limits.most_pixels:
            raise RequestRefused(
                413,
                f"{count} x {width}x{height} pixels become {resized} where the model resizes them; "
                f"at most {self.limits.most_pixels} are served",
            )
        return self.model.masks(images)

    async def work(self, job: Callable[[], T]) -> T:
        """Does what is to be computed in its turn, on a thread.

        Raises:
            RequestRefused: too many wait already (503).
        """
        if self._inside >= self.limits.at_once + self.limits.waiting:
            raise RequestRefused(503, f"{self._inside} requests are waiting; try again in a second")
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, job)
        finally:
            self._inside -= 1

    def note(self, way: str, status: str, started: float) -> None:
        """Counts a request that is done; ``started`` is of ``time.perf_counter``."""
        self.requests.labels(way, status).inc()
        self.seconds.labels(way).observe(time.perf_counter() - started)
