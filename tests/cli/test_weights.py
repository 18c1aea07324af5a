"""``dkd weights``: fetched, added, listed, removed; what is wrong is one line."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import Result
from fixtures.web import Web, named, saved

from dkd.scenario import imagenet


def test_a_file_of_the_web_is_kept_for_every_run(
    dkd: Callable[..., Result], web: Web, mobilenet: bytes
) -> None:
    name = named("mobilenet_v2", mobilenet)
    web.files[f"/{name}"] = mobilenet
    arguments = ("weights", "add", f"{web.address}/{name}", "--backbone", "mobilenet_v2")
    added = dkd(*arguments, "--root", "root")
    assert added.exit_code == 0, added.output
    sha256 = hashlib.sha256(mobilenet).hexdigest()
    line = f"mobilenet_v2: weights that are not torchvision's, {name}, sha256 {sha256[:16]}, digest"
    assert added.stdout.startswith(line)
    assert dkd(*arguments, "--root", "root").stdout == added.stdout  # again: nothing changes
    listed = dkd("weights", "list", "--root", "root").stdout.splitlines()
    assert {f"{name}: not there" for name in ("resnet101", "resnet50", "resnet18")} <= set(listed)
    assert any(each.startswith(line) for each in listed)
    assert dkd("weights", "rm", "mobilenet_v2", "--root", "root").exit_code == 0
    assert "mobilenet_v2: not there" in dkd("weights", "list", "--root", "root").stdout


def test_fetch(
    dkd: Callable[..., Result],
    refused: Callable[..., str],
    web: Web,
    mobilenet: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DKD_WEIGHTS_URL", web.address)
    arguments = ("weights", "fetch", "mobilenet_v2", "--root", "root")
    web.files["/mobilenet_v2-b0353104.pth"] = mobilenet  # of another digest than torchvision's
    assert "but its name says b0353104: damaged, or another file" in refused(*arguments)
    name = named("mobilenet_v2", mobilenet)
    monkeypatch.setitem(imagenet.FILES, "mobilenet_v2", name)
    assert "the server has no such file (404)" in refused(*arguments)
    web.files[f"/{name}"] = mobilenet
    assert dkd(*arguments).stdout.startswith(
        f"mobilenet_v2: torchvision's ImageNet weights {name}, sha256 "
    )
    web.files.clear()
    assert dkd(*arguments).exit_code == 0  # it is there


def test_other_weights_do_not_take_their_place(
    dkd: Callable[..., Result], refused: Callable[..., str], mobilenet: bytes, tmp_path: Path
) -> None:
    (tmp_path / "one.pth").write_bytes(mobilenet)
    state = torch.load(tmp_path / "one.pth", weights_only=True)
    (tmp_path / "same.pth").write_bytes(saved(dict(reversed(state.items()))))
    state["features.0.0.weight"] *= 2
    (tmp_path / "other.pth").write_bytes(saved(state))
    arguments = ("--backbone", "mobilenet_v2", "--root", "root")
    assert dkd("weights", "add", "one.pth", *arguments).exit_code == 0
    assert dkd("weights", "add", "same.pth", *arguments).exit_code == 0  # the same tensors
    message = refused("weights", "add", "other.pth", *arguments)
    assert "other weights are already there (one.pth); remove them first: dkd weights rm" in message


def test_what_does_not_fit_is_refused_and_nothing_kept(
    refused: Callable[..., str], web: Web, mobilenet: bytes, tmp_path: Path
) -> None:
    (tmp_path / "m.pth").write_bytes(mobilenet)
    message = refused("weights", "add", "m.pth", "--backbone", "resnet18", "--root", "root")
    assert message.startswith("m.pth: no weights of resnet18: tensor ")
    message = refused("weights", "add", "absent.pth", "--backbone", "resnet18", "--root", "root")
    assert "absent.pth: no such file" in message
    message = refused(
        "weights", "add", f"{web.address}/no.pth", "--backbone", "resnet18", "--root", "root"
    )
    assert "the server has no such file (404)" in message
    assert not (tmp_path / "root").exists()
    assert "no ImageNet weights of resnet18" in refused(
        "weights", "rm", "resnet18", "--root", "root"
    )
