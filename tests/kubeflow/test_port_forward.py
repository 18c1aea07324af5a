"""Reaching the UI through kubectl, of which a stand-in does the forwarding."""

import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dkd.errors import UserError
from dkd.kubeflow.port_forward import port_forward

Kubectl = Callable[[str], None]


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    def install(program: str) -> None:
        file = tmp_path / "kubectl"
        file.write_text(f"#!{sys.executable}\n{program}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setenv("PATH", str(tmp_path))
    return install


ONE_CONNECTION = """
import socket, sys
port = int(sys.argv[-1].partition(":")[0])
with socket.create_server(("127.0.0.1", port)) as server:
    server.accept()[0].close()
"""

NO_CLUSTER = """
import sys
sys.stderr.write('E1127 01:24:35.778376    1377 memcache.go:381] "Unhandled Error"\\n')
sys.exit("The connection to the server 127.0.0.1:1 was refused")
"""


def test_forwarding_is_started_again_when_its_pod_is_gone(kubectl: Kubectl) -> None:
    kubectl(ONE_CONNECTION)
    with port_forward("kubeflow") as url:
        port = int(url.rpartition(":")[2])
        for _ in range(2):
            assert connects(port)
    assert not connects(port, seconds=0)


def connects(port: int, seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        else:
            return True


def test_why_kubectl_cannot_forward(kubectl: Kubectl) -> None:
    kubectl(NO_CLUSTER)
    with pytest.raises(UserError) as raised, port_forward("kubeflow"):
        pass
    assert str(raised.value) == (
        "--port-forward kubeflow: kubectl: The connection to the server 127.0.0.1:1 was refused"
    )


def test_kubectl_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="kubectl is not installed"), port_forward("kubeflow"):
        pass
