"""Components as plain functions: what the first task says and leaves behind."""

import json
from pathlib import Path
from typing import Any

import pytest
import step_runs
from kfp import dsl

from dkd.components import preparation
from dkd.components.evaluate.component import evaluate
from dkd.components.learn_first_step.component import learn_first_step
from dkd.components.learn_step.component import learn_step
from dkd.components.prepare_extension.component import prepare_extension
from dkd.components.report.component import report
from dkd.kubeflow import local_runner
from dkd.models import adding
from dkd.models import catalogue as models
from dkd.report import stored_cards
from dkd.scenario import catalogue, form
from dkd.scenario.data import Data
from dkd.scenario.gate import Gate
from dkd.scenario.launch import Launch
from dkd.steps import stages
from dkd.steps.step import StepSpec
from dkd.storage import artifacts


def arguments(root: Path, **values: Any) -> dict[str, Any]:
    few = {"train": 60, "validation": 12, "size": 32}
    size = {f"data.pictograms.{name}": value for name, value in few.items()}
    scenario = catalogue.scenario("demo", {**size, "data.pack": False, "variants": {}})
    document = scenario.model_dump(mode="json", exclude_none=True)
    return {
        "scenario": scenario.model_dump_json(),
        "workflow": "dkd-demo-x7k2p",
        **form.defaults(form.INCREMENTAL, document),
        "artifact_root": str(root),
        **values,
    }


def shown(folder: Path) -> dict[str, dsl.Artifact]:
    """What a step shows, with its record of the model in a folder."""
    return {
        "model": dsl.Model(uri=str(folder / "model")),
        "metrics": dsl.Metrics(),
        "confusion_matrix": dsl.ClassificationMetrics(),
        "step_page": dsl.HTML(),
        "model_card": dsl.HTML(),
    }


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))


def test_the_run_is_called_as_its_workflow_unless_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    prepared = preparation.of_form(arguments(root, seed=5))
    assert prepared.run_name == "dkd-demo-x7k2p"
    assert (root / "runs/dkd-demo-x7k2p/scenario.json").is_file()
    made = stages.parsed(Path(prepared.scenario).read_bytes())
    assert (made.seed, made.launch.backend) == (5, "local")
    assert prepared.task[-1] == ["plane", "boat"]
    named = preparation.of_form(arguments(root, run_name="mine"))
    assert named.run_name == "mine"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs_first_step": 0}, "dkd: epochs_first_step: "),
        ({"training_backend": "trainjob"}, "dkd: training_image: name the training image"),
        ({"other_settings": {"tasks": []}}, "dkd: other_settings: tasks: no such field"),
        ({"data_set_uri": "/nowhere/packed"}, "dkd: /nowhere/packed"),
    ],
)
def test_bad_values_end_the_first_task(
    values: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        learn_first_step.python_func(**arguments(tmp_path / "root", **values), **shown(tmp_path))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)
    assert not list(tmp_path.glob("root/datasets/*"))


def test_the_first_task_hands_on_what_it_prepared_and_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ensure(spec: StepSpec, run: str) -> dict[str, artifacts.Manifest]:
        asked.append((spec, run))
        uri = str(tmp_path / "checkpoints/k")
        return {"train": artifacts.publish(uri, {"x": b"1"}, kind="test", metadata={})}

    monkeypatch.setattr(stages, "ensure", ensure)
    given = arguments(tmp_path / "root", epochs_first_step=3.0)
    first = learn_first_step.python_func(**given, **shown(tmp_path))
    ((spec, run),) = asked
    scenario, dataset, task, named, *made = first
    assert run == named == "dkd-demo-x7k2p"
    assert (spec.step, spec.teacher, spec.memory) == (0, "", "")
    assert spec.scenario.training.epochs.first == 3
    assert spec == stages.step_spec(scenario, task, 0.0, dataset, given["artifact_root"])
    assert made == [str(tmp_path / "checkpoints/k"), "", ""]


def test_an_extension_needs_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"launch": Launch().model_dump(mode="json", exclude_none=True)}
    values = {
        **form.defaults(form.EXTENSION, known),
        "workflow": "w",
        "memory": "",
        "settings": "{}",
        "artifact_root": str(tmp_path),
        "add_classes": ["nine"],
        "teacher": str(tmp_path / "checkpoints/none"),
        "data_set_uri": str(tmp_path / "data"),
    }
    with pytest.raises(SystemExit):
        prepare_extension.python_func(**values)
    assert f"dkd: {tmp_path}/checkpoints/none" in capsys.readouterr().err


