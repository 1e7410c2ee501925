"""Who holds how many bytes now, and the most of every stage."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

OTHERWISE = "open"  # the stage of what is held outside of an edit


class Ledger:
    """Counts what engines and weight sets take, by owner and by stage.

    It counts what is foreseen of them. With `measure`, which gives the bytes that the device had
    in use at the most since it was last asked, the two can be compared stage by stage.
    """

    def __init__(self, measure: Callable[[], int] | None = None) -> None:
        self.held: dict[str, int] = {}  # by owner
        self.peaks: dict[str, int] = {}  # by stage
        self.measured: dict[str, int] = {}  # by stage
        self._stage = OTHERWISE
        self._measure = measure

    @property
    def total(self) -> int:
        return sum(self.held.values())

    def enter(self, stage: str) -> None:
        """What is held from here on counts for `stage`."""
        self.settle()
        self._stage = stage
        self._note()

    def settle(self) -> None:
        """Take down what was measured since the last stage began."""
        if self._measure is not None:
            before = self.measured.get(self._stage, 0)
            self.measured[self._stage] = max(before, self._measure())

    def hold(self, owner: str, nbytes: int) -> None:
        """`owner` holds so much from now on, whatever it held before."""
        self.held[owner] = nbytes
        self._note()

    def release(self, owner: str) -> None:
        self.held.pop(owner, None)

    @contextmanager
    def passing(self, owner: str, nbytes: int) -> Iterator[None]:
        """`owner` holds so much for a while."""
        self.hold(owner, nbytes)
        try:
            yield
        finally:
            self.release(owner)

    def _note(self) -> None:
        self.peaks[self._stage] = max(self.peaks.get(self._stage, 0), self.total)
