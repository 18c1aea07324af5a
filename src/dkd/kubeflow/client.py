"""An endpoint of Kubeflow Pipelines, by its REST API (v2beta1).

https://www.kubeflow.org/docs/components/pipelines/reference/api/kubeflow-pipeline-api-spec/
Only the few calls that are needed; every failure becomes one line that says what to do.
"""

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from dkd.errors import UserError

Object = dict[str, Any]
"""An object of the API, as JSON."""

OLDEST = (2, 16)
"""First release that knows the drop-downs of our forms (``literals``)."""

TOKEN = "DKD_KFP_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE = "DKD_KFP_TOKEN_FILE"  # noqa: S105
_POD_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
_IN_CLUSTER = "http://ml-pipeline.kubeflow:8888"
_TIMEOUT = urllib3.Timeout(connect=10, read=60)


class Endpoint:
    """An endpoint and the right to use it.

    Args:
        url: of the UI or of the API server; inside a cluster Kubeflow's own by default.
        namespace: of runs and experiments; only where every user has one (multi-user mode).

    Raises:
        UserError: it cannot be reached, refuses the token, is no Kubeflow Pipelines, or is too
            old.
    """

    def __init__(self, url: str | None, namespace: str = "") -> None:
        if not url and not _POD_TOKEN.exists():
            raise UserError(
                "--endpoint: say where Kubeflow Pipelines is, e.g. --endpoint "
                "https://kubeflow.example.com/pipeline, or --port-forward"
            )
        self.url = (url or _IN_CLUSTER).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"--endpoint {self.url}: begin with http:// or https://")
        self.namespace = namespace
        self._pool = urllib3.PoolManager(
            timeout=_TIMEOUT, retries=urllib3.Retry(2, redirect=False, status=0)
        )
        self._headers = {"Authorization": f"Bearer {token}"} if (token := _token()) else {}
        self._check(self.get("healthz"))

    def _check(self, health: Object) -> None:
        tag = str(health.get("tag_name") or health.get("apiServerTagName") or "")  # or the UI's
        version = re.match(r"v?(\d+)\.(\d+)", tag)
        if version and tuple(map(int, version.groups())) < OLDEST:
            raise UserError(
                f"{self.url}: Kubeflow Pipelines {tag} is too old for the form's "
                f"drop-downs; {OLDEST[0]}.{OLDEST[1]} or later is needed"
            )
        if health.get("multi_user") and not self.namespace:
            raise UserError(
                f"{self.url}: every user has a namespace there; name yours with --namespace"
            )
        if health.get("multi_user") is False and self.namespace:
            raise UserError(
                f"{self.url}: no namespace {self.namespace!r}: Kubeflow Pipelines has none for "
                "users there; leave out --namespace (DKD_KFP_NAMESPACE)"
            )

    def link(self, place: str) -> str:
        """A page of the UI, e.g. ``runs/details/ID``."""
        return f"{self.url}/#/{place}"

    def get(self, path: str, **query: str) -> Object:
        """Reads an object.

        Args:
            path: after ``/apis/v2beta1/``.
            query: parameters; empty ones are left out.

        Raises:
            Missing: there is no such object.
            UserError: any other failure.
        """
        return self._json("GET", path, query)

    def post(self, path: str, body: Object | None = None, **query: str) -> Object:
        """Creates an object, or has an action done. As :meth:`get`."""
        return self._json("POST", path, query, body=json.dumps(body or {}).encode())

    def delete(self, path: str) -> None:
        """Deletes an object. As :meth:`get`."""
        self._json("DELETE", path, {})

    def upload(self, path: str, content: bytes, **query: str) -> Object:
        """Sends a pipeline's YAML."""
        fields = {"uploadfile": ("pipeline.yaml", content, "application/octet-stream")}
        return self._json("POST", path, query, fields=fields)

    def listed(self, path: str, field: str, **query: str) -> Iterator[Object]:
        """The objects of a list, page by page."""
        token = ""
        while True:
            page = self.get(path, page_size="50", page_token=token, **query)
            yield from page.get(field, [])
            token = page.get("next_page_token", "")
            if not token:
                return

    def workflow(self, run: str) -> Object | None:
        """The Argo workflow of a run; None where the API's older version is not served."""
        response = self._request("GET", f"/apis/v1beta1/runs/{run}", {})
        try:
            manifest = json.loads(response.data)["pipeline_runtime"]["workflow_manifest"]
            found: Object = json.loads(manifest)
        except (ValueError, KeyError, TypeError):
            return None
        return found

    def log(self, run: str, pod: str, namespace: str, day: str) -> str | None:
        """What a pod of a run has printed so far; None while, or when, it cannot be read.

        Args:
            run: its id.
            pod: its name.
            namespace: the pod's.
            day: on which the pod started, as ``2026-11-24``: kept logs are looked up by it.
        """
        of_the_ui = {"podname": pod, "runid": run, "podnamespace": namespace, "createdat": day}
        for path, query in (
            (f"/apis/v1alpha1/runs/{run}/nodes/{pod}/log", {}),  # the API server's own
            ("/k8s/pod/logs", of_the_ui),  # the UI does not hand the first one on
        ):
            response = self._request("GET", path, query)
            text = response.data.decode(errors="replace")
            if response.status == 200 and not text.startswith(('{"error', "<")):
                return text
        return None

    def _json(self, method: str, path: str, query: Mapping[str, str], **more: Any) -> Object:
        response = self._request(method, f"/apis/v2beta1/{path}", query, **more)
        try:
            answer = json.loads(response.data or b"{}")
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            if response.status >= 500:  # of a proxy before it, or the UI's without its API server
                raise self._failure(response.status, {}, path)
            if response.status in (301, 302, 303, 307, 401, 403) or b"<html" in response.data[:500]:
                raise self._not_let_in(response.status)
            raise UserError(
                f"{self.url}: answered {response.status}, but not as Kubeflow Pipelines does; "
                "is it the address of its UI or API server?"
            )
        if response.status < 300:
            return answer
        raise self._failure(response.status, answer, path)

    def _failure(self, status: int, answer: Object, path: str) -> UserError:
        message = str(answer.get("message") or answer.get("error_message") or answer or "no answer")
        reason = shortened(message)
        if status in (401, 403):
            return self._not_let_in(status, reason)
        if status == 429 or status >= 500:
            return NoAnswer(f"{self.url}: {path}: {status} {reason}")
        if status == 404 and "could not find the requested resource" not in message:
            return Missing(f"{self.url}: {path}: {reason}")
        if "unknown field" in message:
            return UserError(
                f"{self.url}: Kubeflow Pipelines does not understand the pipeline ({reason}); "
                f"{OLDEST[0]}.{OLDEST[1]} or later is needed"
            )
        return UserError(f"{self.url}: {path}: {reason}")

    def _not_let_in(self, status: int, reason: str = "") -> UserError:
        why = f" ({reason})" if reason else ""
        if self._headers and status == 403:
            return UserError(
                f"{self.url}: the token's account may not do this: 403{why}; ask for the right, or "
                f"put another token into {TOKEN} or the file that {TOKEN_FILE} names"
            )
        if self._headers:
            return UserError(
                f"{self.url}: the token was refused, or has expired: {status}{why}; put a new one "
                f"into {TOKEN} or the file that {TOKEN_FILE} names"
            )
        return UserError(
            f"{self.url}: asks to sign in: {status}{why}; put a token into {TOKEN} or a file that "
            f"{TOKEN_FILE} names, or use --port-forward"
        )

    def _request(
        self, method: str, path: str, query: Mapping[str, str], **more: Any
    ) -> urllib3.BaseHTTPResponse:
        headers = dict(self._headers)
        if "body" in more:
            headers["Content-Type"] = "application/json"
        given = {name: value for name, value in query.items() if value}
        tail = f"?{urlencode(given)}" if given else ""
        try:
            return self._pool.request(method, self.url + path + tail, headers=headers, **more)
        except urllib3.exceptions.HTTPError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise UserError(
                    f"{self.url}: its certificate is not trusted here; let SSL_CERT_FILE name the "
                    "file of the authority that signed it"
                ) from None
            raise NoAnswer(
                f"{self.url}: no answer from Kubeflow Pipelines ({_short(error)}); is it up, and "
                "the address right?"
            ) from None


