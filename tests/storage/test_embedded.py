import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import wait_until

from dkd import storage
from dkd.errors import UserError
from dkd.storage.embedded import EmbeddedStore


def servers_of(data_dir: Path) -> list[int]:
    """Processes of the server that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").readlink() == data_dir:
                found.append(int(entry.name))
        except OSError:  # ended meanwhile
            continue
    return found


@pytest.fixture
def environment(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[EmbeddedStore], None]:
    def use(store: EmbeddedStore) -> None:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)

    return use


def test_secrets_stay_in_private_files(s3: EmbeddedStore) -> None:
    state = json.loads((s3.data_dir / "server.json").read_bytes())
    assert s3.environment()["AWS_SECRET_ACCESS_KEY"] == state["secret_key"]
    keys = [value.encode() for name, value in state.items() if name != "ports"]
    holding = [
        path
        for path in s3.data_dir.iterdir()
        if path.is_file() and any(key in path.read_bytes() for key in keys)
    ]
    assert {path.name for path in holding} == {"server.json", "s3.json"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holding} == {0o600}
    (server,) = servers_of(s3.data_dir)
    command = Path(f"/proc/{server}/cmdline").read_bytes()
    assert b"s3.json" in command
    assert not any(key in command for key in keys)


def test_only_the_loopback_is_listened_on(s3: EmbeddedStore) -> None:
    (server,) = servers_of(s3.data_dir)
    inodes = set()
    for entry in Path(f"/proc/{server}/fd").iterdir():
        inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{server}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and fields[3] == "0A":  # listening
                assert fields[1].startswith("0100007F:"), line


def test_the_keys_are_needed(
    s3: EmbeddedStore, s3_root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x" * 40)
    with pytest.raises(UserError, match="refuses the keys"):
        storage.write_bytes(s3_root + "/x", b"1")


def test_a_second_start_keeps_address_keys_and_data(
    tmp_path: Path, environment: Callable[[EmbeddedStore], None]
) -> None:
    with EmbeddedStore(tmp_path / "s3") as first:
        environment(first)
        storage.write_bytes("s3://dkd/object", b"kept" * 10000)
        before = first.environment()
    assert servers_of(tmp_path / "s3") == []
    with EmbeddedStore(tmp_path / "s3") as second:
        assert second.environment() == before
        assert storage.read_bytes("s3://dkd/object") == b"kept" * 10000
        port = int(second.endpoint.rpartition(":")[2])
        left = [path for path in Path("/tmp").glob("seaweedfs-*.sock") if str(port) in path.name]
    assert not any(path.exists() for path in left)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with EmbeddedStore(tmp_path / "s3") as third:
            environment(third)
            assert third.endpoint != second.endpoint
            assert storage.read_bytes("s3://dkd/object") == b"kept" * 10000


def test_a_second_one_joins_and_leaves_it_running(
    s3: EmbeddedStore, environment: Callable[[EmbeddedStore], None]
) -> None:
    server = servers_of(s3.data_dir)
    code = (
        "import sys; from pathlib import Path; from dkd.storage.embedded import EmbeddedStore\n"
        "with EmbeddedStore(Path(sys.argv[1])) as store: print(store.endpoint)"
    )
    command = [sys.executable, "-c", code, str(s3.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == s3.endpoint + "\n"
    with EmbeddedStore(s3.data_dir) as joined:
        assert joined.environment() == s3.environment()
    assert servers_of(s3.data_dir) == server
    environment(s3)
    assert storage.write_bytes("s3://dkd/still-there", b"1")


OWNER = """
import os, sys, time
from pathlib import Path
from dkd import storage
from dkd.storage.embedded import EmbeddedStore
with EmbeddedStore(Path(sys.argv[1])) as store:
    os.environ.update(store.environment())
    storage.write_bytes("s3://dkd/early", b"1")
    try:
        print("ready", flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        storage.write_bytes("s3://dkd/late", b"2")
        print("saved", flush=True)
"""


def start_owner(data_dir: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", OWNER, str(data_dir)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_it_never_outlives_its_owner(
    tmp_path: Path, environment: Callable[[EmbeddedStore], None]
) -> None:
    """Ctrl-C reaches the owner alone, who can still save; a killed owner takes it along."""
    data_dir = tmp_path / "s3"
    owner = start_owner(data_dir)
    os.killpg(owner.pid, signal.SIGINT)  # as the terminal does
    assert owner.communicate(timeout=120)[0] == "saved\n"
    assert owner.returncode == 0
    assert servers_of(data_dir) == []

    owner = start_owner(data_dir)
    ports = [
        str(port) for port in json.loads((data_dir / "server.json").read_bytes())["ports"].values()
    ]
    sockets = [
        path
        for path in Path("/tmp").glob("seaweedfs-*.sock")
        if path.stem.rpartition("-")[2] in ports
    ]
    assert sockets
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    wait_until(lambda: not any(path.exists() for path in sockets))
    with EmbeddedStore(data_dir) as heir:  # at once, while the old server may still be dying
        environment(heir)
        assert storage.read_bytes("s3://dkd/early") + storage.read_bytes("s3://dkd/late") == b"12"
        assert len(servers_of(data_dir)) == 1
    wait_until(lambda: servers_of(data_dir) == [])


def test_a_server_that_dies_comes_back(
    tmp_path: Path, environment: Callable[[EmbeddedStore], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedStore(tmp_path / "s3") as store:
        environment(store)
        monkeypatch.setenv("DKD_S3_GIVE_UP_SECONDS", "60")
        endpoint = store.endpoint
        for number in (b"1", b"2"):
            storage.write_bytes("s3://dkd/object", number)
            (server,) = servers_of(tmp_path / "s3")
            os.kill(server, signal.SIGKILL)
            assert storage.read_bytes("s3://dkd/object") == number  # tried again meanwhile
            assert servers_of(tmp_path / "s3") != [server]
        assert store.endpoint == endpoint
    assert servers_of(tmp_path / "s3") == []


def test_it_outlives_the_thread_that_started_it(
    tmp_path: Path, environment: Callable[[EmbeddedStore], None]
) -> None:
    store = EmbeddedStore(tmp_path / "s3", bucket="other")
    starter = threading.Thread(target=store.__enter__)
    starter.start()
    starter.join()
    try:
        environment(store)
        assert storage.write_bytes("s3://other/object", b"1")
    finally:
        store.close()
    assert servers_of(tmp_path / "s3") == []


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file"):
        EmbeddedStore(tmp_path / "file").__enter__()
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "server.json").write_text("{")
    with pytest.raises(UserError, match=r"server\.json: cannot be read"):
        EmbeddedStore(tmp_path / "s3").__enter__()


def test_a_missing_server_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(UserError, match="no program weed"):
        EmbeddedStore(tmp_path / "s3").__enter__()


def test_a_server_that_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "weed"
    program.write_text("#!/bin/sh\necho out of luck\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(UserError, match=r"ended at once.*out of luck"):
        EmbeddedStore(tmp_path / "s3").__enter__()
