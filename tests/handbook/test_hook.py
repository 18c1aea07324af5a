"""The handbook is complete: what the program has, its reference has, and the site builds."""

import ast
import json
import re
from pathlib import Path

import click
import pytest
import yaml
from handbook import changing_fields, commands, hook, prose, python_interface, scenario_fields

import dkd
from dkd.cli import COMMANDS
from dkd.scenario import catalogue, form
from dkd.scenario.schema import Scenario

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def reference(name: str) -> str:
    """A page of the reference, its generated parts in place."""
    return hook.on_page_markdown((DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8"))


def leaves(document: dict, prefix: str = "") -> set[str]:
    """Dotted names of what a dumped scenario holds, by JSON's own structure."""
    found: set[str] = set()
    for name, value in document.items():
        inner = leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else set()
        found |= inner or {f"{prefix}{name}"}
    return found


def test_every_field_of_a_scenario_is_there_and_described() -> None:
    scenario = catalogue.scenario("demo", {})
    expected = leaves(json.loads(scenario.model_copy(update={"variants": {}}).model_dump_json()))
    fields = list(scenario_fields.fields())
    assert {field.path for field in fields} == expected
    assert [field.path for field in fields if not field.description] == []
    page = reference("scenario")
    assert [path for path in expected if f"| `{path}`" not in page] == []


def test_a_field_is_shown_with_type_bounds_and_default() -> None:
    shown = {field.path: field for field in scenario_fields.fields()}
    assert shown["training.crop"].kind == "whole number from 16 to 4,096"
    assert shown["training.crop"].default == "512"
    assert shown["training.momentum"].kind == "number from 0 below 1"
    assert shown["training.batch_size"].default == ""
    assert shown["training.pos_weight.first"].kind == "number from 0 or `auto`"
    assert shown["setting"].kind == "one of `overlap`, `disjoint`, `partitioned`"
    assert shown["network.weights"].default == "null"


def test_what_changes_no_result_is_what_the_schema_says() -> None:
    """The schema's text lists them; the reference asks the keys."""
    text = " ".join((ast.get_docstring(ast.parse(schema_source())) or "").split())
    (listed,) = re.findall(r"Everything but (.*?) can change the result", text)
    parts = set(re.findall(r"``(\w+)``", listed))
    inert = {field.path for field in scenario_fields.fields()} - changing_fields.changing_fields()
    within = {path for path in inert if path.split(".")[0] not in parts}
    assert within == {"data.pack", "training.loader_workers", "training.save_interval"}
    assert {path.split(".")[0] for path in inert - within} == parts


def schema_source() -> str:
    return (ROOT / "src/dkd/scenario/schema.py").read_text(encoding="utf-8")


def test_every_command_and_option_is_there() -> None:
    page = reference("commands")
    titles = re.findall(r"^#+ (dkd .*)$", page, re.M)
    assert {title.split()[1] for title in titles} == set(COMMANDS)
    missing = []
    for command, context in commands.commands():
        assert context.command_path in titles
        missing += [
            f"{context.command_path} {option}"
            for parameter in command.params
            if isinstance(parameter, click.Option) and not parameter.hidden
            for option in parameter.opts
            if option not in page or not parameter.help
        ]
    assert missing == []
    assert "`--gate [mark|stop]`" in page, "a bar within code separates no cells"
    blocks = re.findall(r"```text\n(.*?)```", page, re.S)
    assert "\b" not in page
    assert all(block.startswith(("dkd ", "voc ")) for block in blocks), "prose is no code"


def test_every_field_of_the_forms_is_there_and_described() -> None:
    page = reference("form")
    for field in (*form.INCREMENTAL, *form.EXTENSION):
        (row, *_) = re.findall(rf"^\| `{field.name}` .*$", page, re.M)
        assert row.split(" | ")[-1].strip(" |"), f"{field.name} has no meaning"


def test_every_variable_is_there() -> None:
    """Those that the code, the images and the manifests read or set."""
    page = reference("environment")
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docker").rglob("Dockerfile")]
    sources += (ROOT / "k8s").rglob("*.yaml")
    named = {
        name
        for source in sources
        for name in re.findall(r"\bDKD_[A-Z0-9_]+", source.read_text(encoding="utf-8"))
    }
    serving = ast.parse((ROOT / "src/dkd/serving/__main__.py").read_text(encoding="utf-8"))
    named |= {
        node.value
        for node in ast.walk(serving)
        if isinstance(node, ast.Constant) and re.fullmatch(r"[A-Z_]{4,}", str(node.value))
    } - {"__main__"}
    assert named > {"DKD_CACHE", "DKD_KFP_TOKEN", "MODEL_URI", "QUEUE"}
    assert sorted(name for name in named if f"`{name}`" not in page) == []


def test_no_variable_is_there_that_nothing_reads() -> None:
    documented = set(re.findall(r"`(DKD_[A-Z0-9_]+)`", reference("environment")))
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    assert sorted(name for name in documented if name not in code) == []


def test_every_public_name_is_there_with_what_it_gives() -> None:
    page = reference("python")
    for name in set(dkd.__all__) - {"__version__"}:
        assert f"## dkd.{name}\n" in page
    for given in python_interface.GIVEN:
        public = {name for name in dir(given) if not name.startswith("_")}
        told = {*prose.attributes(given)}
        assert {n for n in public - told if f"### {given.__name__}.{n}\n" not in page} == set()


def test_every_kind_of_artifact_is_there() -> None:
    """Those that the code publishes, by the word that it gives."""
    page = reference("artifacts")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    kinds = set(re.findall(r'\bkind="(\w+)",\n', code)) | {"dataset", "weights"}
    assert {*kinds, "evaluation", "memory"} == set(
        re.findall(r"^\| `(\w+)` \| ", page.partition("## Versions")[0], re.M)
    )


def test_sections_of_a_docstring() -> None:
    text, sections = prose.sections(Scenario.variant)
    assert text == "The named variant, itself without variants."
    assert sections == {}
    _, sections = prose.sections(Scenario.override)
    assert sections["Raises"] == {"UserError": "an unknown field or a bad value."}
    assert list(sections["Args"]) == ["assignments"]


def test_pages_ask_for_parts_that_there_are() -> None:
    asked = {
        part for page in DOCS.rglob("*.md") for part in hook.MARKER.findall(page.read_text("utf-8"))
    }
    assert asked == set(hook.PARTS)


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert set(re.findall(r"([\w/-]+\.md)$", text, re.M)) == pages


def test_nothing_is_fetched_from_elsewhere_when_a_page_is_read() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert settings["theme"]["font"] is False
    assert "extra_javascript" not in settings
    diagrams = [p for p in DOCS.rglob("*.md") if "```mermaid" in p.read_text(encoding="utf-8")]
    assert diagrams == [], "Material fetches mermaid from the web: draw an SVG"


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_links_stay_within_the_handbook(page: Path) -> None:
    """A link out of ``docs/`` leads nowhere on the site."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            there = (page.parent / target).resolve()
            assert there.is_file(), f"{page.name}: {target}"
            assert there.is_relative_to(DOCS), f"{page.name}: {target}"


def test_the_theme_s_pages_are_named_for_screen_readers() -> None:
    """As Material (9) writes them: a dialog without a name, sections that are named by an arrow."""
    page = """
    <div class="md-search" role="dialog"></div>
    <label class="md-nav__link" for="__nav_2" id="__nav_2_label"><span></span></label>
    <nav class="md-nav" aria-labelledby="__nav_2_label">
      <label class="md-nav__title" for="__nav_2">Tutorials</label>
    </nav>
    <table><tr><th></th><th>Rule</th></tr></table>
    """
    made = hook.on_post_page(page)
    assert 'role="dialog" aria-label="Search"' in made
    (title,) = re.findall(r'id="(\w+)">Tutorials<', made)
    assert re.findall(r'aria-labelledby="(\w+)"', made) == [title, title]
    assert "<th></th>" not in made
