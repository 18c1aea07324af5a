"""Files of the web: whole or not at all, and one line that says why."""

from pathlib import Path

import pytest
from fixtures.web import Web

from dkd.errors import UserError
from dkd.storage import web as files
from dkd.storage.store import Damaged, NotFound


def test_a_file_is_fetched_whole_wherever_it_has_moved(web: Web, tmp_path: Path) -> None:
    web.files["/there/a.pth"] = bytes(range(256)) * 9000
    web.moved = {"/a.pth": "/here/a.pth", "/here/a.pth": f"{web.address}/there/a.pth"}
    files.download(f"{web.address}/a.pth", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == web.files["/there/a.pth"]
    assert web.asked == ["/a.pth", "/here/a.pth", "/there/a.pth"]


def test_what_cannot_be_fetched_is_told_in_a_line_and_leaves_nothing(
    web: Web, tmp_path: Path, closed_port: str
) -> None:
    web.files = {"/cut": b"x" * 100_000}
    web.cut, web.broken, web.silent = {"/cut"}, {"/broken"}, {"/silent"}
    web.moved = {"/round": "/round", "/odd": "file:///etc/hostname"}
    for address, kind, message in (
        (f"{web.address}/absent", NotFound, "the server has no such file (404)"),
        (f"{web.address}/broken", UserError, "the server answered 500"),
        (f"{web.address}/cut", Damaged, "ended after 50000 of 100000 bytes; try again"),
        (f"{web.address}/silent", UserError, "no answer for 0.3 s"),
        (f"{web.address}/round", UserError, "the server answered 302"),
        (f"{web.address}/odd", UserError, "the server answered 302"),
        (f"{closed_port}/a", UserError, "no connection (Connection refused)"),
        ("http://no-such-host.invalid/a", UserError, "its server's name is not known here"),
    ):
        with pytest.raises(kind) as raised:
            files.download(address, tmp_path / "file", timeout=0.3)
        assert str(raised.value).startswith(f"{address}: {message}"), raised.value
        assert "\n" not in str(raised.value)
        assert list(tmp_path.iterdir()) == []


def test_keys_in_an_address_are_not_shown(web: Web, tmp_path: Path) -> None:
    address = web.address.replace("http://", "http://user:secret@") + "/a?token=secret"
    with pytest.raises(UserError) as raised:
        files.download(address, tmp_path / "file")
    assert "secret" not in str(raised.value)
    assert files.shown(address) == f"{web.address}/a"


def test_a_disk_that_refuses_is_told(web: Web, tmp_path: Path) -> None:
    web.files["/a"] = b"x"
    with pytest.raises(UserError, match="no such file or folder"):
        files.download(f"{web.address}/a", tmp_path / "absent" / "file")


def test_the_name_is_the_last_part_of_the_path() -> None:
    assert files.name_of("https://h/models/resnet18-f37072fd.pth?x=/y") == "resnet18-f37072fd.pth"
