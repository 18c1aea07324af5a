"""The pipeline's components, each in a pod of its own, as Kubeflow Pipelines runs them.

Image, command and arguments are those of the compiled pipeline; the pods are as its backend
makes them, but pass the *restricted* Pod Security Standard and have a read-only root.
"""

import json
import re
import signal
import tempfile
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from commands import Object, get, kubectl, run_in, wait_until
from namespaces import KEYS

from dkd.launching.kubernetes import nodes
from dkd.scenario.schema import Scenario

OUTPUTS = "/tmp/outputs"
KILL_COMMAND = "workflows.argoproj.io/kill-cmd-main"
_END = "=== outputs: "


class TaskFailed(Exception):  # noqa: N818
    """A component's pod ended otherwise than well; its log is the message."""


@dataclass(frozen=True)
class Compiled:
    """What Kubeflow Pipelines is given.

    Attributes:
        containers: of every component.
        outputs: of every component, as KFP describes them.
        form: the run's parameters, with their defaults.
        annotations: of every component's pod.
        labels: likewise.
    """

    containers: dict[str, Object]
    outputs: dict[str, Object]
    form: dict[str, Any]
    annotations: dict[str, dict[str, str]]
    labels: dict[str, dict[str, str]]


def _kind(label: str) -> str:
    """A component's name without its step's number: of ``exec-step-1``, ``step``; the first step's
    is another component, ``first-step``.
    """
    name = re.sub(r"^(exec|comp)-", "", label)
    return re.sub(r"^step-\d+$", "step", name.replace("step-0", "first-step"))


def compiled(scenario: Scenario, image: str) -> Compiled:
    """The compiled pipeline of a scenario."""
    from kfp import compiler

    from dkd.pipelines.incremental import build

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(build(scenario, on_cluster=True), str(file))
        document, platform = yaml.safe_load_all(file.read_text())
    executors = document["deploymentSpec"]["executors"]
    in_kubernetes = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    containers = {_kind(key): each["container"] for key, each in executors.items()}
    parameters = document["root"]["inputDefinitions"]["parameters"]
    return Compiled(
        {key: {**each, "image": image} for key, each in containers.items()},
        {
            _kind(key): each.get("outputDefinitions", {})
            for key, each in document["components"].items()
        },
        {key: each.get("defaultValue") for key, each in parameters.items()},
        {_kind(key): each["podMetadata"]["annotations"] for key, each in in_kubernetes.items()},
        {_kind(key): each["podMetadata"]["labels"] for key, each in in_kubernetes.items()},
    )


@dataclass
class Task:
    """One component's pod."""

    name: str
    namespace: str
    outputs: dict[str, str]
    started: float = field(default_factory=time.monotonic)

    @property
    def log(self) -> str:
        """What it printed so far, without KFP's own talk."""
        text = kubectl("logs", self.name, "-n", self.namespace, "-c", "main", check=False)
        return "\n".join(x for x in text.splitlines() if not re.match(r"\[KFP|[ {}\[\]]|$", x))

    @property
    def phase(self) -> str:
        found = get("pod", self.name, self.namespace)
        return str(found["status"].get("phase")) if found else "gone"

    def wait_for(self, words: str, seconds: float = 120) -> str:
        """The first line with these words."""

        def said() -> str | None:
            phase, log = self.phase, self.log
            found = next((line for line in log.splitlines() if words in line), None)
            if found is None and phase in ("Succeeded", "Failed", "gone"):
                raise TaskFailed(f"{self.name} ended ({phase}) without {words!r}:\n{log}")
            return found

        return str(wait_until(said, seconds, f"{words!r} in the log of {self.name}"))

    def ended(self, seconds: float) -> str:
        """Waits for the end; the pod's phase."""
        return str(
            wait_until(
                lambda: self.phase if self.phase in ("Succeeded", "Failed", "gone") else None,
                seconds,
                f"the end of {self.name}",
            )
        )

    def result(self, seconds: float = 300) -> dict[str, Any]:
        """The component's outputs.

        Raises:
            TaskFailed: it failed.
        """
        if self.ended(seconds) != "Succeeded":
            raise TaskFailed(self.log)
        text = kubectl("logs", self.name, "-n", self.namespace, "-c", "main")
        document = json.loads(text.rpartition(_END)[2])
        return dict(document["parameterValues"])

    def terminate(self) -> None:
        """What Argo does in the pod of a run that is terminated: the annotation's command."""
        found = get("pod", self.name, self.namespace)
        assert found
        command = json.loads(found["metadata"]["annotations"][KILL_COMMAND])
        run_in(
            self.name,
            "main",
            self.namespace,
            *(text.replace("%d", str(int(signal.SIGTERM))) for text in command),
        )

    def failure(self, seconds: float = 120) -> str:
        """What the component said when it failed: from its ``dkd:`` line on."""
        phase = self.ended(seconds)
        assert phase == "Failed", (phase, self.log)
        return "dkd: " + self.log.rpartition("\ndkd: ")[2]


