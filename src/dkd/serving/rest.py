"""HTTP: the Open Inference Protocol v2, ``POST /segment``, metrics and the page."""

import base64
import json
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any

import numpy as np
import prometheus_client as prometheus
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException

from dkd import __version__
from dkd.evaluation.colouring import indexed
from dkd.export.description import INPUT
from dkd.serving.model import Pixels, RequestRefused, pixels_of, tensor_of
from dkd.serving.service import Service


def application(service: Service) -> FastAPI:
    """The program that answers HTTP requests. Every error is JSON with one line ``error``."""
    app = FastAPI(title="dkd", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    model = "/v2/models/{name}"

    @app.exception_handler(RequestRefused)
    async def _refused(_: Request, error: RequestRefused) -> JSONResponse:
        headers = {"Retry-After": "1"} if error.status == 503 else None
        return JSONResponse({"error": error.message}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def _unknown(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse({"error": message}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def _failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"the server failed: {type(error).__name__}"}, 500)

    @app.get("/")
    async def _page() -> Response:
        page = files("dkd.serving").joinpath("page.html").read_text(encoding="utf-8")
        return Response(page, media_type="text/html; charset=utf-8")

    @app.get("/metrics")
    async def _metrics() -> Response:
        text = prometheus.generate_latest(service.registry)
        return Response(text, media_type=prometheus.CONTENT_TYPE_LATEST)

    @app.get("/v2")
    async def _server() -> dict[str, Any]:
        return {"name": "dkd", "version": __version__, "extensions": []}

    @app.get("/v2/health/live")
    async def _live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def _ready() -> Response:
        return JSONResponse({"ready": not service.draining}, 503 if service.draining else 200)

    @app.get(model)
    @app.get(model + "/versions/{version}")
    async def _model(name: str, version: str = "") -> dict[str, Any]:
        service.require(name, version)
        return {
            "name": service.name,
            "versions": [service.version],
            "platform": "onnx_onnxv1",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
            "outputs": [{"name": "mask", "datatype": service.datatype, "shape": [-1, -1, -1]}],
            "parameters": json.loads(service.model.description.to_json()),
        }

    @app.get(model + "/ready")
    @app.get(model + "/versions/{version}/ready")
    async def _model_ready(name: str, version: str = "") -> Response:
        service.require(name, version)
        ready = not service.draining
        return JSONResponse({"name": service.name, "ready": ready}, 200 if ready else 503)

    @app.post(model + "/infer")
    @app.post(model + "/versions/{version}/infer")
    async def _infer(request: Request) -> Response:
        return await _noted(service, "infer", request, _answer_infer)

    @app.post("/segment")
    async def _segment(request: Request) -> Response:
        return await _noted(service, "segment", request, _answer_segment)

    return app


async def _noted(
    service: Service,
    way: str,
    request: Request,
    answer: Callable[[Service, Request], Awaitable[Response]],
) -> Response:
    started, status = time.perf_counter(), "500"
    try:
        response = await answer(service, request)
        status = str(response.status_code)
        return response
    except RequestRefused as refused:
        status = str(refused.status)
        raise
    finally:
        service.note(way, status, started)


async def _answer_infer(service: Service, request: Request) -> Response:
    service.require(request.path_params["name"], request.path_params.get("version", ""))
    body = await _body(request, service.limits.most_bytes)

    def work() -> Response:
        images, wanted, own = _read_request(body, service.limits.most_pixels)
        masks = service.masks(images)
        output = {"name": "mask", "datatype": service.datatype, "shape": list(masks.shape)}
        outputs = [{**output, "data": masks.reshape(-1).tolist()}] if wanted else []
        answer = {"model_name": service.name, "model_version": service.version}
        return JSONResponse({**answer, **own, "outputs": outputs})

    return await service.work(work)


def _read_request(body: bytes, most_pixels: int) -> tuple[Pixels, bool, dict[str, str]]:
    """Images, whether the mask is wanted, and the request's own id if it has one."""
    try:
        document = json.loads(body)
        (tensor,) = document["inputs"]
        name, datatype = tensor["name"], tensor["datatype"]
        shape, values = tensor["shape"], tensor["data"]
        wanted = [each["name"] for each in document.get("outputs", [{"name": "mask"}])]
        own = {"id": str(document["id"])} if "id" in document else {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RequestRefused(
            400,
            "not an inference request; send JSON with one input: "
            '{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, H, W, 3], '
            '"data": [...]}]}',
        ) from None
    if unknown := [each for each in wanted if each != "mask"]:
        raise RequestRefused(400, f"output {unknown[0]!r}; there is 'mask' alone")
    return tensor_of(name, datatype, shape, values, most_pixels), bool(wanted), own


async def _answer_segment(service: Service, request: Request) -> Response:
    kind = _wanted(request)
    body = await _body(request, service.limits.most_bytes)
    data = _file_in(body, request.headers.get("content-type", ""))

    def work() -> Response:
        pixels = pixels_of(data, service.limits.most_pixels)
        mask = service.masks(pixels[None])[0]
        return _shown(service, mask, kind)

    return await service.work(work)


def _wanted(request: Request) -> str:
    given = request.query_params.get("format") or ""
    accepted = request.headers.get("accept", "")
    kind = given or ("json" if "application/json" in accepted else "png")
    if kind not in ("png", "json"):
        raise RequestRefused(400, f"format={kind!r}; ask for png or json")
    return kind


def _shown(service: Service, mask: Pixels, kind: str) -> Response:
    description = service.model.description
    picture = indexed(mask, description.colours, service.model.sha256)
    if kind == "png":
        headers = {"X-Model-Sha256": service.model.sha256}
        return Response(picture, media_type="image/png", headers=headers)
    counts = np.bincount(mask.reshape(-1), minlength=len(description.classes))
    return JSONResponse(
        {
            "width": mask.shape[1],
            "height": mask.shape[0],
            "model": {"name": service.name, "sha256": service.model.sha256},
            "classes": [
                {
                    "value": each.value,
                    "name": each.name,
                    "colour": list(each.colour),
                    "pixels": int(counts[each.value]),
                }
                for each in description.classes
                if counts[each.value]
            ],
            "mask_png": base64.b64encode(picture).decode(),
        }
    )


async def _body(request: Request, most: int) -> bytes:
    """The request's body; no more of it is kept than is accepted.

    Of one that is somewhat too large the rest is read and dropped: a client that still sends
    would see its connection end, and not the answer.

    Raises:
        RequestRefused: it is too large (413) or empty (400).
    """
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > most:
        dropped = 0
        async for part in request.stream():
            dropped += len(part)
            if dropped > 4 * most:
                break
        raise RequestRefused(413, f"{told} bytes; at most {most} are accepted")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise RequestRefused(413, f"more than {most} bytes; no more are accepted")
        parts.append(part)
    if not size:
        raise RequestRefused(
            400, "an empty body; send an image: curl --data-binary @photograph.jpg"
        )
    return b"".join(parts)


def _file_in(body: bytes, content_type: str) -> bytes:
    """The image of a form's first file, or the body itself.

    Raises:
        RequestRefused: the form cannot be read, or holds no file (400).
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        return body
    found: list[bytes] = []

    def take(file: Any) -> None:
        file.file_object.seek(0)
        found.append(file.file_object.read())

    try:
        parser = FormParser(
            "multipart/form-data", None, take, boundary=options.get(b"boundary"),
            config={"MAX_MEMORY_FILE_SIZE": len(body) + 1},
        )  # fmt: skip
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise RequestRefused(
            400, "a form that cannot be read; curl -F image=@photograph.jpg"
        ) from None
    if not found:
        raise RequestRefused(400, "a form without a file; curl -F image=@photograph.jpg")
    return found[0]
