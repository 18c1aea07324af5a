"""BARM's steps: the program's figures through the whole method, its network, and that it learns."""

import sys
from pathlib import Path

import pytest
import torch
from learning import learn
from step_runs import ALONE, Run, scenario

from dkd.errors import UserError
from dkd.methods.barm import BARM
from dkd.methods.base import Circumstances
from dkd.network import checkpoint, deeplab
from dkd.network.deeplab import Output, SegmentationModel
from dkd.network.speed import decided
from dkd.scenario.network import Network
from dkd.steps import editing
from dkd.steps.step import Step

sys.path.append(str(Path(__file__).parents[1] / "losses"))
from method_figures import Figures, agree


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))


def circumstances(step: int, protocol: str = "corrected") -> Circumstances:
    given = scenario(method="barm", memory_size=0, protocol=protocol)
    speed = decided(given.speed, gpu=False)
    return Circumstances(
        given, step, images_differ=False, speed=speed, average=ALONE.average, gather=ALONE.gather
    )


def with_heads(figures: Figures, prefix: str, counts: list[int]) -> SegmentationModel:
    """A model with the heads of a file of figures."""
    network = Network(backbone="demo", aspp_channels=8)  # which only the heads' figures pass by
    model = deeplab.build(network, counts, own_maps=True)
    for step in range(len(counts)):
        for kind in ("weight", "bias"):
            rows = figures[f"{prefix}cls{step}_{kind}"]
            rows = rows[:, :, None, None] if kind == "weight" else rows
            own = model.cls[0] if step == 0 else model.residuals[step - 1]
            setattr(own, kind, torch.nn.Parameter(rows[:1]))
            setattr(model.cls[step + 1], kind, torch.nn.Parameter(rows[1:]))
    model.background_channel = True
    return model


@pytest.mark.parametrize("case", ["barm_1", "barm_2"])
def test_a_batch_has_the_programs_loss_and_gradients(case: str) -> None:
    figures = Figures(case)
    # The file counts the background among the first step's classes where it lists any.
    rows = [len(figures[f"cls{k}_bias"]) - 1 for k in range(len(figures["classes"]))]
    student, teacher = with_heads(figures, "", rows), with_heads(figures, "teacher_", rows[:-1])
    method = BARM(student, teacher, circumstances(len(rows) - 1))
    names = {
        "bce": "bce",
        "triplet": "background_triplet",
        "features": "feature_distillation",
        "kd": "group_kd",
        "zero": "background_zero",
    }
    for batch, label in enumerate(figures["label"]):
        outputs = []
        for model, prefix in ((student, ""), (teacher, "teacher_")):
            maps = [
                figures.leaf(f"{prefix}ear_features{k}", batch) for k in range(len(model.own_maps))
            ]
            features = torch.cat(maps, 1)
            logits = model._heads(features)
            outputs.append(Output(features, logits, logits[:, :0], logits[:, :0]))
            if model is student:
                leaves, read = maps, model.logits(features)
        seen = figures["eval_logits_small"][batch]
        agree(read[:, 1:], (seen - seen[:, :1])[:, 1:], 1e-9, "read")
        student.zero_grad()
        losses = method.loss((outputs[0], outputs[1]), {"label": label})
        for name, theirs in names.items():
            agree(losses.terms[name], figures[theirs], 1e-9, name, batch)
        agree(losses.total, figures["total"], 1e-9, "total", batch)
        losses.total.backward()
        for k, leaf in enumerate(leaves):
            agree(leaf.grad, figures[f"grad_ear_features{k}"], 1e-9, f"map {k}", batch)
        for k in range(len(rows)):
            own = student.cls[0] if k == 0 else student.residuals[k - 1]
            found = torch.cat([own.weight.grad, student.head(k + 1).weight.grad])[:, :, 0, 0]
            agree(found, figures[f"grad_cls{k}_weight"], 1e-9, f"head {k}", batch)


