"""Jobs launched against the fake API server."""

import threading
from pathlib import Path

import fake_api
import pytest
from waiting import wait_until

from dkd.errors import UserError
from dkd.launching.interface import Job
from dkd.launching.kubernetes.cluster import ClusterLauncher
from dkd.launching.kubernetes.following import Timing
from dkd.launching.kubernetes.operators import Operator
from dkd.launching.kubernetes.pytorchjob import PyTorchJobs
from dkd.launching.kubernetes.trainjob import TrainJobs
from dkd.scenario.launch import Launch
from dkd.storage import artifacts

HURRY = Timing(
    poll=0.02, events=0.02, relist=0.5, creating=2, deleting=2, ending=5, remind=600, hurry=300
)
RUNTIME = {
    "metadata": {"name": "dkd"},
    "spec": {
        "mlPolicy": {"numNodes": 1, "torch": {}},
        "template": {
            "spec": {
                "replicatedJobs": [
                    {
                        "name": "node",
                        "template": {
                            "spec": {
                                "template": {
                                    "spec": {
                                        "containers": [
                                            {"name": "node", "env": [], "volumeMounts": []}
                                        ],
                                        "volumes": [],
                                    }
                                }
                            }
                        },
                    }
                ]
            }
        },
    },
}


class Launched:
    """A launcher at work in a thread, and what it has said."""

    def __init__(self, operator: Operator, launch: Launch, job: Job, timing: Timing) -> None:
        self.said: list[str] = []
        self.error: BaseException | None = None
        self._launcher = ClusterLauncher(operator, launch, timing, self.said.append)
        self._job = job
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._launcher.run(self._job)
        except BaseException as error:
            self.error = error

    def wait_for(self, words: str) -> str:
        """The first line with these words, once it was said."""
        wait_until(lambda: self.ended or any(words in line for line in self.said))
        found = [line for line in self.said if words in line]
        assert found, (words, self.said, self.error)
        return found[0]

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> None:
        """Waits for the end, and raises what the launcher raised."""
        self._thread.join(120)
        assert self.ended, self.said
        if self.error:
            raise self.error

    def failure(self) -> str:
        """Waits for a failure and gives its message."""
        with pytest.raises(UserError) as caught:
            self.result()
        return str(caught.value)


class Stage:
    """A fake cluster, a job, and the test's hands on both."""

    name = "step-1-abc"

    def __init__(self, api: fake_api.FakeApi, result: Path, kind: str) -> None:
        self.api, self.kind = api, kind
        self.operator: Operator = TrainJobs() if kind == "trainjob" else PyTorchJobs()
        self.plural = self.operator.resource.plural
        self.job = Job(
            name=self.name, module="dkd.train", arguments=("--step", "{}"), result=str(result)
        )
        api.objects["trainingruntimes", "dkd"] = RUNTIME

    def launch(self, timing: Timing = HURRY, **settings: object) -> Launched:
        values = {"backend": self.kind, "image": "train:1", "nodes": 2, **settings}
        return Launched(self.operator, Launch.model_validate(values), self.job, timing)

    def created(self) -> None:
        wait_until(lambda: (self.plural, self.name) in self.api.objects)

    def created_long_ago(self) -> None:
        with self.api.lock:
            metadata = self.api.objects[self.plural, self.name]["metadata"]
            metadata["creationTimestamp"] = "2026-01-01T00:00:00Z"

    def pod(self, node: int, phase: str = "Running", **fields: object) -> str:
        make = fake_api.pod if self.kind == "trainjob" else fake_api.pytorch_pod
        made = make(self.name, node, phase, **fields)
        self.api.put_pod(made)
        return str(made["metadata"]["name"])

    def condition(self, kind: str, **fields: str) -> None:
        self.api.set_condition(self.plural, self.name, kind, **fields)

    def complete(self, *, publish: bool = True) -> None:
        if publish:
            artifacts.publish(self.job.result, {"x": b"1"}, kind="test", metadata={})
        self.condition("Complete" if self.kind == "trainjob" else "Succeeded")


def misbehaving(kind: str) -> Exception:
    return {
        "dropped connections": fake_api.Dropped(),
        "503": fake_api.Error(503, "apiserver not ready"),
        "429": fake_api.Error(429, "too many requests", "", "TooManyRequests"),
        "500 from a webhook": fake_api.Error(
            500, "failed calling webhook: refused", "", "InternalError"
        ),
        "401": fake_api.Error(401, "Unauthorized", "", "Unauthorized"),
    }[kind]
