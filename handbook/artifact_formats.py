"""The formats of what is kept: kinds, parts and versions, from the modules that write them."""

from dkd.data import index, packed
from dkd.export import description
from dkd.models.version import FirstClasses, ModelVersion, Promotion, RemovedVersion
from dkd.network import checkpoint
from dkd.report.model import RunResult
from dkd.steps import initial_weights, step
from dkd.storage import artifacts
from dkd.training import resume
from handbook import prose

KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "checkpoint": (
        "`checkpoints/KEY`",
        {
            checkpoint.WEIGHTS: "every parameter and buffer",
            checkpoint.DESCRIPTION: "classes by step, network, method, hyper-parameters, data set, "
            "curve of the losses, digest of the teacher",
            checkpoint.STATISTICS: "what the method keeps of classes; only if it keeps something",
        },
    ),
    "evaluation": (
        "`evaluations/KEY`",
        {
            step.EVALUATION: "confusion matrix, test images, names of the pictures",
            step.BY_IMAGE: "int32, images x 3 x channels: pixels of each test image that are "
            "right, true and predicted",
            "pictures/": "a few test images with prediction and truth",
        },
    ),
    "memory": (
        "`memories/KEY`",
        {
            step.MEMORY: "exemplars with their origin, digests and classes",
            "images-NNNNN.tar": "images and masks",
            "thumbnails/": "small pictures for the report",
        },
    ),
    packed.DATASET_KIND: (
        "any URI",
        {
            packed.INDEX: "classes, colours, and every image with size, classes and digest",
            packed.MEMBERS: "where each image lies in the shards; packed data sets only",
            "shard-NNNNN.tar": "images and masks; packed data sets only",
        },
    ),
    initial_weights.KIND: (
        "`weights/NAME`",
        {initial_weights.PART: "ImageNet weights, or a file's, with torchvision's tensor names"},
    ),
    "save": (
        "`saves/KEY/ITERATION-WRITER`",
        {
            resume.STATE: "model, momenta and random states",
            resume.POSITION: "iteration, identity of the step, curve of the losses",
        },
    ),
}
"""Where each kind of artifact lies under the root, and what its parts hold."""

DOCUMENTS: dict[str, tuple[str, int]] = {
    **{
        f"`manifest.json` of a {kind}": ("what its parts are and hold", number)
        for kind, number in artifacts.KIND_FORMATS.items()
    },
    f"`{packed.INDEX}`": ("index of a data set", index.INDEX_FORMAT),
    "`runs/NAME/result.json`": ("result of a run", RunResult.model_fields["format"].default),
    "`models/NAME/classes.json`": (
        "classes of a model",
        FirstClasses.model_fields["format"].default,
    ),
    "`models/NAME/versions/NNNNNN.json`": (
        "version of a model",
        ModelVersion.model_fields["format"].default,
    ),
    "`models/NAME/production/NNNNNN.json`": (
        "promotion of a version",
        Promotion.model_fields["format"].default,
    ),
    "`models/NAME/production/NNNNNN.json`, likewise": (
        "removal of a version",
        RemovedVersion.model_fields["format"].default,
    ),
    f"metadata entry `{description.KEY}`": ("exported model", description.FORMAT),
}
"""Documents that state their own version, and the one that is written today."""


def kinds() -> str:
    """A row for each part of each kind of artifact."""
    rows = [
        [
            f"`{kind}`",
            f"`{place}`" if " " not in place else place,
            f"`{part}`",
            prose.sentence(told),
        ]
        for kind, (place, parts) in KINDS.items()
        for part, told in parts.items()
    ]
    return prose.table(["Kind", "Place under the root", "Part", "Holds"], rows)


def versions() -> str:
    """The version of each document, and of the program in every key."""
    rows = [[name, told, str(version)] for name, (told, version) in DOCUMENTS.items()]
    rows.append(["`format` in every key", "the program that computes", str(step.PROGRAM)])
    return prose.table(["Document", "What it is", "Version"], rows)
