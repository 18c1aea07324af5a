"""Initial weights of backbones: where they are kept under an artifact root, and how they get there.

    <root>/weights/imagenet-<file of torchvision>     what ``network.weights: imagenet`` means
    <root>/weights/<backbone>-<sha256 of a file>      what a path or URI was when it was given

Each is an artifact: one safetensors file with the backbone's tensors, converted and checked
against the network by a job of the training image (:mod:`dkd.worker.initial_weights`), because the
launcher image holds no torch. So workers need no way out, and what is there fits.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dkd import storage
from dkd.errors import UserError
from dkd.launching import launcher
from dkd.launching.interface import Job, JobFailed
from dkd.scenario import imagenet
from dkd.scenario.launch import Launch
from dkd.scenario.network import Network
from dkd.scenario.schema import Scenario
from dkd.storage import artifacts, web
from dkd.storage.artifacts import Manifest
from dkd.storage.store import NotFound

FOLDER, KIND, PART = "weights", "weights", "weights.safetensors"
MODULE = "dkd.worker.initial_weights"
WORKSPACE = "DKD_WORKSPACE"
"""Environment variable with the workspace whose own store the artifact root is, while it runs."""


@dataclass(frozen=True)
class File:
    """A file of weights on this machine.

    Attributes:
        path: where it lies.
        name: its own.
        source: path or URI that it was given by.
        sha256: of its content.
    """

    path: Path
    name: str
    source: str
    sha256: str


def imagenet_uri(root: str, backbone: str) -> str:
    """Where the ImageNet weights of a backbone are kept under a root."""
    stem = imagenet.FILES[backbone].removesuffix(".pth")
    return storage.join(root, FOLDER, f"imagenet-{stem}")


def given_uri(root: str, backbone: str, sha256: str) -> str:
    """Where the weights of a file with this content are kept."""
    return storage.join(root, FOLDER, f"{backbone}-{sha256[:32]}")


def kept(root: str, backbone: str) -> Manifest | None:
    """The ImageNet weights of a backbone under a root, if they are there."""
    return artifacts.find(imagenet_uri(root, backbone))


def find(network: Network, root: str) -> Manifest | None:
    """What the network starts from at step 0; None if it starts from random weights.

    Raises:
        UserError: it is not under the root: what to run is said; or it is no backbone's weights,
            or another backbone's.
    """
    wanted = network.initial_weights
    if wanted == "none":
        return None
    if wanted == "imagenet":
        found = kept(root, network.backbone)
        if found is None:
            raise UserError(
                f"network.weights: no ImageNet weights of {network.backbone} under {root}; "
                f"{commands(network.backbone, root)}"
            )
        return found
    return _fitting(artifacts.load(wanted), network.backbone)


def commands(backbone: str, root: str) -> str:
    """What puts ImageNet weights under a root, as the end of an error's line."""
    workspace = os.environ.get(WORKSPACE)  # its store runs only as long as a command does
    where = f"--workspace {workspace}" if workspace else f"--root {root}"
    return (
        f"with internet access, run dkd weights fetch {backbone} {where}; with the file "
        f"({imagenet.FILES[backbone]}) dkd weights add FILE --backbone {backbone} {where}; "
        "network.weights=none starts from random ones"
    )


def prepare(scenario: Scenario, root: str, say: Callable[[str], None]) -> Scenario:
    """Sees to it that a scenario's initial weights lie under the root and fit its backbone.

    ImageNet weights that are not there are fetched, if there is a way out; a file that is given
    by path or URI is copied to the root, unless it was before.

    Args:
        scenario: the scenario.
        root: artifact root.
        say: prints a line.

    Returns:
        The scenario; a path or URI is replaced by that of the copy, which every machine reaches.

    Raises:
        UserError: they cannot be fetched, or do not fit: one line with what to run.
    """
    network = scenario.network
    wanted = network.initial_weights
    if wanted == "imagenet":
        found = kept(root, network.backbone)
        if found is None:
            found = _fetch_imagenet(network.backbone, root, scenario.launch, say)
    elif wanted == "none":
        say(f"initial weights: none, {network.backbone} starts from random ones")
        return scenario
    elif not (web.is_web(wanted) or storage.exists(wanted)):
        try:
            found = _fitting(artifacts.load(wanted), network.backbone)
        except NotFound:
            raise UserError(
                f"network.weights: {wanted}: not there, neither a file of weights (.pth, "
                "safetensors) nor weights that dkd weights keeps"
            ) from None
    else:
        with fetched(wanted) as file:
            uri = given_uri(root, network.backbone, file.sha256)
            found = artifacts.find(uri) or _converted(
                file, network.backbone, uri, scenario.launch, say
            )
        network = network.model_copy(update={"weights": uri})
    say(f"initial weights: {describe(found)}")
    return scenario.model_copy(update={"network": network})


