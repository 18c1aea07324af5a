"""A Kubernetes API server for tests: real HTTP, the few resources launching uses, and faults.

It keeps objects and pods, serves watches and logs, and answers errors in the API's own form.
Tests play the operators: they set pods, conditions, events and log lines.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Object = dict[str, Any]
NAMESPACE = "team"
CREATED = "2026-03-01T10:00:00Z"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Error(Exception):
    """An answer other than 200. Without a kind it is no Status object: an unknown path."""

    def __init__(self, code: int, message: str, kind: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.body = message
        if kind or reason:
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "code": code,
                "message": message,
                "reason": reason,
                "details": {"kind": kind},
            }
            self.body = json.dumps(status)


class Dropped(Exception):  # noqa: N818
    """The connection is closed without an answer."""


class FakeApi:
    """The server's state; every method may be called from any thread."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.objects: dict[tuple[str, str], Object] = {}
        self.pods: dict[str, Object] = {}
        self.events: list[Object] = []
        self.logs: dict[str, list[tuple[str, str]]] = {}
        self.history: list[tuple[int, str, Object]] = []
        self.oldest = 0  # watches from before this version are refused, as after compaction
        self.version = 100
        self.resources = {"trainjobs", "trainingruntimes", "pytorchjobs"}
        self.namespaces = {NAMESPACE}
        self.requests: list[tuple[str, str]] = []  # (RBAC verb, resource)
        self.deleted: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], None] = lambda verb, resource: None
        self.ending = threading.Event()  # set: deleted objects go at once
        self.ending.set()
        self.stamp = 0

    # ---- what tests do

    def put_pod(self, pod: Object) -> None:
        with self.changed:
            self.version += 1
            pod = json.loads(json.dumps(pod))
            pod["metadata"]["resourceVersion"] = str(self.version)
            kind = "MODIFIED" if pod["metadata"]["name"] in self.pods else "ADDED"
            self.pods[pod["metadata"]["name"]] = pod
            self.history.append((self.version, kind, pod))
            self.changed.notify_all()

    def drop_pod(self, name: str) -> None:
        with self.changed:
            self.version += 1
            pod = self.pods.pop(name)
            pod["metadata"]["resourceVersion"] = str(self.version)
            self.history.append((self.version, "DELETED", pod))
            self.changed.notify_all()

    def compact(self) -> None:
        """Forgets the past: running watches end with 410, new ones must list first."""
        with self.changed:
            self.version += 1
            self.oldest = self.version
            self.changed.notify_all()

    def set_condition(self, plural: str, name: str, kind: str, **fields: str) -> None:
        with self.lock:
            status = self.objects[plural, name].setdefault("status", {})
            new = {
                "type": kind,
                "status": "True",
                "lastTransitionTime": now(),
                "reason": kind,
                "message": "",
                **fields,
            }
            others = [each for each in status.get("conditions", []) if each["type"] != kind]
            status["conditions"] = [*others, new]

    def write_log(self, pod: str, *lines: str, same_instant: bool = False) -> None:
        with self.lock:
            for line in lines:
                self.stamp += 0 if same_instant else 1
                self.logs.setdefault(pod, []).append((f"{self.stamp:03}", line))

    def add_event(
        self, name: str, reason: str, message: str, kind: str = "Job", at: str = ""
    ) -> None:
        with self.lock:
            self.events.append(
                {
                    "metadata": {"creationTimestamp": at or now()},
                    "type": "Warning",
                    "reason": reason,
                    "message": message,
                    "lastTimestamp": at or now(),
                    "involvedObject": {"kind": kind, "name": name},
                }
            )

    # ---- what the server answers

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        found = re.fullmatch(
            r"/api(?:s/(?P<group>[^/]+))?/v\w+/namespaces/(?P<namespace>[^/]+)"
            r"(?:/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?P<log>/log)?)?)?",
            path,
        )
        if not found:
            raise Error(404, "404 page not found")
        plural = found["plural"] or "namespaces"
        resource = f"{plural}/log" if found["log"] else plural
        verb = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]
        if verb == "get" and not found["name"] and found["plural"]:
            verb = "watch" if query.get("watch") else "list"
        with self.lock:
            self.requests.append((verb, resource))
        self.fault(verb, resource)
        if found["group"] and plural not in self.resources:
            raise Error(404, "404 page not found")
        if plural == "namespaces":
            if found["namespace"] not in self.namespaces:
                raise self._absent("namespaces", found["namespace"])
            return {}
        with self.lock:
            handler = getattr(self, f"_{verb}_{plural}" if not found["group"] else f"_{verb}")
            return handler(resource, found["namespace"], found["name"] or "", query, body)

    def _absent(self, plural: str, name: str) -> Error:
        return Error(404, f'{plural} "{name}" not found', plural, "NotFound")

    def _get(self, plural: str, _namespace: str, name: str, _query: Any, _body: Any) -> Object:
        if (plural, name) not in self.objects:
            raise self._absent(plural, name)
        return self.objects[plural, name]

    def _create(self, plural: str, namespace: str, _name: str, _query: Any, body: Any) -> Object:
        if namespace not in self.namespaces:
            raise self._absent("namespaces", namespace)
        name = body["metadata"]["name"]
        if (plural, name) in self.objects:
            raise Error(409, f'{plural} "{name}" already exists', plural, "AlreadyExists")
        self.version += 1
        body["metadata"] |= {"uid": f"uid-{self.version}", "creationTimestamp": now()}
        self.objects[plural, name] = body
        return body

    def _patch(self, plural: str, _namespace: str, name: str, _query: Any, body: Any) -> Object:
        found = self._get(plural, "", name, None, None)
        found["metadata"] |= body.get("metadata", {})
        found |= {key: value for key, value in body.items() if key != "metadata"}
        return found

    def _delete(self, plural: str, _namespace: str, name: str, _query: Any, body: Any) -> Object:
        found = self._get(plural, "", name, None, None)
        assert body["propagationPolicy"] == "Background"  # see Cluster.delete
        self.deleted.append((plural, name))
        found["metadata"]["deletionTimestamp"] = now()
        if self.ending.is_set():
            self.end(plural, name)
        return found

    def end(self, plural: str, name: str) -> None:
        """The object is gone, and with it what it owns: its pods and a TrainJob's runtime."""
        with self.lock:
            del self.objects[plural, name]
            if plural == "trainjobs":
                self.objects.pop(("trainingruntimes", name), None)
            for pod in list(self.pods):
                self.drop_pod(pod)

    def _list_pods(
        self, _plural: str, _namespace: str, _name: str, query: Any, _body: Any
    ) -> Object:
        wanted = [pod for pod in self.pods.values() if self._selected(pod, query)]
        return {"items": wanted, "metadata": {"resourceVersion": str(self.version)}}

    @staticmethod
    def _selected(pod: Object, query: dict[str, str]) -> bool:
        pairs = [each.split("=") for each in query["labelSelector"].split(",")]
        return all(pod["metadata"]["labels"].get(key) == value for key, value in pairs)

    def _get_pods(self, _plural: str, _namespace: str, name: str, query: Any, _body: Any) -> Any:
        if name not in self.pods:
            raise self._absent("pods", name)
        return self.pods[name]

    def _watch_pods(
        self, _plural: str, _namespace: str, _name: str, query: Any, _body: Any
    ) -> Iterator[Object]:
        return self._watch(int(query["resourceVersion"]), query)

    def _watch(self, version: int, query: dict[str, str]) -> Iterator[Object]:
        """A fiftieth of a second stands for a second."""
        end = time.monotonic() + int(query["timeoutSeconds"]) / 50
        while True:
            with self.changed:
                if version < self.oldest:
                    gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
                    yield {"type": "ERROR", "object": gone}
                    return
                new = [each for each in self.history if each[0] > version]
                if not new and not self.changed.wait(max(0.0, end - time.monotonic())):
                    return
            version = new[-1][0] if new else version
            for _, kind, pod in new:
                if self._selected(pod, query):
                    yield {"type": kind, "object": pod}
            if time.monotonic() > end:
                return

    def _list_events(
        self, _plural: str, _namespace: str, _name: str, query: Any, _body: Any
    ) -> Object:
        field, _, value = query["fieldSelector"].partition("=")
        key = field.removeprefix("involvedObject.")
        return {"items": [each for each in self.events if each["involvedObject"][key] == value]}

    def read_log(self, pod: str, *, stamps: bool) -> str:
        if pod not in self.logs:
            raise Error(
                400, f'container "node" in pod "{pod}" is waiting to start', "", "BadRequest"
            )
        if not stamps:
            return "".join(f"{line}\n" for _, line in self.logs[pod])
        # Go writes no trailing zeros: 10:00:00.12 is later than 10:00:00.119
        return "".join(
            f"2026-03-01T10:00:00.{stamp.rstrip('0') or '0'}Z {line}\n"
            for stamp, line in self.logs[pod]
        )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    api: FakeApi

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle_request(self) -> None:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        try:
            if parts.path.endswith("/log"):
                self.api.fault("get", "pods/log")
                with self.api.lock:
                    self.api.requests.append(("get", "pods/log"))
                    stamps = query["timestamps"] == "True"
                    answer: Any = self.api.read_log(parts.path.split("/")[-2], stamps=stamps)
            else:
                answer = self.api.answer(self.command, parts.path, query, body)
            if isinstance(answer, Iterator):
                self.stream(answer)
            else:
                with self.api.lock:
                    self.send(200, answer if isinstance(answer, str) else json.dumps(answer))
        except Error as error:
            self.send(error.code, error.body)
        except (Dropped, BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PATCH = do_DELETE = handle_request  # noqa: N815

    def send(self, code: int, text: str) -> None:
        data = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, events: Iterator[Object]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            data = json.dumps(event).encode() + b"\n"
            half = len(data) // 2  # an event may come in pieces
            for piece in (data[:half], data[half:]):
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


@contextmanager
def serving(folder: Path) -> Iterator[tuple[FakeApi, Path]]:
    """The server, and a kubeconfig that names it."""
    api = FakeApi()
    handler = type("BoundHandler", (Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    config = folder / "kubeconfig"
    address = f"http://127.0.0.1:{server.server_address[1]}"
    config.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": address}}],
                "users": [{"name": "test", "user": {"token": "a-token"}}],
                "contexts": [
                    {
                        "name": "test",
                        "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE},
                    }
                ],
            }
        )
    )
    config.chmod(0o600)
    try:
        yield api, config
    finally:
        server.shutdown()
        server.server_close()


