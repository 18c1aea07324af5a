"""Batch normalisation over several CPU ranks: the same as one process with the whole batch."""

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dkd.network.deeplab import build, freeze_for_later_step
from dkd.network.normalisation import BatchNorm2d, synchronise
from dkd.scenario.network import Network

NETWORK = Network(backbone="demo", aspp_channels=8)


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    # Far from zero: variances by subtracting squares would lose their digits here.
    return 100 + torch.randn(4, 3, 32, 32, generator=generator)


def train(model: nn.Module, share: torch.Tensor) -> None:
    """Two iterations of plain SGD; dropout is off so that shares can be compared."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimiser.zero_grad()
        output = model(share, decomposed=2)
        (output.logits.square().mean() + output.positive.mean() + output.negative.mean()).backward()
        optimiser.step()


def rank(number: int, ranks: int, folder: Path) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=number, world_size=ranks
    )
    torch.manual_seed(0)
    model = build(NETWORK, [2])
    synchronise(model)
    per_rank = 4 // ranks
    train(DistributedDataParallel(model.train()), images()[per_rank * number :][:per_rank])
    torch.save(model.state_dict(), folder / f"{number}.pt")
    growing = [name for name, buffer in model.named_buffers() if buffer.requires_grad]
    (folder / f"{number}.growing").write_text("\n".join(growing))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two ranks wrote."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(rank, (2, folder), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def states(folder: Path) -> list[dict[str, torch.Tensor]]:
    return [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(2)]


def test_statistics_hold_on_to_no_iteration(folder: Path) -> None:
    """Buffers with a history would keep every iteration's activations: memory without end."""
    assert [path.read_text() for path in sorted(folder.glob("*.growing"))] == ["", ""]


def test_ranks_end_with_identical_statistics(states: list[dict[str, torch.Tensor]]) -> None:
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_ranks_together_train_as_one_process(states: list[dict[str, torch.Tensor]]) -> None:
    torch.manual_seed(0)
    model = build(NETWORK, [2]).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    train(model, images())
    after = model.state_dict()
    assert set(after) == set(states[0])
    for key, value in after.items():
        torch.testing.assert_close(states[0][key], value, rtol=1e-4, atol=1e-5, msg=key)
    moved = [k for k in after if "running" in k and not torch.equal(before[k], after[k])]
    assert len(moved) == sum("running" in k for k in after)


def test_one_process_computes_what_torch_does() -> None:
    ours, theirs = BatchNorm2d(3, momentum=0.01), nn.BatchNorm2d(3, momentum=0.01)
    x = images()
    for mode in (True, False):
        assert torch.equal(ours.train(mode)(x), theirs.train(mode)(x))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert torch.equal(ours.running_var, theirs.running_var)


def test_a_single_value_per_channel_uses_the_running_statistics() -> None:
    layer = BatchNorm2d(2)
    layer.running_mean.copy_(torch.tensor([1.0, 2.0]))
    layer.running_var.copy_(torch.tensor([4.0, 9.0]))
    found = layer.train()(torch.tensor([3.0, 8.0]).view(1, 2, 1, 1))
    torch.testing.assert_close(found.flatten(), torch.tensor([1.0, 2.0]), rtol=1e-4, atol=0)
    assert layer.running_mean.tolist() == [1.0, 2.0]
    assert layer.num_batches_tracked == 0


def test_freezing_reaches_synchronised_layers() -> None:
    model = build(NETWORK, [2])
    synchronise(model)
    freeze_for_later_step(model)
    model.train()
    assert not any(m.training for m in model.modules() if isinstance(m, BatchNorm2d))
