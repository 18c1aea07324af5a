"""A server in a process of its own, and models for it."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Running:
    """A server that answers."""

    process: "subprocess.Popen[str]"
    http: int
    grpc: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def get(self, path: str) -> tuple[int, Any]:
        return self.ask(urllib.request.Request(self.url + path))

    def post(self, path: str, data: bytes, **headers: str) -> tuple[int, Any]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("Content-Type", "application/octet-stream")
        return self.ask(urllib.request.Request(self.url + path, data, named))

    @staticmethod
    def ask(request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                status, body, kind = answer.status, answer.read(), answer.headers["content-type"]
        except urllib.error.HTTPError as error:
            status, body, kind = error.code, error.read(), error.headers["content-type"]
        return status, json.loads(body) if kind == "application/json" else body


def environment(model: Path, sha256: str, **settings: object) -> dict[str, str]:
    return {
        **os.environ,
        "MODEL_URI": str(model),
        "MODEL_SHA256": sha256,
        "HTTP_PORT": "0",
        "GRPC_PORT": "0",
        "DRAIN_SECONDS": "0",
        **{name: str(value) for name, value in settings.items()},
    }


@contextmanager
def serving(model: Path, sha256: str, **settings: object) -> Iterator[Running]:
    with subprocess.Popen(
        [sys.executable, "-m", "dkd.serving"],
        env=environment(model, sha256, **settings),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"HTTP on (\d+), gRPC on (\d+)$", line)
            assert found, line
            yield Running(process, int(found[1]), int(found[2]))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)
