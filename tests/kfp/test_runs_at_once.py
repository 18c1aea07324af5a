"""Runs that share steps, started in the same second: each step is trained once."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from commands import dkd, end_process, wait_until
from digits_scenario import BUCKET, digits_scenario, image, pack_digits

from dkd import storage
from dkd.kubeflow import runs
from dkd.kubeflow.client import Endpoint
from dkd.kubeflow.graph import graph
from dkd.kubeflow.internals import CONTAINER
from dkd.scenario.parsing import dump
from dkd.storage import artifacts

VARIANTS = {
    "finetune": {"method": "finetune", "memory_size": 0},
    "DKD": {"method": "dkd", "memory_size": 0},
    "DKD-M": {"method": "dkd"},
}
STEP = ("--task", "Step 0")


def checkpoints(root: str) -> set[str]:
    """Digest of every checkpoint under a root."""
    return {
        artifacts.load(entry.uri.removesuffix("/manifest.json")).digest
        for entry in storage.list_objects(f"{root}/checkpoints/")
        if entry.uri.endswith("/manifest.json")
    }


@pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="no KUBECONFIG to kill processes by")
def test_runs_at_once_train_each_step_once(prefix: str, tmp_path: Path) -> None:
    """Of the three that want step 0, the one that trains it is killed, and one that waits."""
    uri, root = f"s3://{BUCKET}/{prefix}/shared", f"s3://{BUCKET}/{prefix}/at-once"
    pack_digits(tmp_path, uri)
    scenario = digits_scenario("at-once", uri, image("training"), ranks=1).override(
        {"variants": VARIANTS, "training.epochs.first": 100}
    )
    file = tmp_path / "scenario.yaml"
    file.write_text(dump(scenario))
    names = {variant: f"{prefix}-{variant.lower()}" for variant in VARIANTS}
    images = ("--launcher-image", image("launcher"))

    def submit(variant: str) -> None:
        compiled = tmp_path / f"{variant}.yaml"
        chosen = ("--variant", variant, "--root", root)
        dkd("compile", str(file), *chosen, *images, "-o", str(compiled))
        name = names[variant]
        dkd("submit", str(compiled), "--run-name", name, "-p", f"run_name={name}")

    with ThreadPoolExecutor() as pool:
        list(pool.map(submit, VARIANTS))

    holder = wait_until(lambda: _holder(root), 300, "a holder of the lease")
    others = sorted(set(names.values()) - {holder})
    for name in others:
        wait_until(
            lambda name=name: f"waiting for run {holder}, which trains" in dkd("logs", name, *STEP),
            300,
            f"{name} to wait",
        )
    endpoint = Endpoint(os.environ["DKD_KFP_ENDPOINT"])
    for name in (holder, others[0]):
        (node,) = (x for x in graph(endpoint, runs.find(endpoint, name)) if "Step 0" in x.title)
        end_process(node.pods[-1], CONTAINER, node.namespace, "kfp.dsl.executor_main\0")
        wait_until(
            lambda name=name: "starting it again in 30 s" in dkd("logs", name, *STEP),
            60,
            f"{name} to notice",
        )
    for name in names.values():
        wait_until(
            lambda name=name: runs.find(endpoint, name).get("state") in runs.FINISHED,
            900,
            f"the end of {name}",
        )
    assert {runs.state(runs.find(endpoint, name)) for name in names.values()} == {"succeeded"}
    logs = "".join(dkd("logs", name) for name in names.values())
    made = checkpoints(root)
    assert len(made) == 1 + 2 * len(VARIANTS)
    assert len(re.findall(r"^step \d train: [\d.]+ s, ", logs, re.MULTILINE)) == len(made)

    alone = f"s3://{BUCKET}/{prefix}/alone"
    here = ("--set", "launch.backend=local", "--root", alone, "--workspace", str(tmp_path / "w"))
    dkd("run", str(file), "--all-variants", *here)
    assert checkpoints(alone) == made


def _holder(root: str) -> str | None:
    """The run that trains the first step."""
    for entry in storage.list_objects(f"{root}/leases/"):
        if entry.uri.endswith("/holder.json"):
            return str(json.loads(storage.read_bytes(entry.uri))["run"])
    return None
