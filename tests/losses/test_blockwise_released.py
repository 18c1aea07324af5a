"""The losses against the released program's figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dkd.losses import blockwise
from dkd.losses.terms import LossWeights
from dkd.network.deeplab import Output, upsample
from dkd.network.prediction import predict


class Heads:
    """Features and heads of one model in a case of dkd_loss_golden.npz."""

    def __init__(self, arrays: dict[str, np.ndarray], prefix: str, steps: int, dtype: torch.dtype):
        def leaf(name: str) -> Tensor:
            return torch.tensor(arrays[prefix + name], dtype=dtype, requires_grad=True)

        self.features = leaf("features")
        self.weights = [leaf(f"cls{k}_weight") for k in range(steps + 1)]
        self.biases = [leaf(f"cls{k}_bias") for k in range(steps + 1)]

    def output(self, old: int) -> Output:
        x = self.features
        logits = [
            F.conv2d(x if k else x.detach(), w[:, :, None, None], b)
            for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True))
        ]
        weight = torch.cat(self.weights[1:])[:old, :, None, None]
        positive = negative = x[:, :0]
        if old:
            positive = F.conv2d(x, weight.clamp(min=0))
            negative = F.conv2d(x, weight.clamp(max=0))
        return Output(x, torch.cat(logits, 1), positive, negative)


class Golden:
    def __init__(self, path: Path, case: str, dtype: torch.dtype = torch.float64) -> None:
        with np.load(path / "dkd_loss_golden.npz") as file:
            self.arrays = {
                k.removeprefix(f"{case}/"): file[k] for k in file.files if k.startswith(f"{case}/")
            }
        counts = self.arrays["classes"].tolist()
        self.old = sum(counts[:-1])
        self.new = range(1 + self.old, 1 + sum(counts))
        self.student = Heads(self.arrays, "", len(counts), dtype)
        self.teacher = (
            Heads(self.arrays, "teacher_", len(counts) - 1, dtype) if len(counts) > 1 else None
        )
        self.label = torch.from_numpy(self.arrays["label"])

    def loss(self) -> blockwise.Losses:
        teacher = None
        if self.teacher:
            with torch.no_grad():
                teacher = self.teacher.output(self.old)
        return blockwise.total(
            self.student.output(self.old),
            teacher,
            self.label,
            weights=LossWeights() if self.teacher else LossWeights(kd=0, dkd_pos=0, dkd_neg=0),
            covers=self.new,
            pos_weight=float(self.arrays["pos_weight"]),
            void_is_negative=True,
        )

    def gradients(self) -> dict[str, tuple[Tensor, np.ndarray]]:
        pairs = {"features": self.student.features}
        for k, (w, b) in enumerate(zip(self.student.weights, self.student.biases, strict=True)):
            pairs |= {f"cls{k}_weight": w, f"cls{k}_bias": b}
        return {k: (v.grad, self.arrays[f"expected_grad_{k}"]) for k, v in pairs.items()}


def difference(ours: Tensor, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest expected value."""
    gap = (ours.detach().double() - torch.from_numpy(expected).double()).abs().max()
    return float(gap) / float(np.abs(expected).max())


CASES = ["base", "step1", "step3"]


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_the_released_programs(reference: Path, case: str) -> None:
    golden = Golden(reference, case)
    found = golden.loss()
    found.total.backward()
    terms = {"mbce", "ac"} | ({"kd", "dkd_pos", "dkd_neg"} if golden.teacher else set())
    assert set(found.terms) == terms
    for name in terms:
        tolerance = 1e-6 if name == "mbce" else 1e-9
        assert difference(found.terms[name], golden.arrays[f"expected_{name}"]) < tolerance, name
    assert difference(found.total, golden.arrays["expected_total"]) < 1e-6
    newest = f"cls{len(golden.arrays['classes'])}_"
    for name, (ours, expected) in golden.gradients().items():
        mixed = name == "features" or name.startswith(newest)
        assert difference(ours, expected) < (1e-6 if mixed else 1e-9), name


@pytest.mark.parametrize("case", CASES)
def test_logits_and_predictions_are_the_released_programs(reference: Path, case: str) -> None:
    golden = Golden(reference, case)
    logits = upsample(golden.student.output(0).logits, golden.label.shape[-2:])
    assert difference(logits, golden.arrays["expected_logits"]) < 1e-6
    np.testing.assert_array_equal(predict(logits).numpy(), golden.arrays["expected_prediction"])


@pytest.mark.parametrize("case", CASES)
def test_single_precision(reference: Path, case: str) -> None:
    golden = Golden(reference, case, torch.float32)
    found = golden.loss()
    found.total.backward()
    for name, value in {**found.terms, "total": found.total}.items():
        assert difference(value, golden.arrays[f"expected_{name}"]) < 2e-6, name
    for name, (ours, expected) in golden.gradients().items():
        assert difference(ours, expected) < 5e-6, name


@pytest.mark.parametrize("case", CASES)
def test_bf16_autocast(reference: Path, case: str) -> None:
    """The heads run in bf16 (8 bits of mantissa); the losses themselves stay in float32."""
    golden = Golden(reference, case, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        output = golden.student.output(golden.old)
        found = golden.loss()
    assert output.logits.dtype == torch.bfloat16
    found.total.backward()
    for name, value in {**found.terms, "total": found.total}.items():
        assert value.dtype == torch.float32
        assert difference(value, golden.arrays[f"expected_{name}"]) < 5e-3, name
    for name, (ours, expected) in golden.gradients().items():
        assert difference(ours, expected) < 2e-2, name
