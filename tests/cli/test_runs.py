"""``dkd runs``: what lies under a root, and its removal."""

from collections.abc import Callable

from click.testing import Result
from fixtures.two_runs import places

from dkd.cli.runs import size


def test_the_commands(dkd: Callable[..., Result], two_runs: str) -> None:
    listed = dkd("runs", "--root", two_runs)
    assert listed.exit_code == 0, listed.output
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [
        ["one", "finished"],
        ["two", "step"],
    ]
    before = places(two_runs)
    shown = dkd("runs", "rm", "one", "--root", two_runs)
    assert "nothing is removed without --yes" in shown.stdout
    assert "checkpoints/c0: two" in shown.stdout
    assert places(two_runs) == before
    done = dkd("runs", "--root", two_runs, "rm", "one", "--yes")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1].startswith("removed, ")
    assert "runs/one" not in places(two_runs)
    refused = dkd("runs", "rm", "one", "--root", two_runs)
    assert refused.exit_code == 2
    assert refused.stderr.splitlines()[-1] == f"dkd: {two_runs}: no run 'one'; there are: two"


def test_sizes_are_read_by_people() -> None:
    assert [size(n) for n in (0, 1023, 1024, 1536, 5 << 30, 1 << 60)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "5.0 GiB",
        "1048576.0 TiB",
    ]
