"""Import of released checkpoints: made with torch.save in each form that they come in."""

import json
from pathlib import Path

import pytest
import torch

from dkd.errors import UserError
from dkd.network import released


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A small stand-in is no use here: names and shapes are what is checked."""
    listed = json.loads(
        (Path(__file__).parents[1] / "reference" / "official_state_dict.json").read_text()
    )
    made = {k: torch.zeros(()).expand(shape) for k, shape in listed.items()}
    made["cls.2.bias"] = torch.arange(5.0)
    made["backbone.bn1.num_batches_tracked"] = torch.tensor(7)
    return made


def save(content: object, folder: Path) -> Path:
    path = folder / "released.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_released_forms_load(
    state: dict[str, torch.Tensor], tmp_path: Path, wrapped: bool, prefix: str
) -> None:
    content = {prefix + key: value for key, value in state.items()}
    path = save({"state_dict": content, "epoch": 60} if wrapped else content, tmp_path)
    model = released.load(path, [15, 5])
    assert model.counts == (15, 5)
    loaded = model.state_dict()
    assert loaded["cls.2.bias"].tolist() == [0, 1, 2, 3, 4]
    assert loaded["backbone.bn1.num_batches_tracked"] == 7
    assert all(torch.equal(loaded[k], state[k]) for k in state)


BAD = {
    "missing": (
        lambda s: s.pop("aspp.convs.4.2.bias"),
        [15, 5],
        "'aspp.convs.4.2.bias' is missing",
    ),
    "extra": (lambda s: s.update(odd=torch.zeros(1)), [15, 5], "'odd' is unexpected"),
    "shape": (lambda s: None, [15, 4], "'cls.2.bias' is of another shape"),
    "steps": (lambda s: None, [15, 5, 1], "'cls.3.bias' is missing"),
    "fewer steps": (lambda s: None, [15], "'cls.2.bias' is unexpected"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_does_not_fit_is_named(
    state: dict[str, torch.Tensor], tmp_path: Path, fault: str
) -> None:
    change, counts, message = BAD[fault]
    changed = dict(state)
    change(changed)
    with pytest.raises(UserError, match=message):
        released.load(save({"state_dict": changed}, tmp_path), counts)
