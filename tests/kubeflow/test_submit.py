"""``dkd submit``, ``status``, ``logs`` and ``cancel`` against a stand-in for the API server."""

import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fake_kfp import FakeKfp, serving

from dkd.cli import main
from dkd.errors import UserError
from dkd.kubeflow import runs

VOC = ("voc-15-5", "--variant", "DKD-M", "--data", "s3://b/voc", "--training-image", "r/t@sha256:1")
Command = Callable[..., Result]


@pytest.fixture
def kfp() -> FakeKfp:
    return FakeKfp()


@pytest.fixture
def dkd(kfp: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command, with the stand-in as its endpoint."""
    monkeypatch.chdir(tmp_path)
    for name in ("DKD_KFP_TOKEN", "DKD_KFP_TOKEN_FILE", "DKD_KFP_NAMESPACE", "DKD_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runs, "POLL", 0.05)
    with serving(kfp) as url:
        monkeypatch.setenv("DKD_KFP_ENDPOINT", url)
        yield lambda *words: CliRunner().invoke(main, list(words))


def refused(dkd: Command, *words: str) -> str:
    result = dkd(*words)
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line.removeprefix("dkd: ")


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
    first = "Step 0: 15 classes"
    assert told[:3] == [
        "running    Prepare data",
        "succeeded  Prepare data",
        f"running    {first}",
    ]
    assert told[-1] == "succeeded  mine"


def test_the_same_content_is_uploaded_once(dkd: Command, kfp: FakeKfp) -> None:
    assert "uploaded" in dkd("submit", *VOC).stdout
    assert "is there" in dkd("submit", *VOC).stdout
    assert "uploaded" in dkd("submit", *VOC, "--set", "seed=2").stdout
    assert [len(versions) for versions in kfp.versions.values()] == [2]
    assert len(kfp.runs) == 3


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


def test_a_compiled_file_is_submitted_as_it_is(dkd: Command, kfp: FakeKfp) -> None:
    assert dkd("compile", "add-classes", "-o", "a.yaml").exit_code == 0
    line = refused(dkd, "submit", "a.yaml")
    assert line == "-p add_classes=...: add-classes needs it"
    fields = ("add_classes=[sheep]", "add_to_teacher_uri=s3://b/c", "data_set_uri=s3://b/d")
    done = dkd("submit", "a.yaml", *(word for field in fields for word in ("-p", field)))
    assert done.exit_code == 0, done.output
    assert kfp.runs[0]["runtime_config"]["parameters"]["add_classes"] == ["sheep"]
    assert "compiled already" in refused(dkd, "submit", "a.yaml", "--set", "seed=1")


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
    ("every", "expected"),
    [
        ("30m", {"periodic_schedule": {"interval_second": "1800"}}),
        ("1w", {"periodic_schedule": {"interval_second": "604800"}}),
        ("0 3 * * 1-5", {"cron_schedule": {"cron": "0 0 3 * * 1-5"}}),
        ("*/10 * * * *", {"cron_schedule": {"cron": "0 */10 * * * *"}}),
    ],
)
def test_when_a_recurring_run_starts(every: str, expected: object) -> None:
    assert runs.trigger(every) == expected


@pytest.mark.parametrize("every", ["daily", "0h", "12", "* * * *", "1y"])
def test_bad_times_are_refused(every: str) -> None:
    with pytest.raises(UserError, match=r"^--every .*: write 12h"):
        runs.trigger(every)


def test_status_logs_and_cancel(dkd: Command, kfp: FakeKfp) -> None:
    dkd("submit", *VOC, "--run-name", "mine")
    identity = kfp.runs[0]["run_id"]
    assert f"{identity[:8]}  pending    2026-11-24 10:00  mine" in dkd("status").stdout
    shown = dkd("status", identity[:6])
    assert "running    Prepare data" in shown.stdout, shown.output
    assert "10:00:00" in shown.stdout
    printed = dkd("logs", "mine", "--follow")
    assert printed.stdout.count("made by a test") == 3
    assert printed.stdout.endswith("=== Step 1: + 5 classes\nmade by a test\n  epoch 1/2\n")
    assert dkd("logs", "mine", "--task", "prepare").stdout.count("===") == 1
    assert "no task 'nothing'" in refused(dkd, "logs", "mine", "--task", "nothing")
    assert "has ended: succeeded" in dkd("cancel", "mine").stdout
    dkd("submit", *VOC, "--run-name", "other")
    assert "told to end" in dkd("cancel", "other").stdout
    assert kfp.runs[0]["state"] == "FAILED"
    assert f"{kfp.runs[0]['run_id'][:8]}  canceled   " in dkd("status").stdout
    kfp.fails = True
    kfp.asked[kfp.runs[0]["run_id"]] = 2
    assert "run other was told to end (http" in refused(dkd, "status", "other", "--watch")
    kfp.runs[0]["state_history"] += [{"state": "FAILED"}, {"state": "RUNNING"}, {"state": "FAILED"}]
    assert "it is broken" in refused(dkd, "status", "other", "--watch")
    assert "no run 'nothing'" in refused(dkd, "cancel", "nothing")


def test_logs_through_the_ui(dkd: Command, kfp: FakeKfp) -> None:
    """It does not serve the API server's address of them, but one of its own."""
    kfp.is_ui = True
    dkd("submit", *VOC, "--run-name", "mine")
    assert dkd("logs", "mine", "--follow").stdout.count("made by a test") == 3


@pytest.mark.parametrize("command", [("status", "mine", "--watch"), ("logs", "mine", "--follow")])
def test_following_outlives_an_endpoint_that_does_not_answer(
    dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    dkd("submit", *VOC, "--run-name", "mine")
    answer = kfp.answer

    def away_after(looks: int, times: int) -> None:
        def answer_then_go(method: str, path: str, query: Any, body: Any) -> Any:
            given = answer(method, path, query, body)
            if path.startswith("v1beta1/runs/") and list(kfp.asked.values()) == [looks]:
                kfp.away = times
            return given

        kfp.asked.clear()
        monkeypatch.setattr(kfp, "answer", answer_then_go)

    away_after(looks=2, times=2)
    done = dkd(*command)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("504 no answer; trying again, the run goes on\n") == 1
    assert done.stdout.count(" answers again\n") == 1
    kfp.runs[0]["state"] = "RUNNING"
    away_after(looks=2, times=1000)
    monkeypatch.setattr(runs, "PATIENCE", 0.2)
    assert "504 no answer" in refused(dkd, *command)


@pytest.mark.parametrize(
    ("driver", "title"),
    [
        ("root-driver", "Start (driver)"),
        ("root.step-0-driver", "Step 0: 15 classes (driver)"),
        ("root.step-1-driver", "Step 1: + 5 classes (driver)"),
    ],
)
@pytest.mark.parametrize("form", ["plain", "stock"])
def test_a_driver_that_failed_is_told(
    dkd: Command, kfp: FakeKfp, driver: str, title: str, form: str
) -> None:
    kfp.driver, kfp.form = driver, form
    done = dkd("submit", *VOC, "--run-name", "mine", "--watch")
    assert (
        f"run mine failed at {title}: main: Error (exit code 1); it printed last: " in done.stderr
    )
    assert f"failed     {title}: main: Error" in dkd("status", "mine").stdout
    assert "made by a test" in dkd("logs", "mine", "--task", "driver").stdout


@pytest.mark.parametrize("form", ["plain", "retried", "stock"])
def test_why_a_run_failed_is_told(dkd: Command, kfp: FakeKfp, form: str) -> None:
    kfp.fails, kfp.form = True, form
    done = dkd("submit", *VOC, "--run-name", "mine", "--watch")
    assert done.exit_code == 2
    assert "run mine failed at Step 1: " in done.stderr
    assert "+ 5 classes: it is broken; mend it (http" in done.stderr
    assert "+ 5 classes: it is broken; mend it (http" in dkd("status", "mine").stdout


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (
            "/usr/bin/python3: Error while finding module specification for "
            "'kfp.dsl.executor_main' (ModuleNotFoundError: No module named 'kfp')",
            "the component's image lacks the launcher (--launcher-image): /usr/bin/python3: Error",
        ),
        ("Killed", "main: Error (exit code 2); it printed last: Killed (http"),
        (
            "F1127 00:31:07.228923      16 main.go:127] KFP driver: cannot write",
            "main: Error (exit code 2); it printed last: KFP driver: cannot write (http",
        ),
    ],
)
def test_what_a_component_printed_last_is_told(
    dkd: Command, kfp: FakeKfp, last: str, told: str
) -> None:
    kfp.fails, kfp.last = True, f"{last}\nError: exit status 1\n"
    done = dkd("submit", *VOC, "--run-name", "mine", "--watch")
    assert f"+ 5 classes: {told}" in done.stderr