def _fetch_imagenet(
    backbone: str, root: str, launch: Launch, say: Callable[[str], None]
) -> Manifest:
    address = imagenet.address(backbone)
    say(f"initial weights: fetching {address}")
    try:
        with fetched(address) as file:
            return _converted(file, backbone, imagenet_uri(root, backbone), launch, say)
    except JobFailed:
        raise
    except UserError as error:
        raise UserError(f"network.weights: {error}; {commands(backbone, root)}") from None


def _converted(
    file: File, backbone: str, uri: str, launch: Launch, say: Callable[[str], None]
) -> Manifest:
    """Has a job of the training image convert and publish a file that only this machine has."""
    staged = storage.join(uri, "source", file.sha256)
    storage.upload(file.path, staged, sha256=file.sha256)
    alone = {"nodes": 1, "processes_per_node": 1, "gpus_per_node": 0}
    name = hashlib.sha256(f"{uri} {file.sha256}".encode()).hexdigest()[:16]
    arguments = ("--file", staged, "--name", file.name, "--source", file.source)
    say(f"initial weights: converting {file.name}")
    try:
        launcher(launch.model_copy(update=alone)).run(
            Job(
                name=f"dkd-weights-{name}",
                module=MODULE,
                arguments=(*arguments, "--backbone", backbone, "--uri", uri),
                result=uri,
            )
        )
    except JobFailed:
        if artifacts.find(uri) is None:  # else another run has had it done meanwhile
            raise
    finally:
        storage.delete([staged])
    return artifacts.load(uri)


@contextmanager
def fetched(source: str) -> Iterator[File]:
    """A file of weights on this machine for as long as the block lasts, whole.

    A name that promises a digest, as torchvision's files have, is held to it.

    Args:
        source: a path, a URI or an address of the web.

    Raises:
        UserError: it cannot be fetched, or its content is not what its name promises.
    """
    with tempfile.TemporaryDirectory(prefix="dkd-weights-") as work:
        name = web.name_of(source) if web.is_web(source) else source.rstrip("/").rsplit("/", 1)[-1]
        path = Path(work) / "file"
        if web.is_web(source):
            web.download(source, path)
        elif storage.is_local(source):
            path = storage.local_path(source)
        else:
            storage.download(source, path)
        sha256 = storage.file_sha256(path)
        promised = imagenet.digest_in_name(name)
        if not sha256.startswith(promised):
            raise UserError(
                f"{web.shown(source)}: its sha256 begins with {sha256[:8]}, but its name says "
                f"{promised}: damaged, or another file; fetch it again"
            )
        yield File(path, name, web.shown(source), sha256)


def _fitting(found: Manifest, backbone: str) -> Manifest:
    if found.kind != KIND:
        raise UserError(f"network.weights: {found.uri}: is {found.called}, not weights")
    if found.metadata["backbone"] != backbone:
        raise UserError(
            f"network.weights: {found.uri}: weights of {found.metadata['backbone']}, but "
            f"network.backbone is {backbone}"
        )
    return found


def reference(found: Manifest | None) -> dict[str, str]:
    """What a network started from, as a checkpoint's manifest says it; random is ``none``."""
    if found is None:
        return {"name": "none"}
    source = found.metadata["source"]
    return {
        "name": source["name"],
        "sha256": source["sha256"],
        "uri": found.uri,
        "digest": found.digest,
    }


def describe(found: Manifest | None) -> str:
    """The same in words."""
    return in_words(reference(found))


def in_words(given: Mapping[str, str]) -> str:
    """What :func:`reference` gave, in words, with the digests of the file and of its tensors."""
    if given["name"] == "none":
        return "random weights (network.weights: none)"
    own = any(
        given["sha256"].startswith(imagenet.digest_in_name(name))
        for name in imagenet.FILES.values()
    )
    what = "torchvision's ImageNet weights" if own else "weights that are not torchvision's,"
    return f"{what} {given['name']}, sha256 {given['sha256'][:16]}, digest {given['digest'][:16]}"
