"""Exported models beside their checkpoints, with several backbones and numbers of steps."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import Result
from small_segmenter import DESCRIPTION, image, model, published
from torch.nn.modules.batchnorm import _BatchNorm

from dkd import storage
from dkd.errors import UserError
from dkd.evaluation.segmenter import Segmenter
from dkd.export import export as exporting
from dkd.export import files
from dkd.export.description import KEY, from_json
from dkd.export.export import bundled_photographs, export, mask_of
from dkd.network import deeplab
from dkd.network.checkpoint import Fetched
from dkd.scenario.network import Network


def fetched(backbone: str, counts: Sequence[int]) -> Fetched:
    """A small model of random weights that sees several classes, and statistics of its own."""
    torch.manual_seed(4)
    network = Network(backbone=cast(Any, backbone), aspp_channels=8)
    made = deeplab.build(network, counts)
    norms = [module for module in made.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        made(torch.randn(4, 3, 48, 48))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        logits = made.eval()(torch.randn(2, 3, 64, 64)).logits[:, 1:]
        for head, part in zip(made.cls[1:], logits.split(list(counts), dim=1), strict=True):
            head.bias -= part.mean(dim=(0, 2, 3))
    names = iter(f"class {k}" for k in range(sum(counts)))
    description = {
        **DESCRIPTION,
        "classes": [[next(names) for _ in range(count)] for count in counts],
        "network": network.model_dump(),
    }
    return Fetched(made, description, "1" * 64)


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    return image(tmp_path / "photographs/a.png", 60, 44)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model as ONNX: pixels in, mask out."""
    folder = tmp_path_factory.mktemp("whole")
    small = Fetched(model(), DESCRIPTION, "2" * 64)
    path = folder / "model.onnx"
    made = export(small, str(path), form="onnx", photographs=bundled_photographs())
    assert made.equal == 1
    assert made.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert made.size == path.stat().st_size
    return path


@pytest.mark.parametrize("backbone", ["demo", "resnet18", "resnet50", "resnet101", "mobilenet_v2"])
def test_backbones_give_the_same_masks(backbone: str, tmp_path: Path, photograph: Path) -> None:
    made = export(
        fetched(backbone, [2, 1]),
        str(tmp_path / "model"),
        # A ResNet-101 is more of what a ResNet-50 is, and takes long to translate.
        form="pt2" if backbone == "resnet101" else "onnx",
        gives="logits",
        photographs=[photograph],
    )
    assert made.equal >= 0.9999


@pytest.mark.parametrize("counts", [[1], [3, 1, 1, 2]])
def test_every_number_of_steps(counts: list[int], tmp_path: Path, photograph: Path) -> None:
    given, path = fetched("demo", counts), tmp_path / "model.pt2"
    made = export(given, str(path), form="pt2", photographs=[photograph], gives="logits")
    assert made.equal >= 0.9999
    assert len(made.description.classes) == 1 + sum(counts)
    assert [each.step for each in made.description.classes[1:]] == [
        step for step, count in enumerate(counts) for _ in range(count)
    ]


def test_batches_and_sizes_vary(whole: Path) -> None:
    run = files.run_onnx(whole, 1)
    segmenter = Segmenter(Fetched(model(), DESCRIPTION, ""), torch.device("cpu"))
    for shape in ((1, 33, 80), (3, 64, 48), (2, 120, 33), (1, 5, 5)):
        pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        expected = [segmenter.predict(each).mask for each in pixels]
        assert np.mean(run(pixels) == np.stack(expected)) >= 0.9999


def test_the_file_says_what_it_is(whole: Path) -> None:
    """Read by programs that know nothing of this one."""
    loaded = onnx.load(whole)
    onnx.checker.check_model(loaded, full_check=True)
    metadata = {entry.key: entry.value for entry in loaded.metadata_props}
    description = from_json(metadata[KEY], "model")
    assert description.class_names == ("background", "cat", "dog", "sheep")
    assert description.short_side == 32
    assert description.checkpoint == "2" * 64
    assert json.loads(metadata[KEY])["input"] == "uint8 N x H x W x 3, RGB, upright"
    session = onnxruntime.InferenceSession(whole)
    assert session.get_modelmeta().custom_metadata_map == metadata
    (given,), (gives,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[3]) == ("image", "tensor(uint8)", 3)
    assert (gives.name, gives.type, len(gives.shape)) == ("mask", "tensor(uint8)", 3)
    assert all(isinstance(side, str) for side in given.shape[:3])
    assert "BatchNormalization" not in {node.op_type for node in loaded.graph.node}
    assert str(Path(files.__file__).parents[3]).encode() not in whole.read_bytes()


