"""What running tasks print: of Kubeflow Pipelines, of the cluster, or of neither."""

from collections.abc import Callable

from click.testing import Result
from fake_api import FakeApi
from fake_kfp import VOC, FakeKfp

Command = Callable[..., Result]


def test_what_a_running_task_has_printed_is_read_from_the_cluster(
    dkd: Command, kfp: FakeKfp, api: FakeApi
) -> None:
    """The API server looks for a running pod in no namespace, unless every user has one."""
    dkd("submit", *VOC, "--run-name", "mine")
    api.write_log("w-1-system-container-impl-90", "made by a test", "  epoch 1/2")
    assert dkd("logs", "mine").stdout == "=== Step 0: 15 classes\nmade by a test\n  epoch 1/2\n"
    kfp.asked.clear()
    assert dkd("logs", "mine", "--follow").stdout.count("made by a test") == 3


def test_where_a_running_tasks_log_is_to_be_had_is_told(dkd: Command, kfp: FakeKfp) -> None:
    dkd("submit", *VOC, "--run-name", "mine")
    printed = dkd("logs", "mine", "--follow").stdout
    told = (
        "=== Step 0: 15 classes: no log of it here until it has ended; meanwhile: kubectl logs -f "
    )
    assert printed.startswith(f"{told}-n kubeflow w-1-system-container-impl-90 -c main\n")
    assert printed.count(told) == 1
    assert printed.count("made by a test") == 3


def test_what_a_running_task_has_printed_where_users_have_namespaces(
    dkd: Command, kfp: FakeKfp
) -> None:
    kfp.health["multi_user"] = True
    dkd("submit", *VOC, "--run-name", "mine", "--namespace", "team")
    printed = dkd("logs", "mine", "--namespace", "team").stdout
    assert printed == "=== Step 0: 15 classes\nmade by a test\n  epoch 1/2\n"


def test_what_a_task_of_a_large_run_printed_is_read_from_the_cluster(
    dkd: Command, kfp: FakeKfp, api: FakeApi
) -> None:
    """The API server (2.17.0) does not find the kept logs of a workflow whose nodes are packed."""
    kfp.keeps = "packed"
    dkd("submit", *VOC, "--run-name", "mine")
    for number in range(3):
        api.write_log(f"w-1-system-container-impl-9{number}", f"made by test {number}")
    printed = dkd("logs", "mine", "--follow").stdout
    assert [line for line in printed.splitlines() if not line.startswith("===")] == [
        f"made by test {number}" for number in range(3)
    ]
