"""``dkd doctor`` tells what is there and what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dkd.cli import main
from dkd.worker import doctor

run = CliRunner().invoke


def line(result: Result, name: str) -> str:
    (found,) = [each for each in result.output.splitlines() if each.startswith(name)]
    return found.removeprefix(name).strip()


def test_one_screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DKD_ROOT", str(tmp_path / "root"))
    result = run(main, ["doctor"])
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) <= 24
    assert "Python 3." in line(result, "versions")
    assert "written, read and deleted in" in line(result, "artifacts")
    assert list((tmp_path / "cache").iterdir()) == []
    assert [each for each in (tmp_path / "root").rglob("*") if each.is_file()] == []


def test_a_root_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    result = run(main, ["doctor", "--root", str(file / "below")])
    assert result.exit_code == 1
    assert line(result, "artifacts").startswith("!! ")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("DKD_CACHE", str(file))
    result = run(main, ["doctor"])
    assert result.exit_code == 1
    assert line(result, "cache").endswith("set DKD_CACHE to a folder of yours")


def test_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITTLE_SHARED_MEMORY", 1 << 60)
    finding = doctor._shared_memory(tmp_path)
    assert finding.state == "warning"
    assert "launch.shared_memory" in finding.text
    assert doctor._shared_memory(tmp_path / "absent").state == "bad"


def test_kernels_that_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor.triton_support, "missing", lambda: "no C compiler (gcc, clang, or CC)"
    )
    finding = doctor._kernels()
    assert finding.state == "warning"
    assert finding.text.startswith("no C compiler")
    assert "install it" in finding.text


@pytest.mark.parametrize(
    ("files", "cpus", "memory"),
    [
        ({"cpu.max": "150000 100000\n", "memory.max": "2147483648\n"}, 1.5, 2 << 30),
        ({"cpu.max": "max 100000\n", "memory.max": "max\n"}, None, None),
        (
            {
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
                "memory/memory.limit_in_bytes": "1073741824\n",
            },
            None,
            1 << 30,
        ),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5, None),
        ({}, None, None),
    ],
)
def test_limits_of_control_groups(
    tmp_path: Path, files: dict[str, str], cpus: float | None, memory: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert doctor._cgroup_cpus(tmp_path) == cpus
    assert doctor._cgroup_memory(tmp_path) == memory


def test_without_torch_it_still_works(tmp_path: Path) -> None:
    """The launcher image has none: torch is hidden from this interpreter."""
    program = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name: None if name == 'torch' else find(name)\n"
        "from dkd.worker.doctor import examine\n"
        "print([each.text for each in examine() if each.name == 'GPUs'])\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, env={"DKD_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert "it does not train" in result.stdout
