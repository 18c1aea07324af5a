"""JSON of labelling tools: what is no document of theirs is told in one line."""

from pathlib import Path

import pytest

from dkd.data.formats.documents import load, table
from dkd.errors import UserError


def test_a_document_is_read(tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    file.write_text('{"images": []}')
    assert load(file) == {"images": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "labels.json: missing; export the data set again"),
        (b'{"images": [', "labels.json: line 1, column 13: not JSON"),
        (b"\xff\xfe\xff", "labels.json: not JSON"),
        (b"[" + b"1" * 5000 + b"]", "labels.json: not JSON"),
        (b"[" * 100_000, "labels.json: not JSON"),
    ],
)
def test_what_is_no_document_is_told(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "labels.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_object_is_told_with_its_place() -> None:
    assert table({"id": 1}, "images[0]") == {"id": 1}
    with pytest.raises(UserError, match=r"^images\[0\]: .* instead of an object"):
        table([1], "images[0]")
