"""Scenarios: everything that defines a run, as YAML checked by a schema.

    dkd run my-scenario.yaml --set training.epochs.later=30 --set method=finetune

A scenario is the unit people name, submit and compare. It says what is learned (data, task,
setting), how (method, memory, protocol, network, training) and where (launch). Everything
but ``name``, ``label``, ``description``, ``licence``, ``gate``, ``speed``, ``launch`` and
``variants`` can change the result beyond its rounding.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dkd.errors import UserError, one_line
from dkd.scenario import backbones, imagenet, strict_yaml
from dkd.scenario.names import class_name
from dkd.scenario.protocols import ProtocolName

Setting = Literal["overlap", "disjoint", "partitioned"]
DataFormat = Literal[
    "voc",
    "ade20k",
    "cityscapes",
    "coco",
    "cvat",
    "folder",
    "hf",
    "label-studio",
    "yolo",
    "digits",
    "packed",
]
Precision = Literal["fp32", "bf16", "fp16"]
Schedule = Literal["poly", "warmup_poly"]


class Model(BaseModel):
    """Base of every part: unknown fields are errors, and so are values of another type than the
    field's, which are never converted (but for whole numbers where any number goes), and numbers
    that are not finite. Values do not change.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, strict=True, allow_inf_nan=False
    )


M = TypeVar("M", bound=Model)

MAX_SEED = 2**53 - 1
"""The largest seed: whole numbers up to it survive as JSON's numbers, which forms are sent as."""

Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Weight = Annotated[float, Field(ge=0, le=1e30)]
"""Far from where float32 ends; what diverges below that, training tells."""
Dilation = Annotated[int, Field(ge=1, le=256)]
Mean = Annotated[float, Field(ge=0, le=1)]
Deviation = Annotated[float, Field(ge=1e-3, le=1)]
ProcessCount = Annotated[int, Field(ge=1, le=4096)]


def _class_of(value: object) -> object:
    """A class of the task: a label value of the data set, or a name."""
    if isinstance(value, str):
        try:
            return class_name(value)
        except UserError as error:
            raise ValueError(str(error)) from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(
            f"a class is a name or a label value, not {_shown(value)}; as a name it is written "
            f"{strict_yaml.quoted(value)}"
            if isinstance(value, bool | float | None)
            else "a class is a name or a label value; a task is a list of lists of classes"
        )
    if not 1 <= value <= 254:
        raise ValueError(f"label values of classes are 1..254, not {_shown(value)}")
    return value


Class = Annotated[int | str, BeforeValidator(_class_of)]
Classes = Annotated[tuple[Class, ...], Field(strict=False, min_length=1)]
"""The classes of a step; YAML and JSON have lists where this program has tuples."""


class FirstLater(Model):
    """A rate or weight for step 0 and one for every later step."""

    first: Weight
    later: Weight

    def at(self, step: int) -> float:
        return self.first if step == 0 else self.later


_NUMBER, _WORD = "a number", "a word"
PositiveWeight = Annotated[
    Annotated[Weight, Tag(_NUMBER)] | Annotated[Literal["auto"], Tag(_WORD)],
    Discriminator(lambda value: _WORD if isinstance(value, str) else _NUMBER),
]


class FirstLaterPositive(Model):
    """As :class:`FirstLater`, for the weight of what is there."""

    first: PositiveWeight = 1
    later: PositiveWeight = 1

    def at(self, step: int) -> float | Literal["auto"]:
        return self.first if step == 0 else self.later


