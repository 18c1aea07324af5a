"""A stand-in for Kubeflow Pipelines' API server: the calls that ``dkd.kubeflow`` makes.

Shapes of answers and errors are those of 2.17.0, seen on a real one.
"""

import base64
import gzip
import json
import re
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import yaml
from click.testing import Result

Object = dict[str, Any]
T = TypeVar("T")

VOC = ("voc-15-5", "--variant", "DKD-M", "--data", "s3://b/voc", "--training-image", "r/t@sha256:1")


BEFORE = """\
time=2026-11-27T00:33:51.483Z level=INFO msg="capturing logs" argo=true
I1127 00:33:51.518984      16 main.go:67] Setting log level to: '1'
[KFP Executor 2026-11-27 00:33:51,583 INFO]: Got executor_input:
{
    "inputs": {
        "parameterValues": {}
    }
}
"""
AFTER = """\
[KFP Executor 2026-11-27 00:34:12,552 INFO]: Wrote executor output file to /minio/a.json.
I1127 00:34:12.703832      16 launcher_v2.go:1230] ExecutorOutput: {
  "parameterValues": {
    "Output": "s3://b/c"
  }
}
W1127 00:34:12.704610      16 launcher_v2.go:827] Local filepath "/minio/model" does not exist
"""


class FakeKfp:
    """The server's state; a run ends when its workflow is asked for the third time."""

    def __init__(self) -> None:
        self.health: Object = {"tag_name": "2.17.0", "multi_user": False}
        self.token = ""
        self.cookie = ""
        self.refusal = 401
        self.page: bytes | None = None
        self.pipelines: dict[str, Object] = {}
        self.versions: dict[str, list[Object]] = {}
        self.experiments = [{"experiment_id": "e0", "display_name": "Default"}]
        self.runs: list[Object] = []
        self.recurring: list[Object] = []
        self.asked: dict[str, int] = {}
        self.fails = False
        self.last = "dkd: it is broken; mend it\n"
        self.refuses = False
        self.stuck = ""
        self.driver = ""
        self.is_ui = False
        self.away = 0
        self.form = "plain"
        self.keeps = "nodes"
        self.rival = ""
        self.requests: list[str] = []

    # ---- what it does

    def answer(self, method: str, path: str, query: Object, body: Any) -> Object | str:
        self.requests.append(f"{method} {path}")
        if path == "/k8s/pod/logs":
            self._found(self if self.is_ui else None, "page")
            assert query["podnamespace"] == "kubeflow"
            assert query["createdat"] == "2026-11-24"
            return self._log(query["podname"])
        if path == "v2beta1/healthz":
            return self.health
        if found := re.fullmatch(r"v2beta1/pipelines/names/(.+)", path):
            return self._found(self.pipelines.get(found[1]), "pipeline")
        if path == "v2beta1/pipelines":
            if body["name"] in self.pipelines or self.rival == "pipeline":
                self.rival = ""
                self._make_pipeline(body)
                raise FileExistsError(f"The name {body['name']} already exist")
            return self._make_pipeline(body)
        if method == "DELETE":
            identity = path.removeprefix("v2beta1/pipelines/")
            assert self.versions.pop(identity) == [], "only an empty one is deleted"
            self.pipelines = {
                name: each
                for name, each in self.pipelines.items()
                if each["pipeline_id"] != identity
            }
            return {}
        if path == "v2beta1/pipelines/upload_version":
            if self.refuses:
                raise ValueError("InvalidInputError: unknown template format")
            spec, platform = yaml.safe_load_all(body)
            version = {
                "pipeline_id": query["pipelineid"],
                "pipeline_version_id": f"v-{query['name']}",
                "name": query["name"],
                "display_name": query["display_name"],
                "description": query["description"],
                "pipeline_spec": {"pipeline_spec": spec, "platform_spec": platform},
            }
            self.versions[query["pipelineid"]].insert(0, version)
            if self.rival == "version":
                self.rival = ""
                raise FileExistsError("Already exist error: the name of the version")
            return version
        if found := re.fullmatch(r"v2beta1/pipelines/(\w+)/versions", path):
            return {"pipeline_versions": self.versions[found[1]]}
        if found := re.fullmatch(r"v2beta1/pipelines/(\w+)/versions/(.+)", path):
            return next(v for v in self.versions[found[1]] if v["pipeline_version_id"] == found[2])
        if path == "v2beta1/experiments":
            if method == "POST":
                self.experiments.append({**body, "experiment_id": f"e{len(self.experiments)}"})
                if self.rival == "experiment":
                    raise FileExistsError("Already exist error: the name of the experiment")
                return self.experiments[-1]
            return {"experiments": self.experiments}
        if path == "v2beta1/recurringruns":
            self.recurring.append({**body, "recurring_run_id": f"r{len(self.recurring)}"})
            return self.recurring[-1]
        return self._runs(method, path, body)

    def _make_pipeline(self, body: Object) -> Object:
        made = {**body, "pipeline_id": f"p{len(self.pipelines)}"}
        self.pipelines[body["name"]] = made
        self.versions[made["pipeline_id"]] = []
        return made

    def _runs(self, method: str, path: str, body: Any) -> Object | str:
        if path == "v2beta1/runs":
            if method == "GET":
                return {"runs": self.runs}
            run = {
                **body,
                "run_id": str(uuid.uuid4()),
                "state": "PENDING",
                "created_at": "2026-11-24T10:00:00Z",
            }
            self.runs.insert(0, run)
            return run
        found = re.fullmatch(r"(v\w+)/runs/([0-9a-f-]+)(:terminate|/nodes/(.+)/log)?", path)
        assert found, path
        run = self._found(next((r for r in self.runs if r["run_id"] == found[2]), None), "run")
        if found[3] == ":terminate":
            run["state"] = "FAILED"
            run["state_history"] = [{"state": "RUNNING"}, {"state": "CANCELING"}]
            return {}
        if found[4]:
            return self._log_of_api(run, self._found(None if self.is_ui else found[4], "log"))
        workflow = self._workflow(run) if found[1] == "v1beta1" else None
        if workflow:
            return {"pipeline_runtime": {"workflow_manifest": json.dumps(workflow)}}
        return run

    def _log_of_api(self, run: Object, pod: str) -> str:
        """A running pod's only where every user has a namespace: else it looks in none at all. Of a
        workflow whose nodes are packed it knows no pod once that has ended.
        """
        number = int(pod[-1])
        ended = self.driver or number == 2 or number < self.asked[run["run_id"]] - 1
        if (ended or self.health["multi_user"]) and self.keeps != "packed":
            return self._log(pod)
        return json.dumps({"error_message": "BadRequestError: Failed to read logs for run"})

    def _log(self, pod: str) -> str:
        failed = self.fails and "2" in pod
        own = "made by a test\n  epoch 1/2\n" + self.last * failed
        return f"{BEFORE}{own}{AFTER}"

    def _workflow(self, run: Object) -> Object:
        """Two steps and the report, each of which ends when the next begins."""
        asked = self.asked[run["run_id"]] = self.asked.get(run["run_id"], 0) + 1
        places = ["step-0", "step-1", "report"][:asked]
        nodes: list[Object] = []
        for number, place in enumerate(places):
            last = number == 2
            ended = number < asked - 1 or last
            phase = "Running" if not ended else "Failed" if last and self.fails else "Succeeded"
            common = {"phase": phase, "startedAt": f"2026-11-24T10:0{number}:00Z"}
            if ended:
                common["finishedAt"] = f"2026-11-24T10:0{number}:30Z"
            pod = {
                **common,
                "id": f"w-1-9{number}",
                "templateName": "system-container-impl",
                "message": "main: Error (exit code 2)" if phase == "Failed" else "",
            }
            if self.stuck and not ended:
                pod |= {"phase": "Pending", "message": self.stuck}
            nodes += self._node(f"root.{place}", "DAG", {**common, "id": f"w-1-{number}"})
            nodes += self._node(f"root.{place}.executor", "Pod", pod)
        if asked >= 3:
            run["state"] = "FAILED" if self.fails else "SUCCEEDED"
        if self.driver:
            failed = {
                "id": "w-1-1",
                "templateName": "system-container-driver",
                "message": "main: Error (exit code 1)",
                "phase": "Failed",
                "startedAt": "2026-11-24T10:00:00Z",
                "finishedAt": "2026-11-24T10:00:05Z",
            }
            nodes = self._node(self.driver, "Pod", failed)
            run["state"] = "FAILED"
        return {
            "metadata": {"name": "w-1", "namespace": "kubeflow"},
            "status": self._status(run, {each["id"]: each for each in nodes}),
        }

    def _node(self, place: str, kind: str, node: Object) -> list[Object]:
        """A node, and where its template is retried the node of all its attempts.

        On KFP 2.17 as it ships (``stock``) every template is; without its Argo configuration none
        is, or those of tasks that the pipeline says it of (``retried``).
        """
        above = place.split(".")
        if self.form == "stock":
            name = "w-1(0)." + ".".join(f"{part}(0)" for part in above[:-1])
            name = f"{name.rstrip('.')}.{above[-1]}"
        else:
            name = f"w-1.{place}"
        if self.form == "plain" or (self.form == "retried" and kind != "Pod"):
            return [{**node, "name": name, "type": kind}]
        common = {**node, "id": f"{node['id']}0", "name": name, "type": "Retry"}
        if node["phase"] == "Pending":
            common |= {"phase": "Running", "message": ""}
        return [common, {**node, "name": f"{name}(0)", "type": kind}]

    def _status(self, run: Object, nodes: Object) -> Object:
        """Nodes as they are, packed as Argo packs large ones, or kept elsewhere by it."""
        if self.keeps == "packed":
            packed = gzip.compress(json.dumps(nodes).encode())
            return {"compressedNodes": base64.b64encode(packed).decode()}
        if self.keeps == "elsewhere":
            run["run_details"] = {"task_details": [self._task(each) for each in nodes.values()]}
            return {"offloadNodeStatusVersion": "fnv:784444487"}
        return {"nodes": nodes}

    @staticmethod
    def _task(node: Object) -> Object:
        """A node as the API makes it a task: with its own name alone."""
        return {
            "task_id": f"t-{node['id']}",
            "display_name": node["name"].rpartition(".")[2],
            "start_time": node["startedAt"],
            "end_time": node.get("finishedAt") or "0001-01-01T00:00:00Z",
            "state": node["phase"].upper(),
        }

    @staticmethod
    def _found(thing: T | None, kind: str) -> T:
        if thing is None:
            raise LookupError(kind)
        return thing


