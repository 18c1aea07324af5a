import gc
import pickle
import random
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from dkd.data.records import Record, Records


def made(count: int) -> list[Record]:
    rng = random.Random(1)
    return [
        Record(
            id=f"Bild {number} ähnlich",
            image=f"images/train/Bild {number}.jpg",
            mask=f"masks/train/Bild {number}.png",
            height=rng.randrange(1, 70_000),
            width=rng.randrange(1, 70_000),
            classes=tuple(sorted(rng.sample(range(1, 255), rng.randrange(4)))),
            digest=f"{number:064x}",
            orientation=rng.choice((1, 1, 6)),
        )
        for number in range(count)
    ]


def test_they_are_what_was_put_in() -> None:
    plain = made(50)
    records = Records(iter(plain))
    assert list(records) == plain
    assert [records[place] for place in (0, 49, -1, -50)] == [plain[p] for p in (0, 49, -1, -50)]
    assert records == tuple(plain)
    assert tuple(plain) == records
    assert records != tuple(plain[1:])
    assert pickle.loads(pickle.dumps(records)) == records
    with pytest.raises(IndexError):
        records[50]
    assert not Records()


def test_parts_are_as_those_of_a_tuple() -> None:
    plain = made(50)
    records = Records(plain)
    for cut in (np.s_[1::3], np.s_[:0], np.s_[::-1], np.s_[20:]):
        assert list(records[cut]) == plain[cut]
        assert list(records[cut][1:]) == plain[cut][1:]
        assert records[cut].sizes.tolist() == [[r.height, r.width] for r in plain[cut]]
    assert list(records[10:].take(np.array([3, 1]))) == [plain[13], plain[11]]
    assert Records.of(records) is records


def test_which_hold_a_class() -> None:
    plain = made(200)
    records = Records(plain)[5:]
    for values in ({1, 7, 200}, set(), set(range(1, 255))):
        expected = [not values.isdisjoint(r.classes) for r in plain[5:]]
        assert records.hold(values).tolist() == expected
    assert records.values == {value for r in plain[5:] for value in r.classes}
    assert Records().hold({1}).tolist() == []
    assert Records().values == set()


def test_masks_that_are_read_in_two_ways_are_not_mixed() -> None:
    one, other = made(2)
    turned = replace(other, masks="/elsewhere")
    assert Records([turned])[0].masks == "/elsewhere"
    with pytest.raises(ValueError, match="several ways"):
        Records([one, turned])


def test_an_image_takes_a_few_dozen_bytes_besides_its_texts() -> None:
    count = 5_000
    texts = sum(len(f"{r.id}{r.image}{r.mask}{r.digest}".encode()) for r in made(count))
    gc.collect()
    tracemalloc.start()
    try:
        records = Records(r for r in made(count))
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(records) == count
    assert kept - texts < 100 * count
