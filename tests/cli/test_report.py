from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from dkd.report.model import DatasetRef, RunResult, Scores, StepResult

Command = Callable[..., Result]
Refused = Callable[..., str]


def result(variant: str, seed: int, miou: float) -> bytes:
    scores = Scores(iou=(90.0, miou), miou_all=miou, miou_old=miou)
    return RunResult(
        scenario="tiny",
        variant=variant,
        method="dkd",
        seed=seed,
        task=(("cat",),),
        colours=((0, 0, 0), (64, 0, 0)),
        dataset=DatasetRef(name="pets", digest="0" * 64),
        steps=(StepResult(step=0, new_classes=("cat",), scores=scores),),
    ).to_json()


def put(root: Path, run: str, data: bytes) -> Path:
    folder = root / "runs" / run
    folder.mkdir(parents=True)
    (folder / "result.json").write_bytes(data)
    return folder


def test_runs_by_name_folder_and_file(dkd: Command, tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root, "tiny-1", result("DKD", 1, 60.0))
    folder = put(root, "tiny-2", result("DKD", 2, 62.0))
    file = put(tmp_path, "other", result("M", 1, 70.0)) / "result.json"
    shown = dkd("report", "tiny-1", folder, file, "--root", root, "-o", tmp_path / "page.html")
    assert shown.exit_code == 0, shown.output
    assert "61.0 ± 1.4" in shown.stdout
    assert "70.0" in shown.stdout
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<!")
    assert '61.0<span class="pm"> ± 1.4' in page


def test_markdown_and_the_default_place(dkd: Command, tmp_path: Path) -> None:
    folder = put(tmp_path, "tiny", result("DKD", 1, 60.0))
    shown = dkd("report", folder, "--markdown")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("| method | mIoU_old |")
    assert (tmp_path / "dkd-workspace" / "report.html").is_file()


def test_bad_input_is_one_line(refused: Refused, tmp_path: Path) -> None:
    assert "dkd-workspace: no workspace of `dkd run`" in refused("report", "tiny")
    root = tmp_path / "root"
    put(root, "bad", b"{}")
    assert "runs/none/result.json" in refused("report", "none", "--root", root)
    assert "bad/result.json: not a run's result" in refused("report", "bad", "--root", root)
    assert not (tmp_path / "dkd-workspace" / "report.html").exists()
