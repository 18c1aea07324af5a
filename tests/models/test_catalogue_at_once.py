"""Two people who change a model at once, in every order of their operations, killed at any point.

Each works on a store in memory, one operation at a time. A state is what the store holds and what
each of the two has been answered so far; whoever goes on from there is run again with those
answers, does one operation more, and stops. So all states that can be reached are walked through,
and each of them may be the last, if one or both are killed then.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Self

import pytest
from made_results import finished

from dkd import storage
from dkd.errors import UserError
from dkd.models import catalogue
from dkd.models.version import ModelVersion, of_run
from dkd.storage.store import NotFound

ROOT = "memory"
Answers = tuple[object, ...]
Objects = dict[str, bytes]
Act = Callable[[], object]


class Paused(BaseException):
    """The next operation is somebody else's."""


class Store:
    """What the catalogue asks of a store; each operation is one step."""

    join = staticmethod(storage.join)

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self.known: Answers = ()
        self.answers: list[object] = []
        self.steps: float = float("inf")

    def _step(self, operation: Callable[[], object]) -> Any:
        if len(self.answers) < len(self.known):
            answer = self.known[len(self.answers)]
        elif self.steps:
            self.steps -= 1
            answer = operation()
        else:
            raise Paused
        self.answers.append(answer)
        return answer

    def read_bytes(self, uri: str) -> bytes:
        found: bytes | None = self._step(lambda: self.objects.get(uri))
        if found is None:
            raise NotFound(uri)
        return found

    def exists(self, uri: str) -> bool:
        return bool(self._step(lambda: uri in self.objects))

    def list_objects(self, folder: str) -> Iterator[storage.Entry]:
        start = f"{folder}/"
        found = self._step(lambda: tuple(u for u in sorted(self.objects) if u.startswith(start)))
        return (storage.Entry(uri, 0, None) for uri in found)  # type: ignore[arg-type]

    def write_bytes(self, uri: str, data: bytes, *, if_absent: bool) -> bool:
        assert if_absent
        return bool(self._step(lambda: self.objects.setdefault(uri, data) is data))

    def delete(self, uris: Iterable[str]) -> None:
        for uri in uris:
            self._step(lambda uri=uri: self.objects.pop(uri, None) is None)