class Data(Model):
    """Where images and masks are.

    Attributes:
        format: layout of the data set (``dkd data --help``). ``digits`` is the demonstration's,
            made on the spot; ``packed`` is what ``dkd data pack`` wrote.
        root: folder, or URI of a packed data set; not used by ``digits``.
        train: name of the training split's list (``voc``; the format's own by default).
        validation: likewise for the split that is evaluated.
        unlabelled: what pixels are that no annotation covers (``coco``, ``yolo``,
            ``label-studio``): ``background`` where whatever is not annotated is none of the
            classes, ``void`` where images are annotated in part.
        pack: put the images into the artifact store, so that workers need no folder.
        digits: size of the made data set.
    """

    class Digits(Model):
        train: Annotated[int, Field(ge=10, le=1_000_000)] = 1200
        validation: Annotated[int, Field(ge=5, le=1_000_000)] = 200
        size: Annotated[int, Field(ge=32, le=512)] = 64
        seed: Seed = 1

    format: DataFormat
    root: str = ""
    train: str | None = None
    validation: str | None = None
    unlabelled: Literal["background", "void"] = "background"
    pack: bool = False
    digits: Digits = Digits()

    @model_validator(mode="after")
    def _root_given(self) -> Self:
        if self.format != "digits" and not self.root:
            raise ValueError("root: say where the data set is (--data PATH_OR_URI)")
        return self


class Network(Model):
    """DeepLabV3 on a backbone, torchvision's or another.

    Attributes:
        backbone: a name that :mod:`dkd.scenario.backbones` knows. ``demo`` is a small one of the
            demonstration's own.
        weights: what the backbone starts from at step 0: ``imagenet`` (torchvision's
            ``IMAGENET1K_V1``), ``none`` (random), or a file with torchvision's key names, .pth
            or safetensors, by path or URI (``docs/weights.md``). Where it is not written,
            ``imagenet``; but ``none`` for ``demo``, which nobody has trained on ImageNet, and
            for a backbone from outside.
        aspp_channels: width of ASPP's branches and of the features.
        output_stride: pixels of the image per feature, in each direction; null is the usual one,
            16 and of ``demo`` 4. A smaller one sees more and costs more.
        aspp_dilations: of ASPP's three 3x3 branches; null is 6, 12, 18, and 2, 4, 6 of ``demo``.
        aspp_dropout: share of ASPP's features that step 0 drops; null is 0.1.
        whole_stage_dilation: in a ResNet, every convolution of a dilated stage spreads its taps
            alike (segmentation_models_pytorch); null and false: the one whose stride is removed
            as those before it (torchvision).
        align_corners: logits are enlarged corner to corner (segmentation_models_pytorch); null
            and false: each feature stands for a square of pixels (torchvision).
        mean: of red, green and blue in [0, 1], which normalisation subtracts; null is ImageNet's.
        std: by which it divides; null is ImageNet's.
    """

    backbone: str = "resnet101"
    weights: str | None = None
    aspp_channels: Annotated[int, Field(ge=8, le=8192)] = 256
    output_stride: Annotated[int, Field(ge=4, le=32)] | None = None
    aspp_dilations: Annotated[tuple[Dilation, Dilation, Dilation], Field(strict=False)] | None = (
        None
    )
    aspp_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    whole_stage_dilation: bool | None = None
    align_corners: bool | None = None
    mean: Annotated[tuple[Mean, Mean, Mean], Field(strict=False)] | None = None
    std: Annotated[tuple[Deviation, Deviation, Deviation], Field(strict=False)] | None = None

    @property
    def stride(self) -> int:
        """:attr:`output_stride` with its default."""
        return self.output_stride or backbones.output_strides(self.backbone)[0]

    @property
    def dilations(self) -> tuple[int, int, int]:
        """:attr:`aspp_dilations` with its default."""
        return self.aspp_dilations or ((2, 4, 6) if self.backbone == "demo" else (6, 12, 18))

    @property
    def dropout(self) -> float:
        """:attr:`aspp_dropout` with its default."""
        return 0.1 if self.aspp_dropout is None else self.aspp_dropout

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """:attr:`mean` and :attr:`std` with their defaults."""
        return self.mean or imagenet.MEAN, self.std or imagenet.STD

    def structure(self) -> dict[str, Any]:
        """What the network is, whatever it started from, as keys and checkpoints say it.

        Fields of their default's value are left out but for the first two, which were there
        first: so a network that was there before has the key that it had.
        """
        usual = Network(backbone=self.backbone, weights="none")
        mean, std = self.normalisation
        fields: tuple[tuple[str, Any, Any], ...] = (
            ("output_stride", self.stride, usual.stride),
            ("aspp_dilations", list(self.dilations), list(usual.dilations)),
            ("aspp_dropout", self.dropout, usual.dropout),
            ("whole_stage_dilation", bool(self.whole_stage_dilation), False),
            ("align_corners", bool(self.align_corners), False),
            ("mean", list(mean), list(imagenet.MEAN)),
            ("std", list(std), list(imagenet.STD)),
        )
        unusual = {field: value for field, value, default in fields if value != default}
        return {"backbone": self.backbone, "aspp_channels": self.aspp_channels, **unusual}

    @classmethod
    def of_structure(cls, described: Mapping[str, Any]) -> Self:
        """The network that a checkpoint or scenario describes, whatever else it says of it."""
        known = cls.model_fields.keys() - {"weights"}
        return cls(**{name: described[name] for name in sorted(known & described.keys())})

    @property
    def initial_weights(self) -> str:
        """``imagenet``, ``none``, or a path or URI: :attr:`weights` with its default."""
        if self.weights is None:
            return "imagenet" if self.backbone in imagenet.FILES else "none"
        return self.weights

    @field_validator("backbone")
    @classmethod
    def _backbone_known(cls, value: str) -> str:
        if value not in backbones.names():
            raise ValueError(
                f"{value!r} is none of {', '.join(backbones.names())}; one from outside needs its "
                "package installed"
            )
        return value

    @field_validator("output_stride")
    @classmethod
    def _stride_possible(cls, value: int | None, others: ValidationInfo) -> int | None:
        name = others.data.get("backbone", "")
        if value is not None and value not in (strides := backbones.output_strides(name)):
            possible = " or ".join(map(str, sorted(strides)))
            raise ValueError(f"of {name} it is {possible}, not {value}")
        return value

    @model_validator(mode="after")
    def _dilation_possible(self) -> Self:
        if self.whole_stage_dilation and self.backbone not in backbones.RESNETS:
            raise ValueError(f"whole_stage_dilation: is for ResNets, not for {self.backbone}")
        return self

    @model_validator(mode="after")
    def _weights_known(self) -> Self:
        if self.weights is not None and not self.weights.strip():
            raise ValueError("weights: empty; write imagenet, none, or a file's path or URI")
        address = urlsplit(self.weights or "")
        if address.scheme in ("http", "https") and (address.query or "@" in address.netloc):
            raise ValueError(
                "weights: an address with a key in it would be kept with every result; use dkd "
                "weights add ADDRESS"
            )
        if self.weights == "imagenet" and self.backbone not in imagenet.FILES:
            raise ValueError(
                f"weights: there are no ImageNet weights of the backbone {self.backbone}; write "
                "none"
            )
        return self