@pytest.mark.parametrize("form", ["plain", "retried", "stock"])
def test_what_a_task_waits_for_is_told(dkd: Command, kfp: FakeKfp, form: str) -> None:
    kfp.form = form
    kfp.stuck = 'ImagePullBackOff: Back-off pulling image "r/launcher:1"'
    done = dkd("submit", *VOC, "--run-name", "mine", "--watch")
    assert f"  pending    Prepare data: {kfp.stuck}\n" in done.stdout
    kfp.asked.clear()
    assert (
        f"  10:00:00             pending    Prepare data: {kfp.stuck}"
        in dkd("status", "mine").stdout
    )


def test_the_token_is_sent(dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch) -> None:
    kfp.token = "secret"
    assert "asks to sign in: 401" in refused(dkd, "status")
    monkeypatch.setenv("DKD_KFP_TOKEN", "wrong")
    line = refused(dkd, "status")
    assert "the token was refused, or has expired: 401" in line
    assert "wrong" not in line
    kfp.refusal = 403
    assert "the token's account may not do this: 403" in refused(dkd, "status")
    Path("token").write_text("secret\n")
    monkeypatch.delenv("DKD_KFP_TOKEN")
    monkeypatch.setenv("DKD_KFP_TOKEN_FILE", "token")
    assert dkd("status").exit_code == 0
    monkeypatch.setenv("DKD_KFP_TOKEN_FILE", "gone")
    assert refused(dkd, "status") == "DKD_KFP_TOKEN_FILE=gone: No such file or directory"


