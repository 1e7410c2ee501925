"""Weight sets under a budget: which go, when, and what threads see."""

import threading
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.resident import ResidentSets


class Maker:
    """Makes sets of `size` bytes, and counts those that are alive."""

    def __init__(self, size: int = 40) -> None:
        self.size = size
        self.made: list[str] = []
        self.peak = 0
        self._arrays: list[weakref.ref[np.ndarray]] = []

    @property
    def alive(self) -> int:
        return sum(array() is not None for array in self._arrays)

    def __call__(self, name: str) -> Callable[[], WeightSet]:
        def make() -> WeightSet:
            self.made.append(name)
            array = np.zeros(self.size, np.uint8)
            self._arrays.append(weakref.ref(array))
            self.peak = max(self.peak, self.alive)
            return WeightSet(name, {"w": array})

        return make


def test_the_least_recently_used_goes_first() -> None:
    make, dropped = Maker(), list[str]()
    sets = ResidentSets(120, lambda weights: dropped.append(weights.name))
    for name in "abcab":
        assert sets.get(name, 40, make(name)).name == name
    assert (make.made, dropped) == (list("abc"), [])
    sets.get("d", 40, make("d"))
    assert dropped == ["c"]
    assert sets.keys() == ["a", "b", "d"]
    sets.get("c", 40, make("c"))
    assert dropped == ["c", "a"]
    assert (sets.nbytes, make.made) == (120, list("abcdc"))
    sets.clear()
    assert (sets.nbytes, dropped) == (0, list("cabdc"))


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 8))
def test_it_is_the_plain_model_and_never_above_the_budget(seed: int, room: int, names: int) -> None:
    make, held = Maker(), list[int]()
    sets = ResidentSets(room * 40 + 39)
    for key in np.random.default_rng(seed).integers(0, names, 40).tolist():
        missing = key not in held
        before = len(make.made)
        assert sets.get(key, 40, make(str(key))).name == str(key)
        assert (len(make.made) > before) == missing
        held = [*(other for other in held if other != key), key][-room:]
        assert sets.keys() == held
        assert sets.nbytes == make.alive * 40 == len(held) * 40
    assert make.peak <= room  # a new one is made after the old one has gone


def test_large_ones_push_out_several_and_empty_ones_none() -> None:
    sets = ResidentSets(100)
    for name, size in (("a", 40), ("none", 0), ("b", 40)):
        sets.get(name, size, Maker(size)(name))
    sets.get("c", 90, Maker(90)("c"))
    assert sets.keys() == ["none", "c"]
    assert sets.nbytes == 90


def test_a_failure_is_not_kept() -> None:
    sets = ResidentSets(40)
    attempts = []

    def fail() -> WeightSet:
        attempts.append(1)
        raise OSError("no such file")

    for _ in range(2):
        with pytest.raises(OSError, match="no such file"):
            sets.get("a", 40, fail)
    assert len(attempts) == 2
    assert sets.nbytes == 0
    assert sets.get("a", 40, Maker()("a")).name == "a"


class Gate:
    """A maker that waits until it is let go, and says when it has begun."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.calls = 0
        self.error = error

    def __call__(self) -> WeightSet:
        self.calls += 1
        self.begun.set()
        assert self.go.wait(60)
        if self.error:
            raise self.error
        return WeightSet("slow", {})


def in_threads(
    count: int, work: Callable[[], object]
) -> tuple[list[threading.Thread], list[object]]:
    found: list[object] = []

    def run() -> None:
        try:
            found.append(work())
        except OSError as error:
            found.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, found


@pytest.mark.parametrize("error", [None, OSError("gone")])
def test_many_threads_wait_for_one_making_and_share_what_comes(error: Exception | None) -> None:
    sets, make = ResidentSets(40), Gate(error)
    first, one = in_threads(1, lambda: sets.get("a", 40, make))
    assert make.begun.wait(60)
    others, rest = in_threads(8, lambda: sets.get("a", 40, make))
    assert sets.nbytes == 40  # what is being made counts
    make.go.set()
    for thread in (*first, *others):
        thread.join(60)
    if error is None:
        assert make.calls == 1
        assert len({id(found) for found in (*one, *rest)}) == 1
    else:
        # who came after the failure tried again
        assert all(found is error for found in (*one, *rest))
    assert len((*one, *rest)) == 9
    assert sets.nbytes == (0 if error else 40)


def test_while_one_is_made_in_the_last_room_another_waits() -> None:
    sets, slow, make = ResidentSets(40), Gate(), Maker()
    first, _ = in_threads(1, lambda: sets.get("slow", 40, slow))
    assert slow.begun.wait(60)
    second, found = in_threads(1, lambda: sets.get("other", 40, make("other")))
    assert sets.keys() == ["slow"]
    assert make.made == []
    slow.go.set()
    for thread in (*first, *second):
        thread.join(60)
    assert [weights.name for weights in found if isinstance(weights, WeightSet)] == ["other"]
    assert sets.keys() == ["other"]


def test_threads_under_a_budget_all_get_what_they_asked_for() -> None:
    sets, barrier = ResidentSets(3 * 40), threading.Barrier(12)
    problems: list[object] = []

    def work(seed: int) -> None:
        rng, make = np.random.default_rng(seed), Maker()
        barrier.wait()
        problems.extend(
            key
            for key in rng.integers(0, 8, 300).tolist()
            if sets.get(key, 40, make(str(key))).name != str(key) or sets.nbytes > 120
        )

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert problems == []
