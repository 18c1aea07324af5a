"""An endpoint of Kubeflow Pipelines.

``kfp.Client`` (2.17, https://kubeflow-pipelines.readthedocs.io) signs in and knows the API's calls.
Three things are ours, because it is worse at them:

* the connections: its own wait for ever and trust certifi's authorities alone, not this machine's;
* reading the answers: it takes a sign-in page for an empty object and drops the server's version;
* what is said: every failure becomes one line that says what to do. Its convenience methods print
  links, write to the home directory, and ask for the server's health five times with tracebacks
  in between; so the API's calls, which it holds too, are used instead.
"""

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import urllib3

from dkd.errors import UserError
from dkd.kubeflow import internals
from dkd.kubeflow.internals import Json

OLDEST = (2, 16)
"""First release that knows the drop-downs of our forms (``literals``)."""

TOKEN = "DKD_KFP_TOKEN"  # noqa: S105 - a variable's name
TOKEN_FILE = "DKD_KFP_TOKEN_FILE"  # noqa: S105
COOKIE = "DKD_KFP_COOKIE"
_IAP = "KF_PIPELINES_IAP_OAUTH2_CLIENT_ID"  # kfp's own variable
_TIMEOUT = (10.0, 60.0)  # seconds to connect and between bytes


class Endpoint:
    """An endpoint and the right to use it.

    The right is a token (:data:`TOKEN`, :data:`TOKEN_FILE`, a pod's own), a session's cookie
    (:data:`COOKIE`, as Dex gives it to a browser), or what ``kfp.Client`` finds itself: Google's
    IAP by its variables ``KF_PIPELINES_...``, or the file ``~/.config/kfp/context.json``.

    Args:
        url: of the UI or of the API server; inside a cluster Kubeflow's own by default.
        namespace: of runs and experiments; only where every user has one (multi-user mode).

    Attributes:
        api: the API's calls by service, for :meth:`ask`: ``api.runs.run_service_get_run``.

    Raises:
        UserError: it cannot be reached, refuses the token, is no Kubeflow Pipelines, or is too
            old.
    """

    def __init__(self, url: str | None, namespace: str = "") -> None:
        if not url and not internals.POD_TOKEN.exists():
            raise UserError(
                "--endpoint: say where Kubeflow Pipelines is, e.g. --endpoint "
                "https://kubeflow.example.com/pipeline, or --port-forward"
            )
        self.url = (url or internals.IN_CLUSTER).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"--endpoint {self.url}: begin with http:// or https://")
        self.namespace = namespace
        token = _token()
        cookie = os.environ.get(COOKIE, "").strip()
        self._knocks = bool(token or cookie or os.environ.get(_IAP))
        self.api = self._signed_in(token, cookie)
        self._raw = self.api.healthzs.healthz_service_get_healthz.__self__.api_client
        self._raw.rest_client.pool_manager = urllib3.PoolManager(
            retries=urllib3.Retry(2, redirect=False, status=0)
        )
        self._check(self.ask(self.api.healthzs.healthz_service_get_healthz))

    def _signed_in(self, token: Path | str | None, cookie: str) -> Any:
        import kfp.client  # with kfp_server_api most of a second: not for `dkd submit --help`

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # older servers than ours
            try:
                return kfp.client.Client(
                    host=self.url,
                    # Without one it asks for the server's health, at length.
                    namespace=self.namespace or "none",
                    existing_token=token if isinstance(token, str) else None,
                    credentials=(
                        kfp.client.ServiceAccountTokenVolumeCredentials(str(token))
                        if isinstance(token, Path)
                        else None
                    ),
                    cookies=cookie or None,
                )
            except Exception as error:
                raise UserError(f"{self.url}: signing in: {shortened(str(error))}") from None

    def _check(self, health: Json) -> None:
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

    def ask(self, call: Callable[..., Any], *arguments: Any, **query: Any) -> Json:
        """Does one call of the API.

        Args:
            call: of :attr:`api`.
            arguments: the call's; objects as JSON.
            query: its parameters; empty ones are left out.

        Raises:
            Missing: there is no such object.
            Exists: there is one of this name.
            NoAnswer: try again later.
            UserError: any other failure.
        """
        given = {name: value for name, value in query.items() if value}
        status, data = self._answer(
            lambda: call(*arguments, **given, _preload_content=False, _request_timeout=_TIMEOUT)
        )
        if 300 <= status < 400:  # to a page to sign in
            raise self._not_let_in(status)
        try:
            answer = json.loads(data or b"{}")
        except ValueError:
            answer = None
        if isinstance(answer, dict):
            if status < 300:
                return answer
            raise self._failure(status, answer)
        if status >= 500:  # of a proxy before it, or the UI's without its API server
            raise self._failure(status, {})
        if status in (401, 403) or b"<html" in data[:500]:
            raise self._not_let_in(status)
        raise UserError(
            f"{self.url}: answered {status}, but not as Kubeflow Pipelines does; "
            "is it the address of its UI or API server?"
        )

    def listed(
        self, call: Callable[..., Any], field: str, *arguments: str, **query: str
    ) -> Iterator[Json]:
        """The objects of a list, page by page. As :meth:`ask`."""
        token = ""
        while True:
            page = self.ask(call, *arguments, page_size=50, page_token=token, **query)
            yield from page.get(field, [])
            token = page.get("next_page_token", "")
            if not token:
                return

    def run(self, identity: str) -> Json:
        """A run by its id. As :meth:`ask`."""
        return self.ask(self.api.runs.run_service_get_run, identity)

    def version(self, pipeline: str, version: str) -> Json:
        """A pipeline's version, by both ids. As :meth:`ask`."""
        call = self.api.pipelines.pipeline_service_get_pipeline_version
        return self.ask(call, pipeline, version)

    def workflow(self, run: str) -> Json | None:
        """The Argo workflow of a run; None where it is not handed out, or without its nodes."""
        _, data = self._got(internals.workflow_path(run), {})
        return internals.workflow_in(data)

    def log(self, run: str, pod: str, namespace: str, day: str) -> str | None:
        """What a pod of a run has printed so far; None while, or when, it cannot be read.

        The arguments are those of :func:`dkd.kubeflow.internals.log_addresses`.
        """
        for path, query in internals.log_addresses(run, pod, namespace, day):
            status, data = self._got(path, query)
            text = data.decode(errors="replace")
            if status == 200 and internals.is_log(text):
                return text
        return None

    def _got(self, path: str, query: Json) -> tuple[int, bytes]:
        return self._answer(
            lambda: self._raw.call_api(
                path,
                "GET",
                query_params=list(query.items()),
                auth_settings=["Bearer"],
                _return_http_data_only=True,
                _preload_content=False,
                _request_timeout=_TIMEOUT,
            )
        )

    def _answer(self, call: Callable[[], Any]) -> tuple[int, bytes]:
        """Status and body of what a call is answered."""
        from kfp_server_api import ApiException

        try:
            try:
                response = call()
                return response.status, response.data
            except ApiException as error:
                if error.status:
                    body = error.body or b""
                    return error.status, body.encode() if isinstance(body, str) else body
                raise urllib3.exceptions.HTTPError(error.reason) from None
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
        except OSError as error:  # the file of the token, read anew for every call
            raise UserError(f"{TOKEN_FILE}={error.filename}: {error.strerror}") from None

    def _failure(self, status: int, answer: Json) -> UserError:
        message = str(answer.get("message") or answer.get("error_message") or answer or "no answer")
        reason = shortened(message)
        if status in (401, 403):
            return self._not_let_in(status, reason)
        if "already exist" in message.lower():  # with 409, 400 or 500
            return Exists(f"{self.url}: {reason}")
        if status == 429 or status >= 500:
            return NoAnswer(f"{self.url}: {status} {reason}")
        if status == 404 and "could not find the requested resource" not in message:
            return Missing(f"{self.url}: {reason}")
        if "unknown field" in message:
            return UserError(
                f"{self.url}: Kubeflow Pipelines does not understand the pipeline ({reason}); "
                f"{OLDEST[0]}.{OLDEST[1]} or later is needed"
            )
        return UserError(f"{self.url}: {reason}")

    def _not_let_in(self, status: int, reason: str = "") -> UserError:
        why = f" ({reason})" if reason else ""
        if self._knocks and status == 403:
            return UserError(
                f"{self.url}: the token's account may not do this: 403{why}; ask for the right, or "
                f"put another token into {TOKEN} or the file that {TOKEN_FILE} names"
            )
        if self._knocks:
            return UserError(
                f"{self.url}: the token was refused, or has expired: {status}{why}; put a new one "
                f"into {TOKEN} or the file that {TOKEN_FILE} names, or a session's cookie into "
                f"{COOKIE}"
            )
        return UserError(
            f"{self.url}: asks to sign in: {status}{why}; put a token into {TOKEN} or a file that "
            f"{TOKEN_FILE} names, a session's cookie into {COOKIE}, or use --port-forward"
        )


class Missing(UserError):  # noqa: N818 - a state of the server
    """There is no such object."""


class Exists(UserError):  # noqa: N818
    """There is an object of this name."""


class NoAnswer(UserError):  # noqa: N818
    """None at all, or one that asks to try again."""


def shortened(message: str, most: int = 300) -> str:
    """The telling end of the API server's nested messages, on one line."""
    line = " ".join(message.split())
    line = re.sub(
        r"^(Failed to [^:]*: )?((InternalServer|InvalidInput|BadRequest)Error: )?", "", line
    )
    return line if len(line) <= most else line[: most - 1] + "…"


def _token() -> Path | str | None:
    """A token, or the file that holds one, which a cluster may renew while a run is followed."""
    if given := os.environ.get(TOKEN):
        return given.strip()
    if TOKEN_FILE in os.environ:
        return Path(os.environ[TOKEN_FILE])
    return internals.POD_TOKEN if internals.POD_TOKEN.exists() else None


def _short(error: Exception) -> str:
    text = str(getattr(error, "reason", None) or error)
    return re.sub(r"^.*?>?: ", "", text) or type(error).__name__
