"""Exports as the tools themselves lay them out, with all that lies beside what is read.

What a mask has to be is decoded here again, by other code, from the same files. Polygons follow
the edges of pixels, so that whoever fills them fills the same ones.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dkd.data import index
from dkd.data.formats import recognised
from dkd.scenario.data import Data

WIDTH, HEIGHT = 40, 20
Masks = dict[str, np.ndarray]


def picture(path: Path, seed: int) -> bytes:
    """A photograph, of noise."""
    levels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG" if path.suffix == ".png" else "JPEG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.getvalue())
    return file.getvalue()


def inside(corners: list[tuple[float, float]]) -> np.ndarray:
    """Pixels whose centre an odd number of edges lies to the left of."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    odd = np.zeros((HEIGHT, WIDTH), bool)
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y1 != y2:
            crosses = (y1 <= y) != (y2 <= y)
            odd ^= crosses & (x1 + (y - y1) / (y2 - y1) * (x2 - x1) < x)
    return odd


def pairs(numbers: list[float]) -> list[tuple[float, float]]:
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def of_counts(counts: list[int]) -> np.ndarray:
    """Runs of nothing and something by turns, down the columns."""
    flat = np.concatenate([np.full(n, place % 2) for place, n in enumerate(counts)])
    return flat.reshape(WIDTH, HEIGHT).T.astype(bool)


def of_text(text: str) -> list[int]:
    """COCO's text of run lengths: six bits a letter, from the third on differences."""
    counts: list[int] = []
    place = 0
    while place < len(text):
        value = shift = 0
        while True:
            bits = ord(text[place]) - 48
            place += 1
            value |= (bits & 0x1F) << shift
            shift += 5
            if not bits & 0x20:
                break
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def built(root: Path, format_: str, **fields: str) -> index.Dataset:
    assert recognised(root) == format_
    data = Data.model_validate({"format": format_, "root": str(root), **fields})
    return index.build(data, root.parent / "cache")


# An L, and a square beside it; the last corner of the L is the first one again.
ELL = [4.0, 2.0, 12.0, 2.0, 12.0, 6.0, 8.0, 6.0, 8.0, 14.0, 4.0, 14.0, 4.0, 2.0]
RUNS = r"X39<1ONN221ON2NNNH07OI09OG0;OE360JO80HO:0F29MG27621ON2NN5ON2" r"N21K22N21ONN2Z4"
SQUARE = [20.0, 3.0, 30.0, 3.0, 30.0, 13.0, 20.0, 13.0]


def roboflow_coco(root: Path) -> None:
    """A file beside the images of each split, and two for people."""
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        (root / name).write_text("street > 2026-01-02 3:04pm\nhttps://example.org/street\n")
    for number, split in enumerate(("train", "valid", "test")):
        names = [f"street-{n}_jpg.rf.{n:032x}.jpg" for n in range(2)]
        for n, name in enumerate(names):
            picture(root / split / name, 10 * number + n)
        annotations = [
            {"image_id": 0, "category_id": 1, "segmentation": [ELL]},
            {"image_id": 0, "category_id": 2, "segmentation": [SQUARE]},
            # What was labelled with its "Smart Polygon" tools may come as run lengths.
            {
                "image_id": 1,
                "category_id": 2,
                "segmentation": {"counts": RUNS, "size": [HEIGHT, WIDTH]},
            },
        ]
        images = [
            {
                "id": n,
                "license": 1,
                "file_name": name,
                "height": HEIGHT,
                "width": WIDTH,
                "date_captured": "2026-01-02T03:04:05+00:00",
                "extra": {"name": f"street {n}.jpg"},
            }
            for n, name in enumerate(names)
        ]
        document = {
            "info": {
                "year": "2026",
                "version": "3",
                "contributor": "",
                "url": "",
                "description": "",
            },
            "licenses": [{"id": 1, "url": "https://example.org", "name": "CC BY 4.0"}],
            "categories": [
                {"id": 0, "name": "objects", "supercategory": "none"},
                {"id": 1, "name": "car", "supercategory": "objects"},
                {"id": 2, "name": "traffic light", "supercategory": "objects"},
            ],
            "images": images,
            "annotations": [
                {"id": n, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0, **each}
                for n, each in enumerate(annotations)
            ],
        }
        (root / split / "_annotations.coco.json").write_text(json.dumps(document))


