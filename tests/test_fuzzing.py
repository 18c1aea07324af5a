"""Whatever a person hands over ends in success or in one line that says what to do.

The suite runs a few examples of each kind, the same ones every time. More, and others:

    DKD_FUZZ_EXAMPLES=20000 pytest tests/test_fuzzing.py
"""

import copy
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fixtures.data_sets import make_folder, make_voc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dkd.data import formats, images, index
from dkd.errors import UserError
from dkd.kubeflow import uploads
from dkd.scenario import catalogue, form
from dkd.scenario.data import Data
from dkd.scenario.names import check_run_name, slug
from dkd.scenario.parsing import dump, load, parse_assignments, parse_names
from dkd.scenario.schema import Scenario, parse
from dkd.scenario.tasks import Task

ASKED = os.environ.get("DKD_FUZZ_EXAMPLES")


def examples(count: int) -> settings:
    return settings(
        max_examples=int(ASKED or count),
        derandomize=ASKED is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def settle(work: Callable[[], Any]) -> Any:
    """What the work gives, or None where it was refused in one printable line."""
    try:
        return work()
    except UserError as error:
        line = str(error)
    assert line
    assert "\n" not in line
    assert len(line) < 5000
    line.encode(errors="backslashreplace")  # as standard error prints it
    return None


# ---- values

ODD_TEXT = st.sampled_from(
    [
        *("", " ", "\0", "\n", "a\nb", "..", "/", "~", "-1", "1e999", "nan", "on", "true", "null"),
        *(
            "\ud800",
            "e\u0301",
            "\u202e",
            "\U0001f408",
            "x" * 300,
            "\u732b",
            "a,b",
            "a.b",
            "{}",
            "[",
        ),
        *(
            "background",
            "Background ",
            "s3://",
            "s3://b/",
            "file://",
            "C:\\x",
            "%",
            "${x}",
            "!!int 1",
        ),
    ]
)
TEXT = ODD_TEXT | st.text(max_size=12)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([0, -0.0, 1, 254, 255, 2**31, 2**63, 2**64, 10**300, 1e308, 5e-324])
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | NUMBERS, inner, max_size=3),
    max_leaves=6,
)

DOCUMENT: dict[str, Any] = {
    **catalogue.documents()["demo"],
    "losses": {"kd": 2.0},
    "network": {"backbone": "demo", "weights": "file", "weights_sha256": "0"},
    "speed": {"recorded": True},
    "launch": {"tolerations": [{"key": "a", "seconds": 3}], "node_selector": {"pool": "gpu"}},
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to every part of a document."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    return [path, *(place for key in keys for place in places(value[key], (*path, key)))]


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """A scenario with a few parts replaced, removed or added."""
    document = copy.deepcopy(DOCUMENT)
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(places(document)))
        if not path:
            continue
        at: Any = document
        for key in path[:-1]:
            at = at[key]
        how = draw(st.sampled_from(["replace", "remove", "add"]))
        if how == "remove":
            del at[path[-1]]
        elif how == "add" and isinstance(at, dict):
            at[draw(TEXT)] = draw(VALUES)
        else:
            at[path[-1]] = draw(VALUES)
    return document if draw(st.integers(0, 20)) else draw(VALUES)


def use(scenario: Scenario) -> None:
    """What every command does with a scenario before anything runs."""
    alone = scenario.override({"variants": {}})  # what a run is given
    assert parse(json.loads(alone.model_dump_json()), "again") == alone
    settle(lambda: Task.of(scenario.task, {1: "zero", 2: "one", 3: "caf\u00e9", 4: "a,b"}))
    for name in scenario.variants:
        settle(lambda name=name: check_run_name(slug(scenario.name, name)))  # type: ignore[misc]
        settle(lambda name=name: scenario.variant(name))  # type: ignore[misc]


@examples(150)
@given(documents())
def test_scenarios(document: Any) -> None:
    scenario = settle(lambda: parse(document, "x"))
    if scenario is not None:
        use(scenario)


@st.composite
def damaged(draw: st.DrawFn, contents: list[bytes]) -> bytes:
    """Bytes with a few replaced, put in or cut out."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["set", "insert", "cut", "end", "swap"])):
            case "set":
                content[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
            case "insert":
                content[at:at] = draw(st.binary(max_size=8))
            case "cut":
                del content[at : at + draw(st.integers(0, 16))]
            case "end":
                del content[at:]
            case "swap":
                other = draw(st.integers(0, len(content)))
                content[at:at] = content[other : other + 6]
    return bytes(content)


SCENARIOS = [
    yaml.safe_dump(each).encode() for each in (DOCUMENT, catalogue.documents()["voc-15-1"])
]


@examples(60)
@given(damaged(SCENARIOS))
def test_scenario_files(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = folder_of(tmp_path_factory, "scenarios") / "s.yaml"
    file.write_bytes(content)
    scenario = settle(lambda: load(file))
    if scenario is not None:
        use(scenario)
        file.write_text(dump(scenario), encoding="utf-8")
        assert load(file) == scenario


def folder_of(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that the examples of a test share."""
    folder = factory.getbasetemp() / f"fuzzing-{name}"
    folder.mkdir(exist_ok=True)
    return folder


FIELDS = sorted(
    ".".join(map(str, path))
    for path in places(DOCUMENT)
    if not any(isinstance(k, int) for k in path)
)


