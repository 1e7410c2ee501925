"""What a ladder is made of, and its rows; which rungs there are is `engines.py`'s to say."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from a2edit.bench.rows import Row, Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One rung, measured.

    Attributes:
        name: what this rung has that the one before it has not.
        runs: seconds of what is run as a whole: edits, or loops of the denoiser.
        steps: seconds of a step of the denoiser, one figure a run.
        likeness: dB in the mask, of each edit's picture to the first rung's; none of the first.
        peak_mb: what a process takes that runs it and does nothing else; where that was taken.
    """

    name: str
    runs: Sequence[float]
    steps: Sequence[float]
    likeness: Sequence[float] = ()
    peak_mb: float | None = None

    @property
    def step(self) -> float:
        """The median, in seconds."""
        return float(np.median(self.steps))


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs from the first to the last.

    Attributes:
        rungs: as they were climbed.
        flops: of one step with its weights merged.
        run: what is run as a whole, such as "warm edit".
        memory: what a rung's peak is of.
    """

    rungs: Sequence[Rung]
    flops: float
    run: str = "warm edit"
    memory: str = "peak resident set"

    def times_faster(self, rung: Rung) -> list[float]:
        """Against the first rung, the step of the same round: the rounds are interleaved."""
        return list(np.array(self.rungs[0].steps) / np.array(rung.steps))

    def rows(self, setup: Setup) -> list[Row]:
        rows = []
        for rung in self.rungs:
            name = rung.name
            rate = [self.flops / seconds / 1e9 for seconds in rung.steps]
            rows.append(setup.row(f"{name}, step", "ms", [1e3 * value for value in rung.steps]))
            rows.append(setup.row(f"{name}, arithmetic", "GFLOP/s", rate))
            rows.append(setup.row(f"{name}, {self.run}", "s", rung.runs))
            rows.append(setup.row(f"first rung / {name}, step", "x", self.times_faster(rung)))
            if rung.likeness:
                rows.append(setup.row(f"{name}, likeness in the mask", "dB", rung.likeness))
            if rung.peak_mb is not None:
                rows.append(setup.row(f"{name}, {self.memory}", "MB", [rung.peak_mb]))
        return rows
