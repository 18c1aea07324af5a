"""The job of one step: train, evaluate, choose exemplars; publish each result as it is done.

    torchrun --nproc-per-node 2 -m dkd.train --step JSON --stages train,evaluate --run-name demo

Launched by :mod:`dkd.launching`, on a laptop and on a cluster alike; every input comes by URI.
Everything is fetched once per machine. SIGTERM saves the training state before leaving; started
again with the same arguments, the job continues from there.
"""

import argparse
import gc
import os
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision

from dkd import __version__, log, storage
from dkd.data import labels, packed
from dkd.data.loading import Source, StepImages
from dkd.data.records import Record, Records
from dkd.errors import UserError
from dkd.evaluation import stage as evaluation
from dkd.launching.rank import follow_parent, last_words, report_exceptions
from dkd.memory.choice import choose_exemplars
from dkd.memory.exemplars import Memory
from dkd.methods.base import Circumstances
from dkd.network import checkpoint, deeplab, pretrained
from dkd.network.normalisation import synchronise
from dkd.network.speed import decided
from dkd.steps import initial_weights, lease
from dkd.steps.stages import result_uri
from dkd.steps.step import Stage, Step, StepSpec
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest
from dkd.storage.cache import artifact_cache
from dkd.training import prometheus
from dkd.training.loop import Trainer
from dkd.training.prometheus import TrainingMetrics
from dkd.training.ranks import Ranks, ranks
from dkd.training.resume import Preempted, Saver, discard
from dkd.training.tensorboard import FILE, EventLog

KINDS: dict[Stage, str] = {"train": "checkpoint", "evaluate": "evaluation", "memory": "memory"}