def teacher(root: Path, name: str, known: str = "one") -> str:
    """A checkpoint that knows the digit one, or another class, by its documents alone."""
    given = catalogue.scenario("demo", {"variants": {}})
    metadata = {"run": "import", "scenario": given.model_dump(mode="json")}
    parts = {"checkpoint.json": json.dumps({"classes": [[known]]}).encode(), "of": name.encode()}
    return artifacts.publish(
        str(root / "checkpoints" / name), parts, kind="checkpoint", metadata=metadata
    ).uri


def memory_of(root: Path, name: str, *classes: list[str]) -> artifacts.Manifest:
    """A memory without exemplars."""
    parts = {"memory.json": json.dumps({"classes": classes, "exemplars": []}).encode()}
    return artifacts.publish(str(root / "memories" / name), parts, kind="memory", metadata={})


def test_an_extension_needs_the_teachers_own_memory(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    known = teacher(root, "one")
    later = memory_of(root, "later", ["one"], ["two"])
    for inputs, told in (
        (
            {"teacher": known, "memory": later.uri},
            f'{later.uri}: this memory was chosen for a model that knows [["one"], ["two"]], but '
            'the teacher knows [["one"]]; name the memory of the teacher\'s own step',
        ),
        (
            {"teacher": known, "memory": known},
            f"{known}: checkpoint; name a memory",
        ),
        ({"teacher": later.uri}, f"{later.uri}: memory; name a checkpoint"),
    ):
        with pytest.raises(SystemExit) as ended:
            extended(root, folder, **inputs)
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"dkd: {told}\n"
    assert not (root / "runs").exists()
    assert not (root / "datasets").exists()


def test_an_extension_begins_from_what_is_in_production(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The model's name is all that the form asks for; its memory is that version's."""
    root = tmp_path / "root"
    memory = memory_of(root, "m", ["one"])
    given: dict[str, Any] = {"registry": "", "say": print}
    for name, kept in (("first", memory.uri), ("second", "")):
        adding.add_checkpoint(str(root), "street", teacher(root, name), kept, **given)
    with pytest.raises(SystemExit):
        extended(root, folder, model_name="street")
    told = "dkd: model street: no version is in production; dkd models promote street 2\n"
    assert capsys.readouterr().err == told
    for number, kept in ((1, memory.uri), (2, "")):
        models.promote(str(root), "street", number, by="Ada")
        made = extended(root, folder, model_name="street", run_name=f"run{number}")
        assert (made.teacher, made.memory) == (
            models.version(str(root), "street", number).checkpoint.uri,
            kept,
        )
    one = models.version(str(root), "street", 1)
    strict = {"judged_by": Gate(miou_all_at_least=60, on_failure="stop"), "licence": "MIT"}
    models.add(str(root), one.model_copy(update={**strict, "run": "strict"}))
    models.promote(str(root), "street", 3, by="Ada")
    settings = {"data.format": "folder", "gate.on_failure": "mark"}
    made = extended(root, folder, model_name="street", run_name="r3", other_settings=settings)
    judged = stages.parsed(Path(made.scenario).read_bytes())
    assert (judged.gate, judged.licence) == (Gate(miou_all_at_least=60), "MIT")
    with pytest.raises(SystemExit):
        extended(root, folder)
    assert capsys.readouterr().err.startswith("dkd: model_name: name the model to extend, as ")


def extended(root: Path, folder: Path, **values: Any) -> Any:
    known = {"launch": Launch().model_dump(mode="json", exclude_none=True)}
    given = {
        **form.defaults(form.EXTENSION, known),
        "workflow": "",
        "teacher": "",
        "memory": "",
        "settings": "{}",
        "artifact_root": str(root),
        "add_classes": ["cat"],
        "data_set_uri": str(folder),
        "other_settings": {"data.format": "folder"},
        "run_name": "mine",
        **values,
    }
    return prepare_extension.python_func(**given)


def test_an_extension_claims_its_runs_name(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else another teacher's, or the same one's with another memory, would replace its result."""
    root = tmp_path / "root"
    one, other = teacher(root, "one"), teacher(root, "other")
    memory = memory_of(root, "m", ["one"])
    assert extended(root, folder, teacher=one).run_name == "mine"
    claim = (root / "runs/mine/scenario.json").read_bytes()
    assert extended(root, folder, teacher=one).run_name == "mine"  # goes on
    for inputs, what in (
        ({"teacher": other}, "teacher: "),
        ({"teacher": one, "memory": memory.uri}, "memory: "),
    ):
        with pytest.raises(SystemExit):
            extended(root, folder, **inputs)
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("dkd: run 'mine' exists with another scenario (")
        assert what in line
        assert (root / "runs/mine/scenario.json").read_bytes() == claim
    assert extended(root, folder, teacher=other, run_name="hers").run_name == "hers"


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([7.0], 'new classes: 7.0 is not a name; write "7.0"'),
        ([True], 'new classes: True is not a name; write "true"'),
        (["one", "Cat"], "new classes: unknown class 'one'"),
        (["Cat"], "unknown class 'Cat'; did you mean 'cat'?"),
        (["cat", "cat"], "class 'cat' is already in step 0"),
        ([""], "a class's name is empty"),
        ([], "no class"),
    ],
)
def test_new_classes_are_names_of_the_data_set(
    tmp_path: Path,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    classes: list[Any],
    message: str,
) -> None:
    """By their values, which other data number otherwise, nobody could tell what was meant."""
    model = teacher(tmp_path / "root", "one")
    with pytest.raises(SystemExit):
        extended(tmp_path / "root", folder, teacher=model, add_classes=classes)
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not list(tmp_path.glob("root/runs/*"))