def decoded_coco(file: Path) -> Masks:
    document = json.loads(file.read_text())
    masks = {}
    for image in document["images"]:
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for each in document["annotations"]:
            if each["image_id"] == image["id"]:
                drawn = each["segmentation"]
                if isinstance(drawn, dict):
                    mask[of_counts(of_text(drawn["counts"]))] = each["category_id"]
                for polygon in drawn if isinstance(drawn, list) else ():
                    mask[inside(pairs(polygon))] = each["category_id"]
        masks[Path(image["file_name"]).stem] = mask
    return masks


def test_roboflow_as_coco(tmp_path: Path, masks_of: Callable[..., dict[str, Masks]]) -> None:
    pytest.importorskip("pycocotools.mask")
    root = tmp_path / "street.v3i.coco-segmentation"
    root.mkdir()
    roboflow_coco(root)
    dataset = built(root, "coco")
    assert dataset.classes == {1: "car", 2: "traffic light"}
    found = masks_of(dataset)
    for split, folder in (("train", "train"), ("validation", "valid")):
        expected = decoded_coco(root / folder / "_annotations.coco.json")
        assert found[split].keys() == expected.keys()
        for id_, mask in expected.items():
            assert set(np.unique(mask)) > {0}
            assert np.array_equal(found[split][id_], mask), id_


def roboflow_yolo(root: Path) -> None:
    """Paths as seen from a folder that is not there, no line break at a file's end."""
    for name in ("README.dataset.txt", "README.roboflow.txt"):
        (root / name).write_text("street > 2026-01-02 3:04pm\n")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\n"
        "names: ['car', 'traffic light']\n\nroboflow:\n  workspace: team\n  project: street\n"
        "  version: 3\n  license: CC BY 4.0\n  url: https://example.org/street/3"
    )
    lines = [
        " ".join([number, *(f"{v / (HEIGHT if n % 2 else WIDTH)}" for n, v in enumerate(polygon))])
        for number, polygon in (("0", ELL), ("1", SQUARE))
    ]
    for seed, split in enumerate(("train", "valid", "test")):
        for n, text in enumerate(("\n".join(lines), "")):  # an image with nothing has an empty file
            name = f"street-{n}_jpg.rf.{n:032x}"
            picture(root / split / f"images/{name}.jpg", 10 * seed + n)
            (root / split / "labels").mkdir(exist_ok=True)
            (root / split / f"labels/{name}.txt").write_text(text)
        # What training with Ultralytics leaves there.
        (root / split / "labels.cache").write_bytes(b"\x93NUMPY\x01\x00")


def decoded_yolo(folder: Path) -> Masks:
    masks = {}
    for file in folder.glob("labels/*.txt"):
        mask = masks[file.stem] = np.zeros((HEIGHT, WIDTH), np.uint8)
        for line in file.read_text().splitlines():
            number, *values = line.split()
            corners = [(x * WIDTH, y * HEIGHT) for x, y in pairs([float(v) for v in values])]
            mask[inside(corners)] = 1 + int(number)
    return masks


def test_roboflow_as_yolo(tmp_path: Path, masks_of: Callable[..., dict[str, Masks]]) -> None:
    pytest.importorskip("pycocotools.mask")
    root = tmp_path / "street.v3i.yolov8"
    root.mkdir()
    roboflow_yolo(root)
    dataset = built(root, "yolo")
    assert dataset.classes == {1: "car", 2: "traffic light"}
    found = masks_of(dataset)
    for split, folder in (("train", "train"), ("validation", "valid")):
        expected = decoded_yolo(root / folder)
        assert {Path(id_).name for id_ in found[split]} == expected.keys()
        assert any(mask.any() for mask in expected.values())
        for id_, mask in found[split].items():
            assert np.array_equal(mask, expected[Path(id_).name]), id_


