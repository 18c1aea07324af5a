"""TrainJobs and their runtimes as pure functions, against the schemas of every release."""

import pytest
import yaml
from kubernetes_schemas import TRAINERS, check_custom
from manifests import JOB, LAUNCHES, OWNER, Object, as_trainer_makes_it, runtime_pod

from dkd.launching.interface import JobFailed
from dkd.launching.kubernetes import trainjob
from dkd.scenario.launch import Launch


@pytest.mark.parametrize("version", TRAINERS)
def test_trainjob_and_runtime_fit_every_trainer(
    launch: Launch, shipped: Object, version: str
) -> None:
    job = trainjob.manifest(JOB, launch, "team", OWNER)
    check_custom(job, f"trainer-{version}-trainjobs-v1alpha1")
    own = trainjob.runtime(shipped, JOB, launch, "team", OWNER)
    check_custom(own, f"trainer-{version}-trainingruntimes-v1alpha1")


def test_the_shipped_runtime_is_not_changed(launch: Launch, shipped: Object) -> None:
    before = yaml.safe_dump(shipped)
    trainjob.runtime(shipped, JOB, launch, "team")
    assert yaml.safe_dump(shipped) == before


def test_an_administrators_settings_are_kept(shipped: Object) -> None:
    changed = yaml.safe_load(yaml.safe_dump(shipped))
    pod = runtime_pod(changed)["spec"]
    pod["imagePullSecrets"] = [{"name": "registry"}]
    pod["tolerations"] = [{"key": "ours", "operator": "Exists"}]
    pod["nodeSelector"] = {"pool": "training"}
    own = runtime_pod(trainjob.runtime(changed, JOB, LAUNCHES["everything"], "team"))["spec"]
    assert own["imagePullSecrets"] == [{"name": "registry"}]
    assert own["tolerations"][0] == {"key": "ours", "operator": "Exists"}
    assert len(own["tolerations"]) == 3
    assert own["nodeSelector"] == {
        "pool": "training",
        "node.kubernetes.io/instance-type": "p5.48xlarge",
    }


def test_what_a_scenario_leaves_open_is_the_administrators(shipped: Object) -> None:
    changed = yaml.safe_load(yaml.safe_dump(shipped))
    pod = runtime_pod(changed)["spec"]
    terms = [{"matchExpressions": [{"key": "pool", "operator": "Exists"}]}, {"matchFields": []}]
    pod["affinity"] = {
        "podAntiAffinity": {},
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}
        },
    }
    pod["containers"][0]["resources"] = {
        "requests": {"cpu": "3", "memory": "1Gi"},
        "limits": {"memory": "2Gi", "vendor/device": "1"},
    }
    plain = runtime_pod(trainjob.runtime(changed, JOB, LAUNCHES["plain"], "team"))["spec"]
    assert plain["affinity"] == pod["affinity"]
    assert plain["containers"][0]["resources"] == {
        "requests": {"cpu": "3", "memory": "1Gi", "ephemeral-storage": "20Gi"},
        "limits": {"memory": "2Gi", "vendor/device": "1"},
    }
    asked = runtime_pod(trainjob.runtime(changed, JOB, LAUNCHES["everything"], "team"))["spec"]
    affinity = asked["affinity"]["nodeAffinity"]
    first, second = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert first["matchExpressions"][0]["key"] == "pool"
    assert first["matchExpressions"][1:] == second["matchExpressions"]  # either term, and all ours
    assert [each["operator"] for each in second["matchExpressions"]] == ["In", "Gt", "DoesNotExist"]
    assert "podAntiAffinity" in asked["affinity"]
    assert asked["containers"][0]["resources"]["limits"]["memory"] == "256Gi"
    assert asked["containers"][0]["resources"]["limits"]["vendor/device"] == "1"


def test_a_runtime_without_our_container_is_refused(shipped: Object) -> None:
    changed = yaml.safe_load(yaml.safe_dump(shipped))
    runtime_pod(changed)["spec"]["containers"][0]["name"] = "trainer"
    with pytest.raises(JobFailed, match="TrainingRuntime dkd in namespace team has no container"):
        trainjob.runtime(changed, JOB, LAUNCHES["plain"], "team")


def test_what_a_scenario_asks_for_is_in_the_trainjob(shipped: Object) -> None:
    launch = LAUNCHES["everything"]
    job = trainjob.manifest(JOB, launch, "team", OWNER)
    trainer = job["spec"]["trainer"]
    assert trainer["command"] == ["torchrun", "-m", "dkd.train"]
    assert trainer["args"] == list(JOB.arguments)
    assert (trainer["numNodes"], trainer["numProcPerNode"]) == (4, 8)
    assert {"name": "OMP_NUM_THREADS", "value": "6"} in trainer["env"]
    assert {"name": "DKD_NOTE", "value": "x"} in trainer["env"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "dkd"
    assert job["metadata"]["ownerReferences"] == [OWNER]
    assert job["spec"]["runtimeRef"]["name"] == JOB.name
    own = trainjob.runtime(shipped, JOB, launch, "team", OWNER)
    job_set = own["spec"]["template"]["spec"]
    (container,) = runtime_pod(own)["spec"]["containers"]
    devices = {"nvidia.com/gpu": "8", "rdma/hca_shared_devices_a": "2"}
    assert container["resources"] == {
        "requests": {"cpu": "48", "memory": "256Gi", "ephemeral-storage": "500Gi", **devices},
        "limits": {"cpu": "64", "memory": "256Gi", **devices},
    }
    assert own["spec"]["mlPolicy"]["numNodes"] == 4
    assert job_set["failurePolicy"]["maxRestarts"] == 7
    assert job_set["failurePolicy"]["rules"][0]["action"] == "FailJobSet"
    node_job = job_set["replicatedJobs"][0]["template"]["spec"]
    assert node_job["activeDeadlineSeconds"] > 3600
    assert node_job["backoffLimit"] == 0
    assert "ttlSecondsAfterFinished" not in job_set


def test_nothing_that_the_operators_inject_is_set(launch: Launch, shipped: Object) -> None:
    runtime = trainjob.runtime(shipped, JOB, launch, "team")
    pod = as_trainer_makes_it(runtime, trainjob.manifest(JOB, launch, "team"))
    names = [each["name"] for each in pod["spec"]["containers"][0]["env"]]
    assert not [name for name in names if name.startswith("PET_")]
    assert len(names) == len(set(names))
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} & set(names)
