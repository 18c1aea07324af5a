"""Files of torch.save: tensors are read, code is refused."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from dkd.errors import UserError
from dkd.network import foreign


def save(content: object, folder: Path) -> Path:
    path = folder / "released.pth"
    torch.save(content, path)
    return path


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('this must never run')",))


def test_code_in_a_file_is_refused_and_never_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a checkpoint of plain tensors") as raised:
        foreign.read_state(save({"state_dict": Payload()}, tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [{}, [1, 2], {"a": 1}, {1: torch.zeros(1)}, torch.zeros(2)])
def test_other_contents_are_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"released\.pth"):
        foreign.read_state(save(content, tmp_path))


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        foreign.read_state(tmp_path / "absent.pth")
    old = tmp_path / "old.pth"
    old.write_bytes(pickle.dumps({}))
    with pytest.raises(UserError, match="neither a zip-format"):
        foreign.read_state(old)
    other = tmp_path / "other.pth"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("hello.txt", "hello")
    with pytest.raises(UserError, match="not a checkpoint"):
        foreign.read_state(other)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save({"a": torch.zeros(1000)}, tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError):
        foreign.read_state(path)