class Tasks:
    """Starts components in a namespace.

    Args:
        namespace: where k8s/ has been applied.
        account: service account of the pods.
        pipeline: from :func:`compiled`.
        store: URI under which Kubeflow Pipelines keeps a run's files.
    """

    def __init__(self, namespace: str, account: str, pipeline: Compiled, store: str) -> None:
        self.namespace, self.account = namespace, account
        self.pipeline, self._store = pipeline, store

    def inside(self, namespace: str, account: str = "") -> "Tasks":
        """The same in another namespace, or under another account."""
        return Tasks(namespace, account or self.account, self.pipeline, self._store)

    def start(self, component: str, *, on: str = "", **arguments: Any) -> Task:
        """Starts a component.

        Args:
            component: as the compiled pipeline names it, e.g. ``report``; ``step`` for any step.
            on: the machine that its pod must be on, if any.
            arguments: its parameters.
        """
        name = f"{component}-{uuid.uuid4().hex[:6]}"
        container = self.pipeline.containers[component]
        place = f"{self._store}/{name}"
        inputs = _inputs(self.pipeline.outputs[component], place, arguments)
        program = [
            text.replace("{{$}}", json.dumps(inputs))
            for text in [*container["command"], *container["args"]]
        ]
        pod = _pod(name, self.account, container, program)
        pod["metadata"]["annotations"] = self.pipeline.annotations[component]
        pod["metadata"]["labels"] |= self.pipeline.labels[component]
        if on:
            pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": on}
        kubectl("create", "-n", self.namespace, "-f", "-", stdin=json.dumps(pod))
        return Task(name, self.namespace, inputs["outputs"])


def _inputs(outputs: Object, place: str, arguments: dict[str, Any]) -> Object:
    """What KFP's driver hands to the executor."""
    return {
        "inputs": {"parameterValues": arguments},
        "outputs": {
            "parameters": {
                key: {"outputFile": f"{OUTPUTS}/{key}"} for key in outputs.get("parameters", {})
            },
            "artifacts": {
                key: {
                    "artifacts": [
                        {
                            "name": key,
                            "type": each["artifactType"],
                            "uri": f"{place}/{key}",
                            "metadata": {},
                        }
                    ]
                }
                for key, each in outputs.get("artifacts", {}).items()
            },
            "outputFile": f"{OUTPUTS}/executor_output.json",
        },
    }


_UPLOAD = """
import json, pathlib
from dkd import storage
for file in pathlib.Path("/minio").rglob("*"):
    if file.is_file():
        storage.upload(file, "minio:/" + str(file).removeprefix("/minio"))
"""

# Kubeflow Pipelines' launcher starts the component and uploads its files; here a shell does. Like
# the launcher it ends on SIGTERM, and the component with it.
_SHELL = f"""mkdir -p {OUTPUTS}
setsid "$@" & group=$!
trap 'exit 143' TERM
wait $group; status=$?
while kill -0 -$group 2>/dev/null; do sleep 0.1; done
[ $status = 0 ] || exit $status
python3 -c '{_UPLOAD}' && echo && printf '{_END}' && cat {OUTPUTS}/executor_output.json
"""


def _pod(name: str, account: str, container: Object, program: list[str]) -> Object:
    """As Kubeflow Pipelines' driver makes it of a compiled component."""
    scratch = {"tmp": "/tmp", "minio": "/minio", "s3": "/s3"}
    asked = container["resources"]
    keys = {"name": KEYS, "mountPath": nodes.KEYS}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"dkd-test": "task"}},
        "spec": {
            "serviceAccountName": account,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 30,
            "securityContext": {
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "main",
                    "image": container["image"],
                    "command": ["sh", "-c", _SHELL, "sh", *program],
                    "env": container["env"],
                    "envFrom": [{"configMapRef": {"name": "dkd-s3"}}],
                    "resources": {
                        "requests": {
                            "cpu": asked["resourceCpuRequest"],
                            "memory": asked["resourceMemoryRequest"],
                        },
                        "limits": {
                            "cpu": asked["resourceCpuLimit"],
                            "memory": asked["resourceMemoryLimit"],
                        },
                    },
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        keys,
                        *({"name": key, "mountPath": at} for key, at in scratch.items()),
                    ],
                }
            ],
            "volumes": [
                {"name": KEYS, "secret": {"secretName": KEYS, "optional": True}},
                *({"name": key, "emptyDir": {}} for key in scratch),
            ],
        },
    }
