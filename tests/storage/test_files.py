"""Folders as storage: what lands whole or not at all, and scratch folders."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dkd import storage
from dkd.errors import UserError
from dkd.storage.files import placed, scratch


def test_listing_while_others_delete(tmp_path: Path) -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            (tmp_path / "saves/step/1/parts").mkdir(parents=True)
            (tmp_path / "saves/step/1/parts/state").touch()
            shutil.rmtree(tmp_path / "saves")

    (tmp_path / "stays").touch()
    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        for _ in range(500):
            assert str(tmp_path / "stays") in {e.uri for e in storage.list_objects(str(tmp_path))}
    finally:
        stop.set()
        other.join()


def test_a_failing_writer_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "file"

    def write() -> None:
        with placed(target, durable=True) as partial:
            partial.write_bytes(b"half")
            raise InterruptedError

    with pytest.raises(UserError, match="file"):
        write()
    assert list(target.parent.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"file.*a file is where a folder is needed|file"):
        storage.write_bytes(str(tmp_path / "file" / "inner"), b"1")
    with pytest.raises(UserError, match=str(tmp_path)):
        storage.write_bytes(str(tmp_path), b"1")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold for root")
def test_a_folder_that_is_not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="permission denied"):
        storage.write_bytes(str(tmp_path / "x"), b"1")


def test_a_full_disk(tmp_path: Path, s3_root: str) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system takes more rights")
    try:
        uri = storage.join(s3_root, "large")
        storage.write_bytes(uri, bytes(2 << 20))
        for act in (
            lambda: storage.write_bytes(str(tmp_path / "x"), bytes(2 << 20)),
            lambda: storage.download(uri, tmp_path / "x"),
        ):
            with pytest.raises(UserError, match="x: the disk is full; free some space"):
                act()
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_folders_do_without_boto3() -> None:
    code = (
        "import sys; from dkd import storage; from dkd.storage import artifacts;"
        "storage.exists('/nowhere'); print({'boto3', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


HOLDER = """
import sys, time
from pathlib import Path
from dkd.storage.files import scratch
with scratch(Path(sys.argv[1]), "pack-") as folder:
    (folder / "shard").write_bytes(b"x")
    print("ready", flush=True)
    time.sleep(600)
"""


def test_scratch_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        (held,) = (path for path in tmp_path.iterdir() if path.is_dir())
        with scratch(tmp_path, "pack-") as own:
            assert own != held
            assert (held / "shard").exists()  # in use
        assert not own.exists()
        holder.kill()
    assert (held / "shard").exists()
    with scratch(tmp_path, "pack-") as own:
        assert [path for path in tmp_path.iterdir() if path.is_dir()] == [own]
    assert list(tmp_path.iterdir()) == []