ROAD, CAR = [[0, 0], [39, 0], [39, 19], [0, 19]], [[4, 2], [11, 2], [11, 9], [4, 9]]
OBJECTS = [
    {"label": "road", "polygon": ROAD},
    {"label": "cargroup", "polygon": CAR},
    {"label": "license plate", "polygon": [[5, 5], [8, 5], [8, 8], [5, 8]]},
    {"label": "bus", "polygon": [[20, 3], [30, 3], [30, 8], [20, 8]], "deleted": 1},
    {"label": "ego vehicle", "polygon": [[0, 16], [39, 16], [39, 19], [0, 19]]},
]
IDS = {"road": 7, "cargroup": 26, "license plate": -1, "bus": 28, "ego vehicle": 1}


def cityscapes(root: Path) -> None:
    """gtFine and leftImg8bit as they are unpacked, and what the data set's scripts make beside."""
    for split, city, number in (("train", "ulm", 0), ("val", "lindau", 1), ("test", "bonn", 2)):
        id_ = f"{city}_{number:06}_000019"
        picture(root / f"leftImg8bit/{split}/{city}/{id_}_leftImg8bit.png", number)
        place = root / f"gtFine/{split}/{city}"
        place.mkdir(parents=True)
        about = {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": OBJECTS}
        (place / f"{id_}_gtFine_polygons.json").write_text(json.dumps(about, indent=4))
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)  # of the test split all of it is 0
        for each in OBJECTS if split != "test" else ():
            (left, top), (right, bottom) = each["polygon"][0], each["polygon"][2]
            if IDS[each["label"]] >= 0 and not each.get("deleted"):
                labels[top : bottom + 1, left : right + 1] = IDS[each["label"]]
        Image.fromarray(labels).save(place / f"{id_}_gtFine_labelIds.png")
        Image.fromarray(labels).save(place / f"{id_}_gtFine_labelTrainIds.png")
        Image.fromarray(labels.astype(np.uint16)).save(place / f"{id_}_gtFine_instanceIds.png")
        Image.new("RGBA", (WIDTH, HEIGHT)).save(place / f"{id_}_gtFine_color.png")
    for name in ("license.txt", "README"):
        (root / name).write_text("...")


def test_cityscapes(tmp_path: Path, masks_of: Callable[..., dict[str, Masks]]) -> None:
    cityscapes(tmp_path / "cityscapes")
    dataset = built(tmp_path / "cityscapes", "cityscapes")
    assert len(dataset.classes) == 19
    (mask,) = masks_of(dataset)["train"].values()
    about = json.loads(next((tmp_path / "cityscapes/gtFine/train").rglob("*.json")).read_text())
    expected = np.full((HEIGHT, WIDTH), 255, np.uint8)
    for each in about["objects"]:
        corners = np.array(each["polygon"])
        if each.get("deleted") or each["label"] == "license plate":
            continue
        # Both ends of an edge belong to a polygon there.
        grown = [(x + (x > corners[:, 0].min()), y + (y > corners[:, 1].min())) for x, y in corners]
        expected[inside(grown)] = {"road": 7, "cargroup": 26}.get(each["label"], 255)
    void = np.isin(mask, [255, *range(7)])
    assert np.array_equal(np.where(void, 255, mask), expected)
    assert [r.image for r in dataset.validation] == [
        "leftImg8bit/val/lindau/lindau_000001_000019_leftImg8bit.png"
    ]