def test_a_background_channel_is_part_of_the_graph(tmp_path: Path, photograph: Path) -> None:
    given = fetched("demo", [2, 1])
    given.model.background_channel = True
    path = tmp_path / "model.pt2"
    made = export(given, str(path), form="pt2", photographs=[photograph], gives="logits")
    assert made.equal >= 0.9999


def test_sixteen_bits_are_half_the_size(whole: Path, tmp_path: Path) -> None:
    small, path = Fetched(model(), DESCRIPTION, ""), tmp_path / "half.pt2"
    given = export(
        small,
        str(path),
        form="pt2",
        photographs=bundled_photographs(),
        gives="logits",
        precision="fp16",
    )
    assert 0.99 <= given.equal <= 1
    program = torch.export.load(path)
    weights = {n: v for n, v in program.state_dict.items() if "backbone" in n and v.dim() == 4}
    kinds = {value.dtype for value in weights.values()}
    assert kinds == {torch.float16}
    assert small.model.head(0).weight.dtype == torch.float32  # the checkpoint stays as it was


def test_nothing_is_overwritten(whole: Path, photograph: Path) -> None:
    before = whole.read_bytes()
    small = Fetched(model(), DESCRIPTION, "")
    for form in ("onnx", "pt2"):
        with pytest.raises(UserError, match=r"model\.onnx: exists already; give another name"):
            export(small, str(whole), form=cast(Any, form), photographs=[photograph])
    with pytest.raises(UserError, match="exists already"):
        export(small, str(whole.parent), form="onnx", photographs=[photograph])
    assert whole.read_bytes() == before
    assert list(whole.parent.iterdir()) == [whole]


def test_a_model_that_differs_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photograph: Path
) -> None:
    monkeypatch.setattr(exporting, "LEAST_EQUAL", {"fp32": 1.1})
    small, target = Fetched(model(), DESCRIPTION, ""), tmp_path / "new/model.pt2"
    with pytest.raises(UserError, match=r"not written: masks differ in 0\.000% of the pixels"):
        export(small, str(target), form="pt2", photographs=[photograph], gives="logits")
    assert not target.parent.exists()


def test_logits_are_read_as_the_metadata_say(tmp_path: Path, photograph: Path) -> None:
    small, path = Fetched(model(), DESCRIPTION, ""), tmp_path / "logits.pt2"
    made = export(small, str(path), form="pt2", photographs=[photograph], gives="logits")
    run = files.run_pt2(path, 1)
    assert run(np.zeros((2, 32, 40, 3), np.uint8)).shape == (2, 3, 8, 10)
    assert made.description.stride == 4
    pixels = np.zeros((20, 30, 3), np.uint8)
    assert mask_of(run, made.description, pixels).shape == (20, 30)


def test_a_missing_package_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^onyx is not installed; pip install 'dkd\[export\]'$"):
        files.require("numpy", "onyx")


def test_the_command_writes_to_s3_and_says_the_digest(
    dkd: Callable[..., Result],
    refused: Callable[..., str],
    s3_root: str,
    tmp_path: Path,
    photograph: Path,
) -> None:
    checkpoint = published(str(tmp_path / "root/small"), tmp_path / "work")
    target = f"{s3_root}/models/a.pt2"
    words = ("--format", "pt2", "-o", target, "--check-images", photograph.parent)
    done = dkd("export", checkpoint, *words)
    assert done.exit_code == 0, done.output
    digest = hashlib.sha256(storage.read_bytes(target)).hexdigest()
    assert f"sha256 {digest}" in done.stdout
    assert "masks equal on 100.0000% of the pixels" in done.stdout
    assert "a.png 60x44: 0 of 2640 pixels differ" in done.stdout
    assert "exists already" in refused("export", checkpoint, *words)