def test_new_classes_are_learned_and_the_old_ones_kept(tmp_path: Path) -> None:
    values = {"training.lr.first": 0.05, "training.lr.later": 0.005, "training.epochs.first": 40}
    learned = learn(tmp_path, "barm", **values)
    assert {"bce", "triplet", "features", "kd", "zero", "total"} < learned.curve[0].keys()
    assert learned.last("bce") < learned.first("bce")
    # A class that is not learned, or forgotten, has 0; the number of threads moves it by 0.05.
    assert learned.iou["blue"] > 0.2
    assert learned.iou["red"] > 0.2


def test_a_head_more_changes_nothing_of_what_old_maps_say() -> None:
    teacher = deeplab.build(Network(backbone="demo", aspp_channels=8), [2, 1], own_maps=True).eval()
    student = BARM.grow(teacher, 3).eval()
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        ours, theirs = student(images), teacher(images)
    assert torch.equal(ours.features[:, :16], theirs.features)
    assert torch.equal(ours.features[:, 16:], theirs.features[:, 8:])
    assert torch.equal(ours.logits[:, :4], theirs.logits[:, :4])
    assert student.counts == (2, 1, 3)


@pytest.mark.parametrize("protocol", ["paper", "corrected"])
def test_only_the_program_forgets_a_new_maps_statistics(protocol: str) -> None:
    teacher = deeplab.build(Network(backbone="demo", aspp_channels=8), [2], own_maps=True)
    teacher.own_maps[0].get_submodule("1").running_mean.fill_(3)
    student = BARM.grow(teacher, 1)
    BARM(student, teacher, circumstances(1, protocol))
    means = [own.get_submodule("1").running_mean[0].item() for own in student.own_maps]
    assert means == [3, 0 if protocol == "paper" else 3]


def test_everything_learns_at_the_published_multiple_once() -> None:
    teacher = deeplab.build(Network(backbone="demo", aspp_channels=8), [2, 1], own_maps=True)
    student = BARM.grow(teacher, 1)
    groups = BARM(student, teacher, circumstances(2)).groups()
    found = {g["name"]: (g["factor"], len(g["params"])) for g in groups}
    assert [found[name][0] for name in ("backbone", "aspp", "old_heads", "new_head")] == [
        1,
        10,
        1,
        10,
    ]
    learned = [id(p) for g in groups for p in g["params"]]
    assert len(learned) == len(set(learned)) == sum(p.requires_grad for p in student.parameters())


def test_own_maps_travel_and_classes_can_be_renamed_alone(tmp_path: Path) -> None:
    run = Run(tmp_path / "root", scenario(method="barm", memory_size=0))
    for number in (0, 1):
        fetched = checkpoint.fetch(run.step(number).uri)
        assert len(fetched.model.own_maps) == 1 + number
    images = torch.rand(1, 3, 32, 32)
    renamed = editing.publish(run.teacher, {"four": "vier"}, [], {}, str(tmp_path / "renamed"))
    model = checkpoint.fetch(renamed.uri).model.eval()
    with torch.no_grad():
        ours, theirs = (m.logits(m.features(images)) for m in (model, fetched.model.eval()))
    assert torch.equal(ours, theirs)
    with pytest.raises(UserError, match="classes of such a model can be renamed alone"):
        editing.publish(run.teacher, {}, ["four"], {})


@pytest.mark.parametrize(("first", "later"), [("barm", "mib"), ("mib", "barm"), ("dkd", "barm")])
def test_a_teacher_of_another_network_is_refused(tmp_path: Path, first: str, later: str) -> None:
    run = Run(tmp_path / "root", scenario(method=first, memory_size=0))
    run.step(0)
    run.scenario = scenario(method=later, memory_size=0)
    with pytest.raises(
        UserError, match=f"was trained by {first} with .* method {later}[ ;]"
    ) as raised:
        Step.open(run.spec(1))
    assert "\n" not in str(raised.value)
