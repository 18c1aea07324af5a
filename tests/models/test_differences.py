"""What differs between two versions."""

from pathlib import Path

from made_results import FAILED, finished

from dkd.models import adding, differences


def test_figures_and_facts(tmp_path: Path) -> None:
    root = str(tmp_path)
    finished(root, "one", "road", "car")
    finished(root, "two", "road", "car", "sheep", gate=(FAILED,))
    one, two = (adding.add_run(root, "s", run, registry="", say=print) for run in ("one", "two"))
    rows = {name: rest for name, *rest in differences.figures(one, two)}
    assert list(rows)[-2:] == ["sheep", "mIoU of all classes"]
    assert rows["class"] == ["version 1", "version 2", "points"]
    assert rows["road"] == ["50.0", "40.0", "-10.0"]
    assert rows["sheep"] == ["", "42.0", ""]
    assert rows["mIoU of all classes"] == ["69.0", "68.0", "-1.0"]
    facts = {name: rest for name, *rest in differences.facts(one, two)}
    assert facts["gate"] == ["Gate: passed", "Gate: failed, sheep 12.3 < 20"]
    assert facts["classes"] == ["2", "3"]
    assert "data set" not in facts
    assert differences.facts(one, one) == []