# ---- pods as Kubernetes writes them


def pod(
    job: str,
    node: int,
    phase: str = "Running",
    *,
    attempt: int = 0,
    name: str = "",
    host: str = "",
    **status: Any,
) -> Object:
    """A pod of a TrainJob's node."""
    name = name or f"{job}-node-0-{node}-{attempt}abc"
    conditions = status.pop(
        "conditions",
        [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": CREATED},
            {
                "type": "Ready",
                "status": "True" if phase == "Running" else "False",
                "lastTransitionTime": CREATED,
            },
        ],
    )
    running = {"name": "node", "image": "train:1", "state": {"running": {"startedAt": CREATED}}}
    containers = status.pop("containers", [running] if phase == "Running" else [])
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "creationTimestamp": now(),
            "labels": {
                "jobset.sigs.k8s.io/jobset-name": job,
                "jobset.sigs.k8s.io/replicatedjob-name": "node",
                "jobset.sigs.k8s.io/restart-attempt": str(attempt),
                "batch.kubernetes.io/job-completion-index": str(node),
            },
        },
        "spec": {
            "containers": [{"name": "node", "resources": {"limits": {"memory": "2Gi"}}}],
            **({"nodeName": host or f"machine{node}"} if phase != "Pending" or host else {}),
        },
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": containers,
            **status,
        },
    }


def pytorch_pod(
    job: str, node: int, phase: str = "Running", *, attempt: int = 0, **status: Any
) -> Object:
    """A pod of a PyTorchJob's node."""
    made = pod(job, node, phase, name=f"{job}-{node}-{attempt}", **status)
    kind, index = ("master", 0) if node == 0 else ("worker", node - 1)
    made["metadata"]["labels"] = {
        "training.kubeflow.org/job-name": job,
        "training.kubeflow.org/replica-type": kind,
        "training.kubeflow.org/replica-index": str(index),
    }
    return made


def terminated(
    exit_code: int, reason: str = "Error", message: str = "", at: str = CREATED, name: str = "node"
) -> Object:
    """A container status."""
    ended = {"exitCode": exit_code, "reason": reason, "message": message, "finishedAt": at}
    return {"name": name, "image": "train:1", "state": {"terminated": ended}}


def waiting(reason: str, message: str, image: str = "train:1", name: str = "node") -> Object:
    """A container status."""
    return {
        "name": name,
        "image": image,
        "state": {"waiting": {"reason": reason, "message": message}},
    }
