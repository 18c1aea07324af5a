"""The training loop of one step.

It reads from top to bottom: :meth:`Trainer.run` is the loop, :meth:`Trainer.train_step` one
iteration. What is learned and how is asked of a :class:`dkd.methods.Method`; what happens beside
training (saving, stopping) of a :class:`dkd.training.resume.Saver`. What makes it fast
is switched in the scenario (:class:`dkd.scenario.speed.Speed`); the host waits for the device once
per stretch of the curve, and nowhere inside an iteration.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dkd.data.channels import type_for
from dkd.data.loading import Draw, StepBatches, StepImages, load
from dkd.losses.terms import Losses
from dkd.methods import Method
from dkd.methods.base import Batch
from dkd.network.deeplab import Output, SegmentationModel
from dkd.network.preparation import prepare_frozen, prepare_images, prepare_student, record
from dkd.steps.step import Step
from dkd.training import optimiser
from dkd.training.divergence import all_finite, diverged
from dkd.training.prometheus import TrainingMetrics
from dkd.training.ranks import Ranks
from dkd.training.resume import Saver
from dkd.training.stall import stalls_told
from dkd.training.state import LossCurve, TrainingState
from dkd.training.tensorboard import EventLog


class Trainer(TrainingState):
    """Trains the student of one step.

    Args:
        step: the step.
        method: the step's, with its models as they start.
        images: the step's images and exemplars.
        ranks: this process's place.
        say: prints a line of progress; called on rank 0 only.
    """

    def __init__(
        self,
        step: Step,
        method: Method,
        images: StepImages,
        ranks: Ranks,
        say: Callable[[str], None],
    ) -> None:
        training = step.scenario.training
        cuda = ranks.device.type == "cuda"
        self.step, self.method, self.images = step, method, images
        self.ranks, self.say, self.speed = ranks, say, method.given.speed
        self.autocast_type = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[
            training.precision if cuda else "fp32"
        ]
        self.student = prepare_student(method.student.to(ranks.device), self.speed)
        for model in method.frozen:
            prepare_frozen(model.to(ranks.device), self.speed, self.autocast_type)
        apart = images.exemplars if training.memory_share else 0
        self.batches = StepBatches(
            n=len(images) - apart,
            batch_size=training.batch_size,
            seed=step.scenario.seed,
            rank=ranks.rank,
            world_size=ranks.world_size,
            exemplars=apart,
            share=training.memory_share or 0,
        )
        self.epochs = training.epochs.at(step.number)
        self.total = self.epochs * self.batches.per_epoch
        self.iteration, self.waited = 0, 0.0
        self.optimiser = optimiser.optimiser(
            method.groups(), training, step.number, fused=bool(self.speed.fused_optimiser)
        )
        self.scaler = torch.amp.GradScaler(
            ranks.device.type, enabled=self.autocast_type is torch.float16
        )
        self.recorded = bool(
            self.speed.recorded and self.student.statistics_frozen and method.played
        )
        if self.recorded:
            self._record()  # before DistributedDataParallel hooks onto the parameters
        self.model: nn.Module = self.student
        if ranks.world_size > 1:
            self.model = DistributedDataParallel(
                self.student,
                device_ids=[ranks.local_rank] if cuda else None,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )
        self.curve = LossCurve(every=max(1, self.total // 100))

    def run(
        self,
        saver: Saver,
        events: EventLog | None = None,
        metrics: TrainingMetrics | None = None,
    ) -> Mapping[str, Tensor]:
        """Trains to the end, from wherever a save left off.

        Args:
            saver: saves and restores.
            events: what TensorBoard shows; on rank 0.
            metrics: what Prometheus is told; likewise.

        Returns:
            What the method keeps beside the model.

        Raises:
            dkd.training.resume.Preempted: the job was asked to leave; its state is saved.
            UserError: the training diverged: a loss or a weight is not finite.
        """
        self.method.begin(lambda model: self.walk(model, epoch=0))
        self._settle()
        saver.restore(self)
        self._report_start()
        started, first = time.monotonic(), self.iteration
        if metrics is not None:
            metrics.begin(self)
        with stalls_told(self, self.say):
            for batch in self._awaited(self._load(self.batches.iterations(self.total, first))):
                terms = self.train_step(batch)
                self.curve.add(self.iteration, terms)
                if self.iteration % self.batches.per_epoch == 0:
                    self._report_epoch(time.monotonic() - started, first)
                if events is not None:
                    events.after_iteration(self)
                if metrics is not None:
                    metrics.after_iteration(self, saver.saved_at)
                saver.after_iteration(self)
        self.curve.end(self.iteration)
        # The last update may be the one that breaks the weights, after a loss that was finite.
        if not all_finite(self.student.state_dict().values()):
            raise diverged("a weight", self.iteration)
        self.method.fuse()
        return self.method.finish(lambda model: self.walk(model, epoch=self.epochs))

    def train_step(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One iteration.

        Args:
            batch: ``image`` float N x 3 x H x W, ``label`` N x H x W in channel numbers,
                ``covered`` bool N x K; on this rank's device.

        Returns:
            The loss terms and their weighted ``total``, detached.
        """
        optimiser.set_rates(
            self.optimiser,
            self.step.scenario.training,
            self.step.number,
            self.iteration,
            self.total,
        )
        loss = self._loss(batch)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss.total).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.iteration += 1
        return {**loss.terms, "total": loss.total.detach()}

    def _loss(self, batch: dict[str, Tensor]) -> Losses:
        image = self._prepared(batch["image"])
        with self._autocast():
            outputs = self.method.outputs(self.model, image)
        return self.method.loss(outputs, {**batch, "image": image, "iteration": self.iteration})

    def walk(
        self, model: SegmentationModel | None, epoch: int
    ) -> Iterator[tuple[Output | None, Batch]]:
        """A pass over the images as an epoch shows them (:data:`dkd.methods.base.Walk`)."""
        if model is None:
            for batch in self._load(self.batches.batches(epoch)):
                for i in range(len(batch["label"])):
                    yield None, {name: values[i : i + 1] for name, values in batch.items()}
            return
        learning = model.training
        model.eval()
        try:
            for batch in self._load(self.batches.batches(epoch)):
                for i in range(len(batch["label"])):
                    alone = {name: values[i : i + 1] for name, values in batch.items()}
                    alone["image"] = self._prepared(alone["image"])
                    with torch.no_grad(), self._autocast():
                        output = model(alone["image"])
                    yield output, alone
        finally:
            model.train(learning)

    def _record(self) -> None:
        """Records the models' passes, for batches of this rank's size."""
        crop = self.step.scenario.training.crop
        images = torch.zeros(self.batches.of_a_rank, 3, crop, crop, device=self.ranks.device)
        with self._autocast(caches=False):
            record(self.method.played, self._prepared(images))

    def _autocast(self, caches: bool = True) -> torch.autocast:
        return torch.autocast(
            self.ranks.device.type,
            self.autocast_type,
            enabled=self.autocast_type is not None,
            cache_enabled=caches,
        )

    def _prepared(self, images: Tensor) -> Tensor:
        return prepare_images(images, self.student, self.speed, self.autocast_type)

    def _load(self, batches: Iterator[list[Draw]]) -> Iterator[dict[str, Any]]:
        """Batches of this rank, on its device."""
        yield from load(
            self.images,
            batches,
            self.step.scenario.training.loader_workers,
            device=self.ranks.device,
            device_transforms=bool(self.speed.device_transforms),
            prefetch=bool(self.speed.prefetch),
        )

    def _awaited(self, batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The batches; counts how long each let the loop wait."""
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - asked
            if batch is None:
                return
            yield batch

    def _settle(self) -> None:
        """Lets DDP choose its buckets before the first iteration that counts.

        DDP orders its gradients anew after its first backward pass, and the order decides how
        sums of more than two ranks are rounded. One pass over black images, whose effects are
        undone, makes an iteration the same whether it follows a start or a resumption.
        """
        if self.ranks.world_size <= 2:
            return
        crop = self.step.scenario.training.crop
        before = {name: buffer.clone() for name, buffer in self.student.named_buffers()}
        random = torch.get_rng_state()
        count = self.batches.of_a_rank if self.recorded else 2
        images = torch.zeros(count, 3, crop, crop, device=self.ranks.device)
        kind = getattr(torch, type_for(self.student.classes).name)
        labels = torch.zeros(count, crop, crop, dtype=kind, device=self.ranks.device)
        for _ in range(2):
            covered = torch.ones(
                count, self.student.classes, dtype=torch.bool, device=images.device
            )
            batch = {"image": images, "label": labels, "covered": covered}
            self._loss(batch).total.backward()  # type: ignore[no-untyped-call]
        self.optimiser.zero_grad(set_to_none=True)
        torch.set_rng_state(random)
        with torch.no_grad():
            for name, buffer in self.student.named_buffers():
                buffer.copy_(before[name])

    # ---- telling

    def _report_start(self) -> None:
        if self.ranks.first:
            names = ", ".join(self.step.task.steps[self.step.number])
            resumed = f", from iteration {self.iteration}" if self.iteration else ""
            self.say(
                f"step {self.step.number} ({names}): {len(self.images)} images, "
                f"{self.epochs} epochs, {self.total} iterations on {self.ranks.world_size} "
                f"ranks ({self.ranks.device.type}){resumed}"
            )

    def _report_epoch(self, elapsed: float, first: int) -> None:
        epoch = self.iteration // self.batches.per_epoch
        if not self.ranks.first or (epoch % max(1, self.epochs // 20) and epoch != self.epochs):
            return
        left = elapsed / (self.iteration - first) * (self.total - self.iteration)
        last: dict[str, Any] = self.curve.points[-1] if self.curve.points else {}
        told = ", ".join(f"{k} {v:.4f}" for k, v in last.items() if k != "iteration")
        training, number = self.step.scenario.training, self.step.number
        base = training.lr.at(number)  # of which each part learns at a multiple, 0 perhaps
        rate = optimiser.rate(training.schedule, self.iteration - 1, self.total, base)
        self.say(
            f"  epoch {epoch}/{self.epochs}: {told}; rate {rate:.2e}; "
            f"{elapsed:.0f} s, {left:.0f} s left"
        )
