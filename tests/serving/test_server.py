"""The server's start and its end."""

import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from servers import environment, serving

from dkd.export.export import Exported, bundled_photographs
from dkd.serving.server import _listening


def test_it_imports_no_torch() -> None:
    code = (
        "import sys, dkd.serving.__main__; print([m for m in ('torch', 'kfp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_answers_are_sent_at_once() -> None:
    """The second packet of an answer does not wait for the first one to be acknowledged."""
    with (
        _listening("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_requests_under_way_are_answered_at_the_end(exported: Exported, tmp_path: Path) -> None:
    """Twelve wait for one worker when the signal comes; every one is answered, then it ends."""
    photograph = bundled_photographs()[0].read_bytes()
    statuses: list[int] = []
    settings = {"WORKERS": 1, "DRAIN_SECONDS": 5, "DKD_CACHE": tmp_path}
    with serving(Path(exported.target), exported.sha256, **settings) as server:

        def send() -> None:
            statuses.append(server.post("/segment", photograph)[0])

        threads = [threading.Thread(target=send) for _ in range(12)]
        for thread in threads:
            thread.start()
        server.process.send_signal(signal.SIGTERM)
        while server.get("/v2/health/ready")[0] == 200:  # it answers, and says that it goes
            pass
        assert server.get("/v2/health/live")[0] == 200
        for thread in threads:
            thread.join()
        assert server.process.wait(120) == 0
    assert statuses == [200] * 12


def test_too_many_are_told_to_come_later(exported: Exported, tmp_path: Path) -> None:
    photograph = bundled_photographs()[0].read_bytes()
    settings = {"WORKERS": 1, "QUEUE": 0, "DKD_CACHE": tmp_path}
    answers: list[tuple[int, object]] = []
    with serving(Path(exported.target), exported.sha256, **settings) as server:

        def send() -> None:
            answers.append(server.post("/segment", photograph))

        threads = [threading.Thread(target=send) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    refused = [told for status, told in answers if status == 503]
    assert refused
    assert "try again in a second" in str(refused[0])
    assert {status for status, _ in answers} == {200, 503}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"MODEL_SHA256": "0" * 64}, r"its sha256 is not 0{64}; give the one that"),
        ({"MODEL_SHA256": ""}, r"MODEL_URI and MODEL_SHA256: name an exported model"),
        ({"MODEL_URI": "/nowhere/a.onnx"}, r"/nowhere/a.onnx: no such file"),
        ({"MAX_BYTES": "many"}, r"MAX_BYTES=many: give a whole number of at least 1"),
        ({"WORKERS": "0"}, r"WORKERS=0: give a whole number"),
        ({"HTTP_PORT": "99999"}, r"HTTP_PORT=99999: give a whole number of at least 0, at most"),
        ({"MAX_BYTES": "5000000000"}, r"MAX_BYTES=5000000000: give .*, at most 1073741824"),
    ],
)
def test_a_bad_start_is_one_line(
    exported: Exported, tmp_path: Path, settings: dict[str, str], line: str
) -> None:
    given = (
        environment(Path(exported.target), exported.sha256, DKD_CACHE=tmp_path, **settings)
        | settings
    )
    done = subprocess.run(
        [sys.executable, "-m", "dkd.serving"],
        env=given,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert re.fullmatch(rf"dkd: .*({line}).*\n", done.stderr), done.stderr


def test_other_files_are_refused(exported: Exported, tmp_path: Path) -> None:
    import hashlib

    import onnx

    loaded = onnx.load(exported.target)
    del loaded.metadata_props[:]
    foreign = tmp_path / "foreign.onnx"
    onnx.save(loaded, foreign)
    text = tmp_path / "text.onnx"
    text.write_text("text")
    bad = ((foreign, "export the model again"), (text, "not a model that ONNX Runtime"))
    for path, line in bad:
        given = environment(path, hashlib.sha256(path.read_bytes()).hexdigest(), DKD_CACHE=tmp_path)
        done = subprocess.run(
            [sys.executable, "-m", "dkd.serving"], env=given, capture_output=True, text=True
        )
        assert done.returncode == 2
        assert line in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
