"""``dkd submit`` against a stand-in for the API server."""

from collections.abc import Callable

import pytest
from click.testing import Result
from fake_kfp import VOC, FakeKfp, refused

Command = Callable[..., Result]


@pytest.mark.parametrize("keeps", ["nodes", "packed"])
@pytest.mark.parametrize("form", ["plain", "retried", "stock"])
def test_a_run_is_submitted_and_watched(dkd: Command, kfp: FakeKfp, form: str, keeps: str) -> None:
    kfp.form, kfp.keeps = form, keeps
    done = dkd("submit", *VOC, "-p", "training_nodes=2", "--run-name", "mine", "--watch")
    assert done.exit_code == 0, done.output
    (run,) = kfp.runs
    given = run["runtime_config"]["parameters"]
    assert given["training_nodes"] == 2
    assert given["seed"] == 1  # the form's default, which the UI shows and compares
    assert run["pipeline_version_reference"]["pipeline_id"] == "p0"
    assert f"/#/runs/details/{run['run_id']}" in done.stdout
    assert f"kubectl logs -f -n kubeflow -l pipeline/runid={run['run_id']}" in done.stdout
    told = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()[4:]]
    assert told[:3] == [
        "running    Step 0: 15 classes",
        "succeeded  Step 0: 15 classes",
        "running    Step 1: + 5 classes",
    ]
    assert told[-1] == "succeeded  mine"


def test_the_same_content_is_uploaded_once(dkd: Command, kfp: FakeKfp) -> None:
    assert "uploaded" in dkd("submit", *VOC).stdout
    assert "is there" in dkd("submit", *VOC).stdout
    assert "uploaded" in dkd("submit", *VOC, "--set", "seed=2").stdout
    assert [len(versions) for versions in kfp.versions.values()] == [2]
    assert len(kfp.runs) == 3


@pytest.mark.usefixtures("kfp")
def test_an_image_that_nobody_can_pull_is_told(dkd: Command) -> None:
    words = "the components' image is dkd-launcher:"
    assert words in dkd("submit", *VOC).stderr
    assert words not in dkd("submit", *VOC, "--launcher-image", "r/l@sha256:1").stderr


def test_a_version_of_that_name_with_other_content(dkd: Command, kfp: FakeKfp) -> None:
    assert dkd("submit", *VOC, "--version-name", "one").exit_code == 0
    line = refused(dkd, "submit", *VOC, "--set", "seed=2", "--version-name", "one")
    assert "pipeline dkd-voc-15-5-dkd-m has a version one with other content" in line
    assert len(kfp.runs) == 1


def test_a_pipeline_whose_content_is_refused_is_not_left_empty(dkd: Command, kfp: FakeKfp) -> None:
    kfp.refuses = True
    assert "pipeline dkd-voc-15-5-dkd-m was not accepted" in refused(dkd, "submit", *VOC)
    assert kfp.pipelines == {}
    assert "was not accepted" in refused(
        dkd, "submit", *VOC, "--experiment", "new", "--create-experiment"
    )
    assert len(kfp.experiments) == 1
    kfp.refuses = False
    assert dkd("submit", *VOC).exit_code == 0
    kfp.refuses = True
    assert "was not accepted" in refused(dkd, "submit", *VOC, "--set", "seed=2")
    assert [len(versions) for versions in kfp.versions.values()] == [1]


def test_variables_for_other_commands_do_not_keep_a_compiled_file_from_being_submitted(
    dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dkd("compile", *VOC, "-o", "voc.yaml").exit_code == 0
    monkeypatch.setenv("DKD_ROOT", "s3://b/dkd")
    monkeypatch.setenv("DKD_TRAINING_IMAGE", "r/t@sha256:1")
    done = dkd("submit", "voc.yaml")
    assert done.exit_code == 0, done.output
    assert "already compiled" in refused(dkd, "submit", "voc.yaml", "--root", "s3://b/other")


def test_a_compiled_file_is_submitted_as_it_is(dkd: Command, kfp: FakeKfp) -> None:
    assert dkd("compile", "add-classes", "-o", "a.yaml").exit_code == 0
    line = refused(dkd, "submit", "a.yaml")
    assert line == "-p add_classes=...: add-classes needs it"
    line = refused(dkd, "submit", "a.yaml", "-p", "add_classes=[sheep]")
    assert line == "-p model_name=...: add-classes needs it"
    fields = ("add_classes=[sheep]", "model_name=street", "data_set_uri=s3://b/d")
    done = dkd("submit", "a.yaml", *(word for field in fields for word in ("-p", field)))
    assert done.exit_code == 0, done.output
    assert kfp.runs[0]["runtime_config"]["parameters"]["add_classes"] == ["sheep"]
    assert "already compiled" in refused(dkd, "submit", "a.yaml", "--set", "seed=1")


@pytest.mark.parametrize("rival", ["pipeline", "version", "experiment"])
def test_another_who_submits_at_the_same_moment(dkd: Command, kfp: FakeKfp, rival: str) -> None:
    kfp.rival = rival
    done = dkd("submit", *VOC, "--experiment", "new", "--create-experiment")
    assert done.exit_code == 0, done.output
    assert len(kfp.pipelines) == len(kfp.runs) == 1
    assert kfp.runs[0]["experiment_id"] == "e1"


def test_a_recurring_run(dkd: Command, kfp: FakeKfp) -> None:
    done = dkd("submit", *VOC, "--every", "12h")
    assert done.exit_code == 0, done.output
    assert "/#/recurringrun/details/r0" in done.stdout
    (made,) = kfp.recurring
    assert made["trigger"] == {"periodic_schedule": {"interval_second": "43200"}}
    assert made["max_concurrency"] == "1"
    assert kfp.runs == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-p", "nodes=2"), "-p nodes: the form has no such field; it has artifact_root, "),
        (("-p", "training_nodes=two"), "-p training_nodes=two: give a whole number"),
        (("-p", "training_nodes=0"), "training_nodes: launch.nodes: Input should be greater"),
        (("-p", "protocol=best"), "-p protocol=best: choose one of paper, corrected"),
        (("-p", "training_tolerations={a: b}"), "give a list"),
        (("--experiment", "nothing"), "no experiment 'nothing'; there are Default"),
        (("--create-experiment",), "--create-experiment: name it with --experiment"),
        (("--every", "daily"), "--every daily: write 12h"),
        (("--every", "12h", "--watch"), "--watch: follows a single run"),
        (("--port-forward",), "--port-forward: leave out --endpoint"),
    ],
)
def test_bad_input_starts_nothing(
    dkd: Command, kfp: FakeKfp, words: tuple[str, ...], message: str
) -> None:
    assert message in refused(dkd, "submit", *VOC, *words)
    assert kfp.pipelines == {}
    assert kfp.runs == []
    assert [each for each in kfp.requests if each.startswith("POST")] == []


def test_an_experiment_is_made_when_asked(dkd: Command, kfp: FakeKfp) -> None:
    assert dkd("submit", *VOC, "--experiment", "new", "--create-experiment").exit_code == 0
    assert kfp.runs[0]["experiment_id"] == "e1"
    assert kfp.experiments[1]["display_name"] == "new"
