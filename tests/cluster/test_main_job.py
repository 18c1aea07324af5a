"""The main job: steps on a cluster, each a job of two nodes, give the bits of one machine."""

from typing import Any

import pytest
from commands import apply, dkd, get_all, wait_until
from namespaces import apply_base, copy_keys
from tasks import Tasks

from dkd import storage
from dkd.scenario.parsing import dump
from dkd.scenario.schema import Scenario
from dkd.steps import stages
from dkd.storage import artifacts

STAGES = ("checkpoints", "evaluations", "memories")


def contents(root: str, kind: str) -> set[str]:
    """Digest of every artifact of a kind."""
    return {
        artifacts.load(entry.uri.removesuffix("/manifest.json")).digest
        for entry in storage.list_objects(f"{root}/{kind}/")
        if entry.uri.endswith("/manifest.json")
    }


@pytest.fixture(scope="module")
def one_machine(scenario: Scenario, store: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Artifact root of the same run with as many ranks on this machine."""
    folder = tmp_path_factory.mktemp("one-machine")
    local = scenario.override({"launch.backend": "local"})
    (folder / "smoke.yaml").write_text(dump(local))
    root = f"{store}/one-machine"
    dkd("run", str(folder / "smoke.yaml"), "--root", root, "--workspace", str(folder / "work"))
    return root


@pytest.fixture(scope="module")
def on_cluster(tasks: Tasks, scenario: Scenario, store: str) -> dict[str, Any]:
    """The pipeline's components one after the other, each in a pod of its own."""
    root, run = f"{store}/cluster", "smoke"
    first = tasks.start(
        "first-step",
        scenario=scenario.model_dump_json(),
        workflow="smoke-workflow",
        **{**tasks.pipeline.form, "artifact_root": root, "run_name": run},
    )
    results = [first.result(600)]
    common = {
        "scenario": results[0]["scenario"],
        "task": results[0]["task"],
        "dataset": results[0]["dataset"],
        "artifact_root": root,
        "run_name": results[0]["run_name"],
    }
    logs = [first.log]
    for step in (1.0, 2.0):
        before = {"teacher": results[-1]["checkpoint"], "memory": results[-1]["memory"]}
        learned = tasks.start("step", **common, step=step, **before)
        results.append(learned.result(600))
        logs.append(learned.log)
    checkpoints, evaluations, memories = (
        [each[key] for each in results] for key in ("checkpoint", "evaluation", "memory")
    )
    report = tasks.start(
        "report",
        **common,
        checkpoints=checkpoints,
        evaluations=evaluations,
        memories=memories,
        model_name="",
        model_registry_url="",
        kubeflow_run="",
    )
    result = report.result()["result"]
    page = report.outputs["artifacts"]["report_page"]["artifacts"][0]["uri"]
    return {
        "root": root,
        "common": common,
        "logs": logs,
        "checkpoints": checkpoints,
        "memories": memories,
        "result": result,
        "page": page,
    }


def test_each_step_is_one_job_of_two_nodes(on_cluster: dict[str, Any], smoke: str) -> None:
    jobs = set()
    for log in on_cluster["logs"]:
        (created,) = (x for x in log.splitlines() if "TrainJob of 2 x 2 ranks created" in x)
        jobs.add(created.split(":")[0])
        assert "node 0 running on" in log
        assert "node 1 running on" in log
    assert len(jobs) == 3
    for kind in ("trainjobs", "trainingruntimes"):  # the cluster removes a runtime after its job
        wait_until(lambda kind=kind: not jobs & names(kind, smoke), 60, f"the end of {kind}")


def names(kind: str, namespace: str) -> set[str]:
    return {each["metadata"]["name"] for each in get_all(kind, namespace)}


def test_the_bits_are_those_of_one_machine(on_cluster: dict[str, Any], one_machine: str) -> None:
    for kind in STAGES:
        there = contents(on_cluster["root"], kind)
        assert len(there) == 3
        assert there == contents(one_machine, kind)


def test_the_report_is_written(on_cluster: dict[str, Any]) -> None:
    assert storage.exists(on_cluster["result"])
    page = storage.read_bytes(on_cluster["page"].replace("minio://", "s3://")).decode()
    assert "smoke" in page
    assert "</html>" in page


@pytest.fixture(scope="module")
def unrestricted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A namespace for PyTorchJobs: their operator's init container passes no more than this."""
    namespace = "dkd-pytorch"
    labels = {"pod-security.kubernetes.io/enforce": "baseline"}
    apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}}
    )
    apply_base(namespace, tmp_path_factory.mktemp("overlay"))
    copy_keys(namespace)
    return namespace


def test_a_step_as_a_pytorchjob(
    on_cluster: dict[str, Any], tasks: Tasks, unrestricted: str, store: str
) -> None:
    scenario = stages.parsed(storage.read_bytes(on_cluster["common"]["scenario"]))
    elsewhere = scenario.override({"launch.backend": "pytorchjob"})
    root = f"{store}/pytorchjob"
    step = tasks.inside(unrestricted).start(
        "step",
        **{
            **on_cluster["common"],
            "scenario": stages.write_resolved(root, "pytorchjob", elsewhere),
            "artifact_root": root,
            "step": 1.0,
            "teacher": on_cluster["checkpoints"][0],
            "memory": on_cluster["memories"][0],
        },
    )
    step.result(600)
    assert "PyTorchJob of 2 x 2 ranks created" in step.log
    made = contents(root, "checkpoints")
    assert len(made) == 1
    assert made <= contents(on_cluster["root"], "checkpoints")
    wait_until(lambda: not get_all("pytorchjobs", unrestricted), 60, "the job's end")
