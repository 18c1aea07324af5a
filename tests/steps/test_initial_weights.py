"""Initial weights: fetched once, kept under the root, found by every run; else one line."""

import hashlib
import io
import pickle
from pathlib import Path

import pytest
import torch
from fixtures.web import Web, named, saved

from dkd.errors import UserError
from dkd.scenario import imagenet
from dkd.scenario.network import Network
from dkd.scenario.schema import Scenario, parse
from dkd.steps import initial_weights
from dkd.storage import artifacts
from dkd.worker.initial_weights import publish


def scenario(weights: str | None, backbone: str = "mobilenet_v2") -> Scenario:
    return parse(
        {
            "name": "start",
            "data": {"format": "digits"},
            "task": [["zero"], ["one"]],
            "method": "dkd",
            "network": {"backbone": backbone, "weights": weights},
            "training": {
                "epochs": {"first": 1, "later": 1},
                "batch_size": 4,
                "lr": {"first": 0.1, "later": 0.1},
            },
        },
        source="test",
    )


class Root:
    """An artifact root, and what a run's first task says and hands on there."""

    def __init__(self, folder: Path) -> None:
        self.uri = str(folder)
        self.said: list[str] = []

    def prepare(self, weights: str | None, backbone: str = "mobilenet_v2") -> Scenario:
        return initial_weights.prepare(scenario(weights, backbone), self.uri, self.said.append)

    def refused(self, weights: str | None, backbone: str = "mobilenet_v2") -> str:
        with pytest.raises(UserError) as raised:
            self.prepare(weights, backbone)
        message = str(raised.value)
        assert "\n" not in message
        assert not list(Path(self.uri).rglob("manifest.json"))
        return message


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.setenv("DKD_CACHE", str(tmp_path / "cache"))
    return Root(tmp_path / "root")


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, web: Web, mobilenet: bytes) -> str:
    """A server that has torchvision's file, as far as the table knows; returns the path."""
    name = named("mobilenet_v2", mobilenet)
    monkeypatch.setitem(imagenet.FILES, "mobilenet_v2", name)
    monkeypatch.setenv("DKD_WEIGHTS_URL", web.address + "/models")
    web.files[f"/models/{name}"] = mobilenet
    return f"/models/{name}"


def test_imagenet_is_fetched_once_and_found_afterwards(
    root: Root, web: Web, published: str, mobilenet: bytes
) -> None:
    first = root.prepare("imagenet")
    assert first == scenario("imagenet")
    web.files.clear()
    assert root.prepare(None) == scenario(None)  # the default is the same
    assert web.asked == [published]
    found = initial_weights.find(Network(backbone="mobilenet_v2"), root.uri)
    assert found is not None
    name = published.rsplit("/", 1)[-1]
    sha256 = hashlib.sha256(mobilenet).hexdigest()
    assert found.metadata == {
        "backbone": "mobilenet_v2",
        "source": {"name": name, "from": web.address + published, "sha256": sha256},
    }
    assert root.said[-1] == (
        f"initial weights: torchvision's ImageNet weights {name}, sha256 {sha256[:16]}, "
        f"digest {found.digest[:16]}"
    )
    assert not [path for path in Path(root.uri).rglob("source/*") if path.is_file()]


