"""A cluster to run on: whatever KUBECONFIG names, with the images of docker/ in its registry."""

import base64
import copy
import json
import os
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import yaml
from commands import Object, get, get_all, kubectl, program, wait_until
from digits_scenario import BUCKET, digits_scenario, image, pack_digits
from namespaces import ACCOUNT, KEYS, ROOT, copy_keys
from tasks import Tasks, compiled

from dkd.scenario.schema import Scenario

NAMESPACE = "dkd-smoke"
NEEDED = ("KUBECONFIG", "DKD_TEST_IMAGES")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [name for name in NEEDED if not os.environ.get(name)]
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(1800))
            if missing:
                why = f"no cluster: {', '.join(missing)} not set; see `make test-cluster`"
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def training_image() -> str:
    return image("training")


@pytest.fixture(scope="session")
def launcher_image() -> str:
    return image("launcher")


@pytest.fixture(scope="session")
def smoke() -> str:
    """A namespace that enforces *restricted*, made by the overlay cpu-smoke, with S3 keys."""
    kubectl("apply", "-k", str(ROOT / "k8s/overlays/cpu-smoke"))
    copy_keys(NAMESPACE)
    return NAMESPACE


@pytest.fixture(scope="session")
def pulled(smoke: str, training_image: str, launcher_image: str) -> None:
    """Both images are on every machine: the first pull takes minutes, which no test should wait."""
    template = yaml.safe_load((ROOT / "k8s/doctor.yaml").read_text())
    pods = [
        one_shot(template, image, node["metadata"]["name"])
        for node in get_all("nodes", smoke)
        for image in (training_image, launcher_image)
    ]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": pods})
    names = kubectl("create", "-n", smoke, "-o", "name", "-f", "-", stdin=listed).split()

    def ended() -> bool:
        status = {name: get("pod", name.removeprefix("pod/"), smoke)["status"] for name in names}
        for name, each in status.items():
            if each["phase"] == "Failed":  # no use in waiting
                pytest.fail(f"{name}: {json.dumps(each)}", pytrace=False)
        return all(each["phase"] == "Succeeded" for each in status.values())

    wait_until(ended, 1200, "both images on every machine")
    kubectl("delete", "-n", smoke, "--wait=false", *names)


def one_shot(template: Object, image: str, machine: str) -> Object:
    pod = copy.deepcopy(template)
    pod["metadata"]["generateName"] = "dkd-pull-"
    pod["spec"]["nodeName"] = machine
    pod["spec"]["containers"][0] |= {"image": image, "command": ["true"]}
    return pod


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """Where this machine reaches the cluster's S3: ``DKD_TEST_S3``, or a forwarded port."""
    if given := os.environ.get("DKD_TEST_S3"):
        yield given
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Forwarding ends when S3 is restarted; the loop when this process is gone.
    forward = f"{program()} port-forward -n kubeflow svc/seaweedfs {port}:9000"
    command = f"while sleep 0.5 && kill -0 {os.getpid()}; do {forward}; done"
    forwarding = subprocess.Popen(
        ["sh", "-c", command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: _answers(port), 30, "the forwarded port")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(forwarding.pid, signal.SIGTERM)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def store(endpoint: str) -> Iterator[str]:
    """A fresh prefix in the cluster's S3, which the environment names."""
    found = get("secret", KEYS, "kubeflow")
    assert found
    keys = {name: base64.b64decode(value).decode() for name, value in found["data"].items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ACCESS_KEY_ID", keys["accesskey"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", keys["secretkey"])
        client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        if BUCKET not in {each["Name"] for each in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}/dkd-test-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def digits(store: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Scenes of handwritten digits, packed into the cluster's S3."""
    uri = f"{store}/digits"
    pack_digits(tmp_path_factory.mktemp("digits"), uri)
    return uri


@pytest.fixture(scope="session")
def scenario(digits: str, training_image: str) -> Scenario:
    """Three steps with a memory, each a TrainJob of two nodes with two ranks each."""
    return digits_scenario("smoke", digits, training_image, ranks=2)


@pytest.fixture(scope="session")
def tasks(smoke: str, pulled: None, scenario: Scenario, launcher_image: str, store: str) -> Tasks:
    """Starts components in the namespace, under the account of k8s/ that may launch jobs."""
    pipeline_root = store.replace("s3://", "minio://") + "/pipelines"
    return Tasks(smoke, ACCOUNT, compiled(scenario, launcher_image), pipeline_root)
