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