class Missing(UserError):  # noqa: N818 - a state of the server
    """There is no such object."""


class NoAnswer(UserError):  # noqa: N818
    """None at all, or one that asks to try again."""


def shortened(message: str, most: int = 300) -> str:
    """The telling end of the API server's nested messages, on one line."""
    line = " ".join(message.split())
    line = re.sub(
        r"^(Failed to [^:]*: )?((InternalServer|InvalidInput|BadRequest)Error: )?", "", line
    )
    return line if len(line) <= most else line[: most - 1] + "…"


def _token() -> str:
    if given := os.environ.get(TOKEN):
        return given.strip()
    file = Path(os.environ.get(TOKEN_FILE) or _POD_TOKEN)
    if TOKEN_FILE not in os.environ and not file.exists():
        return ""
    try:
        return file.read_text().strip()
    except OSError as error:
        raise UserError(f"{TOKEN_FILE}={file}: {error.strerror}") from None


def _short(error: Exception) -> str:
    text = str(getattr(error, "reason", None) or error)
    return re.sub(r"^.*?>?: ", "", text) or type(error).__name__


@contextmanager
def port_forward(namespace: str, service: str = "ml-pipeline-ui") -> Iterator[str]:
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
            raise UserError(f"--port-forward {namespace}: kubectl does not get through")
        time.sleep(0.1)


def _without_log(said: str) -> str:
    """What kubectl says to people, without its log lines (``E1127 01:24:35.778376 ...``)."""
    lines = [line for line in said.splitlines() if not re.match(r"[IWEF]\d{4} \d\d:", line)]
    return " ".join(" ".join(lines).split()) or "it ended"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
