"""Steps done in the test's own process, as the pipeline would have them done by jobs."""

from pathlib import Path

import torch

from dkd.scenario.schema import Scenario, parse
from dkd.steps import stages
from dkd.steps.step import StepSpec
from dkd.storage import artifacts
from dkd.training.ranks import Ranks
from dkd.worker.job import StepJob

ALONE = Ranks(0, 1, 0, torch.device("cpu"), None)


def scenario(**values: object) -> Scenario:
    document = {
        "name": "training",
        "data": {"format": "digits", "digits": {"train": 60, "validation": 12, "size": 32}},
        "task": [["zero", "one", "two", "three"], ["four", "five"], ["six"]],
        "network": {"backbone": "demo", "aspp_channels": 16},
        "method": "dkd",
        "memory_size": 8,
        "training": {
            "epochs": {"first": 2, "later": 2},
            "batch_size": 8,
            "crop": 32,
            "lr": {"first": 0.01, "later": 0.001},
            "loader_workers": 0,
        },
    }
    return parse(document, source="test").override(values)


class Run:
    """Steps one after the other in this process, as the pipeline would have them done."""

    def __init__(self, root: Path, given: Scenario) -> None:
        self.root = root
        self.prepared = stages.prepare(given, str(root), progress=lambda _line: None)
        self.scenario = self.prepared.scenario
        self.teacher = self.memory = self.evaluation = ""
        self.said: list[str] = []

    def spec(self, step: int) -> StepSpec:
        return StepSpec(
            scenario=self.scenario,
            task=self.prepared.task.steps,
            step=step,
            dataset=self.prepared.dataset,
            root=str(self.root),
            teacher=self.teacher,
            memory=self.memory,
        )

    def job(self, step: int) -> StepJob:
        job = StepJob(self.spec(step), "test", ALONE)
        job.say = self.said.append
        return job

    def step(self, number: int) -> artifacts.Manifest:
        job = self.job(number)
        for stage in job.step.stages:
            job.perform(stage)
        checkpoint = artifacts.load(job.step.checkpoint_uri)
        self.teacher = checkpoint.uri
        self.evaluation = job.step.evaluation_uri(checkpoint)
        self.memory = job.step.memory_uri(checkpoint) if self.scenario.memory_size else ""
        return checkpoint
