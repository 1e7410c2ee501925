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
        edits: seconds of whole edits.
        steps: seconds of a step of the denoiser, one figure an edit.
        likeness: dB in the mask, of each edit's picture to the first rung's; none of the first.
        peak_mb: resident set of a process that edits with it and does nothing else.
    """

    name: str
    edits: Sequence[float]
    steps: Sequence[float]
    likeness: Sequence[float] = ()
    peak_mb: float

    @property
    def step(self) -> float:
        """The median, in seconds."""
        return float(np.median(self.steps))


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs from the first to the last; `flops` are those of one step with its weights merged."""

    rungs: Sequence[Rung]
    flops: float

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
            rows.append(setup.row(f"{name}, warm edit", "s", rung.edits))
            rows.append(setup.row(f"first rung / {name}, step", "x", self.times_faster(rung)))
            if rung.likeness:
                rows.append(setup.row(f"{name}, likeness in the mask", "dB", rung.likeness))
            rows.append(setup.row(f"{name}, peak resident set", "MB", [rung.peak_mb]))
        return rows
