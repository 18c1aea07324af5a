"""Scoring images beside scoring them one by one with a NumPy confusion matrix.

    python -m benchmarks --only evaluation

From files to the matrix, loading included. The plain way is a loop over the images in float32:
Pillow and torchvision's functions, the model, all logits enlarged, argmax and ``numpy.bincount``
on the host. ResNet-101 and a short side of 512 on a GPU, ResNet-18 and 192 on a CPU. Both
matrices are compared.
"""

import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms import functional as vision

from benchmarks.cases import CASES, Case, Size, models
from benchmarks.loading import indexed, prepare
from benchmarks.rows import CPU, GPU, Row, in_turns, seconds_on
from dkd.data import transforms
from dkd.data.loading import EvaluationImages
from dkd.data.records import Record
from dkd.evaluation.confusion import ConfusionMatrix
from dkd.evaluation.evaluator import evaluated
from dkd.network.deeplab import SegmentationModel
from dkd.network.preparation import prepare_frozen
from dkd.network.speed import decided
from dkd.scenario.speed import Speed

GROUP = "evaluation"
LIMIT = 10.0  # times, on a GPU
PREDICTED = {"cpu": 1.2, "cuda": 20.0}


def one_by_one(
    model: SegmentationModel, folder: Path, records: list[Record], crop: int, device: str
) -> np.ndarray:
    """Counts by true and predicted channel; whole images, labels at their own size."""
    channels = 1 + model.classes
    matrix = np.zeros((channels, channels), np.int64)
    for record in records:
        image = Image.open(folder / record.image).convert("RGB")
        image = vision.normalize(
            vision.to_tensor(vision.resize(image, crop)),
            list(transforms.MEAN),
            list(transforms.STD),
        )
        label = np.array(Image.open(folder / record.mask))
        with torch.no_grad():
            logits = model(image[None].to(device)).logits
            logits = F.interpolate(logits, label.shape, mode="bilinear", align_corners=False)
            # A probability of at least 1/2. Logits, as probabilities that round to 1 are equal.
            scores = logits[0, 1:].cpu().numpy()
        predicted = np.where(scores.max(0) > 0, scores.argmax(0) + 1, 0)
        counted = label != 255
        cells = label[counted].astype(np.int64) * channels + predicted[counted]
        matrix += np.bincount(cells, minlength=channels**2).reshape(channels, channels)
    return matrix


def spread(model: SegmentationModel, crop: int) -> SegmentationModel:
    """Statistics and heads with which predictions are of many classes."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    for head in model.cls:
        torch.nn.init.normal_(head.weight, std=0.5 / head.in_channels**0.5)
    with torch.no_grad():
        model.train()(torch.randn(4, 3, crop, crop))
    return model.eval()


def measure(
    case: Case, size: Size, count: int, device: str, repeats: int, often: int = 1
) -> list[Row]:
    """Both ways over the same images, by ours ``often`` times: its workers take time to start."""
    # Student and teacher alike have their batch normalisation in eval mode; of the teacher's
    # kind, it is not yet frozen and can be given statistics.
    model = spread(models(case, size)[0], min(size.crop, 128)).to(device)
    fast = spread(models(case, size)[0], min(size.crop, 128)).to(device)
    fast.load_state_dict(model.state_dict())
    speed = decided(Speed(evaluation_batch=size.batch), gpu=device == "cuda")
    if device == "cpu":
        speed = speed.model_copy(update={"fold_norms": True})
    fast = prepare_frozen(fast, speed)
    table = np.arange(256, dtype=np.uint8)
    table[1 + case.old : 255] = 0
    workers = min(16, os.cpu_count() or 1) if device == "cuda" else 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        side = (size.crop * 4 // 3, size.crop)
        records = prepare(folder, None, count, *side, classes=min(case.old, 20))
        for record in records:  # masks of the classes that the model knows, as the table gives them
            mask = Image.open(folder / record.mask)
            mask.point(list(table)).save(folder / record.mask)
        records = [indexed(folder, record) for record in records]
        images = EvaluationImages(records * often, folder, table, size.crop, whole=True)
        plain = partial(one_by_one, model, folder, records, size.crop, device)
        matrix = ConfusionMatrix(fast.classes + 1, device)
        ours = partial(evaluated, fast, [images], matrix, torch.device(device), speed, workers)
        # Two ways of resizing round 8-bit pixels apart, and a pixel on the edge between two
        # classes may fall to either side.
        expected, found = plain() * often, ours().cpu().numpy()
        assert found.sum() == expected.sum(), "not every pixel is counted once"
        assert (found.sum(0) > 0).sum() > 2, "the model sees next to nothing"
        apart = np.abs(found - expected).sum() / 2 / expected.sum()
        assert apart < 0.03, f"{apart:.1%} of the pixels differ"
        times = in_turns({"plain": plain, "ours": ours}, repeats, seconds_on(device), warm=True)
    return [
        Row(
            GROUP,
            f"{1 + case.old} channels, whole images",
            "images/s",
            count * often / times["ours"],
            device=GPU if device == "cuda" else CPU,
            baseline=count / times["plain"],
            better="more",
            limits="ratio",
            limit=LIMIT if device == "cuda" else None,
            predicted=PREDICTED[device],
            note=f"{size.backbone}, short side {size.crop}; {apart:.2%} of pixels differ",
        )
    ]


def rows(quick: bool, on: Sequence[str] = (CPU, GPU)) -> list[Row]:
    found = []
    size, count = (Size("demo", 32, 2, 16), 3) if quick else (Size("resnet18", 192, 1), 8)
    for case in CASES.values():
        if CPU in on:
            found += measure(case, size, count, "cpu", 1 if quick else 3)
        if GPU not in on:
            continue
        if torch.cuda.is_available():
            found += measure(case, Size("resnet101", 512, 16), 32, "cuda", 1, often=16)
        else:
            found.append(
                Row(
                    GROUP,
                    f"{1 + case.old} channels, whole images",
                    "images/s",
                    device=GPU,
                    better="more",
                    limits="ratio",
                    limit=LIMIT,
                    predicted=PREDICTED["cuda"],
                    note="resnet101, short side 512",
                )
            )
    return found
