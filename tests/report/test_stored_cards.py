"""Where a model's card lies, and that it stays."""

from pathlib import Path

import pytest
from made_results import finished

from dkd.errors import UserError
from dkd.report import stored_cards
from dkd.storage import artifacts


def test_the_card_lies_beside_the_checkpoint_and_leaves_its_digest(tmp_path: Path) -> None:
    result = finished(str(tmp_path), "one", "road", "car")
    reference = result.steps[-1].checkpoint
    assert reference is not None
    for suffix in (".md", ".html"):
        text = stored_cards.read(reference.uri, suffix).decode()
        for said in ("road", "car", reference.digest, "CC-BY-4.0", "d1" * 32, "85.0 to 95.0"):
            assert said in text
        assert f'dkd.load("{reference.uri}")' in text.replace("&#34;", '"')
    assert artifacts.load(reference.uri).digest == reference.digest
    before = stored_cards.read(reference.uri, ".html")
    stored_cards.write(result)
    assert stored_cards.read(reference.uri, ".html") == before


def test_a_teachers_card_stays_its_own(tmp_path: Path) -> None:
    result = finished(str(tmp_path), "one", "road", "car")
    reference = result.steps[-1].checkpoint
    assert reference is not None
    before = stored_cards.read(reference.uri, ".md")
    found = result.steps[-1].model_copy(update={"origin": "found"})
    stored_cards.write(result.model_copy(update={"scenario": "another", "steps": (found,)}))
    assert stored_cards.read(reference.uri, ".md") == before
    assert "learned in 2 steps" in before.decode()


def test_no_card_and_no_such_form(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no card; a run that finds this checkpoint writes one"):
        stored_cards.read(str(tmp_path / "checkpoints/x"), ".md")
    with pytest.raises(UserError, match=r"written as \.md or \.html, not \.pdf"):
        stored_cards.read(str(tmp_path), ".pdf")