class Training(Model):
    """Optimisation and augmentation of a step.

    Attributes:
        epochs: passes over the step's images, at step 0 and later.
        batch_size: images of one optimiser step, over all ranks.
        crop: side of the square training crop, and of the evaluation's short side, in pixels.
        lr: backbone's rate at the start; ASPP and heads take ten times as much, or what the method
            says.
        rates: how many times the backbone's rate a part learns at later steps, by the name of its
            group, instead of what the method says; e.g. ``{new_head: 30}``.
        schedule: rate over the iterations of a step.
        pos_weight: weight of the mBCE's positive term; ``auto`` gives each class its own, the
            square root of how many times as many pixels of the step's crops lack it as show it,
            from 1 to 100.
        memory_share: share of every batch that is drawn from the exemplar memory, at steps that
            have one; an epoch then shows each of the step's own images once, and exemplars as
            often as that takes. Null mixes all: each image once.
        precision: autocast type on a GPU; CPU is always fp32.
        loader_workers: loader processes per rank; 0 loads in the rank itself.
        save_interval: seconds between saves of the training state for resuming.
    """

    class Epochs(Model):
        first: Annotated[int, Field(ge=1, le=1_000_000)]
        later: Annotated[int, Field(ge=1, le=1_000_000)]

        def at(self, step: int) -> int:
            return self.first if step == 0 else self.later

    epochs: Epochs
    batch_size: Annotated[int, Field(ge=1, le=65536)]
    crop: Annotated[int, Field(ge=16, le=4096)] = 512
    lr: FirstLater
    rates: dict[str, Weight] = {}
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-4
    schedule: Schedule = "poly"
    pos_weight: FirstLaterPositive = FirstLaterPositive()
    memory_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Precision = "bf16"
    loader_workers: Annotated[int, Field(ge=0, le=256)] = 4
    save_interval: Annotated[float, Field(gt=0, le=31_536_000)] = 300

    def at(self, step: int) -> dict[str, Any]:
        """What a model is trained with at a step, as JSON; the precision is another matter."""
        return {
            "epochs": self.epochs.at(step),
            "batch_size": self.batch_size,
            "crop": self.crop,
            "lr": self.lr.at(step),
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "schedule": self.schedule,
            "pos_weight": self.pos_weight.at(step),
        }


