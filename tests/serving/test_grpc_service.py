"""gRPC, by messages that are generated anew from the protocol's file."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from servers import Running
from small_segmenter import segmenter

from dkd.export.export import Exported
from dkd.serving import open_inference_pb2 as messages
from dkd.serving.grpc_service import SERVICE

FOLDER = Path(messages.__file__).parent


def call(server: Running, method: str, **fields: Any) -> Any:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        ask = channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=getattr(messages, f"{method}Request").SerializeToString,
            response_deserializer=getattr(messages, f"{method}Response").FromString,
        )
        return ask(getattr(messages, f"{method}Request")(**fields), timeout=120)


def test_the_messages_are_those_of_the_file(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", f"--python_out={tmp_path}",
         str(FOLDER / "open_inference.proto")],
        check=True,
    )  # fmt: skip
    made = (tmp_path / "open_inference_pb2.py").read_text()
    assert made == (FOLDER / "open_inference_pb2.py").read_text()
    assert importlib.util.find_spec("kserve") is None


def test_the_server_and_its_model(server: Running, exported: Exported) -> None:
    assert call(server, "ServerLive").live
    assert call(server, "ServerReady").ready
    assert call(server, "ServerMetadata").name == "dkd"
    assert call(server, "ModelReady", name="segmentation").ready
    model = call(server, "ModelMetadata", name="segmentation")
    assert list(model.versions) == [exported.sha256[:12]]
    assert (model.inputs[0].datatype, list(model.inputs[0].shape)) == ("UINT8", [-1, -1, -1, 3])


@pytest.mark.parametrize("raw", [True, False])
def test_images_become_masks(server: Running, raw: bool) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 24, 32, 3), dtype=np.uint8)
    tensor: dict[str, Any] = {"name": "image", "datatype": "UINT8", "shape": pixels.shape}
    fields: dict[str, Any] = {"raw_input_contents": [pixels.tobytes()]} if raw else {}
    if not raw:
        tensor["contents"] = {"uint_contents": pixels.reshape(-1).tolist()}
    answer = call(
        server, "ModelInfer", model_name="segmentation", inputs=[tensor], id="7", **fields
    )
    (output,) = answer.outputs
    found = np.frombuffer(answer.raw_output_contents[0], np.uint8).reshape(tuple(output.shape))
    assert answer.id == "7"
    assert np.array_equal(found, np.stack([segmenter().predict(each).mask for each in pixels]))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model_name": "other"}, "NOT_FOUND"),
        ({"model_name": "segmentation"}, "INVALID_ARGUMENT"),
        (
            {
                "model_name": "segmentation",
                "inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 4000, 4000, 3]}],
            },
            "RESOURCE_EXHAUSTED",
        ),
        (
            {"model_name": "segmentation", "raw_input_contents": [bytes(2 << 20)]},
            "RESOURCE_EXHAUSTED",
        ),
    ],
)
def test_bad_requests_have_a_code(server: Running, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(grpc.RpcError) as told:
        call(server, "ModelInfer", **fields)
    assert told.value.code() == grpc.StatusCode[code]
    assert call(server, "ServerReady").ready
