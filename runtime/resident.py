"""Weight sets in memory, within a budget of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from a2edit.runtime.engines.base import WeightSet


@dataclass(slots=True, eq=False)
class _Place:
    """A set that is held, or is being made for everyone who waits."""

    nbytes: int
    future: Future[WeightSet] = field(default_factory=Future)

    @property
    def is_placed(self) -> bool:
        """Whether it is there, and has no memory but the GPU's."""
        made = self.future.done() and self.future.exception() is None
        return made and bool(self.future.result().placed)


class ResidentSets:
    """Keeps sets by key; the least recently used go first, before a new one is made.

    Thread-safe. A set that several threads miss is made once, by the first of them; it counts
    against the budget from when its making begins. A failure reaches all who wait, and is
    forgotten: the next who asks tries again.

    A set that was dropped lives for as long as someone still uses it. `dropped` is called with
    each, in the thread that asks for the new one, so that an engine can let go of it.
    """

    def __init__(
        self, budget: int | None = None, dropped: Callable[[WeightSet], None] | None = None
    ) -> None:
        """`budget` in bytes over all sets, those being made included; None: no limit."""
        self.budget = budget
        self._dropped = dropped
        self._places: OrderedDict[Hashable, _Place] = OrderedDict()  # least recently used first
        self._changed = threading.Condition()

    @property
    def nbytes(self) -> int:
        """What the sets take that are held or being made."""
        with self._changed:
            return self._taken()

    def keys(self) -> list[Hashable]:
        """Of the sets that are held or being made, the least recently used first."""
        with self._changed:
            return list(self._places)

    def held(self) -> list[WeightSet]:
        """The sets that are there, the least recently used first."""
        with self._changed:
            places = [place.future for place in self._places.values() if place.future.done()]
        return [future.result() for future in places]

    def limit(self, budget: int | None) -> None:
        """Keep to another budget from now on; sets that it does not hold go now."""
        with self._changed:
            self.budget = budget
            while budget is not None and self._taken() > budget:
                if not self._drop_one(key for key, held in self._places.items() if held.nbytes):
                    break  # the rest is being made

    def get(self, key: Hashable, nbytes: int, make: Callable[[], WeightSet]) -> WeightSet:
        """The set of `key`; if there is none, what `make` gives, which takes `nbytes`.

        `nbytes` is at most the budget. Raises what `make` raises.
        """
        place, ours = self._claim(key, nbytes)
        if ours:
            self._fill(key, place, make)
        return place.future.result()

    def drop_placed(self) -> bool:
        """Drop the least recently used set that lies on a GPU; False if there is none."""
        with self._changed:
            there = (key for key, place in self._places.items() if place.is_placed)
            return self._drop_one(there)

    def clear(self) -> None:
        """Drop every set that is held."""
        with self._changed:
            while self._drop_one(self._places):
                pass

    def _claim(self, key: Hashable, nbytes: int) -> tuple[_Place, bool]:
        """The place of `key`, and whether it is new: the caller's to fill."""
        assert self.budget is None or nbytes <= self.budget
        with self._changed:
            while (place := self._places.get(key)) is None:
                if self.budget is None or self._taken() + nbytes <= self.budget:
                    self._places[key] = place = _Place(nbytes)
                    return place, True
                if not self._drop_one(key for key, held in self._places.items() if held.nbytes):
                    self._changed.wait()  # all of them are being made
            self._places.move_to_end(key)
            return place, False

    def _fill(self, key: Hashable, place: _Place, make: Callable[[], WeightSet]) -> None:
        try:
            place.future.set_result(make())
        except BaseException as error:  # an interrupt, too, must not leave the others waiting
            with self._changed:
                del self._places[key]
                self._changed.notify_all()
            place.future.set_exception(error)
            raise
        with self._changed:
            self._changed.notify_all()

    def _taken(self) -> int:
        return sum(place.nbytes for place in self._places.values())

    def _drop_one(self, keys: Iterable[Hashable]) -> bool:
        """Drop the first of `keys` that is not being made; False if there is none."""
        found = next((key for key in keys if self._places[key].future.done()), None)
        if found is None:
            return False
        weights = self._places.pop(found).future.result()
        if self._dropped:
            self._dropped(weights)
        return True
