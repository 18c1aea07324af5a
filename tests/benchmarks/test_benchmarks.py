"""``make bench`` runs from end to end, at sizes that mean nothing; rows say what they should."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import memory
from benchmarks.cases import CASES, Size, models
from benchmarks.communication import efficiency
from benchmarks.rows import Row, read, table, with_measured, write
from benchmarks.whole_run import Line, outside, phases


def test_every_part_gives_rows(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--json", str(file)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(file.read_text())
    assert document["torch"] == torch.__version__
    rows = read(file)
    assert {row.group for row in rows} == {
        "loading",
        "training step",
        "memory",
        "losses",
        "evaluation",
        "communication",
        "whole run",
        "growth",
    }
    for row in rows:
        assert row.device in ("CPU", "GPU")
        assert row.device == "GPU" or row.ours is not None, row.what
    if not torch.cuda.is_available():
        assert not [row.what for row in rows if row.device == "GPU" and row.ours is not None]
        assert "not measured" in done.stdout


def test_a_gpus_rows_from_elsewhere_take_the_place_of_what_was_not_measured() -> None:
    here = [
        Row("loading", "decoding", "ms", 1.0),
        Row("loading", "copying", "ms", device="GPU"),
        Row("loading", "resizing", "ms", device="GPU"),
        Row("losses", "time", "ms", 3.0),
    ]
    elsewhere = [
        Row("loading", "decoding", "ms", 9.0),
        Row("loading", "copying", "ms", 2.0, device="GPU"),
        Row("loading", "resizing", "ms", device="GPU"),
    ]
    found = with_measured(here, elsewhere)
    assert [(row.group, row.what, row.ours) for row in found] == [
        ("loading", "decoding", 1.0),
        ("loading", "resizing", None),
        ("loading", "copying", 2.0),
        ("losses", "time", 3.0),
    ]


def test_a_row_says_whether_its_limit_is_reached(tmp_path: Path) -> None:
    less = Row("part", "time", "ms", 2.0, baseline=6.0, limit=3.0)
    more = Row("part", "rate", "1/s", 6.0, baseline=2.0, better="more", limits="ratio", limit=4.0)
    assert (less.ratio, less.reached) == (3.0, True)
    assert (more.ratio, more.reached) == (3.0, False)
    none = Row("part", "nothing", "ms", None, device="GPU", baseline=1.0, limit=1.0)
    assert (none.ratio, none.reached) == (None, None)
    rows = [less, more, none, Row("part", "sent", "kB", 0.0, limit=0.0)]
    assert rows[-1].reached
    write(tmp_path / "rows.json", rows, {})
    assert read(tmp_path / "rows.json") == rows
    lines = table(rows).splitlines()
    assert "| 2 ms | 6 | 3.00 |  | <= 3 | reached |" in lines[2]
    assert ">= 4x | MISSED" in lines[3]
    assert "not measured" in lines[4]


@pytest.mark.parametrize("folded", [False, True])
def test_what_is_counted_as_kept_is_what_autograd_keeps(folded: bool) -> None:
    """Counted on the meta device, beside the same count with real tensors."""
    case, size = CASES["voc"], Size("demo", 32, 2, 16)
    counted = memory.kept_by_network(case, size, 2, folded, torch.float32)
    _, student = models(case, size)
    if folded:
        memory.fold_student(student)
    kept: dict[int, int] = {}
    own = {t.untyped_storage().data_ptr() for t in (*student.parameters(), *student.buffers())}
    alive = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        alive.append(tensor)  # or its address would be taken again
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        student.train().features(torch.randn(2, 3, 32, 32))
    real = sum(size for place, size in kept.items() if place not in own)
    assert counted == pytest.approx(real, rel=0.01)  # a device keeps a few small numbers more


def test_folding_halves_what_is_kept() -> None:
    size = Size("resnet18", 64, 1)
    folded, plain = (
        memory.kept_by_network(CASES["voc"], size, 2, on, torch.bfloat16)
        - memory.kept_by_network(CASES["voc"], size, 1, on, torch.bfloat16)
        for on in (True, False)
    )
    assert folded < 0.6 * plain


def test_more_nodes_never_compute_a_larger_share() -> None:
    shares = [efficiency(nodes, 8, 25e9) for nodes in (1, 2, 4, 8, 16, 32, 64)]
    assert shares == sorted(shares, reverse=True)
    assert all(0 < share <= 1 for share in shares)


def test_a_run_is_cut_at_its_lines() -> None:
    lines = [
        Line(1.0, "data set: digits, 60 images"),
        Line(3.0, "step 0 (zero, one): 60 images, 2 epochs, 14 iterations on 2 ranks (cpu)"),
        Line(4.0, "  epoch 1/2: total 1.0"),
        Line(5.0, "  epoch 2/2: total 0.5"),
        Line(5.5, "step 0 train: 4.1 s, s3://dkd/checkpoints/0"),
        Line(7.0, "step 0 evaluate: 1.2 s, s3://dkd/evaluations/0"),
        Line(7.5, "step 0 memory: 0.4 s, s3://dkd/memories/0"),
        Line(9.0, "end"),
    ]
    assert phases(lines) == {
        "start": 3.0,
        "training": 2.0,
        "publish": 0.5,
        "evaluate": 1.5,
        "memory": 0.5,
        "end": 1.5,
    }


def test_the_extrapolation_counts_the_published_images() -> None:
    beside, inside = outside(rate=542.0, scored=100.0, start=0.0, publish=0.0, fetch=0.0)
    first, later = 9568 // 32 * 32 * 60, [487, 299, 491, 500, 548]
    trained = sum((n + 100) // 32 * 32 * 60 for n in later)
    assert inside == pytest.approx((first * 406 / 542 + trained) / 542)
    tested = 1240 + 1277 + 1329 + 1353 + 1421 + 1449
    scored = tested + sum(n + 100 for n in later)
    assert beside == pytest.approx(6 * 4.0 + scored / 100)
