"""The images' recipes: what is in them, who runs them, what changes when code does."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ("training", "launcher", "serving")


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    return request.param


def instructions(image: str) -> list[tuple[str, str]]:
    text = (ROOT / "docker" / image / "Dockerfile").read_text()
    text = re.sub(r"(?m)^#.*\n", "", text).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line]


def packages(image: str) -> set[str]:
    text = (ROOT / "requirements" / f"{image}.txt").read_text()
    return set(re.findall(r"(?m)^([a-z0-9-]+)==", text))


def test_the_base_is_an_argument_and_a_digest(image: str) -> None:
    first, *_ = instructions(image)
    assert re.fullmatch(r"BASE=\S+@sha256:[0-9a-f]{64}", first[1])
    bases = [value for name, value in instructions(image) if name == "FROM"]
    assert bases == ["${BASE} AS packages", "packages AS code", "packages"]


def test_code_is_the_last_layer(image: str) -> None:
    assert instructions(image)[-1] == ("COPY", "--from=code /opt/code /opt/code")


def test_runs_as_an_ordinary_user_known_by_number(image: str) -> None:
    last_stage = instructions(image)[::-1]
    user = next(value for name, value in last_stage if name == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # runAsNonRoot cannot check a name


def test_every_package_is_locked_by_hash(image: str) -> None:
    text = (ROOT / "requirements" / f"{image}.txt").read_text()
    entries = re.split(r"(?m)^(?=[a-z])", text)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)
    assert any("--require-hashes" in value for name, value in instructions(image) if name == "RUN")


def test_the_compiler_is_pinned_and_its_lack_ends_the_build(
    tmp_path: Path,
) -> None:
    """Else an image trains without its kernels, and nobody is told until it is slow."""
    (pinned,) = (value for name, value in instructions("training") if value.startswith("COMPILER="))
    packages = pinned.partition("=")[2].strip('"').split()
    assert any(each.startswith("gcc=") for each in packages)
    assert all(re.fullmatch(r"[a-z0-9-]+=[0-9][^ ]+", each) for each in packages)
    (script,) = (
        value for name, value in instructions("training") if name == "RUN" and "COMPILER" in value
    )
    script = re.sub(r"rm -rf [^;]+;", "true;", script)  # what it clears away is this machine's
    for tool, works in (("apt-get", True), ("apt-get", False), ("gcc", True), ("gcc", False)):
        for name in ("apt-get", "gcc"):
            fails = name == tool and not works
            (tmp_path / name).write_text(f"#!/bin/sh\ncat >/dev/null\nexit {int(fails)}\n")
            (tmp_path / name).chmod(0o755)

        def status(compiler: str) -> int:
            environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "COMPILER": compiler}
            return subprocess.run(
                ["sh", "-c", script], env=environment, stdin=subprocess.DEVNULL, check=False
            ).returncode

        assert (status("gcc=1") == 0) is works, tool
        assert (status("") == 0) is (works or tool == "apt-get"), tool
        assert status("none") == 0


def test_training_has_torch_and_no_cluster_client() -> None:
    assert {"torch", "torchvision", "boto3", "numpy", "safetensors"} <= packages("training")
    assert not {"kfp", "kubernetes"} & packages("training")


def test_launcher_has_the_cluster_client_and_no_torch() -> None:
    assert {"kfp", "kubernetes", "boto3", "numpy"} <= packages("launcher")
    assert not {"torch", "torchvision"} & packages("launcher")


def test_serving_has_no_torch_and_no_cluster_client() -> None:
    assert {"onnxruntime", "fastapi", "grpcio", "boto3"} <= packages("serving")
    assert not {"torch", "torchvision", "kfp", "kubernetes", "onnx"} & packages("serving")


def test_images_and_development_use_the_same_versions(image: str) -> None:
    """What was tested is what runs."""

    def versions(name: str) -> dict[str, set[str]]:
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        found: dict[str, set[str]] = {}
        for package, version in re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", text):
            found.setdefault(package, set()).add(version)
        return found

    tested = versions("dev")
    assert {
        package: (used, tested.get(package))
        for package, used in versions(image).items()
        if used != tested.get(package)
    } == {}


def test_only_what_is_needed_is_sent_to_the_builder(image: str) -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert "*" in ignored
    sources = {
        value.split()[0].split("/")[0]
        for name, value in instructions(image)
        if name == "COPY" and not value.startswith("--from")
    }
    assert {f"!{source}" for source in sources} <= set(ignored)