class InOrder(AbstractContextManager["InOrder"]):
    """A pool of readers that read one after the other."""

    map = staticmethod(map)

    def __init__(self, _readers: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class State(NamedTuple):
    """A moment: what is stored, what both were told by the store, and how they ended."""

    objects: frozenset[tuple[str, bytes]]
    answers: tuple[Answers, Answers] = ((), ())
    ended: tuple[str, str] = ("", "")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store({})
    monkeypatch.setattr(catalogue, "storage", made)
    monkeypatch.setattr(catalogue, "ThreadPoolExecutor", InOrder)
    monkeypatch.setattr(catalogue, "now", lambda: "2026-01-01T00:00:00+00:00")
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[ModelVersion]:
    """Five versions that are yet to be added; the fourth was made from the third."""
    root = str(tmp_path_factory.mktemp("root"))
    results = {run: finished(root, run, "road") for run in ("one", "two", "three", "four", "five")}
    versions = [
        of_run(result, model="street", run=run, by="Ada", created="2026-01-01")
        for run, result in results.items()
    ]
    versions[3] = versions[3].model_copy(update={"extends": 3})
    return versions


@pytest.fixture
def acts(store: Store, made: list[ModelVersion]) -> dict[str, Act]:
    """What somebody may do, where of four versions 1 and then 2 went into production."""
    for number, each in enumerate(made[:4], start=1):
        catalogue.add(ROOT, each)
        store.objects[f"artifact {number}"] = b""
    for number in (1, 2):
        catalogue.promote(ROOT, "street", number, by="Ada")

    def promote(number: int) -> Act:
        return lambda: catalogue.promote(ROOT, "street", number, by=f"promoter of {number}")

    def remove(number: int) -> Act:
        return lambda: catalogue.remove(
            *(ROOT, "street", number),
            by=f"remover of {number}",
            clear=lambda: store.delete([f"artifact {number}"]),
        )

    return {
        "promote 3": promote(3),
        "promote 4": promote(4),
        "roll back": lambda: catalogue.roll_back(ROOT, "street", by="returner"),
        "remove 1": remove(1),
        "remove 3": remove(3),
        "remove 4": remove(4),
        "add 5": lambda: catalogue.add(ROOT, made[4]),
    }


def advanced(store: Store, state: State, acts: Sequence[Act], who: int) -> State:
    """The state after one operation more of one of the two."""
    store.objects, store.known = dict(state.objects), state.answers[who]
    store.answers, store.steps = [], 1
    ended = list(state.ended)
    try:
        acts[who]()
        ended[who] = "done"
    except Paused:
        pass
    except UserError as error:
        ended[who] = f"refused: {error}"
    answers = list(state.answers)
    answers[who] = tuple(store.answers)
    one, other = answers
    return State(frozenset(store.objects.items()), (one, other), (ended[0], ended[1]))


def alone(store: Store, objects: Objects) -> None:
    """From here on the store is this one, and nobody is stopped."""
    store.objects, store.known, store.answers, store.steps = objects, (), [], float("inf")


def check(store: Store, objects: Objects) -> None:
    """What is in production, what it was made from and what it would give way to is all there."""
    alone(store, objects)
    promotions = catalogue.history(ROOT, "street")
    there = {each.version: each for each in catalogue.versions(ROOT, "street")}
    present = catalogue.in_production(ROOT, "street").version
    assert present in there
    assert f"artifact {present}" in objects
    before = catalogue.before_present(promotions, there)
    assert before is None or f"artifact {before}" in objects
    numbers = [each.number for each in catalogue.events(ROOT, "street")]
    assert numbers == list(range(1, 1 + len(numbers)))


def walk(store: Store, acts: Sequence[Act]) -> tuple[set[State], set[tuple[str, str]]]:
    """All states that can be reached, each one checked; and how the two end if nobody is killed."""
    todo, seen = [State(frozenset(store.objects.items()))], set()
    ends = set()
    while todo:
        state = todo.pop()
        if state in seen:
            continue
        seen.add(state)
        going = [who for who in (0, 1) if not state.ended[who]]
        todo += [advanced(store, state, acts, who) for who in going]
        if not going:
            ends.add(state.ended)
    for objects in {state.objects for state in seen}:
        check(store, dict(objects))
    return seen, ends


PAIRS = [
    ("promote 3", "remove 3"),
    ("promote 4", "remove 3"),
    ("promote 3", "promote 4"),
    ("promote 3", "roll back"),
    ("roll back", "remove 1"),
    ("promote 3", "remove 1"),
    ("remove 3", "remove 3"),
    ("remove 3", "remove 4"),
    ("remove 4", "add 5"),
    ("promote 3", "add 5"),
]


@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
def test_what_production_needs_is_there_in_every_state(
    store: Store, acts: dict[str, Act], pair: tuple[str, str]
) -> None:
    states, ends = walk(store, [acts[each] for each in pair])
    assert len(states) > 50
    assert len({state.objects for state in states}) > 1
    assert ends


@pytest.mark.parametrize("number", [3, 4])
def test_of_a_promotion_and_a_removal_one_is_done_and_the_other_refused(
    store: Store, acts: dict[str, Act], number: int
) -> None:
    _, ends = walk(store, [acts[f"promote {number}"], acts[f"remove {number}"]])
    removed = f"version {number} was removed, 2026-01-01T00:00:00+00:00 by remover of {number}"
    assert ends == {
        ("done", f"refused: model street: version {number} is in production; promote another one "
         "before you remove it"),
        (f"refused: model street: {removed}", "done"),
    }  # fmt: skip


def test_a_removal_that_was_killed_is_finished_by_the_next(
    store: Store, acts: dict[str, Act]
) -> None:
    """Or begun again, if it had not begun: in the end nothing is left of the version."""
    state = State(frozenset(store.objects.items()))
    while not state.ended[0]:
        alone(store, dict(state.objects))
        acts["remove 3"]()
        assert "artifact 3" not in store.objects
        assert not any("versions/000003" in uri for uri in store.objects)
        removals = [each for each in catalogue.events(ROOT, "street") if hasattr(each, "removed")]
        assert [each.removed for each in removals] == [3]
        with pytest.raises(UserError, match=r"version 3 was removed, \S+ by remover of 3"):
            acts["remove 3"]()
        state = advanced(store, state, [acts["remove 3"]], 0)


def test_numbers_are_not_used_again(store: Store, acts: dict[str, Act]) -> None:
    states, _ = walk(store, [acts["remove 4"], acts["add 5"]])
    for objects in {state.objects for state in states}:
        of_four = {data for uri, data in objects if uri.endswith("versions/000004.json")}
        assert all(b'"run": "four"' in data for data in of_four)