class Speed(Model):
    """Means that make a step fast and change its result in rounding alone: no part of any key.

    Each can be turned off, and then the plain way is taken. What is null is decided by the
    device: true on a GPU, false on a CPU, where defaults give the plain way's very bits. Triton's
    kernels are false too where they cannot be compiled.

    Attributes:
        channels_last: weights and activations have their channels innermost, as tensor cores
            take them. Dropout (step 0) then drops other features, as another seed would.
        fold_norms: convolutions do the work of frozen batch normalisation, teacher's and
            student's, and of the residual sum and the ReLU behind it.
        unshuffled_stem: a ResNet's first convolution of 3 channels as one of 12.
        block_losses: losses block by block with nothing kept at full resolution, instead of
            targets written out. True by default everywhere.
        triton_losses: with ``block_losses``, one kernel for all blocks; nothing on a CPU.
        triton_pooling: one kernel for a ResNet's first normalisation, where it is frozen, with
            its ReLU and pooling; nothing on a CPU.
        fused_optimiser: one kernel for many parameters.
        recorded: the passes of steps > 0 are recorded once and played (CUDA graphs); nothing on
            a CPU.
        device_transforms: loader workers only decode; the device resizes and normalises whole
            batches.
        prefetch: the next batch is copied and finished beside the computation, on a stream of
            its own; nothing on a CPU, which has no streams.
        evaluation_batch: most images of one size that are scored together; null is 16 on a GPU
            and 1 on a CPU.
    """

    channels_last: bool | None = None
    fold_norms: bool | None = None
    unshuffled_stem: bool | None = None
    block_losses: bool = True
    triton_losses: bool | None = None
    triton_pooling: bool | None = None
    fused_optimiser: bool | None = None
    recorded: bool | None = None
    device_transforms: bool | None = None
    prefetch: bool | None = None
    evaluation_batch: Annotated[int, Field(ge=1, le=4096)] | None = None


