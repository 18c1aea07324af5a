"""Runs on an endpoint: start, find, follow, and why one failed."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from dkd.errors import UserError
from dkd.kubeflow import internals
from dkd.kubeflow.client import Endpoint, Exists, NoAnswer
from dkd.kubeflow.graph import Node, graph
from dkd.kubeflow.internals import Json
from dkd.kubeflow.pod_logs import PodLogs
from dkd.kubeflow.uploads import Version
from dkd.log import event_lines

FINISHED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED", "CACHED")
POLL = 3.0
"""Seconds between two looks at a run that is followed."""
PATIENCE = 600.0
"""Seconds for which following goes on without an answer from the endpoint."""
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def experiment_id(endpoint: Endpoint, name: str) -> str:
    """Id of an experiment; empty for the endpoint's default.

    Raises:
        UserError: there is none of this name.
    """
    if not name:
        return ""
    known = _experiments(endpoint)
    if name not in known:
        raise UserError(
            f"{endpoint.url}: no experiment {name!r}; there are {', '.join(known) or 'none'}; "
            "--create-experiment makes it"
        )
    return known[name]


def make_experiment(endpoint: Endpoint, name: str) -> str:
    """Id of an experiment, which is made if there is none of this name."""
    if identity := _experiments(endpoint).get(name):
        return identity
    body = {"display_name": name, "namespace": endpoint.namespace}
    try:
        made = endpoint.ask(endpoint.api.experiments.experiment_service_create_experiment, body)
    except Exists:  # made by another a moment ago
        return experiment_id(endpoint, name)
    return str(made["experiment_id"])


def _experiments(endpoint: Endpoint) -> dict[str, str]:
    call = endpoint.api.experiments.experiment_service_list_experiments
    listed = endpoint.listed(call, "experiments", namespace=endpoint.namespace)
    return {each["display_name"]: each["experiment_id"] for each in listed}


def start(
    endpoint: Endpoint,
    version: Version,
    name: str,
    values: Mapping[str, Any],
    *,
    experiment: str = "",
    service_account: str = "",
    every: str = "",
) -> Json:
    """Starts a run, or a recurring run.

    Args:
        endpoint: where.
        version: of the pipeline.
        name: of the run.
        values: of the form.
        experiment: its id.
        service_account: that the run's pods have; the endpoint's default if empty.
        every: as :func:`trigger` takes it; empty for a single run.

    Returns:
        The run, or the recurring run.
    """
    body: Json = {
        "display_name": name,
        "experiment_id": experiment,
        "pipeline_version_reference": version.reference,
        "runtime_config": {"parameters": dict(values)},
        "service_account": service_account,
    }
    if not every:
        return endpoint.ask(endpoint.api.runs.run_service_create_run, body)
    body |= {"trigger": trigger(every), "max_concurrency": "1", "mode": "ENABLE"}
    call = endpoint.api.recurring_runs.recurring_run_service_create_recurring_run
    return endpoint.ask(call, body | {"no_catchup": True})


def trigger(every: str) -> Json:
    """When a recurring run starts.

    Args:
        every: ``12h``, ``7d``, ``30m``, ``1w``; or five fields of cron, e.g. ``0 3 * * 1``.

    Raises:
        UserError: neither.
    """
    interval = re.fullmatch(r"([1-9]\d*)([mhdw])", every)
    if interval:
        seconds = int(interval[1]) * _SECONDS[interval[2]]
        return {"periodic_schedule": {"interval_second": str(seconds)}}
    if re.fullmatch(r"([\d*,/-]+ ){4}[\w*,/-]+", every):
        return {"cron_schedule": {"cron": f"0 {every}"}}  # the server's first field is seconds
    raise UserError(f"--every {every}: write 12h, 7d, 30m, 1w, or cron's five fields '0 3 * * 1'")


def find(endpoint: Endpoint, run: str) -> Json:
    """A run by id, the beginning of its id, or its name (the newest of that name).

    Raises:
        UserError: there is none.
    """
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", run):
        return endpoint.run(run)
    for each in newest(endpoint):
        if each["display_name"] == run or (len(run) >= 4 and each["run_id"].startswith(run)):
            return endpoint.run(each["run_id"])
    raise UserError(f"{endpoint.url}: no run {run!r}; `dkd status` lists them")


def newest(endpoint: Endpoint) -> Iterator[Json]:
    """Runs, the newest first."""
    call = endpoint.api.runs.run_service_list_runs
    return endpoint.listed(call, "runs", namespace=endpoint.namespace, sort_by="created_at desc")


def terminate(endpoint: Endpoint, run: Json) -> None:
    """Tells a run to end."""
    endpoint.ask(endpoint.api.runs.run_service_terminate_run, run["run_id"])


def line(run: Json) -> str:
    """A run on one line: id, state, when, name."""
    when = str(run.get("created_at", ""))[:16].replace("T", " ")
    return f"{run['run_id'][:8]}  {state(run):<10} {when}  {run['display_name']}"


def state(run: Json) -> str:
    """One word; a run that was terminated has failed, in the words of the API (2.17)."""
    known = str(run.get("state", "PENDING"))
    before = [each.get("state") for each in run.get("state_history", [])]
    told = [each for each in before if each != "FAILED"][-1:] == ["CANCELING"]  # and not retried
    return ("CANCELED" if told and known == "FAILED" else known).lower()


def now() -> str:
    """This minute, for the name of a run."""
    return f"{datetime.now():%Y-%m-%d %H:%M}"


def watch(endpoint: Endpoint, identity: str, say: Callable[[str], None]) -> Json:
    """Follows a run to its end, one line for every change; returns it as it ended."""
    told: dict[str, str] = {}
    said = set()
    for run, nodes in _looks(endpoint, identity, say):
        for node in nodes:
            # What a pod waits for alternates (ErrImagePull, ImagePullBackOff): each is said once.
            if told.get(node.title) != node.state or str(node) not in said:
                say(f"{datetime.now():%H:%M:%S}  {node}")
            told[node.title] = node.state
            said.add(str(node))
        if run.get("state") in FINISHED:
            say(f"{datetime.now():%H:%M:%S}  {state(run):<10} {run['display_name']}")
            return run
    raise AssertionError("looking never ends")


def _looks(
    endpoint: Endpoint, identity: str, say: Callable[[str], None]
) -> Iterator[tuple[Json, list[Node]]]:
    """A run and its tasks, again and again; waits while the endpoint does not answer.

    Raises:
        NoAnswer: it has not answered for :data:`PATIENCE` seconds, or not once.
    """
    since: float | None = None
    seen = False
    while True:
        try:
            run = endpoint.run(identity)
            nodes = graph(endpoint, run)
        except NoAnswer as error:
            if not seen or (since is not None and time.monotonic() - since > PATIENCE):
                raise
            if since is None:
                say(f"{datetime.now():%H:%M:%S}  {error}; trying again; the run continues")
                since = time.monotonic()
        else:
            if since is not None:
                say(f"{datetime.now():%H:%M:%S}  {endpoint.url} answers again")
            since, seen = None, True
            yield run, nodes
        time.sleep(POLL)


def why(endpoint: Endpoint, run: Json) -> str:
    """Why a run did not succeed, on one line: the first failed task and its own last words."""
    link = endpoint.link(f"runs/details/{run['run_id']}")
    if state(run) == "canceled":
        return f"run {run['display_name']} was terminated ({link})"
    for node in graph(endpoint, run):
        if node.state in ("failed", "error"):
            kept = PodLogs(endpoint, run["run_id"])
            printed = kept.read(node, node.pods[-1]) if node.pods else None
            reason = _reason(printed or "", node.message)
            return f"run {run['display_name']} {state(run)} at {node.title}: {reason} ({link})"
    return f"run {run['display_name']} {state(run)} ({link})"


def _reason(printed: str, message: str) -> str:
    """Why a task failed.

    Args:
        printed: its pod's log. A component says it on a line of its own.
        message: the cluster's words, for what could not do that.
    """
    lines = list(event_lines(internals.component_lines(printed)))
    if told := [each for each in lines if each.startswith("dkd: ")]:
        return told[-1].removeprefix("dkd: ")
    if missing := next(filter(internals.lacks_launcher, lines), ""):
        return f"the component's image lacks the launcher (--launcher-image): {missing}"
    return "; it printed last: ".join(filter(None, (message, internals.last_words(printed))))


def logs(
    endpoint: Endpoint,
    identity: str,
    wanted: str,
    say: Callable[[str], None],
    *,
    follow: bool,
) -> None:
    """Prints what a run's tasks have printed, task by task, each line once.

    Args:
        endpoint: where.
        identity: the run's id.
        wanted: only tasks with this in their title; all if empty.
        say: prints a line.
        follow: go on until the run ends.

    Raises:
        UserError: no task has such a title.
    """
    printing = _Printing(endpoint, identity, say)
    for run, nodes in _looks(endpoint, identity, say):
        chosen = [node for node in nodes if wanted.lower() in node.title.lower()]
        last_look = not follow or run.get("state") in FINISHED
        for node in chosen:
            printing.more(node, patient=not last_look)
        if last_look:
            if not chosen:
                started = f"no task {wanted!r} has started" if wanted else "nothing has started"
                raise UserError(f"run {run['display_name']}: {started}")
            return


class _Printing:
    """Prints what tasks' pods have printed; each line once, however often it is asked.

    Args:
        endpoint: where.
        identity: the run's id.
        say: prints a line.
    """

    def __init__(self, endpoint: Endpoint, identity: str, say: Callable[[str], None]) -> None:
        self._pods = PodLogs(endpoint, identity)
        self._page = endpoint.link(f"runs/details/{identity}")
        self._say = say
        self._printed: dict[str, int] = {}  # lines, by pod
        self._told: set[str] = set()
        self._last = ""  # pod of the line above

    def more(self, node: Node, *, patient: bool) -> None:
        """Prints what is new of a task.

        Args:
            node: the task.
            patient: another look follows, so that an endpoint may fail to answer now.

        Raises:
            NoAnswer: the endpoint does not answer, and no other look follows.
        """
        if not node.pods and node.ended:
            self._once(f"=== {node.title}: its pods are not known here, see {self._page}")
        for pod in node.pods:
            try:
                text = self._pods.read(node, pod)
            except NoAnswer:
                if not patient:
                    raise
                continue
            if text is not None:
                self._fresh(node, pod, text)
            elif pod not in self._printed:
                self._absent(node, pod)

    def _fresh(self, node: Node, pod: str, text: str) -> None:
        lines = list(internals.component_lines(text))
        # An unfinished last line is printed once it is whole.
        whole = len(lines) if node.ended or text.endswith("\n") else len(lines) - 1
        before = self._printed.get(pod, 0)
        if whole > before and self._last != pod:
            self._say(f"=== {node.title}")
            self._last = pod
        for line in lines[before:whole]:
            self._say(line)
        self._printed[pod] = max(whole, before)

    def _absent(self, node: Node, pod: str) -> None:
        if node.ended:
            self._once(f"=== {node.title}: pod {pod} has no log any more")
        elif node.state == "running":
            self._once(
                f"=== {node.title}: no log of it here until it has ended; meanwhile: "
                f"kubectl logs -f -n {node.namespace} {pod} -c {internals.CONTAINER}"
            )

    def _once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._say(line)
