"""URIs: how they are joined, and which cannot be used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dkd import storage
from dkd.errors import UserError


@given(
    st.lists(st.text("ab/ .", max_size=4), max_size=4),
    st.sampled_from(["s3://bucket", "s3://bucket/", "/a/b", "relative", "file:///a/"]),
)
def test_join_has_single_slashes(parts: list[str], start: str) -> None:
    joined = storage.join(start, *parts)
    inner = [part.strip("/") for part in parts if part.strip("/")]
    assert joined.removeprefix(start).lstrip("/") == "/".join(inner)
    assert joined.startswith(start)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("", "empty URI"),
        ("gs://bucket/x", "unknown scheme gs://"),
        ("s3://", "name an object"),
        ("s3://bucket", "name an object"),
        ("s3://bucket/", "name an object"),
        ("file://relative/x", "file:///absolute"),
    ],
)
def test_unusable_uris(uri: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        storage.read_bytes(uri)
