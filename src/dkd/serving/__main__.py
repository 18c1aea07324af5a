"""``python -m dkd.serving``: what runs in the serving image. Settings come from the environment.

MODEL_URI       of the ONNX file
MODEL_SHA256    its digest, which is verified
MODEL_NAME      under which the protocol knows it; "segmentation"
HTTP_PORT, GRPC_PORT           8080 and 9000
MAX_BYTES, MAX_PIXELS          of a request; 32 MiB and 16 Mi
WORKERS, THREADS               images side by side, threads of each; the machine's cores and 1
QUEUE                          requests that may wait; 64
DRAIN_SECONDS, GRACE_SECONDS   after SIGTERM: not ready but answering; then, to end; 5 and 30
"""

import os
import re

from dkd.errors import UserError
from dkd.log import told
from dkd.serving.model import load
from dkd.serving.server import Place, run
from dkd.serving.service import Limits, Service

_LARGEST = 1 << 30  # of bytes and pixels: gRPC takes no more than 31 bits


def number(name: str, default: int, least: int = 1, most: int = 65535) -> int:
    """A whole number of the environment.

    Raises:
        UserError: it is something else.
    """
    text = os.environ.get(name, "") or str(default)
    if not re.fullmatch("[0-9]{1,12}", text) or not least <= int(text) <= most:
        raise UserError(f"{name}={text}: give a whole number of at least {least}, at most {most}")
    return int(text)


def main() -> None:
    """Loads the model that the environment names, and serves it."""
    with told():
        uri, sha256 = os.environ.get("MODEL_URI", ""), os.environ.get("MODEL_SHA256", "")
        if not uri or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise UserError(
                "MODEL_URI and MODEL_SHA256: name an exported model and its digest, "
                "which `dkd export` prints"
            )
        usual = Limits()
        limits = Limits(
            number("MAX_BYTES", usual.most_bytes, most=_LARGEST),
            number("MAX_PIXELS", usual.most_pixels, most=_LARGEST),
            number("WORKERS", usual.at_once),
            number("QUEUE", usual.waiting, 0),
        )
        place = Place(
            "0.0.0.0",  # noqa: S104 - of a pod
            number("HTTP_PORT", 8080, 0),
            number("GRPC_PORT", 9000, 0),
            number("DRAIN_SECONDS", 5, 0),
            number("GRACE_SECONDS", 30),
        )
        model = load(uri, sha256, number("THREADS", 1))
        service = Service(model, os.environ.get("MODEL_NAME") or "segmentation", limits)
        run(service, place, lambda http, grpc: print(
            f"serving {uri} sha256 {sha256}: HTTP on {http}, gRPC on {grpc}", flush=True
        ))  # fmt: skip


if __name__ == "__main__":
    main()
