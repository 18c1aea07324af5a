"""The component of k8s/ that serves a model, under a steady load of requests.

Kubernetes' part is real: probes, endpoints, rolling updates, eviction. Not shown here: the
autoscaler beyond its least number of pods (it needs a metrics server), the network policy (where
the cluster's network enforces none), and KServe.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Object, apply, get_all, kubectl, run_in, wait_until
from namespaces import ROOT, copy_keys

from dkd.export.export import bundled_photographs, export
from dkd.network import checkpoint, deeplab
from dkd.scenario.network import Network

NAMESPACE = "dkd-serving-test"
SELECTOR = "app.kubernetes.io/component=serving"
MOST_BYTES = 600_000_000
SENDERS = 6
"""Each has one request under way at most."""

STEPS = [["cat", "dog"]], [["cat", "dog"], ["sheep"]]
"""Classes of the models of two steps."""


@pytest.fixture(scope="module")
def serving_image() -> str:
    return (Path(os.environ["DKD_TEST_IMAGES"]) / "serving").read_text().strip()


@pytest.fixture(scope="module")
def models(store: str) -> list[tuple[str, str]]:
    """URI and digest of each step's exported model."""
    network = Network(backbone="demo", aspp_channels=16)
    made = []
    first = deeplab.build(network, [2])
    for number, (model, classes) in enumerate(
        zip((first, deeplab.grow(first, 1)), STEPS, strict=True)
    ):
        description = {
            "classes": classes,
            "dataset": {"name": "voc"},
            "network": network.model_dump(),
            "training": {"crop": 64},
        }
        fetched = checkpoint.Fetched(model.eval(), description, str(number) * 64)
        uri = f"{store}/serving/{number}.onnx"
        exported = export(fetched, uri, form="onnx", photographs=bundled_photographs())
        made.append((uri, exported.sha256))
    return made


@pytest.fixture(scope="module")
def deployed(
    models: list[tuple[str, str]], serving_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """An overlay as an administrator writes it, with little of everything, and the first model."""
    folder = tmp_path_factory.mktemp("overlay")
    uri, sha256 = models[0]
    container = {
        "name": "server",
        "env": [{"name": "MODEL_URI", "value": uri}, {"name": "MODEL_SHA256", "value": sha256}],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
    }
    # Process 1 of a container cannot be killed from within it; here the container has no process 1.
    spec = {"shareProcessNamespace": True, "containers": [container]}
    patch = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "dkd-serving"},
        "spec": {"template": {"spec": spec}},
    }
    name, _, digest = serving_image.partition("@")
    overlay = {
        "namespace": NAMESPACE,
        "resources": [os.path.relpath(ROOT / "k8s/base", folder)],
        "components": [os.path.relpath(ROOT / "k8s/components/serving", folder)],
        "images": [{"name": "dkd-serving", "newName": name, "digest": digest}],
        "patches": [{"patch": json.dumps(patch)}],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(overlay))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": NAMESPACE, "labels": labels}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    copy_keys(NAMESPACE)
    kubectl("apply", "-k", str(folder))
    wait_until(lambda: len(ready_pods()) == 2, 300, "two ready pods")
    yield
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def ready_pods() -> list[Object]:
    """Pods that are asked, by age."""
    pods = [
        pod
        for pod in get_all("pods", NAMESPACE, SELECTOR)
        if "deletionTimestamp" not in pod["metadata"]
        and any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in pod["status"].get("conditions", [])
        )
    ]
    return sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])


def name_of(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def ended(pod: Object) -> Object:
    """How its container ended last."""
    for status in pod["status"].get("containerStatuses", []):
        for state in (status["state"], status["lastState"]):
            if "terminated" in state:
                return dict(state["terminated"])
    return {}


def fetched(pod: Object, path: str) -> str:
    """What a pod answers, asked from within."""
    code = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080{path}').read().decode())"
    return run_in(name_of(pod), "server", NAMESPACE, "python", "-c", code)


class Load:
    """Requests that are being sent."""

    def __init__(self, pod: str) -> None:
        self.pod = pod

    @property
    def now(self) -> Object:
        """What was told last."""
        text = kubectl("logs", self.pod, "-n", NAMESPACE, "--tail=1").strip()
        return dict(json.loads(text)) if text.startswith("{") else {"answered": 0, "models": {}}

    def answered_by(self, sha256: str) -> None:
        """Waits until one model answers all requests."""
        wait_until(
            lambda: set(self.now["models"]) == {sha256[:12]}, 120, f"answers of {sha256[:12]} alone"
        )

    def goes_on(self) -> None:
        """Waits until each sender has been answered some more times."""
        before = self.now["answered"]
        wait_until(
            lambda: self.now["answered"] > before + 10 * SENDERS, 120, "more answers", pause=1
        )

    def end(self) -> Object:
        run_in(self.pod, "load", NAMESPACE, "touch", "/tmp/stop")
        kubectl(
            "wait", "-n", NAMESPACE, "--for=jsonpath={.status.phase}=Succeeded", f"pod/{self.pod}",
            "--timeout=90s",
        )  # fmt: skip
        return self.now


@pytest.fixture
def load(deployed: None, serving_image: str) -> Iterator[Load]:
    container = {
        "name": "load",
        "image": serving_image,
        "command": ["python", "-c", (Path(__file__).parent / "steady_load.py").read_text()],
        "args": ["dkd-serving", str(SENDERS)],
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "load-"}, "spec": spec}
    made = json.loads(
        kubectl("create", "-n", NAMESPACE, "-o", "json", "-f", "-", stdin=json.dumps(pod))
    )
    sending = Load(name_of(made))
    wait_until(lambda: sending.now["answered"] > SENDERS, 120, "the first answers", pause=1)
    yield sending
    kubectl("delete", "pod", sending.pod, "-n", NAMESPACE, "--wait=false", "--ignore-not-found")


