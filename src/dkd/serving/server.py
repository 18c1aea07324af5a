"""The server's life: it listens, and at SIGTERM finishes what it has been given."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from fastapi import Request, Response

from dkd.errors import UserError
from dkd.serving import grpc_service
from dkd.serving.rest import application
from dkd.serving.service import Service


@dataclass(frozen=True)
class Place:
    """Where a server listens.

    Attributes:
        host: address of the interface.
        http_port: 0 takes a free one.
        grpc_port: likewise; None serves no gRPC.
        drain: seconds for which it is not ready but answers after SIGTERM, so that those who
            send requests can learn of it.
        grace: seconds that requests may take to end after that.
    """

    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int | None = None
    drain: float = 0
    grace: float = 30


class _Server(uvicorn.Server):
    """Signals are ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(service: Service, place: Place, ready: Callable[[int, int | None], None]) -> None:
    """Serves until SIGTERM or SIGINT; then requests under way are answered, and it returns.

    Args:
        service: what answers.
        place: where.
        ready: called with the ports of HTTP and gRPC once both listen.

    Raises:
        UserError: a port is taken, or the host is not this machine's.
    """
    asyncio.run(_run(service, place, ready))


async def _run(service: Service, place: Place, ready: Callable[[int, int | None], None]) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    app = application(service)

    @app.middleware("http")
    async def _leave(request: Request, call_next: Callable[[Request], object]) -> Response:
        response: Response = await call_next(request)  # type: ignore[misc]
        if service.draining:  # or a connection that is kept would be closed between two requests
            response.headers["Connection"] = "close"
        return response

    with _listening(place.host, place.http_port) as listener:
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off",
            timeout_graceful_shutdown=int(place.grace), timeout_keep_alive=75,
        )  # fmt: skip
        http = _Server(config)
        other, grpc_port = None, None
        if place.grpc_port is not None:
            try:
                host = f"[{place.host}]" if ":" in place.host else place.host
                other, grpc_port = grpc_service.server(service, f"{host}:{place.grpc_port}")
            except RuntimeError:
                raise _taken(place.host, place.grpc_port) from None
            await other.start()
        serving = asyncio.create_task(http.serve(sockets=[listener]))
        while not http.started and not serving.done():
            await asyncio.sleep(0.01)
        ready(listener.getsockname()[1], grpc_port)
        await ended.wait()
        service.draining = True
        await asyncio.sleep(place.drain)
        http.should_exit = True
        if other is not None:
            await other.stop(place.grace)
        await serving


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError:
        raise _taken(host, port) from None
    # Connections inherit it: an answer's body would wait 40 ms for the client to acknowledge its
    # headers otherwise. asyncio sees to that for sockets alone that it made itself.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _taken(host: str, port: int) -> UserError:
    return UserError(f"{host}:{port}: cannot listen there; choose another host or port")
