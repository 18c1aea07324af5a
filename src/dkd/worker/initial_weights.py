"""Converts a file of initial weights and publishes it, as a job of the training image.

    torchrun -m dkd.worker.initial_weights --file URI --name resnet101-63fe2227.pth --source ADDRESS
        --backbone resnet101 --uri s3://.../weights/imagenet-resnet101-63fe2227

Started by :mod:`dkd.steps.initial_weights`; the file lies under the artifact root by then.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dkd import storage
from dkd.errors import UserError
from dkd.launching.rank import follow_parent, last_words, report_exceptions
from dkd.network import pretrained
from dkd.network.checkpoint import save_tensors
from dkd.steps.initial_weights import KIND, PART, File
from dkd.storage import artifacts
from dkd.storage.artifacts import Manifest


def publish(file: File, backbone: str, uri: str) -> Manifest:
    """Converts a file of weights and keeps it as an artifact.

    Args:
        file: .pth or safetensors with torchvision's key names.
        backbone: whose they are.
        uri: the artifact's place.

    Raises:
        UserError: the file cannot be read, or does not fit the backbone (the tensor is named);
            or other weights are already there.
    """
    tensors = pretrained.convert(file.path, backbone, name=file.source)
    with tempfile.TemporaryDirectory(prefix="dkd-weights-") as work:
        path = Path(work) / PART
        save_tensors(path, tensors)
        source = {"name": file.name, "from": file.source, "sha256": file.sha256}
        metadata = {"backbone": backbone, "source": source}
        found = artifacts.publish(uri, {PART: path}, kind=KIND, metadata=metadata)
        if found.part(PART).sha256 != storage.file_sha256(path):
            raise UserError(
                f"{uri}: other weights are already there ({found.metadata['source']['name']}); "
                f"remove them first: dkd weights rm {backbone}"
            )
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the job; returns the exit status: 2 for bad input."""
    parser = argparse.ArgumentParser(prog=f"python -m {__spec__.name if __spec__ else __name__}")
    parser.add_argument("--file", required=True, help="URI of the file")
    parser.add_argument("--name", required=True, help="its name where it comes from")
    parser.add_argument("--source", required=True, help="where it comes from")
    parser.add_argument("--backbone", required=True, help="whose weights they are")
    parser.add_argument("--uri", required=True, help="the artifact's place")
    given = parser.parse_args(arguments)
    follow_parent()
    report_exceptions()
    try:
        with tempfile.TemporaryDirectory(prefix="dkd-weights-") as work:
            path = Path(work) / "file"
            storage.download(given.file, path)
            file = File(path, given.name, given.source, storage.file_sha256(path))
            publish(file, given.backbone, given.uri)
    except UserError as error:
        print(f"dkd: {error}", file=sys.stderr, flush=True)
        last_words(str(error), bad_input=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