def test_what_is_not_there_and_cannot_be_fetched_is_told_with_the_command(
    root: Root, web: Web, published: str, closed_port: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remedy = (
        f"; with internet access, run dkd weights fetch mobilenet_v2 --root {root.uri}; "
        "with the file "
    )
    content, address = web.files[published], web.address + published
    web.files[published] = content[:-1000] + bytes(1000)
    message = root.refused("imagenet")
    assert f"{address}: its sha256 begins with " in message
    assert remedy in message
    web.files[published], web.cut = content, {published}
    message = root.refused("imagenet")
    assert f"network.weights: {address}: ended after {len(content) // 2} of" in message
    assert remedy in message
    web.files.clear()
    message = root.refused("imagenet")
    assert f"network.weights: {address}: the server has no such file (404){remedy}" in message
    monkeypatch.setenv("DKD_WEIGHTS_URL", closed_port)
    message = root.refused("imagenet")
    assert f"no connection (Connection refused){remedy}" in message
    assert "network.weights=none starts from random ones" in message
    monkeypatch.setenv("DKD_WORKSPACE", "my-workspace")
    assert "run dkd weights fetch mobilenet_v2 --workspace my-workspace; " in root.refused(None)


def test_none_asks_nobody(root: Root, web: Web, published: str) -> None:
    assert root.prepare("none") == scenario("none")
    assert root.said == ["initial weights: none, mobilenet_v2 starts from random ones"]
    assert root.prepare(None, "demo") == scenario(None, "demo")
    assert web.asked == []
    assert published not in web.asked


def test_a_file_is_copied_to_the_root_and_named_by_its_content(
    root: Root, web: Web, mobilenet: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "mine.pth"
    path.write_bytes(mobilenet)
    by_path = root.prepare(str(path)).network.weights
    web.files["/any-name"] = mobilenet
    by_address = root.prepare(f"{web.address}/any-name").network.weights
    sha256 = hashlib.sha256(mobilenet).hexdigest()
    assert by_path == by_address == f"{root.uri}/weights/mobilenet_v2-{sha256[:32]}"
    path.unlink()
    again = root.prepare(by_path)  # another run may name the copy
    assert again.network.weights == by_path
    found = initial_weights.find(again.network, root.uri)
    assert found is not None
    assert "weights that are not torchvision's, mine.pth" in initial_weights.describe(found)


def test_a_file_that_does_not_fit_is_told_by_the_first_task(root: Root, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    path.write_bytes(saved({"conv1.weight": torch.zeros(3)}))
    message = root.refused(str(path))
    assert f"{path}: no weights of mobilenet_v2: tensor " in message
    assert message.endswith("such)")


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("harmed"),))


def test_bad_files_leave_nothing(
    tmp_path: Path, mobilenet: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of bad file, where it is converted."""
    monkeypatch.chdir(tmp_path)
    from torchvision.models import resnet18

    state = torch.load(io.BytesIO(mobilenet), weights_only=True)
    state["features.0.0.weight"] = state["features.0.0.weight"] * torch.inf
    for name, content, message in (
        ("resnet18.pth", saved(resnet18().state_dict()), "no weights of mobilenet_v2: tensor "),
        ("code.pth", saved({"a": Harmful()}), "not a checkpoint of plain tensors"),
        (
            "code.pkl",
            pickle.dumps(Harmful(), protocol=2),
            "not a checkpoint of plain tensors",
        ),
        ("cut.pth", mobilenet[:-5000], "not a checkpoint of plain tensors"),
        ("text.pth", b"<html>not found</html>", "not a readable safetensors file, nor a .pth"),
        ("empty.pth", b"", "not a readable safetensors file, nor a .pth"),
        ("list.pth", saved([1, 2]), "no tensors by name in it"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{", "not a readable safetensors file"),
        ("infinite.pth", saved(state), "tensor 'features.0.0.weight' holds NaN or infinity"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with initial_weights.fetched(str(path)) as file, pytest.raises(UserError) as raised:
            publish(file, "mobilenet_v2", str(tmp_path / "root" / "w"))
        assert str(raised.value).startswith(f"{path}: {message}"), raised.value
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "root").exists()
    assert not (tmp_path / "harmed").exists()


def test_a_name_that_promises_a_digest_is_held_to_it(tmp_path: Path) -> None:
    path = tmp_path / "resnet18-f37072fd.pth"
    path.write_bytes(b"something else")
    says = r"its sha256 begins with [0-9a-f]{8}, but its name says f37072fd"
    with pytest.raises(UserError, match=says), initial_weights.fetched(str(path)):
        pass


def test_other_artifacts_are_refused(root: Root, tmp_path: Path, mobilenet: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(mobilenet)
    with initial_weights.fetched(str(path)) as file:
        kept = publish(file, "mobilenet_v2", str(tmp_path / "kept"))
    other = artifacts.publish(str(tmp_path / "other"), {}, kind="memory", metadata={})
    for uri, backbone, message in (
        (kept.uri, "resnet18", "weights of mobilenet_v2, but network.backbone is resnet18"),
        (other.uri, "mobilenet_v2", "is a memory, not weights"),
        (str(tmp_path / "absent"), "mobilenet_v2", "not there, neither a file of weights"),
    ):
        message_told = root.refused(uri, backbone)
        assert message in message_told
        assert message_told.startswith(f"network.weights: {uri}: ")
