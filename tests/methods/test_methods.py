"""Methods by name, from inside and outside the package; what they refuse; what they keep."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from step_runs import Run, scenario

from dkd import methods
from dkd.errors import UserError
from dkd.steps.step import Step

# A method of somebody else's package: DKD that counts, over all ranks, the labels that it saw.
OUTSIDE = """
import torch

from dkd.methods import base
from dkd.methods.dkd import DKD


class Options(base.Options):
    bins: int = 256


class Counting(DKD):
    name = "counting"
    summary = "counts"
    options = Options
    key = classmethod(base.Method.key.__func__)

    def begin(self, walk):
        self.seen = sum(len(batch["id"]) for _, batch in walk(self.student))

    def finish(self, walk):
        bins = self.chosen(self.given.scenario).bins
        own = (
            [torch.bincount(batch["label"].flatten().long(), minlength=bins)]
            for output, batch in walk(self.student)
            if not output.logits.requires_grad
        )
        (counts,) = base.summed(own, self.given.gather)
        before = self.given.statistics.get("counts", torch.zeros_like(counts))
        return {"counts": counts + before, "seen": torch.tensor(self.seen)}


NONE = 5
"""
ENTRY_POINTS = """
[dkd.methods]
counting = outside:Counting
number = outside:NONE
missing = nowhere:Missing
"""


@pytest.fixture(autouse=True)
def _outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    package = tmp_path / "site"
    (package / "outside-1.0.dist-info").mkdir(parents=True)
    (package / "outside-1.0.dist-info" / "METADATA").write_text("Name: outside\nVersion: 1.0\n")
    (package / "outside-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    (package / "outside.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.delitem(sys.modules, "outside", raising=False)


def test_no_torch_is_needed_to_ask() -> None:
    program = "import sys, dkd.methods; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"method": "magic"},
            "method: 'magic' is none of dkd, star, mib, plop, barm, finetune, ",
        ),
        ({"method": "missing"}, "method: 'missing' is nowhere:Missing, but No module named"),
        ({"method": "number"}, "method: 'number' is outside:NONE, no class of dkd.methods.base"),
        ({"losses": {"magic": 1}}, "losses.magic: no such loss; there are mbce, kd, dkd_pos, "),
        ({"losses.magic": 1}, "losses.magic: no such loss"),
        ({"method_options": {"x": 1}}, "method_options.x: no such option of dkd; there are fuse"),
        (
            {"method": "counting", "method_options.size": 1},
            "method_options.size: no such option of counting; there are fuse, bins",
        ),
        ({"method": "counting", "method_options.bins": "many"}, "method_options.bins: "),
        ({"variants": {"x": {"method": "magic"}}}, "method: 'magic' is none of dkd"),
    ],
)
def test_what_no_method_knows_is_named_in_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as raised:
        methods.check(scenario(**values))
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=f"^my.yaml: {message[:10]}"):
        methods.check(scenario(**values), source="my.yaml")


def test_all_classes_at_once_are_one_step() -> None:
    assert methods.steps(scenario()) == 3
    assert methods.steps(scenario(method="joint")) == 1


def test_a_method_from_outside_keeps_what_its_next_step_reads(tmp_path: Path) -> None:
    run = Run(tmp_path / "root", scenario(method="counting", memory_size=0))
    first, second = run.step(0), run.step(1)
    one, two = (load_file(m.part_uri("statistics.safetensors")) for m in (first, second))
    images = int(one["seen"])
    assert images > 0
    assert int(one["counts"].sum()) == images * 32 * 32
    later = two["counts"] - one["counts"]
    assert int(later.sum()) == int(two["seen"]) * 32 * 32
    assert later[1:5].sum() == 0  # the old classes are background in the new images
    assert later[5:7].sum() > 0


def test_what_is_kept_is_the_same_again(tmp_path: Path) -> None:
    one, other = (Run(tmp_path / n, scenario(method="counting")) for n in ("a", "b"))
    assert one.step(0).digest == other.step(0).digest


def test_keys_name_a_method_and_its_options_where_they_are_not_todays(tmp_path: Path) -> None:
    def identity(**values: object) -> dict[str, Any]:
        run = Run(tmp_path / "root", scenario(memory_size=0, **values))
        return Step.open(run.spec(0)).checkpoint_identity

    assert not {"method", "method_options"} & identity().keys()
    plain = identity(method="counting")
    assert plain["method"] == "counting"
    assert plain == identity(method="counting", **{"method_options.bins": 256})  # the default
    assert identity(method="counting", **{"method_options.bins": 512})["method_options"] == {
        "bins": 512
    }
