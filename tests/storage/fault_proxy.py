"""A proxy between an S3 client and the real server that breaks what passes through it.

Each connection carries one request, so that a fault hits exactly what it names.
"""

import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

Kind = Literal[
    "answer",  # answer with an error in the server's stead
    "reset",  # reset the connection in the middle of the answer's body
    "cut",  # end the connection in the middle of it, under the right Content-Length
    "shorten",  # the same with a Content-Length that fits
    "stall",  # send no more from the middle of it on
    "corrupt",  # change a byte of it
    "lose",  # let the request through, and reset instead of answering
    "reset-upload",  # the same five for the request's body
    "stall-upload",
    "corrupt-upload",
]
PIECE = 1 << 16


@dataclass
class Fault:
    """What happens to requests.

    Attributes:
        kind: as listed above.
        method: HTTP methods that it hits, separated by spaces.
        where: part of the path and query that it hits.
        times: requests that it hits in all.
        after: bytes of the body that pass before.
        status: HTTP status of an ``answer``.
        code: S3's error code of an ``answer``.
        hits: requests hit so far.
    """

    kind: Kind
    method: str = "GET"
    where: str = ""
    times: int = 1
    after: int = 0
    status: int = 503
    code: str = "SlowDown"
    hits: int = 0


class FaultProxy:
    """Listens on the loopback, a context manager.

    Args:
        upstream: URL of the real server.
        tls: certificate and key files to serve https with.
    """

    def __init__(self, upstream: str, tls: tuple[str, str] | None = None) -> None:
        self.upstream = (urlsplit(upstream).hostname, urlsplit(upstream).port)
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.closing = threading.Event()
        self._choice = threading.Lock()
        self._scheme = "https" if tls else "http"
        proxy = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError):  # the other side gave up
                    proxy._serve(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 64

            def get_request(self) -> tuple[Any, Any]:
                connection, address = super().get_request()
                if tls:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_cert_chain(*tls)
                    connection = context.wrap_socket(connection, server_side=True)
                return connection, address

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)

    @property
    def endpoint(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _fault_for(self, method: str, target: str) -> Fault | None:
        with self._choice:
            self.requests.append(f"{method} {target}")
            for fault in self.faults:
                hits = method in fault.method.split() and fault.where in target
                if hits and fault.hits < fault.times:
                    fault.hits += 1
                    return fault
        return None

    def _serve(self, client: socket.socket) -> None:
        reader = client.makefile("rb")
        line = reader.readline()
        if not line:
            return
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = list(_headers(reader))
        waits = ("expect", "100-continue") in headers
        length = int(dict(headers).get("content-length", 0))
        fault = self._fault_for(method, target)
        if fault and fault.kind == "answer":
            _drain(reader, 0 if waits else length)
            client.sendall(_error(fault))
            return
        with socket.create_connection(self.upstream) as server:
            server.sendall(line + _lines(headers, drop=("expect", "connection")))
            if waits:
                client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            if dict(headers).get("transfer-encoding") == "chunked":
                _pass_chunks(reader, server)
            uploading = fault if fault and fault.kind.endswith("-upload") else None
            if self._pass_body(client, reader, length, server, uploading):
                answer = server.makefile("rb")
                status = answer.readline()
                if fault and fault.kind == "lose":
                    _reset(client)
                else:
                    self._pass_answer(client, status, answer, None if uploading else fault)

    def _pass_body(
        self,
        client: socket.socket,
        reader: Any,
        length: int,
        server: socket.socket,
        fault: Fault | None,
    ) -> bool:
        """Pass a request's body on; false if it did not get there whole."""
        passed = 0
        while passed < length:
            piece = reader.read1(min(PIECE, length - passed))
            if not piece:
                return False
            if fault and passed + len(piece) > fault.after:
                if fault.kind == "corrupt-upload":
                    piece, fault = _changed(piece, max(0, fault.after - passed)), None
                elif fault.kind == "reset-upload":
                    _reset(client)
                    return False
                else:
                    self._hold(client)
                    return False
            server.sendall(piece)
            passed += len(piece)
        return True

    def _pass_answer(
        self, client: socket.socket, status: bytes, answer: Any, fault: Fault | None
    ) -> None:
        headers = list(_headers(answer))
        if fault and fault.kind == "shorten":
            headers = [(n, str(fault.after) if n == "content-length" else v) for n, v in headers]
        client.sendall(status + _lines(headers, drop=("connection",)))
        passed = 0
        while piece := answer.read1(PIECE):
            if fault and passed + len(piece) > fault.after:
                at = max(0, fault.after - passed)
                if fault.kind == "corrupt":
                    piece, fault = _changed(piece, at), None
                else:
                    client.sendall(piece[:at])
                    if fault.kind == "reset":
                        _reset(client)
                    if fault.kind == "stall":
                        self._hold(client)
                    return
            client.sendall(piece)
            passed += len(piece)

    def _hold(self, client: socket.socket) -> None:
        """Say nothing till the client has gone."""
        client.settimeout(0.1)
        while not self.closing.is_set():
            try:
                if not client.recv(1, socket.MSG_PEEK):
                    return
            except TimeoutError:
                continue
            self.closing.wait(0.1)  # there is more of its body, which is not taken


def _headers(reader: Any) -> Iterator[tuple[str, str]]:
    while (line := reader.readline().strip()) != b"":
        name, _, value = line.decode("latin-1").partition(":")
        yield name.lower(), value.strip()


def _lines(headers: list[tuple[str, str]], drop: tuple[str, ...]) -> bytes:
    kept = [(name, value) for name, value in headers if name not in drop]
    text = "".join(f"{name}: {value}\r\n" for name, value in [*kept, ("connection", "close")])
    return f"{text}\r\n".encode("latin-1")


def _pass_chunks(reader: Any, server: socket.socket) -> None:
    size = 1
    while size:
        line = reader.readline()
        size = int(line, 16)
        server.sendall(line + reader.read(size + 2))


def _drain(reader: Any, length: int) -> None:
    while length > 0 and (piece := reader.read1(min(PIECE, length))):
        length -= len(piece)


def _changed(piece: bytes, at: int) -> bytes:
    return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]


def _reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def _error(fault: Fault) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>no</Message></Error>"
    return (
        f"HTTP/1.1 {fault.status} Fault\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
    ).encode()