FEATURES = {
    "image": {"_type": "Image"},
    "annotation": {"_type": "Image"},
    "scene_category": {"names": ["road", "bus"], "_type": "ClassLabel"},
}


def hugging_face(root: Path, *, parquet_files: bool) -> None:
    """What ``save_to_disk`` and ``push_to_hub`` write, the features in the schema's metadata."""
    pa = pytest.importorskip("pyarrow")
    from pyarrow import ipc, parquet

    root.mkdir()
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    about = {"info": {"features": FEATURES}, "fingerprint": "5af4d1cbd0d1f0a4"}
    schema = pa.schema(
        {"image": image_type, "annotation": image_type, "scene_category": pa.int64()},
        metadata={"huggingface": json.dumps(about)},
    )
    for seed, split in enumerate(("train", "validation")):
        rng, rows = np.random.default_rng(seed), []
        for n in range(3):
            labels = rng.integers(0, 3, (HEIGHT // 4, WIDTH // 4)).astype(np.uint8)
            mask = io.BytesIO()
            Image.fromarray(np.kron(labels, np.ones((4, 4), np.uint8))).save(mask, "PNG")
            photograph = picture(root.parent / "drawn.jpg", 10 * seed + n)
            rows.append(
                {
                    "image": {"bytes": photograph, "path": f"street {n}.jpg"},
                    "annotation": {"bytes": mask.getvalue(), "path": None},
                    "scene_category": 0,
                }
            )
        table = pa.Table.from_pylist(rows, schema)
        if parquet_files:
            (root / "data").mkdir(exist_ok=True)
            parquet.write_table(table, root / f"data/{split}-00000-of-00001.parquet")
            continue
        (root / split).mkdir()
        shards = [(f"data-{n:05}-of-00002.arrow", part) for n, part in ((0, [0, 2]), (1, [2, 1]))]
        for name, (start, length) in shards:
            with ipc.new_stream(root / split / name, schema) as writer:
                writer.write_table(table.slice(start, length))
        state = {
            "_data_files": [{"filename": name} for name, _ in shards],
            "_fingerprint": "5af4d1cbd0d1f0a4",
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": split,
        }
        (root / split / "state.json").write_text(json.dumps(state, indent=2, sort_keys=True))
        info = {"citation": "", "description": "", "features": FEATURES, "license": ""}
        (root / split / "dataset_info.json").write_text(json.dumps(info, indent=2))
    if parquet_files:
        (root / "README.md").write_text("---\ndataset_info:\n  features: []\n---\n")
        (root / ".gitattributes").write_text("*.parquet filter=lfs\n")
    else:
        (root / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    (root / "id2label.json").write_text('{"0": "background", "1": "car", "2": "traffic light"}')


def decoded_hugging_face(root: Path, split: str) -> list[np.ndarray]:
    from pyarrow import ipc, parquet

    files = sorted([*root.glob(f"{split}/*.arrow"), *root.glob(f"data/{split}-*.parquet")])
    tables = [
        parquet.read_table(file)
        if file.suffix == ".parquet"
        else ipc.open_stream(file.read_bytes()).read_all()
        for file in files
    ]
    values = [row["annotation"] for table in tables for row in table.to_pylist()]
    return [np.asarray(Image.open(io.BytesIO(value["bytes"]))) for value in values]


@pytest.mark.parametrize("parquet_files", [False, True])
def test_hugging_face(
    tmp_path: Path, masks_of: Callable[..., dict[str, Masks]], parquet_files: bool
) -> None:
    hugging_face(tmp_path / "street", parquet_files=parquet_files)
    dataset = built(tmp_path / "street", "hf")
    assert dataset.classes == {1: "car", 2: "traffic light"}  # and not the scenes of a column
    for split, masks in masks_of(dataset).items():
        expected = decoded_hugging_face(tmp_path / "street", split)
        assert len(expected) == 3
        for found, mask in zip(masks.values(), expected, strict=True):
            assert np.array_equal(found, mask)
