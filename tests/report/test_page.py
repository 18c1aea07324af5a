import html.parser
import re

import pytest
import report_samples as samples

from dkd.errors import UserError
from dkd.report import page
from dkd.report.model import RunResult
from dkd.report.page import render

VOID_ELEMENTS = {"meta", "img", "input", "br"}
HOSTILE = """<script>alert(1)</script>"'><img src=http://evil onerror=x>{{ 7*7 }}&amp;\u202e"""


class Page(html.parser.HTMLParser):
    """Checks nesting, and collects cells of tables, attributes and texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), "an attribute is given twice"
        self.elements.append((tag, dict(attrs)))
        if tag in VOID_ELEMENTS:
            return
        self.stack.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.stack, f"{tag} closes itself outside of SVG"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if {"td", "th"} & set(self.stack) and "title" not in self.stack:
            self.tables[-1][-1][-1] += data

    def table(self, *head: str) -> list[list[str]]:
        """Rows of the first table whose first row holds the given cells."""
        tables = [[[" ".join(c.split()) for c in row] for row in t] for t in self.tables]
        return next(t for t in tables if set(head) <= set(t[0]))


@pytest.fixture(scope="module")
def runs() -> list[RunResult]:
    return [samples.run(v) for v in ("finetune", "DKD", "DKD-M", "joint")]


@pytest.fixture(scope="module")
def text(runs: list[RunResult]) -> str:
    return render(runs, "A comparison")


def check_self_contained(text: str) -> Page:
    parsed = Page(text)
    for tag, attributes in parsed.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "form", "a", "link"}
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                assert re.match(r"data:image/(png|jpeg);base64,", value or ""), (tag, value)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    return parsed


def test_the_page_is_well_formed_and_needs_nothing_else(text: str) -> None:
    parsed = check_self_contained(text)
    assert "A comparison" in parsed.texts
    assert text.lstrip().startswith("<!DOCTYPE html>")


def test_the_page_is_the_same_for_the_same_results(runs: list[RunResult], text: str) -> None:
    again = [RunResult.from_json(run.to_json()) for run in runs]
    assert render(again, "A comparison") == text


def test_nothing_of_a_hostile_name_is_markup() -> None:
    run = samples.run("DKD-M", ((HOSTILE, "dog"), (HOSTILE + "2",)))
    step = run.steps[1].model_copy(update={"origin": "found", "made_by": HOSTILE})
    provenance = run.provenance.model_copy(
        update={"device": HOSTILE, "versions": {HOSTILE: HOSTILE}, "finished": HOSTILE}
    )
    reference = run.references[0].model_copy(update={"id": HOSTILE})
    run = run.model_copy(
        update={
            "scenario": HOSTILE,
            "setting": HOSTILE,
            "protocol": HOSTILE,
            "configuration": HOSTILE,
            "provenance": provenance,
            "dataset": run.dataset.model_copy(update={"name": HOSTILE, "digest": HOSTILE}),
            "steps": (run.steps[0], step),
            "references": (reference, *run.references[1:]),
        }
    )
    other = run.model_copy(update={"variant": HOSTILE, "method": "finetune"})
    text = render([run, other], HOSTILE)
    parsed = check_self_contained(text)
    assert "<script" not in text
    assert "http://evil onerror=x>" not in text
    # As written, template syntax included.
    assert HOSTILE in parsed.texts


def test_scores_stand_in_the_headline() -> None:
    run = samples.scored_run(
        "DKD",
        [[90, 70], [88, 50, 45]],
        miou_old=69.04,
        miou_new=45.06,
        miou_all=61.25,
        hiou=54.5,
        pixel_accuracy=93.7,
    )
    table = Page(render([run], "t")).table("Variant")
    assert table[0][:6] == ["Variant", "mIoUold", "mIoUnew", "mIoUall", "hIoU", "pixel accuracy"]
    assert table[1][1:6] == ["69.0", "45.1", "61.2", "54.5", "93.7"]


def test_seeds_stand_as_mean_and_deviation() -> None:
    def seeded(seed: int, value: float) -> RunResult:
        return samples.scored_run("DKD", [[90, 70], [88, 50, 45]], seed=seed, miou_all=value)

    row = Page(render([seeded(1, 58), seeded(2, 62)], "t")).table("Variant")[1]
    assert "2 seeds" in row[0]
    assert row[3] == "60.0 ± 2.8"


def test_every_class_stands_in_the_heat_map() -> None:
    run = samples.scored_run("DKD", [[90, 70], [88, 50.4, 45]])
    rows = Page(render([run], "t")).table("DKD")
    cells = {row[1]: row[3:] for row in rows if len(row) > 3}
    assert cells["background"] == ["90", "88", "−2.0"]
    assert cells["cat"] == ["70", "50", "−19.6"]
    assert cells["cow"] == ["", "45", ""]


def test_what_a_step_gained_and_forgot() -> None:
    run = samples.scored_run("DKD", [[90, 70], [91, 50.4, 45]])
    table = Page(render([run], "t")).table("learned")
    assert table[2] == ["1", "cow 45.0", "−9.3", "cat −19.6", "background +1.0"]


def test_pictures_stand_after_each_step_beside_the_truth(runs: list[RunResult]) -> None:
    names = [
        attributes.get("alt")
        for tag, attributes in Page(render(runs, "t")).elements
        if tag == "img"
    ]
    assert names.count("image image-0") == 1
    assert names.count("truth of image-0") == 1
    for step in range(3):
        assert f"image-0 by DKD after step {step}" in names
    # The joint model knows every class from the start: it stands beside the last step.
    assert "image-0 by joint after step 2" in names
    assert "image-0 by joint after step 0" not in names
    assert "exemplar train-0000" in names


def test_a_page_says_which_images_it_shows(runs: list[RunResult], text: str) -> None:
    shown = {each.id for run in runs for each in run.references}
    shown |= {each.id for run in runs for step in run.steps for each in step.exemplars}
    assert shown
    assert all(page.shows(text, image) for image in shown)
    assert not page.shows(text, "nobody")
    assert not page.shows(text, sorted(shown)[0][:-1])


def test_digests_are_short_with_the_whole_at_hand(runs: list[RunResult], text: str) -> None:
    checkpoint = runs[1].steps[1].checkpoint
    assert checkpoint is not None
    assert f'title="{checkpoint.digest}">{checkpoint.digest[:12]}</code>' in text
    assert f'title="{checkpoint.uri}"' in text


def test_what_is_scrolled_can_be_reached_by_keyboard(text: str) -> None:
    """On a narrow window wide tables scroll by themselves (WCAG 2.1.1)."""
    scrolled = [told for _, told in Page(text).elements if told.get("class") == "scroll"]
    assert len(scrolled) > 5
    assert {told.get("tabindex") for told in scrolled} == {"0"}


def test_provenance_stands_in_the_page(text: str) -> None:
    texts = " ".join(" ".join(Page(text).texts).split())
    for piece in ("found demo, variant finetune", "2.15.0", "3.11.7", "name: demo", "Seed 1"):
        assert piece in texts


def test_each_variant_can_be_picked_without_a_script(text: str) -> None:
    radios = [a for tag, a in Page(text).elements if tag == "input"]
    assert [radio["id"] for radio in radios] == ["show0", "show1", "show2", "show3", "showall"]
    assert [radio["id"] for radio in radios if "checked" in radio] == ["show2"]


def test_one_run_of_one_step_has_a_page_of_its_own() -> None:
    parsed = check_self_contained(render([samples.run("DKD", (("cat", "dog"),))], "Step 0"))
    assert "Over the steps" not in parsed.texts
    assert not any(tag == "input" for tag, _ in parsed.elements)


def test_a_run_that_starts_late_has_a_page() -> None:
    run = samples.run("DKD")
    check_self_contained(render([run.model_copy(update={"steps": run.steps[1:]})], "Extended"))


def test_a_bare_run_has_a_page() -> None:
    check_self_contained(render([samples.scored_run("DKD", [[None, None]])], "Bare"))


def test_a_joint_run_alone_has_a_page() -> None:
    check_self_contained(render([samples.run("joint")], "Joint"))


def test_151_channels_list_their_confusions_and_stay_small() -> None:
    names = tuple(f"class {i}" for i in range(150))
    runs = [samples.run(v, (names[:100], names[100:])) for v in ("DKD", "joint")]
    text = render(runs, "ADE20K")
    check_self_contained(text)
    assert 'class="matrix"' not in text
    assert len(text) < 1_000_000


def test_best_scores_of_the_incremental_variants_are_bold(text: str) -> None:
    rows = re.findall(r"<tr class=\"(s\d|bound)\">(.*?)</tr>", text, re.DOTALL)
    bold = {look: row.count("bar best") for look, row in rows}
    assert bold["bound"] == 0
    assert sum(bold.values()) >= 5


def test_runs_of_different_tasks_are_refused() -> None:
    with pytest.raises(UserError, match="compare runs of one task"):
        render([samples.run("DKD"), samples.run("joint", (("cat",),))], "t")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.21, "4.2 s"), (44, "44 s"), (59.7, "1 min 0 s"), (65, "1 min 5 s"), (7380, "2 h 3 min")],
)
def test_duration(seconds: float, text: str) -> None:
    assert page.duration(seconds) == text