class Toleration(Model):
    """A Kubernetes toleration, with its field names in this file's spelling."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    seconds: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None


Quantity = Annotated[str, Field(pattern=r"^([0-9]+(\.[0-9]+)?(m|k|[KMGT]i?)?)?$")]
"""A Kubernetes quantity such as ``500m`` or ``16Gi``; empty leaves it to the cluster."""

Name = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$", max_length=253)]
"""Name of a Kubernetes object."""


class Launch(Model):
    """Where and on how much a step's job runs. Changes no result but its rounding.

    Attributes:
        backend: ``local`` runs torchrun on this machine; ``trainjob`` (Kubeflow Trainer v2) and
            ``pytorchjob`` (Training Operator v1) on a Kubernetes cluster (``docs/cluster.md``).
        nodes: machines per step.
        processes_per_node: ranks per machine (GPUs, or processes on CPU).
        threads: CPU threads per rank.
        image: the training image, best by digest. This and all below: cluster backends only.
        namespace: where jobs run; by default the launching pod's or kubeconfig's own.
        gpus_per_node: 0 trains on CPU; otherwise one GPU per rank.
        gpu_resource: what the cluster calls a GPU.
        cpu: CPUs requested per node.
        memory: memory requested per node, which is also the limit.
        shared_memory: size of /dev/shm per node (loader workers use it; counts as memory).
        runtime: TrainingRuntime that jobs are made from (``trainjob``).
        secret: secret with S3 keys ``accesskey`` and ``secretkey``; ``none`` where pods get
            credentials otherwise (IRSA). ``trainjob`` takes the runtime's own by default.
        service_account: of the workers; needs no rights.
        queue: Kueue's local queue.
        priority_class: of the workers' pods.
        node_selector: labels that nodes must have.
        tolerations: taints of nodes that do no harm.
        deadline: seconds that a job may run, over all its restarts; queueing does not count.
        max_restarts: how often all ranks start again, from the last save, when one died.
    """

    backend: Literal["local", "trainjob", "pytorchjob"] = "local"
    nodes: ProcessCount = 1
    processes_per_node: ProcessCount = 1
    threads: Annotated[int, Field(ge=1, le=4096)] = 1
    image: str = ""
    namespace: Name = ""
    gpus_per_node: Annotated[int, Field(ge=0, le=4096)] = 0
    gpu_resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")] = "nvidia.com/gpu"
    cpu: Quantity = ""
    memory: Quantity = ""
    shared_memory: Quantity = "2Gi"
    runtime: Name = "dkd"
    secret: Name = ""
    service_account: Name = "dkd-worker"
    queue: Name = ""
    priority_class: Name = ""
    node_selector: dict[str, str] = {}
    tolerations: Annotated[tuple[Toleration, ...], Field(strict=False)] = ()
    deadline: Annotated[int, Field(ge=60, le=2**31 - 1)] = 7 * 24 * 3600
    max_restarts: Annotated[int, Field(ge=0, le=2**31 - 1)] = 3

    @model_validator(mode="after")
    def _one_gpu_per_rank(self) -> Self:
        if self.gpus_per_node not in (0, self.processes_per_node):
            raise ValueError(
                f"gpus_per_node: {self.gpus_per_node} GPUs for processes_per_node="
                f"{self.processes_per_node}; give one GPU per rank, or 0 to train on CPU"
            )
        return self


Percent = Annotated[float, Field(ge=0, le=100)]


class Gate(Model):
    """What a step must reach on the test images; null asks nothing. Changes no result.

    Attributes:
        miou_all_at_least: mean IoU of background and all classes seen so far, in percent.
        old_classes_may_lose_at_most: mean change of what the model before knew, background among
            it, in points.
        any_class_may_lose_at_most: change of each of these.
        new_classes_at_least: IoU of each class that the step added, in percent.
        on_failure: ``mark`` says so and goes on; ``stop`` ends the run there.
    """

    miou_all_at_least: Percent | None = None
    old_classes_may_lose_at_most: Percent | None = None
    any_class_may_lose_at_most: Percent | None = None
    new_classes_at_least: Percent | None = None
    on_failure: Literal["mark", "stop"] = "mark"

    @property
    def asks(self) -> bool:
        """Whether it asks anything."""
        return self != Gate(on_failure=self.on_failure)


EXTENSION_GATE = Gate(old_classes_may_lose_at_most=5)
"""What adding classes to a model must reach where its scenario asks nothing."""


class Scenario(Model):
    """A whole scenario. See the module's text.

    Attributes:
        label: how tables name it beside others; the method's name if empty.
        licence: of the models that come of it, for their cards: best an SPDX identifier.
        task: classes by step, as names or label values of the data set.
        setting: which images belong to a step (:mod:`dkd.data.splits`).
        method: how a step is learned, by a name that :mod:`dkd.methods` knows and checks.
        losses: loss weights that replace the method's (ablations), e.g. ``{kd: 0}``.
        method_options: what else the method can be told.
        memory_size: exemplars kept for later steps; 0 keeps none.
        protocol: :mod:`dkd.scenario.protocols`.
        gate: what every step must reach.
        speed: how fast it is done.
        variants: named sets of overrides that are worth comparing, e.g.
            ``{DKD-M: {memory_size: 100}, joint: {method: joint}}``.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", max_length=63)]
    label: str = ""
    description: str = ""
    licence: str = ""
    data: Data
    task: Annotated[tuple[Classes, ...], Field(strict=False, min_length=1)]
    setting: Setting = "overlap"
    method: str = "dkd"
    losses: dict[str, Weight] = {}
    method_options: dict[str, Any] = {}
    memory_size: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    protocol: ProtocolName = "corrected"
    seed: Seed = 1
    network: Network = Network()
    training: Training
    gate: Gate = Gate()
    speed: Speed = Speed()
    launch: Launch = Launch()
    variants: dict[str, dict[str, Any]] = {}

    def override(self, assignments: Mapping[str, Any]) -> "Scenario":
        """This scenario with other values.

        Args:
            assignments: value by dotted field name, e.g. ``{"training.lr.first": 0.01}``.

        Raises:
            UserError: an unknown field or a bad value.
        """
        document = self.model_dump()
        for key, value in assignments.items():
            _assign(document, key.split("."), value, key)
        return parse(document, source="")

    def variant(self, name: str) -> "Scenario":
        """The named variant, itself without variants."""
        if name not in self.variants:
            raise UserError(
                f"variant {name!r}: scenario {self.name} has {', '.join(self.variants) or 'none'}"
            )
        return self.override({"label": name, **self.variants[name], "variants": {}})


