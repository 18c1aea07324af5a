"""How a training goes, for Prometheus: rank 0 answers ``GET /metrics`` while its job runs.

Only where ``DKD_METRICS_PORT`` names a port, as the manifests of workers do; a laptop has none. The
values are those of the training thread, so that asking for them never waits for a device.
"""

import os
import time
from collections.abc import Callable, Mapping

import torch

from dkd.errors import UserError
from dkd.training.state import TrainingState

PORT = "DKD_METRICS_PORT"
"""Environment variable: the port; empty, absent or 0 for none."""


def port(environment: Mapping[str, str] = os.environ) -> int:
    """The port that is asked for; 0 for none.

    Raises:
        UserError: the variable is no port.
    """
    said = environment.get(PORT) or "0"
    if not said.isascii() or not said.isdigit() or int(said) > 65535:
        raise UserError(f"{PORT}={said}: give a port, e.g. 9464, or 0 for none")
    return int(said)


class TrainingMetrics:
    """A step's training as metrics, with the labels ``run`` and ``step``.

    Args:
        run: name of the run.
        step: number of the step.
    """

    def __init__(self, run: str, step: int) -> None:
        import prometheus_client as prometheus

        self.registry = prometheus.CollectorRegistry()
        self._labels = {"run": run, "step": str(step)}
        self._shutdown: Callable[[], None] | None = None
        self._points, self._iteration, self._waited = 0, 0, 0.0
        self._since = 0.0

        def gauge(name: str, about: str) -> prometheus.Gauge:
            made = prometheus.Gauge(name, about, [*self._labels], registry=self.registry)
            return made.labels(**self._labels)

        def counter(name: str, about: str) -> prometheus.Counter:
            made = prometheus.Counter(name, about, [*self._labels], registry=self.registry)
            return made.labels(**self._labels)

        self._done = gauge("dkd_training_iteration", "Iterations that are done")
        self._total = gauge("dkd_training_iterations", "Iterations of the whole step")
        self._images = counter("dkd_training_images", "Images trained on since the job began")
        self._seconds = counter("dkd_training_seconds", "Time in the loop since the job began")
        self._wait = counter(
            "dkd_training_data_wait_seconds", "Of that, time that rank 0 waited for images"
        )
        self._saved = gauge(
            "dkd_training_last_save_timestamp_seconds",
            "When the training state was last saved, else when the loop began",
        )
        self._loss = prometheus.Gauge(
            "dkd_training_loss",
            "Mean of a loss term over the last stretch, a hundredth of the step",
            [*self._labels, "term"],
            registry=self.registry,
        )
        if torch.cuda.is_available():
            memory = prometheus.Gauge(
                "dkd_training_gpu_memory_bytes",
                "Of rank 0: what tensors take, what PyTorch keeps, and what the GPU has",
                [*self._labels, "kind"],
                registry=self.registry,
            )
            for kind, now in (
                ("allocated", torch.cuda.memory_allocated),
                ("reserved", torch.cuda.memory_reserved),
                ("total", lambda: torch.cuda.get_device_properties().total_memory),
            ):
                memory.labels(**self._labels, kind=kind).set_function(now)

    def serve(self, port: int) -> int:
        """Answers from here on; returns the port, which is another one for 0.

        Raises:
            OSError: the port is taken.
        """
        import prometheus_client as prometheus

        server, _thread = prometheus.start_http_server(port, registry=self.registry)
        self._shutdown = server.shutdown
        return int(server.server_port)

    def close(self) -> None:
        """Answers no more."""
        if self._shutdown is not None:
            self._shutdown()

    def begin(self, state: TrainingState) -> None:
        """The loop begins, from a save perhaps."""
        self._since = time.monotonic()
        self._iteration, self._points = state.iteration, len(state.curve.points)
        self._total.set(state.total)
        self._done.set(state.iteration)
        self._saved.set_to_current_time()

    def after_iteration(self, state: TrainingState, saved_at: float | None) -> None:
        """Takes in an iteration.

        Args:
            state: the training after it.
            saved_at: when a save was last published, in seconds since 1970; None if none was.
        """
        now = time.monotonic()
        self._seconds.inc(now - self._since)
        self._wait.inc(state.waited - self._waited)
        done = state.iteration - self._iteration
        self._images.inc(done * state.step.scenario.training.batch_size)
        self._since, self._waited, self._iteration = now, state.waited, state.iteration
        self._done.set(state.iteration)
        if saved_at is not None:
            self._saved.set(saved_at)
        if len(state.curve.points) > self._points:
            self._points = len(state.curve.points)
            for term, value in state.curve.points[-1].items():
                if term != "iteration":
                    self._loss.labels(**self._labels, term=term).set(value)
