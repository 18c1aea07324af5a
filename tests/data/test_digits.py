from pathlib import Path

import numpy as np
from PIL import Image

from dkd.data import digits, index
from dkd.scenario.data import Data

SMALL = Data.Made(train=30, validation=10, size=48)


def test_scenes_hold_several_whole_digits(tmp_path: Path) -> None:
    dataset = index.build(Data(format="digits", digits=SMALL), tmp_path)
    counts = [len(r.classes) for r in dataset.train]
    assert np.mean(counts) > 1.2
    assert {v for r in dataset.train for v in r.classes} == set(range(1, 11))
    for record in dataset.train[:10]:
        mask = np.array(Image.open(Path(dataset.root) / record.mask))
        assert 0.01 < np.isin(mask, record.classes).mean() < 0.5


def test_training_and_validation_share_no_handwriting() -> None:
    train, validation = (set(digits.handwriting(s, 1797)) for s in ("train", "validation"))
    assert not train & validation
    assert len(train | validation) == 1797