def test_a_class_that_the_model_knows_is_not_new(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    with pytest.raises(SystemExit):
        extended(root, folder, teacher=teacher(root, "cats", "cat"), add_classes=["dog", "cat"])
    told = "dkd: new classes: the model knows 'cat' already; leave it out"
    assert capsys.readouterr().err.splitlines()[-1] == told


def test_a_model_is_recorded_by_uri_and_origins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In KFP's metadata, and as the content that the UI previews, the URI first; also where there
    was nothing to score it on.
    """
    teacher = {"uri": "s3://b/checkpoints/t", "digest": "0" * 64}
    made = artifacts.publish(
        str(tmp_path / "checkpoints/k"), {"x": b"1"}, kind="test", metadata={"teacher": teacher}
    )
    given = stages.parsed(arguments(tmp_path)["scenario"])
    scenario = stages.write_resolved(str(tmp_path), "r", given)
    places = shown(tmp_path)
    for results, memory in (({"train": made}, ""), ({"train": made, "memory": made}, made.uri)):
        monkeypatch.setattr(stages, "ensure", lambda *_, results=results: results)
        step = (scenario, [["one"]], 0, "d", "r", "mine", "", "")
        learned = learn_step.python_func(*step, **places)
        assert learned == (made.uri, "", memory)
        assert "no test image shows a class of this model" in capsys.readouterr().out
    model = places["model"]
    assert model.metadata["teacher_uri"] == teacher["uri"]
    lines = (tmp_path / "model").read_text().splitlines()
    assert lines[:2] == [f"uri: {made.uri}", f"digest: {made.digest}"]
    assert f"teacher_uri: {teacher['uri']}" in lines


def stored(file: Path) -> dsl.HTML:
    """A page as on a cluster, whose UI shows it: its URI is a store's, and it is written to a
    file.
    """

    class Stored(dsl.HTML):
        path = property(lambda _self: str(file))  # type: ignore[assignment]

    return Stored(uri="s3://bucket/page")


def test_a_step_shows_its_models_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same that lies beside the checkpoint once the run is over."""
    run = step_runs.Run(tmp_path / "root", step_runs.scenario(**{"training.epochs.first": 1}))
    checkpoint = run.step(0)
    task = [list(names) for names in run.prepared.task.steps]
    scenario = stages.write_resolved(str(run.root), "test", run.scenario)
    step = (scenario, task, 0, run.prepared.dataset, str(run.root), "test")
    model = dsl.Model(uri=str(tmp_path / "model"))
    measured = (dsl.Metrics(uri="m"), dsl.ClassificationMetrics(uri="c"))
    page, card = tmp_path / "page.html", tmp_path / "card.html"
    learned = learn_step.python_func(*step, "", "", model, *measured, stored(page), stored(card))
    whole = ([learned.checkpoint], [learned.evaluation], [learned.memory])
    report.python_func(*step[:2], *step[3:], *whole, "", "", "", dsl.HTML(uri=str(tmp_path / "r")))
    shown = card.read_text()
    assert f"<dd>{checkpoint.digest}</dd>" in shown
    assert shown.encode() == stored_cards.read(checkpoint.uri, ".html")
    assert "<h3>Model card" in page.read_text()


def test_a_step_that_fails_its_gate_ends_the_run_where_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its page and its verdict are there all the same; another word of what follows is no key."""
    given = step_runs.scenario(**{"training.epochs.first": 1, "gate.miou_all_at_least": 100})
    run = step_runs.Run(tmp_path / "root", given)
    checkpoint = run.step(0)
    page = tmp_path / "page.html"

    def call(scenario: Any, teacher: str = "") -> str:
        capsys.readouterr()
        step = (
            stages.write_resolved(str(run.root), "test", scenario),
            [list(names) for names in run.prepared.task.steps],
            0,
            run.prepared.dataset,
            str(run.root),
            "test",
        )
        shown = (
            dsl.Metrics(uri=str(tmp_path / "metrics")),
            dsl.ClassificationMetrics(uri=str(tmp_path / "matrix")),
            stored(page),
        )
        if teacher:
            return str(evaluate.python_func(*step, teacher, *shown))
        model, card = dsl.Model(uri=str(tmp_path / "model")), stored(tmp_path / "card.html")
        return str(learn_step.python_func(*step, "", "", model, *shown, card).evaluation)

    assert call(given) == run.evaluation
    assert "step 0: Gate: failed, mIoU of all classes " in capsys.readouterr().out
    assert "<h3>Gate</h3>" in page.read_text()
    page.unlink()
    with pytest.raises(SystemExit) as ended:
        call(given.override({"gate.on_failure": "stop"}))
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dkd: step 0: Gate: failed, mIoU of all classes ")
    assert line.endswith(f"what was trained is kept: {checkpoint.uri}")
    assert "<h3>Gate</h3>" in page.read_text()
    call(given.override({"gate.miou_all_at_least": 0, "gate.on_failure": "stop"}))
    assert "step 0: Gate: passed" in capsys.readouterr().out
    # What is only scored, the teacher of an extension, has passed or failed long ago.
    strict = given.override({"gate.on_failure": "stop"})
    assert call(strict, teacher=checkpoint.uri) == run.evaluation
    assert "Gate" not in capsys.readouterr().out


def test_an_extension_is_judged_by_what_the_old_classes_lose(tmp_path: Path, folder: Path) -> None:
    root = tmp_path / "root"
    made = extended(root, folder, teacher=teacher(root, "one"))
    gate = stages.parsed(Path(made.scenario).read_bytes()).gate
    assert gate == Gate(old_classes_may_lose_at_most=5, new_classes_at_least=5)
    settings = {"data.format": "folder", "gate.new_classes_at_least": 20, "gate.on_failure": "stop"}
    given = {"other_settings": settings, "run_name": "hers"}
    made = extended(root, folder, teacher=teacher(root, "one"), **given)
    gate = stages.parsed(Path(made.scenario).read_bytes()).gate
    assert (gate.new_classes_at_least, gate.on_failure) == (20, "stop")


def test_what_a_command_has_settled_may_be_null(tmp_path: Path, folder: Path) -> None:
    """KFP's local runner takes no null in a mapping (kfp 2.17)."""
    root = tmp_path / "root"
    settled = {"gate.old_classes_may_lose_at_most": None, "gate.miou_all_at_least": 1}
    given = {"settings": json.dumps(settled), "teacher": teacher(root, "one")}
    made = extended(root, folder, **given)
    gate = stages.parsed(Path(made.scenario).read_bytes()).gate
    assert gate == Gate(miou_all_at_least=1, new_classes_at_least=5)
    data = Data(format="folder", root="r")
    planned = local_runner.plan_extension("t", ["cat"], data, "", settled, "n")
    (task,) = [t for n, t in planned.build().pipeline_spec.root.dag.tasks.items() if "prep" in n]
    constant = task.inputs.parameters["settings"].runtime_value.constant.string_value
    assert json.loads(constant).items() >= settled.items()
