import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index
from dkd.data.formats import recognised
from dkd.scenario.data import Data

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import ipc, parquet  # noqa: E402

PICTURE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def png(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def rows(masks: dict[str, np.ndarray], seed: int):
    rng = np.random.default_rng(seed)
    images = [
        {"bytes": png(rng.integers(0, 256, (*m.shape, 3), dtype=np.uint8), "JPEG"), "path": "a.jpg"}
        for m in masks.values()
    ]
    annotations = [{"bytes": png(mask), "path": None} for mask in masks.values()]
    return pyarrow.table(
        {
            "image": pyarrow.array(images, PICTURE),
            "annotation": pyarrow.array(annotations, PICTURE),
            "scene": ["street"] * len(masks),
        }
    )


@pytest.fixture
def saved(tmp_path: Path, labels) -> Path:
    """As ``datasets.DatasetDict.save_to_disk`` lays it out."""
    root = tmp_path / "saved"
    root.mkdir()
    (root / "dataset_dict.json").write_text(json.dumps({"splits": list(labels)}))
    for seed, (split, masks) in enumerate(labels.items()):
        folder = root / split
        folder.mkdir()
        table = rows(masks, seed)
        with ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=1)
        files = [{"filename": "data-00000-of-00001.arrow"}]
        (folder / "state.json").write_text(json.dumps({"_data_files": files, "_split": split}))
        (folder / "dataset_info.json").write_text("{}")
    (root / "id2label.json").write_text('{"0": "background", "1": "cat", "2": "dog"}')
    return root


@pytest.fixture
def shards(tmp_path: Path, labels) -> Path:
    """As the hub keeps it: Parquet files called by their split, in row groups."""
    root = tmp_path / "hub"
    (root / "data").mkdir(parents=True)
    for split, masks in labels.items():
        for number, (id_, mask) in enumerate(masks.items()):
            name = f"{split}-{number:05}-of-{len(masks):05}.parquet"
            parquet.write_table(rows({id_: mask}, number), root / "data" / name, row_group_size=1)
    (root / "classes.yaml").write_text("1: cat\n2: {name: dog, colour: [1, 2, 3]}\n")
    return root


def built(root: Path, **fields: str) -> index.Dataset:
    data = Data.model_validate({"format": "hf", "root": str(root), **fields})
    return index.build(data, root.parent / "cache")


@pytest.mark.parametrize("kind", ["saved", "shards"])
def test_images_and_masks_are_those_of_the_rows(kind: str, request, labels, masks_of) -> None:
    root = request.getfixturevalue(kind)
    assert recognised(root) == "hf"
    dataset = built(root)
    assert dataset.classes == {1: "cat", 2: "dog"}
    found = masks_of(dataset)
    for split, masks in labels.items():
        for one, other in zip(found[split].values(), masks.values(), strict=True):
            assert np.array_equal(one, other)


def test_one_split_is_divided(saved: Path) -> None:
    (saved / "train" / "classes.yaml").write_text("1: cat\n2: dog\n")
    dataset = built(saved / "train")
    assert (len(dataset.train), len(dataset.validation)) == (1, 1)


def change(root: Path, column: str, value: object) -> None:
    file = root / "data/train-00001-of-00002.parquet"
    table = parquet.read_table(file)
    position = table.column_names.index(column)
    table = table.set_column(position, column, pyarrow.array([value], PICTURE))
    parquet.write_table(table, file)


def test_parquet_files_in_a_folder_for_each_split(shards: Path, labels) -> None:
    """As the hub's own conversion lays them out."""
    for file in sorted((shards / "data").iterdir()):
        split, number, *_ = file.stem.split("-")
        (shards / split).mkdir(exist_ok=True)
        file.rename(shards / split / f"{number[1:]}.parquet")
    assert recognised(shards) == "hf"
    assert [len(s) for s in built(shards).splits.values()] == [len(m) for m in labels.values()]


def test_no_split_or_file(saved: Path, refuse) -> None:
    (saved / "train/classes.yaml").write_text("1: cat\n2: dog\n")
    refuse(saved, "hf", "'other'", "train, validation", train="other")
    refuse(saved / "train", "hf", "no splits", train="other")
    (saved / "train/state.json").write_text('{"_data_files": []}')
    refuse(saved / "train", "hf", "state.json", "names none")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("annotation", None, ["empty"]),
        ("annotation", {"bytes": None, "path": "/etc/passwd"}, ["/etc/passwd", "not the file"]),
        ("annotation", {"bytes": b"nothing", "path": None}, ["not a PNG"]),
        ("image", {"bytes": b"nothing", "path": None}, ["JPEG"]),
        ("annotation", {"bytes": png(np.zeros((5, 5), np.uint8)), "path": None}, ["5x5", "32x24"]),
        ("annotation", {"bytes": png(np.full((24, 32), 9, np.uint8)), "path": None}, ["value 9"]),
    ],
)
def test_bad_rows_are_named(shards: Path, refuse, column: str, value, words: list[str]) -> None:
    change(shards, column, value)
    refuse(shards, "hf", f"train-00001-of-00002.parquet: row 0, {column}", *words)


def test_files_that_are_cut_off(shards: Path, saved: Path, refuse) -> None:
    for root, file in (
        (shards, shards / "data/train-00000-of-00002.parquet"),
        (saved, saved / "train/data-00000-of-00001.arrow"),
    ):
        data = file.read_bytes()
        for cut in (len(data) // 2, 20, 0):
            file.write_bytes(data[:cut])
            refuse(root, "hf", file.name, "damaged")
        file.unlink()
        refuse(root, "hf", *(["of 2 files", "1 are there"] if root == shards else [file.name]))
    (saved / "train/state.json").write_text('{"_data')
    refuse(saved, "hf", "state.json", "line 1")


def test_classes(shards: Path, saved: Path, refuse) -> None:
    (shards / "classes.yaml").unlink()
    refuse(shards, "hf", "classes.yaml", "id2label.json")
    names = saved / "id2label.json"
    for text, words in (
        ('{"0": "wall", "1": "cat"}', ["'wall'", "background"]),
        ('{"0": "background", "1": "cat", "2": "CAT"}', ["CAT", "unique"]),
        ('{"x": "cat"}', ["'x'"]),
        ('{"1": 3}', ["3"]),
        ("[1", ["line 1"]),
        ("[]", ["object"]),
        ('{"0": "background"}', ["no class"]),
        ('{"65536": "cat"}', ["65536", "65534"]),
        ('{"255": "cat"}', ["'cat'", "void"]),
        ('{"65535": "cat", "300": "dog"}', ["'cat'", "void"]),
        ('{"01": "cat"}', ["'01'"]),
        ('{"' + "9" * 5000 + '": "cat"}', ["9999..."]),
    ):
        names.write_text(text)
        refuse(saved, "hf", "id2label.json", *words)


def test_columns_that_are_not_pictures(shards: Path, refuse) -> None:
    for file in (shards / "data").glob("*.parquet"):
        parquet.write_table(parquet.read_table(file).drop_columns(["annotation"]), file)
    refuse(shards, "hf", ".parquet", "image", "masks")


def test_without_the_package_one_line(shards: Path, refuse, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    refuse(shards, "hf", "pip install 'dkd[labels]'")
