"""A model's card says what is known, and nothing that is not."""

from pathlib import Path

from made_results import finished

from dkd.report import cards


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


def test_names_from_outside_are_only_text(tmp_path: Path) -> None:
    nasty = "<script>|*x*"
    files = cards.rendered(cards.card(finished(str(tmp_path), "one", nasty)))
    page = files["card.html"].decode()
    assert "<script" not in page
    assert page.count('class="scroll" tabindex="0"') == 2  # wide tables, reached by keyboard
    markdown = files["card.md"].decode()
    assert "| 0 | &lt;script>\\|\\*x\\* | 60.0 |" in markdown
