"""Reaching a cluster's Kubeflow Pipelines through kubectl."""

import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dkd.errors import UserError
from dkd.kubeflow.internals import UI_SERVICE


@contextmanager
def port_forward(namespace: str, service: str = UI_SERVICE) -> Iterator[str]:
    """The UI of a cluster's Kubeflow Pipelines at an address of this machine, by kubectl.

    kubectl stops forwarding when the pod that it reached is gone; it is started again then.

    Args:
        namespace: where Kubeflow Pipelines is installed.
        service: the UI's.

    Raises:
        UserError: kubectl is missing, or cannot forward at first.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["kubectl", "port-forward", "-n", namespace, f"svc/{service}", f"{port}:80"]

    def forward() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    over = threading.Event()

    def go_on(process: subprocess.Popen[str]) -> None:
        while not over.is_set():
            try:
                process.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                continue
            if not over.wait(1):
                process = forward()
        process.terminate()
        process.communicate()

    try:
        first = forward()
    except FileNotFoundError:
        raise UserError("--port-forward: kubectl is not installed; use --endpoint") from None
    try:
        _await_listener(first, port, namespace)
    except BaseException:
        first.terminate()
        first.wait()
        raise
    keeper = threading.Thread(target=go_on, args=(first,), daemon=True)
    keeper.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        over.set()
        keeper.join()


def _await_listener(kubectl: subprocess.Popen[str], port: int, namespace: str) -> None:
    end = time.monotonic() + 30
    while not _listens(port):
        if kubectl.poll() is not None:
            said = _without_log(kubectl.communicate()[1])
            raise UserError(f"--port-forward {namespace}: kubectl: {said}")
        if time.monotonic() > end:
            raise UserError(f"--port-forward {namespace}: kubectl cannot connect")
        time.sleep(0.1)


def _without_log(said: str) -> str:
    """What kubectl says to people, without its log lines (``E1127 01:24:35.778376 ...``)."""
    lines = [line for line in said.splitlines() if not re.match(r"[IWEF]\d{4} \d\d:", line)]
    return " ".join(" ".join(lines).split()) or "it ended"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
