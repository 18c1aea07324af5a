"""Runs as they are followed: what is told of their tasks, and of the API server's absence."""

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result
from fake_kfp import VOC, FakeKfp, refused

from dkd.errors import UserError
from dkd.kubeflow import runs

Command = Callable[..., Result]


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
    assert done.stdout.count("504 no answer; trying again; the run continues\n") == 1
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
    assert "run mine failed at Report: it is broken; mend it (http" in done.stderr
    assert "Report: it is broken; mend it (http" in dkd("status", "mine").stdout


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (
            "/usr/bin/python3: Error while finding module specification for "
            "'kfp.dsl.executor_main' (ModuleNotFoundError: No module named 'kfp')",
            "the component's image lacks the launcher (--launcher-image): /usr/bin/python3: Error",
        ),
        (
            '{"time": "", "level": "error", "run": null, "step": null, "rank": null, '
            '"event": "dkd: data.root: no such folder"}',
            "data.root: no such folder (http",
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
    assert f"at Report: {told}" in done.stderr


@pytest.mark.parametrize("form", ["plain", "retried", "stock"])
def test_what_a_task_waits_for_is_told(dkd: Command, kfp: FakeKfp, form: str) -> None:
    kfp.form = form
    kfp.stuck = 'ImagePullBackOff: Back-off pulling image "r/launcher:1"'
    done = dkd("submit", *VOC, "--run-name", "mine", "--watch")
    assert f"  pending    Step 0: 15 classes: {kfp.stuck}\n" in done.stdout
    kfp.asked.clear()
    assert (
        f"  10:00:00             pending    Step 0: 15 classes: {kfp.stuck}"
        in dkd("status", "mine").stdout
    )


def test_a_run_whose_workflow_is_kept_elsewhere(dkd: Command, kfp: FakeKfp) -> None:
    kfp.form, kfp.keeps = "stock", "elsewhere"
    dkd("submit", *VOC, "--run-name", "mine")
    dkd("status", "mine")  # from now on the API's list of tasks is there
    shown = dkd("status", "mine").stdout
    assert "running    Step 0: 15 classes" in shown or "succeeded  Step 0: 15 classes" in shown, (
        shown
    )
    done = dkd("submit", *VOC, "--run-name", "other", "--watch")
    assert done.exit_code == 0, done.output
    assert "succeeded  Step 0: 15 classes" in done.stdout
    printed = dkd("logs", "other").stdout
    assert "=== Step 0: 15 classes: its pods are not known here, see http" in printed