def parse(document: object, source: str) -> Scenario:
    """The scenario that a YAML or JSON document describes.

    Args:
        document: parsed YAML.
        source: where it is from, for messages; empty where the field says enough.

    Raises:
        UserError: one line naming the first bad field and its value.
    """
    return parse_part(Scenario, document, source)


def parse_part(part: type[M], document: object, source: str, within: str = "") -> M:
    """As :func:`parse`, for any part of a scenario, which is its field ``within``."""
    try:
        return part.model_validate(document)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        path = (str(name) for name in first["loc"] if name not in (_NUMBER, _WORD))
        where = ".".join(filter(None, [within, *path]))
        message = first["msg"].removeprefix("Value error, ")
        given = first["input"]
        if first["type"] != "value_error" and isinstance(given, str | int | float | None):
            shown = _shown(given)
            if shown not in message:
                message += f", not {shown}"
            message += _hint(first["type"], given)
        if first["type"] == "extra_forbidden":
            message = "no such field" + ("; in YAML a space follows the colon" * (":" in where))
        more = f" (and {len(others)} more)" if others else ""
        told = ": ".join(filter(None, [source, where, message])) + more
        raise UserError(one_line(told)) from None


def _hint(kind: str, given: str | float | None) -> str:
    """What to do about a value of another type, by pydantic's kind of error."""
    if kind in ("int_type", "float_type") and isinstance(given, str):
        number = isinstance(strict_yaml.plain(given), int | float)
        return _UNQUOTED if number else ""
    return _HINTS.get((kind, type(given)), "").format(quoted=strict_yaml.quoted(given))


_UNQUOTED = "; write it as a number, without quotes"
_QUOTED = "; as text it is written {quoted}"
_HINTS: dict[tuple[str, type], str] = {
    ("bool_type", str): "; write true or false",
    **{("string_type", kind): _QUOTED for kind in (bool, int, float)},
    ("string_type", type(None)): '; empty text is written ""',
}


def _shown(value: object, most: int = 80) -> str:
    """A value as a person wrote it, cut where it is long."""
    words: dict[object, str] = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= most else text[: most - 1] + "…"


_OPEN = (["losses"], ["method_options"], ["variants"], ["training", "rates"])
"""Fields whose own fields have any name."""


def _assign(document: dict[str, Any], path: list[str], value: Any, key: str) -> None:
    at = document
    for part in path[:-1]:
        at = at.get(part)  # type: ignore[assignment]
        if not isinstance(at, dict):
            raise UserError(one_line(f"{key}: no such field"))
    open_mapping = path[:-1] in _OPEN
    if path[-1] not in at and not open_mapping:
        raise UserError(one_line(f"{key}: no such field; there are {', '.join(at)}"))
    inner = at.get(path[-1])
    if isinstance(inner, dict) and inner and not isinstance(value, dict):
        raise UserError(f"{key}: set its fields: {', '.join(f'{key}.{name}' for name in inner)}")
    at[path[-1]] = value
