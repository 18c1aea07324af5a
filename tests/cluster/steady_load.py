"""Sends requests to a server without a pause until told to stop; runs within the serving image.

    python -c "$(cat steady_load.py)" HOST SENDERS

Three kinds of client take turns: one keeps its HTTP connection, one opens a connection for each
request, one speaks gRPC. Each second a line of JSON says how many requests were answered so far, by
which models since the line before, and what failed. Only a connection that was refused is tried
again, since nothing has been sent yet. It ends when the file /tmp/stop is there.
"""

import http.client
import io
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from PIL import Image

from dkd.serving import open_inference_pb2

messages: Any = open_inference_pb2
HOST, SENDERS = sys.argv[1], int(sys.argv[2])
SIZE = (90, 60)
PAUSE = 0.1
TRIES, UNTIL_NEXT = 60, 0.5

lock = threading.Lock()
stop = threading.Event()
answered = 0
models: Counter[str] = Counter()
refused = 0
failed: list[str] = []


class HttpSender:
    """POST /segment, over one connection or over a new one each time."""

    def __init__(self, *, kept: bool) -> None:
        self.kept = kept
        self.connection = http.client.HTTPConnection(HOST, 80, timeout=60)
        image = io.BytesIO()
        Image.new("RGB", SIZE, (90, 160, 30)).save(image, "JPEG")
        self.body = image.getvalue()

    def send(self) -> str:
        global refused
        for attempt in range(TRIES):
            try:
                if self.connection.sock is None:
                    self.connection.connect()
                break
            except ConnectionRefusedError:
                with lock:
                    refused += 1
                if attempt == TRIES - 1:
                    raise
                time.sleep(UNTIL_NEXT)
        try:
            self.connection.request("POST", "/segment", self.body)
            response = self.connection.getresponse()
            text = response.read()
        except BaseException:
            self.connection.close()
            raise
        if not self.kept:
            self.connection.close()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}: {text[:200]!r}")
        return str(response.headers["X-Model-Sha256"])[:12]


class GrpcSender:
    """ModelInfer, over one channel."""

    def __init__(self) -> None:
        self.channel = grpc.insecure_channel(f"{HOST}:9000")
        self.ask = self.channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        width, height = SIZE
        tensor = {"name": "image", "datatype": "UINT8", "shape": [1, height, width, 3]}
        self.request = messages.ModelInferRequest(
            model_name="segmentation",
            inputs=[tensor],
            raw_input_contents=[bytes(width * height * 3)],
        )

    def send(self) -> str:
        # Waits while there is no connection: the counterpart of trying again when it is refused.
        return str(self.ask(self.request, timeout=60, wait_for_ready=True).model_version)


def work(kind: int) -> None:
    global answered
    sender = GrpcSender() if kind == 2 else HttpSender(kept=kind == 0)
    while not stop.is_set():
        try:
            model = sender.send()
        except Exception as error:
            with lock:
                failed.append(f"{time.time():.1f} {type(sender).__name__} {kind}: {error!r}"[:400])
        else:
            with lock:
                answered += 1
                models[model] += 1
        time.sleep(PAUSE)


def line() -> str:
    with lock:
        document = {
            "answered": answered, "models": dict(models), "refused": refused, "failed": failed,
        }  # fmt: skip
        text = json.dumps(document)
        models.clear()
    return text


threads = [threading.Thread(target=work, args=(number % 3,)) for number in range(SENDERS)]
for thread in threads:
    thread.start()
while not Path("/tmp/stop").exists():
    time.sleep(1)
    print(line(), flush=True)
stop.set()
for thread in threads:
    thread.join()
print(line(), flush=True)
