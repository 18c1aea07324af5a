"""Names that file systems, archives and pages could trip over, all the way through a run."""

from pathlib import Path

import numpy as np
import pytest
from fixtures.data_sets import write_pair
from step_runs import Run, scenario

from dkd.data import packed
from dkd.report import collect
from dkd.report.tables import table
from dkd.scenario.parsing import dump, load
from dkd.steps.step import read_json
from dkd.storage import artifacts

CLASSES = {1: "on", 2: "windowpane, window", 3: "\u732b <b>", 4: "caf\u00e9 & 'x'", 5: "12:30"}
IDS = [
    "x" * 246,  # with .png 250 bytes
    "\u732b" * 82,  # likewise
    "two  words",
    "a.b.c",
    "-dash",
    "100%",
    "caf\u00e9",
    "cafe\u0301",  # another file to Linux
    "#1 & <b>'\"",
    "~",
]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    root, rng = tmp_path / "a folder, with \u732b", np.random.default_rng(3)
    for split in ("train", "validation"):
        for number, id_ in enumerate(IDS):
            values = [1 + number % 5, 1 + (number + 1) % 5]
            write_pair(
                root / "images" / split / f"{id_}.png",
                root / "masks" / split / f"{id_}.png",
                rng,
                values,
            )
    lines = [f"{value}: {name!r}\n" for value, name in CLASSES.items() if "'" not in name]
    text = "".join(lines) + f'4: "{CLASSES[4]}"\n'
    (root / "classes.yaml").write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("pack", [False, True])
def test_odd_names_go_all_the_way(
    tmp_path: Path, odd: Path, monkeypatch: pytest.MonkeyPatch, pack: bool
) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    values = {
        "data": {"format": "folder", "root": str(odd), "pack": pack},
        "task": [["on", "windowpane, window", "cafe\u0301 & 'x'"], ["\u732b <b>", "12:30"]],
        "training.epochs.first": 1,
        "training.epochs.later": 1,
        "label": "<i>\u732b</i>",
    }
    given = scenario(**values)
    (tmp_path / "s.yaml").write_text(dump(given), encoding="utf-8")
    assert load(tmp_path / "s.yaml") == given
    run = Run(tmp_path / "root", given)
    dataset, _ = packed.open_dataset(run.prepared.dataset)
    assert sorted(record.id for record in dataset.train) == sorted(IDS)
    models, evaluations, memories = [], [], []
    for step in range(2):
        models.append(run.step(step).uri)
        evaluations.append(run.evaluation)
        memories.append(run.memory)
    kept = read_json(artifacts.load(run.memory), "memory.json")["exemplars"]
    assert {row["id"] for row in kept} <= set(IDS)
    result = collect.gather(
        given, run.prepared.task, run.prepared.dataset, "odd", models, evaluations, memories
    )
    assert result.classes == (*(CLASSES[n] for n in (1, 2, 4)), *(CLASSES[n] for n in (3, 5)))
    page = collect.page([result])
    for escaped in (
        "windowpane, window",
        "\u732b &lt;b&gt;",
        "12:30",
        "caf\u00e9 &amp; &#39;x&#39;",
    ):
        assert escaped in page
    assert "<i>\u732b" not in page
    assert "\u732b" in table([result])