@examples(150)
@given(st.lists(st.tuples(st.sampled_from(FIELDS) | TEXT, TEXT | VALUES.map(str)), max_size=3))
def test_assignments(items: list[tuple[str, str]]) -> None:
    def overridden() -> Scenario:
        assignments = parse_assignments([f"{field}={text}" for field, text in items])
        return parse(DOCUMENT, "x").override(assignments)

    scenario = settle(overridden)
    if scenario is not None:
        use(scenario)


@examples(60)
@given(TEXT | st.lists(TEXT, max_size=3).map(",".join) | st.lists(TEXT, max_size=3).map(json.dumps))
def test_names(text: str) -> None:
    names = settle(lambda: parse_names(text, "--classes"))
    if names is not None:
        settle(lambda: Task((("zero", "caf\u00e9"), names)))
    settle(lambda: check_run_name(text))


FORMS = {"incremental": form.INCREMENTAL, "extension": form.EXTENSION}


@pytest.mark.parametrize("fields", FORMS.values(), ids=FORMS)
@examples(50)
@given(st.data())
def test_forms(fields: tuple[form.Field, ...], data: st.DataObject) -> None:
    scenario = catalogue.scenario("demo", {"variants": {}})
    names = [field.name for field in fields]
    values = data.draw(st.dictionaries(st.sampled_from(names), VALUES, max_size=4))
    settings_ = st.dictionaries(st.sampled_from(FIELDS) | TEXT, VALUES, max_size=2)
    values["other_settings"] = data.draw(settings_ | VALUES)
    filled = settle(lambda: form.fill_in(scenario, fields, values))
    if filled is not None:
        use(filled)
    settle(lambda: form.new_data(str(values.get("data_set_uri")), values["other_settings"]))


@pytest.fixture(scope="module")
def compiled() -> bytes:
    from dkd.pipelines import compiled

    return compiled.of_scenario(catalogue.scenario("demo", {"variants": {}}), "s3://b/dkd")


@examples(25)
@given(st.dictionaries(st.sampled_from([f.name for f in form.INCREMENTAL]), TEXT, max_size=2))
def test_filled_in_forms(compiled: bytes, texts: dict[str, str]) -> None:
    values = settle(lambda: uploads.form_values(compiled, texts))
    if values is not None:
        settle(lambda: uploads.check(compiled, values))


# ---- data sets

CLASSES = [b"1: cat\n7: {name: dog, colour: [10, 200, 30]}\n", "1: caf\u00e9\n2: on\n".encode()]


@examples(100)
@given(
    damaged(CLASSES)
    | st.dictionaries(VALUES.map(str), VALUES, max_size=3).map(yaml.safe_dump).map(str.encode)
)
def test_class_files(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = folder_of(tmp_path_factory, "classes")
    if not (root / "images").is_dir():
        make_folder(root, count=1)
    (root / "classes.yaml").write_bytes(content)
    settle(lambda: formats.read(Data(format="folder", root=str(root))))


LISTS = [b"2007_000000\n2007_000001\n", b"/JPEGImages/2007_000000.jpg /x/2007_000000.png\n"]


@examples(60)
@given(
    damaged(LISTS)
    | st.lists(TEXT, max_size=4).map(lambda ids: "\n".join(ids).encode(errors="surrogatepass"))
)
def test_lists_of_splits(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = folder_of(tmp_path_factory, "lists")
    if not (root / "JPEGImages").is_dir():
        make_voc(root, 2, 1)
    (root / "ImageSets/Segmentation/train_aug.txt").write_bytes(content)
    settle(lambda: index.build(Data(format="voc", root=str(root))))


def picture(kind: str, mode: str, **options: Any) -> bytes:
    pixels = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10) % 8
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels.astype(np.uint16) * 100)
    elif mode != "L":
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


PICTURES = [
    *(picture("PNG", mode) for mode in ("L", "P", "RGB", "RGBA", "1", "LA", "I;16")),
    *(picture("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    picture("JPEG", "RGB", exif=turned(), progressive=True),
    picture("PNG", "P", exif=turned()),
    picture("PNG", "RGB", transparency=(1, 1, 1)),
    picture("GIF", "P"),
    b"",
]


@examples(150)
@given(damaged(PICTURES), damaged(PICTURES[:3]))
def test_images_and_masks(image: bytes, mask: bytes) -> None:
    path = Path("a.png")
    found = settle(lambda: images.decode_image(image, path))
    if found is not None:
        assert found.mode == "RGB"
    settle(lambda: images.decode_pair(image, mask, path, Path("a-mask.png")))


@examples(60)
@given(damaged(PICTURES), damaged(PICTURES[:3]))
def test_data_sets_of_damaged_files(
    tmp_path_factory: pytest.TempPathFactory, image: bytes, mask: bytes
) -> None:
    root = folder_of(tmp_path_factory, "damaged")
    if not (root / "images").is_dir():
        make_folder(root, count=1)
        (root / "classes.yaml").write_text("".join(f"{n}: c{n}\n" for n in range(1, 8)))
    (root / "images/train/0.png").write_bytes(image)
    (root / "masks/train/0.png").write_bytes(mask)
    settle(lambda: index.build(Data(format="folder", root=str(root))))
