"""A model's card says what is known, and nothing that is not."""

from pathlib import Path

import pytest
from made_results import finished

from dkd.errors import UserError
from dkd.report import cards
from dkd.storage import artifacts


def test_the_card_lies_beside_the_checkpoint_and_leaves_its_digest(tmp_path: Path) -> None:
    result = finished(str(tmp_path), "one", "road", "car")
    reference = result.steps[-1].checkpoint
    assert reference is not None
    for suffix in (".md", ".html"):
        text = cards.read(reference.uri, suffix).decode()
        for said in ("road", "car", reference.digest, "CC-BY-4.0", "d1" * 32, "85.0 to 95.0"):
            assert said in text
        assert f'dkd.load("{reference.uri}")' in text.replace("&#34;", '"')
    assert artifacts.load(reference.uri).digest == reference.digest
    before = cards.read(reference.uri, ".html")
    cards.write(result)
    assert cards.read(reference.uri, ".html") == before


def test_what_was_forgotten_and_where_it_ends(tmp_path: Path) -> None:
    result = finished(str(tmp_path), "one", "road", "car", "sheep", licence="")
    card = cards.card(result)
    assert [step.mean for step in card.steps] == ["–", "-5.0", "-6.7"]
    assert card.steps[1].lost == "road -10.0"
    limits = "\n".join(card.limits)
    assert "Tested on fewer than 10 images: road, car, sheep." in limits
    assert "Nobody has stated a licence" in limits
    first = cards.card(result, 0)
    assert [row.name for row in first.rows] == ["background", "road"]
    assert len(first.steps) == 1


def test_a_teachers_card_stays_its_own(tmp_path: Path) -> None:
    result = finished(str(tmp_path), "one", "road", "car")
    reference = result.steps[-1].checkpoint
    assert reference is not None
    before = cards.read(reference.uri, ".md")
    found = result.steps[-1].model_copy(update={"origin": "found"})
    cards.write(result.model_copy(update={"scenario": "another", "steps": (found,)}))
    assert cards.read(reference.uri, ".md") == before
    assert "learned in 2 steps" in before.decode()


def test_names_from_outside_are_only_text(tmp_path: Path) -> None:
    nasty = "<script>|*x*"
    result = finished(str(tmp_path), "one", nasty)
    reference = result.steps[-1].checkpoint
    assert reference is not None
    page = cards.read(reference.uri, ".html").decode()
    assert "<script" not in page
    assert page.count('class="scroll" tabindex="0"') == 2  # wide tables, reached by keyboard
    markdown = cards.read(reference.uri, ".md").decode()
    assert "| 0 | &lt;script>\\|\\*x\\* | 60.0 |" in markdown


def test_no_card_and_no_such_form(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no card; a run that finds this checkpoint writes one"):
        cards.read(str(tmp_path / "checkpoints/x"), ".md")
    with pytest.raises(UserError, match=r"written as \.md or \.html, not \.pdf"):
        cards.read(str(tmp_path), ".pdf")
