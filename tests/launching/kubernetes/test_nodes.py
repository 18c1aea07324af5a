"""The pod of a node, which both operators get, against the schemas of Kubernetes."""

from dataclasses import replace

import pytest
import yaml
from kubernetes_schemas import VERSIONS, check_core, restricted_violations
from manifests import JOB, Object, as_trainer_makes_it

from dkd.launching.interface import Job
from dkd.launching.kubernetes import nodes, pytorchjob, trainjob
from dkd.scenario.launch import Launch


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("backend", ["trainjob", "pytorchjob"])
def test_pods_fit_every_kubernetes(
    launch: Launch, shipped: Object, version: str, backend: str
) -> None:
    if backend == "trainjob":
        own = trainjob.runtime(shipped, JOB, launch, "team")
        pod = as_trainer_makes_it(own, trainjob.manifest(JOB, launch, "team"))
    else:
        job = pytorchjob.manifest(JOB, launch, "team")
        pod = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]
    check_core({"apiVersion": "v1", "kind": "Pod", **pod}, version)
    assert restricted_violations(pod["spec"]) == []


def test_both_operators_get_the_same_pod(launch: Launch, shipped: Object) -> None:
    """The shipped runtime and the code's own template must not drift apart."""
    runtime = trainjob.runtime(shipped, JOB, launch, "team")
    by_trainer = as_trainer_makes_it(runtime, trainjob.manifest(JOB, launch, "team"))
    by_us = nodes.template(JOB, launch, "node")

    def normal(pod: Object) -> Object:
        pod = yaml.safe_load(yaml.safe_dump(pod))
        pod["spec"].pop("restartPolicy", None)  # the operator sets it
        container = pod["spec"]["containers"][0]
        for where, key in (
            (container, "env"),
            (container, "volumeMounts"),
            (pod["spec"], "volumes"),
        ):
            where[key] = sorted(where[key], key=lambda each: each["name"])
        return pod

    assert normal(by_trainer) == normal(by_us)


def test_keys_are_mounted_and_never_in_the_environment(launch: Launch) -> None:
    pod = nodes.template(JOB, launch, "node")
    text = str(pod["spec"]["containers"][0]["env"])
    assert "secretKeyRef" not in text
    assert ("s3-keys" in str(pod["spec"]["volumes"])) == (launch.secret != "none")


def test_identity_is_of_what_is_computed() -> None:
    same = Job(JOB.name, JOB.module, JOB.arguments, JOB.result, dict(JOB.environment))
    assert nodes.identity(same) == nodes.identity(JOB)
    for other in (
        replace(JOB, name="another"),
        replace(JOB, module="dkd.worker.initial_weights"),
        replace(JOB, environment={"MORE": "1"}),
    ):
        assert nodes.identity(other) != nodes.identity(JOB)
    # The name says what is made; another run that makes the same has other arguments.
    assert nodes.identity(replace(JOB, arguments=("--run", "other"))) == nodes.identity(JOB)
