"""A namespace that enforces *restricted* and counts resources: what keys and a bucket allow
changes while a step trains.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
from commands import apply, get, get_all, kubectl, wait_until
from namespaces import ACCOUNT, KEYS, apply_base, copy_keys
from tasks import Task, Tasks

from dkd import storage
from dkd.errors import UserError
from dkd.scenario.schema import Scenario
from dkd.steps import stages
from dkd.storage import artifacts

NAMESPACE = "dkd-counted"
S3_SHELL = "DKD_TEST_S3_SHELL"


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": NAMESPACE, "labels": labels}
    apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    apply_base(NAMESPACE, tmp_path_factory.mktemp("counted"), "quota")
    copy_keys(NAMESPACE)
    yield NAMESPACE
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def arguments(scenario: Scenario, root: str) -> dict[str, object]:
    return {
        "scenario": stages.write_resolved(root, "counted", scenario),
        "task": [list(names) for names in scenario.task],
        "step": 0.0,
        "dataset": scenario.data.root,
        "artifact_root": root,
        "run_name": "counted",
        "teacher": "",
        "memory": "",
    }


def keys(generation: str) -> dict[str, str]:
    return {"accesskey": f"DKD{os.getpid()}{generation}", "secretkey": f"secret-{generation}"}


def s3_shell(*lines: str) -> None:
    subprocess.run(
        ["sh", "-c", os.environ[S3_SHELL]],
        input="\n".join(lines) + "\n",
        text=True,
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )


def grant(made: dict[str, str]) -> str:
    return (
        f"s3.configure -user=dkd-rotating -access_key={made['accesskey']} "
        f"-secret_key={made['secretkey']} -actions=Admin,Read,Write,List,Tagging -apply"
    )


def revoke(made: dict[str, str]) -> str:
    return f"s3.configure -user=dkd-rotating -access_key={made['accesskey']} -delete -apply"


def forbid_writing() -> str:
    return "s3.configure -user=dkd-rotating -actions=Admin,Write,Tagging -delete -apply"


def set_quota(bucket: str, megabytes: int) -> None:
    """What is above it is full: the store refuses to write there, until the next time."""
    s3_shell(
        f"s3.bucket.quota -name {bucket} -op set -sizeMB {megabytes}",
        "s3.bucket.quota.enforce -apply",
    )


def put_in_secret(made: dict[str, str]) -> None:
    patch = json.dumps({"stringData": made})
    kubectl("patch", "secret", KEYS, "-n", NAMESPACE, "-p", patch)


@pytest.fixture
def begin(counted: str, tasks: Tasks, scenario: Scenario, store: str) -> Callable[..., Task]:
    """Starts a step with keys of its own; waits for its first save."""

    def begin(name: str, made: dict[str, str], epochs: int, root: str = "", **more: object) -> Task:
        settings = {"training.epochs.first": epochs, "training.save_interval": 3,
                    "memory_size": 0, "training.loader_workers": 0,
                    "launch.processes_per_node": 1, "launch.cpu_limit": "1",
                    "launch.scratch": "2Gi", **more}  # fmt: skip
        root = root or f"{store}/{name}"
        s3_shell(grant(made))
        put_in_secret(made)
        task = tasks.inside(counted, ACCOUNT).start(
            "step", **arguments(scenario.override(settings), root)
        )
        wait_until(
            lambda: any(
                x.uri.endswith("manifest.json") for x in storage.list_objects(f"{root}/saves/")
            ),
            240,
            "the first save",
        )
        return task

    return begin


needs_s3_shell = pytest.mark.skipif(not os.environ.get(S3_SHELL), reason=f"{S3_SHELL} is not set")


@needs_s3_shell
def test_keys_are_rotated_while_a_step_trains(begin: Callable[..., Task], counted: str) -> None:
    """The old ones are refused at once; the kubelet brings the new ones some time later."""
    old, new = keys("old"), keys("new")
    task = begin("rotated", old, 60)
    job = task.wait_for("ranks created in namespace", 120).split(":")[0]
    used = get("resourcequota", "dkd", counted)
    assert used
    assert used["status"]["used"]["limits.cpu"] != "0"
    for pod in get_all("pods", counted, f"jobset.sigs.k8s.io/jobset-name={job}"):
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"] == {"cpu": "1", "memory": "3Gi"}
    s3_shell(grant(new), revoke(old))
    put_in_secret(new)
    checkpoint = artifacts.load(task.result(600)["checkpoint"])
    assert checkpoint.kind == "checkpoint"
    assert "start again" not in task.log  # no rank was lost


@needs_s3_shell
def test_a_bucket_is_read_only_for_a_while(begin: Callable[..., Task]) -> None:
    made = keys("writing")
    task = begin("read-only", made, 100)
    s3_shell(forbid_writing())
    task.wait_for("a save failed, training continues: ", 120)
    s3_shell(grant(made))
    assert artifacts.load(task.result(600)["checkpoint"]).kind == "checkpoint"
    assert "start again" not in task.log


@needs_s3_shell
def test_a_bucket_stays_read_only(begin: Callable[..., Task]) -> None:
    made = keys("read-only")
    task = begin("stays-read-only", made, 40)
    s3_shell(forbid_writing())
    try:
        message = task.failure(600)
    finally:
        s3_shell(grant(made))
    assert len(message.splitlines()) == 1
    assert "s3://mlpipeline" in message
    assert "start again" not in task.log


@pytest.fixture
def bucket() -> Iterator[str]:
    """A bucket of its own, with three random megabytes."""
    name = f"dkd-full-{os.getpid()}"
    s3_shell(f"s3.bucket.create -name {name}")
    storage.write_bytes(f"s3://{name}/ballast", os.urandom(3 << 20))
    yield name
    s3_shell(f"s3.bucket.delete -name {name}")


@needs_s3_shell
def test_a_bucket_is_full_for_a_while(begin: Callable[..., Task], bucket: str) -> None:
    """Which SeaweedFS says with a 500, as of a fault that may pass: it is asked again at first."""
    soon = {"launch.environment": {"DKD_S3_GIVE_UP_SECONDS": "20"}}
    task = begin("full", keys("full"), 150, root=f"s3://{bucket}", **soon)

    def is_full() -> bool:
        set_quota(bucket, 1)  # the store counts a bucket's size every few seconds
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DKD_S3_GIVE_UP_SECONDS", "1")
            try:
                storage.write_bytes(f"s3://{bucket}/probe", b"x")
            except UserError:
                return True
        return False

    wait_until(is_full, 60, "the bucket to be full")
    line = task.wait_for("a save failed, training continues: ", 120)
    assert f"s3://{bucket}/saves/" in line
    set_quota(bucket, 1000)
    assert artifacts.load(task.result(600)["checkpoint"]).kind == "checkpoint"
    assert "start again" not in task.log
