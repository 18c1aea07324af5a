"""The exemplar memory's choice, against the rule written out naively, and its properties."""

import random
import subprocess
import sys
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dkd.memory.selection import Candidate, choose

OLD = [1, 2, 3, 4]
candidate_sets = st.lists(st.frozensets(st.integers(1, 6), max_size=4), max_size=30).map(
    lambda sets: [Candidate(f"image{n:03}", classes) for n, classes in enumerate(sets)]
)
sizes = st.integers(0, 35)
seeds = st.integers(0, 2**32 - 1)


def by_the_rule(candidates: list[Candidate], size: int, seed: int) -> list[str]:
    """Shuffle; go round the shuffled classes, each taking its first unused candidate."""
    rng = np.random.default_rng(seed)
    shuffled = [sorted(candidates, key=lambda c: c.id)[i] for i in rng.permutation(len(candidates))]
    order = [OLD[i] for i in rng.permutation(len(OLD))]
    memory: list[Candidate] = []
    turns_without = 0
    turn = 0
    while len(memory) < size and turns_without < len(order):
        wanted = order[turn % len(order)]
        turn += 1
        found = [c for c in shuffled if c not in memory and wanted in c.classes]
        memory += found[:1]
        turns_without = 0 if found else turns_without + 1
    return [c.id for c in memory]


@given(candidate_sets, sizes, seeds)
def test_choice_is_the_rules(candidates: list[Candidate], size: int, seed: int) -> None:
    chosen = choose(candidates, OLD, size, seed)
    assert [candidates[i].id for i in chosen] == by_the_rule(candidates, size, seed)


@given(candidate_sets, sizes, seeds)
def test_no_image_twice_and_full_unless_candidates_run_out(
    candidates: list[Candidate], size: int, seed: int
) -> None:
    chosen = choose(candidates, OLD, size, seed)
    useful = sum(bool(c.classes & set(OLD)) for c in candidates)
    assert len(set(chosen)) == len(chosen) == min(size, useful)
    assert all(candidates[i].classes & set(OLD) for i in chosen)


@given(candidate_sets, sizes, seeds, st.randoms())
def test_choice_does_not_depend_on_the_order_given(
    candidates: list[Candidate], size: int, seed: int, shuffler: random.Random
) -> None:
    mixed, classes = list(candidates), list(OLD)
    shuffler.shuffle(mixed)
    shuffler.shuffle(classes)
    ids = [candidates[i].id for i in choose(candidates, OLD, size, seed)]
    assert [mixed[i].id for i in choose(mixed, classes, size, seed)] == ids


@given(st.dictionaries(st.sampled_from(OLD), st.integers(5, 20), min_size=4), seeds)
def test_classes_are_balanced_where_each_image_holds_one(images: dict[int, int], seed: int) -> None:
    candidates = [
        Candidate(f"{held}-{n}", frozenset({held}))
        for held, count in images.items()
        for n in range(count)
    ]
    held = Counter(c for i in choose(candidates, OLD, 18, seed) for c in candidates[i].classes)
    assert sum(held.values()) == 18
    assert max(held.values()) - min(held.values()) <= 1


def test_another_seed_chooses_others() -> None:
    candidates = [Candidate(str(n), frozenset({1 + n % 4})) for n in range(200)]
    assert set(choose(candidates, OLD, 20, 1)) != set(choose(candidates, OLD, 20, 2))


def test_nothing_to_choose_from() -> None:
    assert choose([], OLD, 5, 1) == []
    assert choose([Candidate("a", frozenset({9}))], OLD, 5, 1) == []
    assert choose([Candidate("a", frozenset({1}))], [], 5, 1) == []


def test_the_choice_needs_no_torch() -> None:
    code = "import sys, dkd.memory.selection; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
