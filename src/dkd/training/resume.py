"""Saving the training state, so that a step goes on where it was stopped.

A save is an artifact like any other: whole or absent, safetensors and JSON, no pickle. It is
copied to the host between two iterations and uploaded by a thread beside the training; the
last two are kept. Every writer's are its own (``<iteration>-<writer>``), should two train the same
step; whoever resumes takes the newest of all. The data order and every image's augmentation follow
from (seed, epoch, position), so a save needs only the iteration, not the loaders' states.
"""

import json
import math
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from dkd import storage
from dkd.errors import UserError
from dkd.network.checkpoint import load_strictly, save_tensors
from dkd.steps.step import Step, differences
from dkd.storage import artifacts
from dkd.storage.cache import artifact_cache
from dkd.training.divergence import all_finite, diverged
from dkd.training.ranks import Ranks
from dkd.training.state import TrainingState

STATE, POSITION = "state.safetensors", "position.json"
SAVES_KEPT = 2


class Preempted(Exception):  # noqa: N818 - it is no error: the job is asked to leave
    """The job was told to stop (SIGTERM); its state is saved, or its checkpoint published."""


class Saver:
    """Saves a trainer's state at intervals and before leaving; restores the newest whole save.

    Args:
        step: whose state it is.
        ranks: this process's place; every method is called on all ranks.
        say: prints a line.

    Attributes:
        saved_at: when a save was last published, in seconds since 1970; None if none was yet.
    """

    def __init__(self, step: Step, ranks: Ranks, say: Callable[[str], None]) -> None:
        self.step, self.ranks, self.say = step, ranks, say
        self._writer = f"-{uuid.uuid4().hex[:8]}"
        self.saved_at: float | None = None
        self.interval = step.scenario.training.save_interval
        self._asked_to_stop = False
        self._last = time.monotonic()
        self._thread: threading.Thread | None = None
        self._saved: int | None = None  # an iteration that is to be told
        self._failure: Exception | None = None
        self._diverged: UserError | None = None
        self._previous = signal.signal(signal.SIGTERM, self._on_sigterm)

    def _on_sigterm(self, _signal: int, _frame: FrameType | None) -> None:
        self._asked_to_stop = True

    def after_iteration(self, state: TrainingState) -> None:
        """Saves if it is time or the job must leave. All ranks decide alike.

        Raises:
            Preempted: after saving, if any rank was sent SIGTERM.
            UserError: the state that was to be saved is not finite.
        """
        self._tell()
        due = self.ranks.first and time.monotonic() - self._last >= self.interval
        stop, save = self.ranks.any_of(self._asked_to_stop, due)
        if stop or (save and state.iteration < state.total):
            self._save(state)
        if stop:
            self.finish()

    def finish(self) -> None:
        """Ends the saving: the step's checkpoint is published, or the job leaves before that.

        Until then SIGTERM is only noted, so that it loses neither iterations nor a checkpoint
        that is being published.

        Raises:
            Preempted: any rank was sent SIGTERM.
        """
        self.wait()
        signal.signal(signal.SIGTERM, self._previous)
        (stop,) = self.ranks.any_of(self._asked_to_stop)
        if stop:
            raise Preempted

    def restore(self, state: TrainingState) -> None:
        """Loads the newest whole save into the trainer, if there is one.

        Raises:
            UserError: the save was made with arguments that give another result.
        """
        uri = self.ranks.share(self._newest)
        if uri is None:
            return
        _, folder = artifacts.fetch_cached(uri, artifact_cache())
        position = json.loads((folder / POSITION).read_text(encoding="utf-8"))
        if changed := differences(position["identity"], self.step.checkpoint_identity):
            raise UserError(
                f"{uri}: saved with other arguments ({'; '.join(changed)}); use the same "
                "ones, or remove the save to start the step again"
            )
        tensors = load_file(folder / STATE)
        load_strictly(state.student, _within(tensors, "model."), uri)
        momenta = _within(tensors, "momentum.")
        for name, parameter in state.student.named_parameters():
            if name in momenta:
                # In the parameter's own layout: fused kernels go through memory, not indices.
                buffer = torch.empty_like(parameter, requires_grad=False).copy_(momenta[name])
                state.optimiser.state[parameter]["momentum_buffer"] = buffer
        state.scaler.load_state_dict(position["scaler"])
        state.iteration = position["iteration"]
        state.curve.points = position["curve"]
        state.curve.sums = {
            name: torch.tensor(total, dtype=torch.float64, device=self.ranks.device)
            for name, total in position["sums"].items()
        }
        generators = _within(tensors, f"random.{self.ranks.rank}.")
        if position["world_size"] == self.ranks.world_size:
            torch.set_rng_state(generators["cpu"])
            if "cuda" in generators:
                torch.cuda.set_rng_state(generators["cuda"], self.ranks.device)
        elif self.ranks.first:
            self.say(
                f"saved by {position['world_size']} ranks, resumed by {self.ranks.world_size}: "
                "the data order stays; dropout and rounding differ from an uninterrupted run"
            )
        self.ranks.barrier()
        if self.ranks.local_rank == 0:  # once per machine; nobody asks for this save again
            shutil.rmtree(folder, ignore_errors=True)
        if self.ranks.first:
            self.say(f"resumed from {uri}")

    # ---- rank 0's part

    def _save(self, state: TrainingState) -> None:
        random = {"cpu": torch.get_rng_state()}
        if self.ranks.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.ranks.device)
        everyones = self.ranks.gather(random)
        self._last = time.monotonic()
        if not self.ranks.first:
            return
        self.wait()
        tensors: dict[str, Tensor] = {}
        for name, tensor in state.student.state_dict().items():
            tensors[f"model.{name}"] = tensor.detach().to("cpu", copy=True)
        for name, parameter in state.student.named_parameters():
            buffer = state.optimiser.state.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum.{name}"] = buffer.detach().to("cpu", copy=True)
        for rank, states in enumerate(everyones):
            tensors |= {f"random.{rank}.{kind}": state for kind, state in states.items()}
        position = {
            "iteration": state.iteration,
            "world_size": self.ranks.world_size,
            "identity": self.step.checkpoint_identity,
            "scaler": state.scaler.state_dict(),
            "curve": list(state.curve.points),
            "sums": {name: float(total) for name, total in state.curve.sums.items()},
        }
        self._thread = threading.Thread(target=self._upload, args=(tensors, position))
        self._thread.start()

    def _upload(self, tensors: dict[str, Tensor], position: dict[str, Any]) -> None:
        if not _is_finite(tensors, position):
            self._diverged = diverged("the training state", position["iteration"])
            return
        try:
            with tempfile.TemporaryDirectory(prefix="dkd-save-") as name:
                folder = Path(name)
                save_tensors(folder / STATE, tensors)
                (folder / POSITION).write_text(json.dumps(position), encoding="utf-8")
                artifacts.publish(
                    storage.join(self.step.saves_uri, f"{position['iteration']:08d}{self._writer}"),
                    {part: folder / part for part in (STATE, POSITION)},
                    kind="save",
                    metadata={},
                )
            self._saved, self.saved_at = position["iteration"], time.time()
            self._trim()
        except Exception as error:  # told by the training thread
            self._failure = error

    def wait(self) -> None:
        """Waits for the upload under way: nothing is saved from here on."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._tell()

    def _tell(self) -> None:
        """Says how the last upload went; not from its thread, which would cut through lines.

        Raises:
            UserError: there was nothing to upload but a training that has diverged.
        """
        if self._diverged is not None:
            raise self._diverged
        if self._saved is not None:
            saved, self._saved = self._saved, None
            self.say(f"  saved at iteration {saved}")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self.say(f"a save failed, training continues: {failure}")

    def _whole(self) -> list[str]:
        """URIs of whole saves, oldest first."""
        marker = "/" + artifacts.MANIFEST
        entries = storage.list_objects(self.step.saves_uri + "/")
        return sorted(e.uri.removesuffix(marker) for e in entries if e.uri.endswith(marker))

    def _newest(self) -> str | None:
        """The newest save that verifies and is finite; another is told and passed over."""
        for uri in reversed(self._whole()):
            try:
                _, folder = artifacts.fetch_cached(uri, artifact_cache())
            except UserError as error:
                self.say(f"save skipped: {error}")
                continue
            position = json.loads((folder / POSITION).read_text(encoding="utf-8"))
            if _is_finite(load_file(folder / STATE), position):
                return uri
            self.say(f"save skipped: {uri}: the training had diverged")
        return None

    def _trim(self) -> None:
        """Removes what this writer's last saves replace: its own leftovers, and whole older ones.

        Other writers' parts and uploads are left alone, for they may be at work.
        """
        whole = self._whole()
        kept = [uri for uri in whole if uri.endswith(self._writer)][-SAVES_KEPT:]
        for uri in whole:
            if kept and uri < kept[0]:  # else another writer, which is further, removed it
                artifacts.remove(uri)
        entries = storage.list_objects(self.step.saves_uri + "/")
        ours = [each.uri for each in entries if f"{self._writer}/" in each.uri]
        places = tuple(f"{uri}/" for uri in kept)
        storage.delete([uri for uri in ours if not uri.startswith(places)])
        leftovers = storage.unfinished(self.step.saves_uri)
        storage.abandon([each for each in leftovers if f"{self._writer}/" in each.uri])


def discard(step: Step) -> None:
    """Removes a step's saves, leftovers included: its checkpoint is published."""
    storage.delete_folder(step.saves_uri)
    storage.abandon(storage.unfinished(step.saves_uri))


def _is_finite(tensors: dict[str, Tensor], position: dict[str, Any]) -> bool:
    return all_finite(tensors.values()) and all(map(math.isfinite, position["sums"].values()))


def _within(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
