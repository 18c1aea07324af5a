"""The graph of an exported model, before it is written."""

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from small_segmenter import DESCRIPTION, model, segmenter
from torch import Tensor, nn

from dkd.data import transforms
from dkd.evaluation.segmenter import Segmenter
from dkd.export.files import OPSET
from dkd.export.graph import Graph, by_matrices, natively
from dkd.network.checkpoint import Fetched
from dkd.network.layer_normalised import LayerNormalised


@pytest.mark.parametrize(
    "size", [(33, 50), (64, 64), (17, 90), (200, 301), (47, 61), (12, 16), (3, 200)]
)
@pytest.mark.parametrize("kind", ["noise", "smooth"])
def test_matrices_resize_to_the_same_pixels(size: tuple[int, int], kind: str) -> None:
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (2, 3, 47, 61), dtype=np.uint8)
    if kind == "smooth":
        pixels = np.sort(np.sort(pixels, axis=2), axis=3)
    image = torch.from_numpy(pixels)
    assert torch.equal(by_matrices(image, *size), natively(image, *size))
    one = transforms.resize(image[0], *size)
    assert torch.equal(natively(image, *size)[0], one)


def test_an_image_that_shrinks_much_is_resized_to_within_a_level() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (1, 3, 300, 1300), dtype=np.uint8)
    image = torch.from_numpy(pixels)
    found, expected = by_matrices(image, 31, 40).int(), natively(image, 31, 40).int()
    assert (found - expected).abs().max() <= 1
    assert (found != expected).float().mean() < 0.001


@pytest.mark.parametrize("shape", [(40, 50), (70, 33), (32, 32), (31, 90)])
def test_masks_are_those_of_the_segmenter(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    side = int(DESCRIPTION["training"]["crop"])  # type: ignore[index]
    graph = Graph(model(), side, mask=True, half=False, resize=by_matrices).eval()
    expected = segmenter().predict(pixels).mask
    assert np.array_equal(graph(torch.from_numpy(pixels)[None])[0].numpy(), expected)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("merged", [(), (2,)])
def test_logits_are_read_as_the_model_says(align_corners: bool, merged: tuple[int, ...]) -> None:
    """Of an imported model they may be enlarged corner to corner; a merged class has several."""
    pixels = np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    masks = []
    for read in (True, False):
        made = model()
        if read:
            made.network = made.network.model_copy(update={"align_corners": align_corners})
            made.merged = merged
        expected = Segmenter(Fetched(made, DESCRIPTION, ""), torch.device("cpu")).predict(pixels)
        graph = Graph(made, 32, mask=True, half=False, resize=by_matrices).eval()
        masks.append(graph(torch.from_numpy(pixels)[None])[0].numpy())
        assert np.array_equal(masks[-1], expected.mask)
    assert np.array_equal(*masks) == (not align_corners and not merged)


class FourStages(LayerNormalised):
    """As ConvNeXt and Swin treat sizes, with a convolution for each stage."""

    def __init__(self, stride: int) -> None:
        halving = [nn.Conv2d(2, 2, 2, 2) for _ in range(3)]
        layers = [each for halved in halving for each in (halved, nn.Identity())]
        network = nn.Sequential(nn.Conv2d(3, 2, 4, 4), nn.Identity(), *layers)
        super().__init__(SimpleNamespace(features=network), stride)

    def last(self, x: Tensor) -> Tensor:
        return self.stage(3, x)


def test_a_part_of_a_feature_is_one_in_onnx_too() -> None:
    """Its programs divide whole numbers as C does, towards 0."""
    stages = FourStages(32).eval()
    vary = ({2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC},)
    sample = (torch.zeros(1, 3, 90, 70),)
    program = torch.export.export(stages, sample, dynamic_shapes=vary)
    made = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
    assert made is not None
    session = onnxruntime.InferenceSession(made.model_proto.SerializeToString())
    for size in ((96, 64), (95, 65), (81, 79)):
        images = torch.randn(1, 3, *size)
        (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), stages(images), rtol=1e-4, atol=1e-5)