class StepJob:
    """A rank's part in the job of a step.

    Args:
        spec: the step.
        run: name of the run that asked for it.
        place: this process's place among the ranks.
        metrics: what Prometheus is told; on rank 0.
    """

    def __init__(
        self, spec: StepSpec, run: str, place: Ranks, metrics: TrainingMetrics | None = None
    ) -> None:
        self.ranks, self.run, self.metrics = place, run, metrics
        self.step = Step.open(spec)
        self.say: Callable[[str], None] = partial(print, flush=True) if place.first else _silent
        self._memory: Memory | None = None
        self._learning: Trainer | None = None
        self._saver: Saver | None = None
        self._stages = {
            "train": self._train,
            "evaluate": self._evaluate,
            "memory": self._choose_exemplars,
        }

    def perform(self, stage: Stage) -> None:
        """Makes the stage's result and publishes it, unless it is there."""
        if self.ranks.share(lambda: self._is_done(stage)):
            return
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix=f"dkd-{stage}-") as work:
            parts, details = self._stages[stage](Path(work))
            gc.collect()  # recorded passes hold a GPU's memory in cycles of references
            if self.ranks.first:
                seconds = round(time.monotonic() - started, 3)
                manifest = artifacts.publish(
                    result_uri(self.step, stage),
                    parts,
                    kind=KINDS[stage],
                    metadata={"run": self.run, "seconds": seconds, **self._provenance(), **details},
                )
                self.say(f"step {self.step.number} {stage}: {seconds:.1f} s, {manifest.uri}")
                if stage == "train":
                    discard(self.step)
        self.ranks.barrier()
        if self._saver is not None:
            saver, self._saver = self._saver, None
            saver.finish()

    def progress(self) -> dict[str, Any]:
        """How far the training is, for those who wait for it."""
        if self._learning is None:
            return lease.process()
        far = {"iteration": self._learning.iteration, "of": self._learning.total}
        return far | lease.process()

    def _is_done(self, stage: Stage) -> bool:
        if stage != "train" and artifacts.find(self.step.checkpoint_uri) is None:
            raise UserError(f"step {self.step.number} {stage}: the step is not trained yet")
        return artifacts.find(result_uri(self.step, stage)) is not None

    # ---- the stages: each returns its result's parts and what the manifest says besides

    def _train(self, work: Path) -> tuple[dict[str, Path], dict[str, Any]]:
        step, trainer = self.step, self._trainer()
        self._learning = trainer
        self._saver = Saver(step, self.ranks, self.say)
        events = EventLog(self._events_uri(), self.say) if self.ranks.first else None
        try:
            statistics = trainer.run(self._saver, events, self.metrics)
        finally:
            if events is not None:
                events.close()
        self._saver.wait()  # a save that came after the checkpoint would stay for ever
        if not self.ranks.first:
            return {}, {}
        details = {
            "dataset": {"uri": step.spec.dataset, "digest": step.dataset.digest},
            "teacher": _reference(step.teacher),
            "memory": _reference(step.memory),
            "initial_weights": None if step.teacher else initial_weights.reference(step.start),
            "scenario": step.scenario.model_dump(
                mode="json", exclude={"speed", "launch", "variants"}
            ),
            "images": len(trainer.images),
            "curve": trainer.curve.points,
        }
        self._learning = None
        parts = checkpoint.write(work, trainer.student, self._description(trainer), statistics)
        return parts, details

    def _trainer(self) -> Trainer:
        step = self.step
        torch.manual_seed(step.scenario.seed)
        teacher = self._model(step.teacher) if step.teacher else None
        self.say(f"step {step.number} starts from {_start(step)}")
        if teacher is None:
            student = step.method.build(step.scenario.network, len(step.task.steps[0]))
            self._initialise(student)
        else:
            student = step.method.grow(teacher, len(step.task.steps[step.number]))
        # Ranks drop different features (dropout), so each has a stream of its own.
        torch.manual_seed(step.scenario.seed * 100_003 + self.ranks.rank)
        if not student.statistics_frozen and self.ranks.world_size > 1:
            synchronise(student.to(self.ranks.device))
        method = step.method(student, teacher, self._circumstances())
        images = self._images()
        self.ranks.barrier()  # one machine's download may take longer than ranks wait later on
        return Trainer(step, method, images, self.ranks, self.say)

    def _description(self, trainer: Trainer) -> dict[str, Any]:
        """``checkpoint.json``: the same for the same weights, whoever made them."""
        step, identity = self.step, self.step.checkpoint_identity
        last = trainer.curve.points[-1] if trainer.curve.points else {}
        return {
            "identity": identity,
            "classes": identity["classes"],
            "step": step.number,
            "dataset": {"name": step.dataset.name, "digest": step.dataset.digest},
            # Methods without a name in the key share step 0, and so its very bytes: it is dkd's.
            "method": step.scenario.method if step.number else identity.get("method", "dkd"),
            "losses": identity["losses"],
            "network": trainer.student.network.structure(),
            "training": identity["training"],
            "protocol": step.scenario.protocol,
            "metrics": {k: v for k, v in last.items() if k != "iteration"},
            "parent": step.teacher.digest if step.teacher else None,
            "memory": step.memory.digest if step.memory else None,
        }

    def _evaluate(self, work: Path) -> tuple[dict[str, Path], dict[str, Any]]:
        trained = artifacts.load(self.step.checkpoint_uri)
        parts = evaluation.evaluate(self.step, self._model(trained), self._fetch, self.ranks, work)
        return parts, {"checkpoint": _reference(trained)}

    def _choose_exemplars(self, work: Path) -> tuple[dict[str, Path], dict[str, Any]]:
        trained = artifacts.load(self.step.checkpoint_uri)
        parts = choose_exemplars(
            self.step,
            self._model(trained),
            self._opened_memory(),
            self._fetch,
            self.ranks,
            work,
            self.say,
        )
        return parts, {"checkpoint": _reference(trained), "previous": _reference(self.step.memory)}

    def _circumstances(self) -> Circumstances:
        step, statistics = self.step, dict[str, torch.Tensor]()
        if step.teacher is not None:
            _, folder = artifacts.fetch_cached(step.teacher.uri, artifact_cache())
            statistics = checkpoint.read_statistics(folder)
        return Circumstances(
            step.scenario,
            step.number,
            images_differ=step.memory is not None and step.protocol.memory_keeps_labels,
            speed=decided(step.scenario.speed, self.ranks.device.type == "cuda"),
            average=self.ranks.average,
            gather=self.ranks.gather,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            statistics=statistics,
        )

    def _events_uri(self) -> str:
        spec = self.step.spec
        folder = storage.join(spec.root, "runs", self.run, "tensorboard", f"step-{spec.step}")
        return storage.join(folder, FILE)

    # ---- inputs, fetched once per machine

    def _model(self, manifest: Manifest) -> deeplab.SegmentationModel:
        _, folder = artifacts.fetch_cached(manifest.uri, artifact_cache())
        return checkpoint.read(folder)

    def _initialise(self, student: deeplab.SegmentationModel) -> None:
        if self.step.start is not None:
            _, folder = artifacts.fetch_cached(self.step.start.uri, artifact_cache())
            pretrained.load(student, folder / initial_weights.PART)

    def _fetch(self, records: Sequence[Record]) -> Path:
        _, manifest = packed.open_dataset(self.step.spec.dataset)
        return packed.materialise(self.step.dataset, manifest, records, artifact_cache())

    def _opened_memory(self) -> Memory | None:
        if self.step.memory is None:
            return None
        if self._memory is None:
            manifest, parts = artifacts.fetch_cached(self.step.memory.uri, artifact_cache())
            self._memory = Memory.open(parts, artifact_cache() / f"memory-{manifest.digest}")
        return self._memory

    def _images(self) -> StepImages:
        """The step's own images and the exemplars; an image that is both counts as its own."""
        step, memory = self.step, self._opened_memory()
        own = step.training_records
        sources = [
            Source(
                own,
                self._fetch(own),
                labels.training_table(step.dataset, step.task, step.number),
                labels.covered(step.task, step.number, len(own), step.covers_seen_classes),
            )
        ]
        if memory is not None:
            digests, classes = {record.digest for record in own}, step.task.seen(step.number)
            kept = Records(r for r in memory.records(classes) if r.digest not in digests)
            table = memory.table(classes, keep=step.protocol.memory_keeps_labels)
            covered = labels.covered(step.task, step.number, len(kept), step.covers_seen_classes)
            if step.protocol.memory_keeps_labels:
                covered = labels.covered_with_labelled(covered, table, kept)
            sources.append(Source(kept, memory.folder, table, covered, verify=False))
        return StepImages(sources, step.scenario.training.crop, step.scenario.seed)

    def _provenance(self) -> dict[str, Any]:
        launch = self.step.scenario.launch
        return {
            "image": launch.image if launch.backend != "local" else None,
            "versions": {
                "dkd": __version__,
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
                "python": platform.python_version(),
            },
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
            "ranks": self.ranks.world_size,
        }


