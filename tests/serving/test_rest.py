"""HTTP, against the real server."""

import base64
import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from servers import Running
from small_segmenter import segmenter

from dkd.export.export import Exported, bundled_photographs

PHOTOGRAPH = bundled_photographs()[0].read_bytes()


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_photograph_becomes_its_mask(server: Running, exported: Exported) -> None:
    expected = segmenter().predict(bundled_photographs()[0]).mask
    status, body = server.post("/segment", PHOTOGRAPH)
    assert status == 200
    mask = Image.open(io.BytesIO(body))
    assert mask.mode == "P"
    assert np.mean(np.asarray(mask) == expected) >= 0.9999
    assert mask.getpalette()[3:6] == [64, 0, 0]  # cat's colour in VOC
    status, told = server.post("/segment?format=json", PHOTOGRAPH)
    assert status == 200
    assert (told["width"], told["height"]) == (640, 427)
    assert base64.b64decode(told["mask_png"]) == body
    assert told["model"]["sha256"] == exported.sha256
    counts = np.bincount(np.asarray(mask).reshape(-1), minlength=4)
    assert {each["name"]: each["pixels"] for each in told["classes"]} == dict(
        zip(("background", "cat", "dog", "sheep"), counts.tolist(), strict=True)
    )


def test_a_form_holds_the_same_image(server: Running) -> None:
    line = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
    body = line + PHOTOGRAPH + b"\r\n--x--\r\n"
    sent = server.post("/segment", body, Content_Type="multipart/form-data; boundary=x")
    assert sent == server.post("/segment", PHOTOGRAPH)


def test_an_image_on_its_side_is_turned(server: Running) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, "PNG", exif=exif)
    _, body = server.post("/segment", buffer.getvalue())
    assert Image.open(io.BytesIO(body)).size == (30, 40)