@contextmanager
def serving(fake: FakeKfp, certificate: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serves it on a free port; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._handle("GET")

        def do_POST(self) -> None:
            self._handle("POST")

        def do_DELETE(self) -> None:
            self._handle("DELETE")

        def _handle(self, method: str) -> None:
            data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if fake.away and "/v2beta1/runs/" in self.path:
                fake.away -= 1
                return self._reply(504, b"Error occurred while trying to proxy", "text/plain")
            if fake.page is not None:
                return self._reply(200, fake.page, "text/html")
            if fake.cookie and self.headers.get("Cookie") != fake.cookie:
                return self._reply(302, b"", "text/html")
            if fake.token and self.headers.get("Authorization") != f"Bearer {fake.token}":
                return self._json(
                    fake.refusal, {"code": 16, "message": "Request header error: no identity"}
                )
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            body: Any = None
            if "multipart" in self.headers.get("Content-Type", ""):
                body = data.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
            elif data:
                body = json.loads(data)
            try:
                answer = fake.answer(method, url.path.removeprefix("/apis/"), query, body)
            except LookupError as error:
                return self._json(404, {"code": 5, "message": f"ResourceNotFoundError: {error}"})
            except FileExistsError as error:
                return self._json(409, {"code": 6, "message": str(error)})
            except ValueError as error:
                return self._json(400, {"code": 3, "message": str(error)})
            if isinstance(answer, str):
                return self._reply(200, answer.encode(), "text/plain")
            return self._json(200, answer)

        def _json(self, status: int, document: Object) -> None:
            self._reply(status, json.dumps(document).encode(), "application/json")

        def _reply(self, status: int, content: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate:
        server.socket = certificate.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def refused(dkd: Callable[..., Result], *words: str) -> str:
    """What a command says, in its one line, that must fail with status 2."""
    result = dkd(*words)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("dkd: ")