def _start(step: Step) -> str:
    """What the network of a step starts from, in words."""
    if step.teacher is None:
        return initial_weights.describe(step.start)
    return f"its teacher {step.teacher.uri}, digest {step.teacher.digest[:16]}"


def _noting(job: StepJob, place: str) -> AbstractContextManager[None]:
    """Notes the progress with the lease, on rank 0."""
    if not (place and job.ranks.first):
        return nullcontext()
    return lease.beating(storage.join(place, lease.PROGRESS), job.progress)


@contextmanager
def _answering(spec: StepSpec, run: str, place: Ranks) -> Iterator[TrainingMetrics | None]:
    """Answers Prometheus on rank 0, where the environment asks for it."""
    port = prometheus.port()
    if not (port and place.first):
        yield None
        return
    try:
        metrics = TrainingMetrics(run, spec.step)
        metrics.serve(port)
    except (ModuleNotFoundError, OSError) as error:  # no reason to end a training
        print(f"warning: no metrics on port {port}, training continues: {error}", flush=True)
        yield None
        return
    try:
        yield metrics
    finally:
        metrics.close()


def _reference(manifest: Manifest | None) -> dict[str, str] | None:
    return {"uri": manifest.uri, "digest": manifest.digest} if manifest else None


def _silent(_line: str) -> None:
    """Ranks other than the first tell nothing."""


def _refuse(error: UserError) -> int:
    """Says what is wrong with the input; returns the exit status."""
    print(f"dkd: {error}", file=sys.stderr, flush=True)
    last_words(str(error), bad_input=True)
    return 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit status: 2 for bad input, 143 when preempted."""
    parser = argparse.ArgumentParser(prog="python -m dkd.train", description=__doc__)
    parser.add_argument("--step", required=True, help="a StepSpec as JSON text")
    parser.add_argument("--stages", required=True, help="train,evaluate,memory or some of them")
    parser.add_argument("--run-name", required=True, help="name of the run")
    parser.add_argument("--lease", default="", help="where to note the progress")
    given = parser.parse_args(arguments)
    follow_parent()
    try:
        log.start()
    except UserError as error:
        return _refuse(error)
    report_exceptions()
    # The old and the new torch that this runs on name some arguments differently.
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*deprecated")
    # Of the heads, on a GPU: some kilobytes are copied into the layout of DDP's buckets.
    warnings.filterwarnings("ignore", message="Grad strides do not match")
    try:
        spec = StepSpec.model_validate_json(given.step)
        log.about(run=given.run_name, step=spec.step, rank=int(os.environ.get("RANK", "0")))
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        with ranks() as place, _answering(spec, given.run_name, place) as metrics:
            job = StepJob(spec, given.run_name, place, metrics)
            with _noting(job, given.lease):
                for stage in given.stages.split(","):
                    job.perform(stage)
    except UserError as error:
        return _refuse(error)
    except Preempted:
        print("dkd: told to stop; the training state is saved", file=sys.stderr, flush=True)
        return 143
    return 0


if __name__ == "__main__":
    sys.exit(main())
