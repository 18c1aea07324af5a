from pathlib import Path

import pytest

from dkd.cli.options import load_scenario
from dkd.errors import UserError


def test_a_file_may_leave_the_data_sets_place_to_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "name: mine\ndata: {format: folder}\ntask: [[dog], [cat]]\nsetting: overlap\n"
        "protocol: corrected\nnetwork: {backbone: demo}\n"
        "training:\n  epochs: {first: 1, later: 1}\n  batch_size: 2\n  crop: 32\n"
        "  lr: {first: 0.01, later: 0.001}\n"
    )
    assert load_scenario(str(file), "photographs", []).data.root == "photographs"
    assert load_scenario(str(file), None, ["data.root=photographs"]).data.root == "photographs"
    with pytest.raises(UserError, match="data: root: say where the data set is"):
        load_scenario(str(file), None, [])
