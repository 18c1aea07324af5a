"""Every fast way beside the plain one: the same results within rounding, and none waits."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import later, model_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dkd.data import labels
from dkd.data.index import Dataset
from dkd.data.loading import Source, StepImages
from dkd.data.records import Record
from dkd.methods.base import Circumstances
from dkd.methods.dkd import DKD
from dkd.network import triton_support
from dkd.network.speed import decided
from dkd.scenario.schema import Scenario, parse
from dkd.scenario.speed import Speed
from dkd.scenario.tasks import Task
from dkd.steps.step import Step, StepSpec
from dkd.training.loop import Trainer
from dkd.training.ranks import Ranks

CLASSES = ("a", "b", "c", "d")
FAST = {
    "channels_last": True,
    "fold_norms": True,
    "unshuffled_stem": True,
    "fused_optimiser": True,
    "device_transforms": True,
    "prefetch": True,
}

ON_A_GPU = {"triton_losses": True, "triton_pooling": True, "recorded": True}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# ---- a whole step


def scenario(**speed: Any) -> Scenario:
    document = {
        "name": "speed",
        "data": {"format": "folder", "root": "nowhere"},
        "task": [["a", "b"], ["c", "d"]],
        "method": "dkd",
        "network": {"backbone": "demo", "aspp_channels": 16},
        "training": {
            "epochs": {"first": 1, "later": 1},
            "batch_size": 4,
            "crop": 32,
            "lr": {"first": 0.01, "later": 0.01},
            "loader_workers": 0,
        },
        "speed": speed,
    }
    return parse(document, source="test")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    records = []
    for number in range(12):
        size = (44 + number, 40)
        pixels = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(size).save(folder / f"{number}.png")
        values = rng.integers(0, 5, (6, 6), dtype=np.uint8)
        Image.fromarray(values).resize(size, 0).save(folder / f"{number}.mask.png")
        records.append(
            Record(
                str(number), f"{number}.png", f"{number}.mask.png", 40, size[0], (1, 2, 3, 4), ""
            )
        )
    return Dataset(
        name="made",
        format="folder",
        root=str(folder),
        classes=dict(enumerate(CLASSES, start=1)),
        palette={},
        future_is_void=False,
        splits={"train": tuple(records), "validation": ()},
    )


def trainer(
    dataset: Dataset, number: int, device: str = "cpu", backbone: str = "demo", **speed: Any
) -> Trainer:
    """A step's trainer; the same weights every time."""
    torch.manual_seed(5)
    given = scenario(**speed)
    spec = StepSpec(
        scenario=given, task=(CLASSES[:2], CLASSES[2:]), step=number, dataset="", root=""
    )
    task = Task(spec.task)
    step = Step(spec, dataset, None, None)
    teacher, student = later(backbone) if number else (None, model_of(backbone))
    own = dataset.splits["train"]
    covered = labels.covered(task, number, len(own))
    table = labels.training_table(dataset, task, number)
    source = Source(own, Path(dataset.root), table, covered, verify=False)
    images = StepImages([source], crop=32, seed=1)
    ranks = Ranks(0, 1, 0, torch.device(device), None)
    circumstances = Circumstances(
        given,
        number,
        images_differ=False,
        speed=decided(given.speed, ranks.device.type == "cuda"),
        average=ranks.average,
        gather=ranks.gather,
    )
    method = DKD(student, teacher, circumstances)
    return Trainer(step, method, images, ranks, say=lambda _line: None)


def trained(
    dataset: Dataset, number: int, device: str = "cpu", backbone: str = "demo", **speed: Any
) -> tuple[dict[str, Tensor], list[float]]:
    """The model after an epoch, and the loss of each iteration."""
    ours = trainer(dataset, number, device, backbone, **speed)
    # At step 0 a ResNet's pooled branch is normalised by four values, which amplifies rounding.
    exact = number == 0 and backbone == "resnet18"
    if exact:
        ours.student.double()
    for module in ours.student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # it draws in the order of memory, which layouts change
    losses = []
    for batch in ours._load(ours.batches.iterations(ours.total, 0)):
        images = batch["image"].double() if exact else batch["image"]
        losses.append(float(ours.train_step({**batch, "image": images})["total"]))
    assert len(losses) == 3
    return {k: v.detach().clone() for k, v in ours.student.state_dict().items()}, losses


WAYS: dict[str, dict[str, bool]] = {
    **{name: {name: True} for name in FAST},
    "plain losses": {"block_losses": False},
    "all": FAST,
}


