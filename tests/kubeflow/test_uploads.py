"""Files that are said to be compiled pipelines."""

from pathlib import Path

import pytest

from dkd.errors import UserError
from dkd.kubeflow import uploads


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"pipelineInfo",
        b"pipelineInfo: [",
        b"pipelineInfo: {name: a}",
        b"root: [1]",
        b"root: {inputDefinitions: {parameters: 3}}",
        b"root: {inputDefinitions: {parameters: {artifact_root: {}}}, dag: {tasks: {a: 1}}}",
        b"pipelineInfo: {name: a}\nroot: {inputDefinitions: {parameters: {artifact_root: {}}}}",
        b"\xff pipelineInfo",
        b"[" * 5000,
    ],
)
def test_what_is_no_pipeline_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "p.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"p\.yaml: .*dkd compile") as caught:
        uploads.read_compiled(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("secret", ["", "team.keys"])
def test_a_secret_that_no_volume_can_be_called_is_refused(secret: str) -> None:
    """Kubeflow Pipelines names the volume as the secret, and Argo would refuse the pod."""
    values = {"s3_secret": secret}
    with pytest.raises(UserError, match=f"-p s3_secret={secret}: name a secret without a dot"):
        uploads.check(b"", values)