def test_the_protocols_tensors(server: Running, exported: Exported) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape)}
    model = "/v2/models/segmentation"
    for data in (pixels.tolist(), pixels.reshape(-1).tolist()):
        request = {"id": "a", "inputs": [{**tensor, "data": data}]}
        status, told = server.post(f"{model}/infer", json.dumps(request).encode())
        assert status == 200
        assert (told["id"], told["model_version"]) == ("a", exported.sha256[:12])
        (output,) = told["outputs"]
        assert (output["name"], output["datatype"]) == ("mask", "UINT8")
        found = np.array(output["data"]).reshape(output["shape"])
        expected = [segmenter().predict(each).mask for each in pixels]
        assert np.array_equal(found, np.stack(expected))
    status, told = server.get(model)
    assert told["platform"] == "onnx_onnxv1"
    assert told["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert [each["name"] for each in told["parameters"]["classes"]][1:] == ["cat", "dog", "sheep"]
    assert server.get(f"{model}/versions/{exported.sha256[:12]}")[0] == 200
    assert server.get(f"{model}/ready") == (200, {"name": "segmentation", "ready": True})
    assert server.get("/v2/health/live") == (200, {"live": True})
    assert server.get("/v2/health/ready") == (200, {"ready": True})
    assert server.get("/v2")[1]["name"] == "dkd"


HUGE = png(Image.new("1", (9000, 8000)))  # a few kilobytes that would be 216 MB


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/segment", b"text", 415, "not a JPEG, PNG, TIFF or WebP file"),
        ("/segment", b"GIF89a" + bytes(20), 415, "not a JPEG, PNG, TIFF or WebP file"),
        ("/segment", b"", 400, "an empty body"),
        ("/segment", PHOTOGRAPH[:20000], 400, "corrupt"),
        ("/segment", PHOTOGRAPH[:20], 400, "not a JPEG"),
        ("/segment", HUGE, 413, "9000x8000 pixels"),
        ("/segment", png(Image.new("L", (900, 900))), 413, "at most 524288 are served"),
        ("/segment", png(Image.new("L", (400, 2))), 413, "times as long as wide"),
        ("/segment", bytes((1 << 20) + 1), 413, "1048577 bytes; at most 1048576"),
        ("/segment?format=gif", PHOTOGRAPH, 400, "ask for png or json"),
        ("/v2/models/other/infer", b"{}", 404, "no model 'other' here"),
        ("/v2/models/segmentation/versions/1/infer", b"{}", 404, "no model 'segmentation 1'"),
        ("/v2/models/segmentation/infer", b"{", 400, "not an inference request"),
        ("/v2/models/segmentation/infer", b"[1]", 400, "not an inference request"),
        ("/v2/models/segmentation/infer", b'{"inputs": []}', 400, "not an inference request"),
        ("/nothing", b"", 404, "Not Found"),
        ("/v2/health/live", b"x", 405, "Method Not Allowed"),
    ],
)
def test_bad_requests_are_told_in_json(
    server: Running, path: str, body: bytes, status: int, words: str
) -> None:
    found, told = server.post(path, body)
    assert (found, list(told)) == (status, ["error"])
    assert words in told["error"]
    assert "\n" not in told["error"]
    assert server.get("/v2/health/ready")[0] == 200


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"datatype": "FP32"}, 400, "give 'image' of 'UINT8'"),
        ({"name": "x"}, 400, "give 'image' of 'UINT8'"),
        ({"shape": [1, 2, 2]}, 400, "images, height, width, 3"),
        ({"shape": [1, 2, 2, -3]}, 400, "images, height, width, 3"),
        ({"shape": [True, 2, 2, 3]}, 400, "images, height, width, 3"),
        ({"shape": [1, 9999, 9999, 3]}, 413, "at most 524288 pixels"),
        ({"shape": [1, 1, 4000, 3]}, 413, "100 by 1"),
        ({"shape": [600, 1, 1, 3], "data": [0] * 1800}, 413, "1x1 pixels become 614400"),
        ({"data": [1, 2]}, 400, "2 values for shape"),
        ({"data": [256] * 12}, 400, "whole numbers from 0 to 255"),
        ({"data": [0.5] * 12}, 400, "whole numbers from 0 to 255"),
        ({"data": [[1], [1, 2]]}, 400, "whole numbers from 0 to 255"),
        ({"data": "x"}, 400, "whole numbers from 0 to 255"),
        ({"data": []}, 400, "whole numbers from 0 to 255"),
    ],
)
def test_tensors_that_are_no_images(
    server: Running, change: dict[str, object], status: int, words: str
) -> None:
    usual = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [0] * 12}
    body = json.dumps({"inputs": [{**usual, **change}]}).encode()
    found, told = server.post("/v2/models/segmentation/infer", body)
    assert found == status
    assert words in told["error"]


def test_what_is_done_is_counted(server: Running, exported: Exported) -> None:
    def count() -> dict[str, float]:
        text = server.get("/metrics")[1].decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
        return {name: float(value) for name, value in lines}

    server.post("/segment", PHOTOGRAPH)
    before = count()
    server.post("/segment", PHOTOGRAPH)
    server.post("/segment", b"text")
    after = count()
    for name, more in (
        ('dkd_requests_total{status="200",way="segment"}', 1),
        ('dkd_requests_total{status="415",way="segment"}', 1),
        ('dkd_request_seconds_count{way="segment"}', 2),
    ):
        assert after[name] - before.get(name, 0) == more
    assert after["dkd_queue"] == 0
    (about,) = [name for name in after if name.startswith("dkd_model_info")]
    assert f'sha256="{exported.sha256}"' in about
    assert f'checkpoint="{"3" * 64}"' in about


def test_the_page_asks_for_json(server: Running) -> None:
    status, page = server.get("/")
    assert status == 200
    assert b"segment?format=json" in page
    assert b"http://" not in page  # nothing is fetched from elsewhere
    assert b"https://" not in page


def test_requests_side_by_side_are_all_answered(server: Running) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(server.post("/segment", PHOTOGRAPH)[0]))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 12


def test_the_page_is_part_of_the_package() -> None:
    import dkd.serving

    assert (Path(dkd.serving.__file__).parent / "page.html").is_file()