ON_A_RESNET = {
    "resnet18": {"unshuffled_stem": True, "channels_last": True},
    "resnet18, folded": {"unshuffled_stem": True, "fold_norms": True},
}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    ("backbone", "way"),
    [*(("demo", way) for way in WAYS.values()), *(("resnet18", w) for w in ON_A_RESNET.values())],
    ids=[*WAYS, *ON_A_RESNET],
)
def test_each_means_trains_as_the_plain_way(
    dataset: Dataset, number: int, backbone: str, way: dict[str, bool]
) -> None:
    plain, losses = trained(dataset, number, backbone=backbone)
    fast, others = trained(dataset, number, backbone=backbone, **way)
    # The device's resizing may differ in the last of 8 bits, and step 0 normalises by the
    # statistics of four images, in the pooled branch of four values.
    tolerance = 1e-2 if way.get("device_transforms") else 1e-4
    assert others == pytest.approx(losses, rel=tolerance)
    # A ResNet's last features are 2x2 here: statistics of 16 values make much of a rounding.
    if number == 0 and (way.get("device_transforms") or backbone == "resnet18"):
        return
    before = trainer(dataset, number, backbone=backbone).student.state_dict()
    for key, value in plain.items():
        if value.is_floating_point():
            moved = float((value - before[key]).abs().max())
            apart = float((value - fast[key]).abs().max())
            assert apart <= max(10 * tolerance * moved, 1e-6), key


def test_switches_change_no_key(dataset: Dataset) -> None:
    plain, fast = (trainer(dataset, 0, **speed).step for speed in ({}, FAST))
    assert plain.checkpoint_identity == fast.checkpoint_identity


def test_defaults_are_the_plain_way_on_a_cpu_and_the_fast_one_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triton_support, "missing", lambda: None)  # whatever this machine has
    cpu, gpu = (decided(Speed(), gpu=on) for on in (False, True))
    assert {name: getattr(cpu, name) for name in FAST} == dict.fromkeys(FAST, False)
    assert {name: getattr(gpu, name) for name in FAST} == FAST
    for name in ON_A_GPU:
        assert getattr(gpu, name)
        assert not getattr(decided(Speed(**{name: True}), gpu=False), name), "a CPU has no kernels"
    assert cpu.evaluation_batch == 1
    assert not decided(Speed(prefetch=False), gpu=True).prefetch


# ---- nothing waits for the device


class Waits(TorchDispatchMode):
    """Notes what would make the host wait: values looked at, copies from or to the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        result = function(*arguments, **(named or {}))
        name = str(function.overloadpacket)
        devices = {x.device.type for x in (*arguments, result) if isinstance(x, Tensor)}
        if len(devices) > 1 or any(
            word in name for word in ("_local_scalar_dense", "nonzero", "masked_select", "item")
        ):
            self.found.append(name)
        return result


@pytest.mark.parametrize("speed", [FAST, {}], ids=["fast", "plain"])
@pytest.mark.parametrize("number", [0, 1])
def test_no_value_is_looked_at_inside_an_iteration(
    dataset: Dataset, number: int, speed: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device there are no values to look at, and any other device's is noticed."""
    # This device knows no autocast.
    monkeypatch.setattr(torch, "autocast", lambda *_arguments, **_named: nullcontext())
    ours = trainer(dataset, number, device="meta", **{**speed, "fused_optimiser": False})
    batch = {
        "image": torch.empty(4, 3, 32, 32, device="meta"),
        "label": torch.empty(4, 32, 32, dtype=torch.uint8, device="meta"),
        "covered": torch.empty(4, 4, dtype=torch.bool, device="meta"),
    }
    ours.train_step(batch)  # the optimiser makes its state
    with Waits() as waits:
        terms = ours.train_step(batch)
        ours.curve.every = 100
        ours.curve.add(1, terms)
    assert waits.found == []


def test_the_watch_notices() -> None:
    with Waits() as waits:
        float(torch.ones(()))
        torch.ones(3, device="meta") * torch.ones((), device="cpu")
        torch.ones(3).to("meta")
    assert len(waits.found) == 3


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


GPU_WAYS = {
    **{name: ("demo", way) for name, way in WAYS.items()},
    **{name: ("resnet18", {name: True}) for name in ON_A_GPU},
    **{name: ("resnet18", way) for name, way in ON_A_RESNET.items()},
    "all there are": ("resnet18", {**FAST, **ON_A_GPU}),
}


@needs_gpu
@pytest.mark.parametrize(("backbone", "way"), GPU_WAYS.values(), ids=GPU_WAYS)
def test_on_a_gpu_each_means_trains_as_the_plain_way(
    dataset: Dataset, backbone: str, way: dict[str, bool]
) -> None:
    """In bf16, whose 8 bits round differently in every way of computing."""
    plain = dict.fromkeys((*FAST, *ON_A_GPU), False)
    _, losses = trained(dataset, 1, "cuda", backbone, **plain, block_losses=True)
    _, others = trained(dataset, 1, "cuda", backbone, **{**plain, **way})
    assert others == pytest.approx(losses, rel=3e-2)


@needs_gpu
@pytest.mark.parametrize("number", [0, 1])
def test_cuda_reports_no_synchronisation(dataset: Dataset, number: int) -> None:
    ours = trainer(dataset, number, device="cuda")
    batches = list(ours._load(ours.batches.iterations(ours.total, 0)))
    ours.train_step(batches[0])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[1:]:
            ours.train_step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
