from pathlib import Path
from typing import get_args

import click
import pytest

from dkd.cli.data import check
from dkd.data import formats
from dkd.data.formats import FORMATS, recognised
from dkd.errors import UserError
from dkd.scenario.data import MADE, Data, DataFormat


def test_every_name_of_the_schema_is_a_format_and_an_option() -> None:
    elsewhere = {*MADE, "packed"}  # drawn, and what dkd data pack wrote
    assert set(FORMATS) == set(get_args(DataFormat)) - elsewhere
    (option,) = (p for p in check.params if p.name == "format_")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == tuple(FORMATS)


@pytest.mark.parametrize("name", ["voc", "ade20k"])
def test_formats_are_recognised(name: str, request: pytest.FixtureRequest) -> None:
    assert recognised(Path(request.getfixturevalue(name).root)) == name


def test_a_plain_folder_is_recognised(folder: Path) -> None:
    assert recognised(folder) == "folder"
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    with pytest.raises(UserError, match=r"looks like voc and folder; name its format"):
        recognised(folder)


def test_a_folder_of_no_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"looks like none of voc, .*; name its format"):
        recognised(tmp_path)
    with pytest.raises(UserError, match=r"nowhere: no such folder"):
        recognised(tmp_path / "nowhere")


def test_what_lies_in_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.format: 'packed' is not a folder's; say voc"):
        formats.read(Data(format="packed", root=str(tmp_path)))