def test_a_token_is_read_anew_for_every_call(
    dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster renews the one of a pod's account, a watched run takes days."""
    kfp.token = "first"
    Path("token").write_text("first\n")
    monkeypatch.setenv("DKD_KFP_TOKEN_FILE", "token")
    answer = kfp.answer

    def renew(method: str, path: str, query: Any, body: Any) -> Any:
        if path.startswith("v1beta1/runs/"):
            kfp.token += "+"
            Path("token").write_text(kfp.token)
        return answer(method, path, query, body)

    monkeypatch.setattr(kfp, "answer", renew)
    done = dkd("submit", *VOC, "--watch")
    assert done.exit_code == 0, done.output
    assert kfp.token.startswith("first+++")


def test_the_cookie_of_a_session_is_sent(
    dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.cookie = "authservice_session=secret"
    assert "asks to sign in: 302" in refused(dkd, "status")
    monkeypatch.setenv("DKD_KFP_COOKIE", "authservice_session=old")
    line = refused(dkd, "status")
    assert "was refused, or has expired: 302" in line
    assert "old" not in line
    monkeypatch.setenv("DKD_KFP_COOKIE", kfp.cookie)
    assert dkd("status").exit_code == 0


def test_whose_certificate_is_trusted(
    dkd: Command, kfp: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    name = "-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    made = ["openssl", *words.split(), *name.split(), "-keyout", "key", "-out", "certificate"]
    subprocess.run(made, check=True, capture_output=True)
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.load_cert_chain("certificate", "key")
    with serving(kfp, certificate) as url:
        line = refused(dkd, "status", "--endpoint", url)
        assert "its certificate is not trusted here; let SSL_CERT_FILE name" in line
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate"))
        assert dkd("status", "--endpoint", url).exit_code == 0


def test_a_run_whose_workflow_is_kept_elsewhere(dkd: Command, kfp: FakeKfp) -> None:
    kfp.form, kfp.keeps = "stock", "elsewhere"
    dkd("submit", *VOC, "--run-name", "mine")
    dkd("status", "mine")  # from now on the API's list of tasks is there
    shown = dkd("status", "mine").stdout
    assert "running    Prepare data" in shown or "succeeded  Prepare data" in shown, shown
    done = dkd("submit", *VOC, "--run-name", "other", "--watch")
    assert done.exit_code == 0, done.output
    assert "succeeded  Step 0: 15 classes" in done.stdout
    printed = dkd("logs", "other").stdout
    assert "=== Prepare data: its pods are not known here, see http" in printed


def test_what_is_no_endpoint_is_told(
    dkd: Command, kfp: FakeKfp, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.page = b"<html>sign in</html>"
    assert "asks to sign in: 200" in refused(dkd, "status")
    kfp.page = b"hello"
    assert "answered 200, but not as Kubeflow Pipelines does" in refused(dkd, "status")
    kfp.page = None
    kfp.health["tag_name"] = "2.5.0"
    assert "Kubeflow Pipelines 2.5.0 is too old" in refused(dkd, "status")
    kfp.health = {"apiServerTagName": "2.4.1"}  # so the UI says it
    assert "Kubeflow Pipelines 2.4.1 is too old" in refused(dkd, "status")
    kfp.health = {"multi_user": False}
    assert "no namespace 'team-a'" in refused(dkd, "status", "--namespace", "team-a")
    kfp.health = {"multi_user": True}
    assert "name yours with --namespace" in refused(dkd, "status")
    assert dkd("status", "--namespace", "team-a").exit_code == 0
    monkeypatch.setenv("DKD_KFP_ENDPOINT", "http://127.0.0.1:9")
    assert "no answer from Kubeflow Pipelines" in refused(dkd, "status")
    monkeypatch.delenv("DKD_KFP_ENDPOINT")
    assert refused(dkd, "status").startswith("--endpoint: say where Kubeflow Pipelines is")


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
        (("--port-forward",), "--port-forward: goes without --endpoint"),
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
