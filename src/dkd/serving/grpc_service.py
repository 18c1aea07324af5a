"""gRPC: the Open Inference Protocol v2."""

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import numpy as np

from dkd import __version__
from dkd.data.channels import Channels
from dkd.export.description import INPUT
from dkd.serving import open_inference_pb2
from dkd.serving.model import RequestRefused, tensor_of
from dkd.serving.service import Service

messages: Any = open_inference_pb2
"""Its classes are made when it is imported."""

SERVICE = "inference.GRPCInferenceService"
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
Procedure = Callable[[Service, Any], Awaitable[Any]]


def server(service: Service, address: str) -> tuple[Any, int]:
    """A server that is yet to be started, and its port.

    Args:
        service: what answers.
        address: host and port; port 0 takes a free one.
    """
    options = [
        ("grpc.max_receive_message_length", service.limits.most_bytes + (1 << 16)),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]
    made = grpc.aio.server(options=options)
    handlers = {name: _handler(service, name, method) for name, method in _METHODS.items()}
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    return made, made.add_insecure_port(address)


def _handler(service: Service, name: str, method: Procedure) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        started, status = time.perf_counter(), "INTERNAL"
        try:
            response = await method(service, request)
            status = "OK"
            return response
        except RequestRefused as refused:
            code = _CODES[refused.status]
            status = code.name
            return await context.abort(code, refused.message)
        finally:
            if name == "ModelInfer":
                service.note("grpc", status, started)

    kind = getattr(messages, f"{name}Request")
    response = getattr(messages, f"{name}Response")
    return grpc.unary_unary_rpc_method_handler(answer, kind.FromString, response.SerializeToString)


async def _live(_service: Service, _request: Any) -> Any:
    return messages.ServerLiveResponse(live=True)


async def _ready(service: Service, _request: Any) -> Any:
    return messages.ServerReadyResponse(ready=not service.draining)


async def _model_ready(service: Service, request: Any) -> Any:
    service.require(request.name, request.version)
    return messages.ModelReadyResponse(ready=not service.draining)


async def _metadata(_service: Service, _request: Any) -> Any:
    return messages.ServerMetadataResponse(name="dkd", version=__version__)


async def _model(service: Service, request: Any) -> Any:
    service.require(request.name, request.version)
    tensor = messages.ModelMetadataResponse.TensorMetadata
    return messages.ModelMetadataResponse(
        name=service.name,
        versions=[service.version],
        platform="onnx_onnxv1",
        inputs=[tensor(name=INPUT, datatype="UINT8", shape=[-1, -1, -1, 3])],
        outputs=[tensor(name="mask", datatype=service.datatype, shape=[-1, -1, -1])],
    )


async def _infer(service: Service, request: Any) -> Any:
    service.require(request.model_name, request.model_version)
    if unknown := [each.name for each in request.outputs if each.name != "mask"]:
        raise RequestRefused(400, f"output {json.dumps(unknown[0])}; there is 'mask' alone")

    def work() -> Channels:
        if len(request.inputs) != 1:
            raise RequestRefused(400, f"{len(request.inputs)} inputs; give one, {INPUT!r}")
        (tensor,) = request.inputs
        raw = request.raw_input_contents
        values = raw[0] if len(raw) == 1 else np.array(tensor.contents.uint_contents, np.int64)
        images = tensor_of(
            tensor.name, tensor.datatype, list(tensor.shape), values, service.limits.most_pixels
        )
        return service.masks(images)

    masks = await service.work(work)
    output = messages.ModelInferResponse.InferOutputTensor(
        name="mask", datatype=service.datatype, shape=list(masks.shape)
    )
    return messages.ModelInferResponse(
        model_name=service.name,
        model_version=service.version,
        id=request.id,
        outputs=[output],
        raw_output_contents=[masks.tobytes()],
    )


_METHODS: dict[str, Procedure] = {
    "ServerLive": _live,
    "ServerReady": _ready,
    "ModelReady": _model_ready,
    "ServerMetadata": _metadata,
    "ModelMetadata": _model,
    "ModelInfer": _infer,
}
