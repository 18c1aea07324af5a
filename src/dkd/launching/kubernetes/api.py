"""The little of the Kubernetes API that launching needs, as plain dicts.

The package ``kubernetes`` brings configuration, authentication and transport; its typed models
are left aside, because a newer server's fields would not fit an older client's.
API reference: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import kubernetes.client
import kubernetes.config
import urllib3
from kubernetes.client.exceptions import ApiException
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_before_delay,
    wait_exponential,
)

from dkd.errors import UserError

T = TypeVar("T")

Object = dict[str, Any]
"""A Kubernetes object as the API's JSON."""

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT = (5, 10)  # seconds to connect and between bytes
_TRANSIENT = {401, 408, 429, 500, 502, 503, 504}  # 401: a token that is just being renewed


class Unavailable(Exception):  # noqa: N818 - a state of the server, not a fault of ours
    """The API server gave no answer, or one that asks to try again."""


class NotYet(Unavailable):
    """The cluster is still busy with something that must end first."""


class Refused(Exception):  # noqa: N818
    """The API server said no, and will say so again.

    Attributes:
        status: HTTP status.
        kind: resource that the message is about, e.g. ``namespaces``; empty if it does not say.
        message: the server's own words.
    """

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status, self.kind, self.message = status, kind, message


@dataclass(frozen=True)
class Resource:
    """A custom resource, e.g. ``trainer.kubeflow.org/v1alpha1``'s trainjobs."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"

    @property
    def full_name(self) -> str:
        """As kubectl names it without doubt."""
        return f"{self.plural}.{self.group}"


class Cluster:
    """A namespace of the cluster that the environment names.

    ``KUBECONFIG`` comes first, then the service account of a pod, then ``~/.kube/config``.

    Args:
        namespace: empty for the pod's or the kubeconfig context's own.

    Raises:
        UserError: there is none of these, or it cannot be read.
    """

    def __init__(self, namespace: str = "") -> None:
        configuration = kubernetes.client.Configuration()
        in_pod = "KUBECONFIG" not in os.environ and (_SERVICE_ACCOUNT / "token").exists()
        try:
            if in_pod:
                kubernetes.config.load_incluster_config(client_configuration=configuration)
                own = (_SERVICE_ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
            else:
                file = os.environ.get("KUBECONFIG")
                kubernetes.config.load_kube_config(file, client_configuration=configuration)
                _, context = kubernetes.config.list_kube_config_contexts(file)
                own = context["context"].get("namespace", "default")
        except (kubernetes.config.ConfigException, OSError, KeyError) as error:
            raise UserError(
                f"no Kubernetes cluster: {error}; run in a pod, set KUBECONFIG, or use "
                "launch.backend=local"
            ) from None
        configuration.retries = False  # whoever calls decides
        client = kubernetes.client.ApiClient(configuration)
        self._core = kubernetes.client.CoreV1Api(client)
        self._custom = kubernetes.client.CustomObjectsApi(client)
        self._own_namespace = own
        self._in_pod = in_pod
        self.namespace = namespace or own

    def owner(self) -> Object | None:
        """What owns the pod that this process runs in: the workflow; None outside of pods.

        Jobs belong to it instead of to the pod, so that they outlive a launching pod that died
        and are removed with the workflow. Owners cannot be in another namespace.
        """
        if not self._in_pod or self.namespace != self._own_namespace:
            return None
        # Kubeflow Pipelines gives its pods' names, which may be longer than host names can be.
        name = os.environ.get("KFP_POD_NAME") or os.environ.get("HOSTNAME", "")
        try:
            pod = self._json(self._core.read_namespaced_pod, name, self.namespace)
        except Refused:
            return None
        owners = pod["metadata"].get("ownerReferences", [])
        return (
            {key: owners[0][key] for key in ("apiVersion", "kind", "name", "uid")}
            if owners
            else None
        )

    def get(self, resource: Resource, name: str) -> Object | None:
        """An object; None if it is not there."""
        try:
            return self._do(self._custom.get_namespaced_custom_object, *self._at(resource), name)
        except Refused as refused:
            if refused.status == 404 and not is_unknown_resource(refused):
                return None
            raise

    def create(self, resource: Resource, manifest: Object) -> Object | None:
        """Creates an object; None if there is one of its name."""
        try:
            return self._do(
                self._custom.create_namespaced_custom_object, *self._at(resource), manifest
            )
        except Refused as refused:
            if refused.status == 409:
                return None
            raise

    def patch(self, resource: Resource, name: str, change: Object) -> None:
        """Merges a change into an object (RFC 7386)."""
        self._do(self._custom.patch_namespaced_custom_object, *self._at(resource), name, change)

    def delete(self, resource: Resource, name: str) -> None:
        """Removes an object, its dependents after it; no matter if it is gone."""
        # Never in the foreground: that takes a TrainJob's runtime away first, without which
        # Trainer's webhook (seen in 2.3) fails the update that would let the TrainJob go.
        options = kubernetes.client.V1DeleteOptions(propagation_policy="Background")
        try:
            self._do(
                self._custom.delete_namespaced_custom_object,
                *self._at(resource),
                name,
                body=options,
            )
        except Refused as refused:
            if refused.status != 404:
                raise

    def namespace_exists(self) -> bool:
        """False only if the server says so; without the right to look it counts as there."""
        try:
            self._json(self._core.read_namespace, self.namespace)
        except Refused as refused:
            return refused.status != 404
        return True

    def pods(self, selector: str) -> tuple[list[Object], str]:
        """The pods with these labels, and the version of the list, to watch from."""
        answer = self._json(self._core.list_namespaced_pod, self.namespace, label_selector=selector)
        return answer["items"], answer["metadata"]["resourceVersion"]

    def pod_changes(
        self, selector: str, version: str, seconds: int
    ) -> Iterator[tuple[str, Object]]:
        """What happens to these pods in the next seconds: ``ADDED``, ``MODIFIED``, ``DELETED``.

        Raises:
            Unavailable: the connection broke, or the version is too old: list again.
        """
        with _told():
            response = self._core.list_namespaced_pod(
                self.namespace,
                label_selector=selector,
                resource_version=version,
                watch=True,
                timeout_seconds=seconds,
                _preload_content=False,
                _request_timeout=(_TIMEOUT[0], seconds + _TIMEOUT[1]),
            )
            try:
                for line in _lines(response):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise Unavailable(event["object"].get("message", "the watch ended"))
                    yield event["type"], event["object"]
            finally:
                response.close()

    def events(self, selector: str) -> list[Object]:
        """Events by field selector, e.g. ``involvedObject.name=x``; none without the right."""
        try:
            answer = self._json(
                self._core.list_namespaced_event, self.namespace, field_selector=selector
            )
        except Refused:
            return []
        items: list[Object] = answer["items"]
        return items

    def log(
        self, pod: str, container: str, since_seconds: int | None = None, *, stamps: bool = True
    ) -> str | None:
        """A container's log, with a time stamp on each line or not; None while there is none."""
        arguments = {} if since_seconds is None else {"since_seconds": since_seconds}
        try:
            data = self._raw(
                self._core.read_namespaced_pod_log,
                pod,
                self.namespace,
                container=container,
                timestamps=stamps,
                **arguments,
            )
        except Refused:  # not started, or gone
            return None
        return data.decode(errors="replace")

    def _at(self, resource: Resource) -> tuple[str, str, str, str]:
        return resource.group, resource.version, self.namespace, resource.plural

    @staticmethod
    def _do(function: Callable[..., Any], *arguments: Any, **named: Any) -> Object:
        with _told():
            answer: Object = function(*arguments, **named, _request_timeout=_TIMEOUT)
            return answer

    @staticmethod
    def _raw(function: Callable[..., Any], *arguments: Any, **named: Any) -> bytes:
        with _told():
            response = function(
                *arguments, **named, _preload_content=False, _request_timeout=_TIMEOUT
            )
            data: bytes = response.data
            return data

    def _json(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Object:
        data = self._raw(function, *arguments, **named)
        with _told():
            answer: Object = json.loads(data)
            return answer


def is_unknown_resource(refused: Refused) -> bool:
    """Whether a 404 means that the resource's definition is not installed."""
    return refused.status == 404 and not refused.kind


def patiently(
    call: Callable[[], T], seconds: float, say: Callable[[str], None], pause: float = 1.0
) -> T:
    """Calls until the API server answers.

    Raises:
        Unavailable: it did not within ``seconds``.
    """

    def tell(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            error = state.outcome.exception()
            away = "" if isinstance(error, NotYet) else "the API server does not answer: "
            say(f"{away}{error}; trying again")

    again = Retrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_exponential(pause, max=10),
        stop=stop_before_delay(seconds),
        before_sleep=tell,
        reraise=True,
    )
    return again(call)


@contextmanager
def _told() -> Iterator[None]:
    """Turns the many ways of failing into two."""
    try:
        yield
    except ApiException as error:
        kind, message = _status(error.body)
        if error.status in _TRANSIENT:
            raise Unavailable(f"{error.status} {message or error.reason}") from None
        raise Refused(error.status or 0, kind, message or str(error.reason)) from None
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise Unavailable(_short(error)) from None


def _status(body: str | bytes | None) -> tuple[str, str]:
    """Kind and message of the API's Status object; a server without one is no API for us."""
    try:
        status: Mapping[str, Any] = json.loads(body or "")
        return (status.get("details") or {}).get("kind", ""), status.get("message", "")
    except (ValueError, AttributeError):
        return "", ""


def _lines(response: urllib3.HTTPResponse) -> Iterator[bytes]:
    rest = b""
    for chunk in response.stream(amt=None, decode_content=False):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line)


def _short(error: BaseException) -> str:
    """The innermost of nested connection errors, without addresses of Python objects."""
    while inner := next((each for each in error.args if isinstance(each, BaseException)), None):
        error = inner
    return re.sub(r"<[^<>]* at 0x[0-9a-f]+>:? ?", "", str(error)) or type(error).__name__
