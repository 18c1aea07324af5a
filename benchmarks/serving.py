"""The server of exported models beside a plain PyTorch server, on one core each.

    python -m benchmarks.serving CHECKPOINT PHOTOGRAPHS [--requests 200] [--senders 2]

Both answer the same photographs with PNG masks: ``python -m dkd.serving`` on the exported model,
and a FastAPI program of a dozen lines around ``dkd.load``, which is what a team would write first.
Each server has the first core alone; the senders, with connections that they keep, have the
others. The two take turns, so that a change of the machine's load meets both.
"""

import argparse
import http.client
import io
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

PORTS = {"dkd": 18080, "plain PyTorch": 18081}
ROUNDS = 4


def plain(checkpoint: str, port: int) -> None:
    """Serves ``POST /segment`` with PyTorch, on one thread."""
    import torch
    import uvicorn
    from fastapi import Body, FastAPI, Response
    from PIL import Image

    import dkd

    torch.set_num_threads(1)
    model = dkd.load(checkpoint)
    alone = threading.Lock()
    app = FastAPI()

    @app.get("/v2/health/ready")
    def _ready() -> bool:
        return True

    @app.post("/segment")
    def _segment(image: bytes = Body(media_type="application/octet-stream")) -> Response:
        with alone:
            mask = model.predict(Image.open(io.BytesIO(image))).mask
        file = io.BytesIO()
        Image.fromarray(mask.astype(np.uint8)).save(file, "PNG")
        return Response(file.getvalue(), media_type="image/png")

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


@contextmanager
def served(command: Sequence[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    """A server in a process of its own on the first core, ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        preexec_fn=lambda: os.sched_setaffinity(0, {0}),
    )
    try:
        while True:
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended with {process.returncode}")
            try:
                if ask(http.client.HTTPConnection("127.0.0.1", port), None):
                    break
            except OSError:
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def ask(connection: http.client.HTTPConnection, image: bytes | None) -> bytes:
    """An answer; to the question whether the server is ready where there is no image."""
    if image is None:
        connection.request("GET", "/v2/health/ready")
    else:
        kind = {"Content-Type": "application/octet-stream"}
        connection.request("POST", "/segment", image, kind)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{answer.status}: {body[:200]!r}")
    return body


def load(port: int, images: Sequence[bytes], requests: int, senders: int) -> list[float]:
    """Seconds of each request."""
    seconds: list[float] = []
    waiting = iter(itertools.islice(itertools.cycle(images), requests))
    lock = threading.Lock()

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while True:
            with lock:
                image = next(waiting, None)
            if image is None:
                return
            began = time.perf_counter()
            ask(connection, image)
            seconds.append(time.perf_counter() - began)

    threads = [threading.Thread(target=send) for _ in range(senders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("photographs", type=Path, help="folder of JPEG files")
    parser.add_argument("--requests", type=int, default=200, help="to each server")
    parser.add_argument("--senders", type=int, default=2, help="at the same time")
    parser.add_argument("--plain", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plain:
        plain(given.checkpoint, given.plain)
        return
    from dkd.export import export
    from dkd.network.checkpoint import fetch

    files = sorted(given.photographs.glob("*.jpg"))[:20]
    images = [file.read_bytes() for file in files]
    with tempfile.TemporaryDirectory() as folder:
        made = export.export(
            fetch(given.checkpoint),
            f"{folder}/model.onnx",
            form="onnx",
            photographs=tuple(files[:4]),
            tell=lambda line: print(line, file=sys.stderr),
        )
        print(f"{made.size / 1e6:.1f} MB; exported {made.speedup:.2f} times as fast as PyTorch")
        settings = {
            "MODEL_URI": f"{folder}/model.onnx",
            "MODEL_SHA256": made.sha256,
            "HTTP_PORT": str(PORTS["dkd"]),
            "GRPC_PORT": "0",
            "WORKERS": "1",
            "DRAIN_SECONDS": "0",
        }
        other = (
            "benchmarks.serving",
            given.checkpoint,
            "-",
            "--plain",
            str(PORTS["plain PyTorch"]),
        )
        os.sched_setaffinity(0, set(range(1, os.cpu_count() or 2)))
        with (
            served(("dkd.serving",), PORTS["dkd"], settings),
            served(other, PORTS["plain PyTorch"], {}),
        ):
            seconds: dict[str, list[float]] = {name: [] for name in PORTS}
            rates: dict[str, list[float]] = {name: [] for name in PORTS}
            for number in range(1 + ROUNDS):
                for name, port in PORTS.items():
                    began = time.perf_counter()
                    took = load(port, images, given.requests // ROUNDS, given.senders)
                    if number:  # the first round warms up
                        seconds[name] += took
                        rates[name].append(len(took) / (time.perf_counter() - began))
    print(f"{'':14} {'p50':>8} {'p99':>8}  images/s")
    for name, took in seconds.items():
        middle, late = np.percentile(took, [50, 99]) * 1e3
        print(f"{name:14} {middle:5.0f} ms {late:5.0f} ms  {np.median(rates[name]):8.2f}")
    ratio = np.median(np.divide(rates["dkd"], rates["plain PyTorch"]))
    print(f"{ratio:.2f} times as many images a second (median of {ROUNDS} rounds; wanted: 1.5)")


if __name__ == "__main__":
    main()
