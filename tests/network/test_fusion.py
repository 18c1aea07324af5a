"""Weight fusion against the figures of EWF's program."""

import pytest
import torch
from method_figures import Figures, agree

from dkd.network import fusion


@pytest.mark.parametrize("case", ["ewf_1", "ewf_2"])
def test_fused_weights(case: str) -> None:
    figures = Figures(case)
    counts = figures["classes_with_background"].tolist()
    share = fusion.new_share(counts[-1], sum(counts))
    assert share == pytest.approx(figures.number("merge_weight"), rel=1e-12)
    before, after, merged = (
        {n.removeprefix(p): figures[n] for n in figures.arrays if n.startswith(p)}
        for p in ("old/", "new/", "merged/")
    )
    found = fusion.fused(before, after, share)
    assert found.keys() == merged.keys()
    for name, tensor in merged.items():
        agree(found[name], tensor, 1e-9, name)


def test_what_is_counted_is_not_averaged() -> None:
    found = fusion.fused({"n": torch.tensor(4)}, {"n": torch.tensor(9)}, 0.5)
    assert found["n"] == 9