def test_the_image_is_small_and_its_root_cannot_be_written(deployed: None) -> None:
    pod = ready_pods()[0]
    script = (
        "du -sxb / 2>/dev/null | cut -f 1; id -u; touch /opt/code/x 2>/dev/null && echo written; "
        "python -c 'import torch' 2>/dev/null && echo torch; true"
    )
    size, *told = run_in(name_of(pod), "server", NAMESPACE, "sh", "-c", script).split()
    print(f"{int(size) / 1e6:.0f} MB unpacked")
    assert 50_000_000 < int(size) <= MOST_BYTES
    assert told == ["10001"]


def test_probes_and_metrics(deployed: None, load: Load, models: list[tuple[str, str]]) -> None:
    load.goes_on()
    load.end()
    uri, sha256 = models[0]
    counted = 0
    for pod in ready_pods():
        assert json.loads(fetched(pod, "/v2/health/live")) == {"live": True}
        assert json.loads(fetched(pod, "/v2/health/ready")) == {"ready": True}
        metrics = fetched(pod, "/metrics")
        assert f'sha256="{sha256}"' in metrics
        assert "\ndkd_queue 0.0\n" in metrics
        counted += sum(
            int(float(text.split()[-1]))
            for text in metrics.splitlines()
            if text.startswith("dkd_requests_total{")
        )
        log = kubectl("logs", name_of(pod), "-n", NAMESPACE)
        assert f"serving {uri} sha256 {sha256}" in log
    assert counted == load.now["answered"]


def test_a_model_is_replaced_and_rolled_back_and_no_request_fails(
    load: Load, models: list[tuple[str, str]]
) -> None:
    (_, old), (uri, new) = models
    load.answered_by(old)
    setting = ("deployment/dkd-serving", f"MODEL_URI={uri}", f"MODEL_SHA256={new}")
    kubectl("set", "env", "-n", NAMESPACE, *setting)
    load.answered_by(new)
    assert "sheep" in fetched(ready_pods()[0], "/v2/models/segmentation")
    load.goes_on()
    kubectl("rollout", "undo", "-n", NAMESPACE, "deployment/dkd-serving")
    load.answered_by(old)
    assert "sheep" not in fetched(ready_pods()[0], "/v2/models/segmentation")
    told = load.end()
    print(told)
    assert told["failed"] == []
    assert told["answered"] > 100


def test_a_digest_that_does_not_match_replaces_nothing(
    load: Load, models: list[tuple[str, str]]
) -> None:
    uri, _ = models[1]
    kubectl("set", "env", "-n", NAMESPACE, "deployment/dkd-serving", f"MODEL_URI={uri}")

    def refused() -> bool:
        messages = [ended(pod).get("message", "") for pod in get_all("pods", NAMESPACE, SELECTOR)]
        return any(f"{uri}: altered since it was written" in message for message in messages)

    wait_until(refused, 120, "a pod that refuses the model")
    kubectl("rollout", "undo", "-n", NAMESPACE, "deployment/dkd-serving")
    wait_until(lambda: len(get_all("pods", NAMESPACE, SELECTOR)) == 2, 120, "two pods")
    assert load.end()["failed"] == []


def test_an_evicted_pod_answers_what_it_has_and_the_other_stays(load: Load) -> None:
    first, second = ready_pods()
    evict(first)
    with pytest.raises(AssertionError, match="disruption budget"):
        evict(second)
    wait_until(
        lambda: name_of(first) not in map(name_of, get_all("pods", NAMESPACE, SELECTOR)),
        120,
        "the end of the evicted pod",
    )
    load.goes_on()
    told = load.end()
    print(told)
    assert told["failed"] == []
    wait_until(lambda: len(ready_pods()) == 2, 120, "two ready pods")


def evict(pod: Object) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name_of(pod)}/eviction"
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name_of(pod)}}
    kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def test_a_killed_pod_costs_at_most_what_it_had_under_way(load: Load) -> None:
    victim = ready_pods()[0]
    code = (
        "import os, pathlib\n"
        "for file in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
        "    if file.read_bytes() == b'python\\0-m\\0dkd.serving\\0':\n"
        "        os.kill(int(file.parent.name), 9)\n"
    )
    run_in(name_of(victim), "server", NAMESPACE, "python", "-c", code)

    def started_again() -> bool:
        return any(
            name_of(pod) == name_of(victim) and ended(pod).get("exitCode") == 137
            for pod in ready_pods()
        )

    wait_until(started_again, 120, "the killed pod's return")
    load.goes_on()
    told = load.end()
    print(told)
    assert len(told["failed"]) <= SENDERS
