"""Which linears' base a bundle may hold in 8 bits, to merge other routes from: by measure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from a2edit.calibration.choice import (
    BANDS,
    Names,
    banded,
    cheapest,
    reasons,
    rounded,
    together,
    within,
)
from a2edit.calibration.evidence import Evidence
from a2edit.model.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class BasePolicy:
    """What becomes of the base that routes are merged from.

    Attributes:
        eight: linears whose base is stored in 8 bits, with a scale a row.
        alone: every linear that was not asked to be lifted → relative error of the velocity if its
            base alone were in 8 bits (at full size, with its like in the blocks of its band).
        lifted: linears whose base stays as the checkpoint has it → why.
        error: measured with all of `eight`, the largest over probes and steps.
    """

    eight: frozenset[str]
    alone: Mapping[str, float]
    lifted: Mapping[str, str]
    error: float

    def to_dict(self, bound: float) -> dict[str, Any]:
        """For JSON, errors rounded to two digits, so that rebuilds repeat."""
        alone = {name: rounded(error) for name, error in self.alone.items()}
        return {
            "bound": bound,
            "error": rounded(self.error),
            "eight": {name: {"error_alone": alone[name]} for name in sorted(self.eight)},
            "lifted": {
                name: {"error_alone": alone.get(name), "why": why}
                for name, why in self.lifted.items()
            },
        }


def choose_base(
    checkpoint: Checkpoint,
    evidence: Evidence,
    bound: float,
    lift: Collection[str] = (),
    bands: int = BANDS,
) -> BasePolicy:
    """As many bases in 8 bits as the velocity bears; nothing else of the model is rounded.

    1. Every linear alone, at the step where rounding all errs most. The worst stay as they are, so
       that the sum of squares of the others keeps `bound`.
    2. All that is left together, at every step and probe: more are lifted until it keeps `bound`,
       or put back while it does.

    Args:
        checkpoint: base and experts.
        evidence: what to measure on.
        bound: largest relative error of the velocity.
        lift: names of linears that stay as they are whatever they cost.
        bands: most groups that blocks of one kind are measured in, as in `choice.choose`.
    """
    every = [linear.name for linear in checkpoint.linears]
    worst = {max(evidence.steps, key=lambda step: evidence.base_error(every, {step}))}
    alone: dict[Names, float] = {}
    sizes: dict[Names, int] = {}
    for linears in banded([(it,) for it in checkpoint.linears if it.name not in lift], bands):
        names = tuple(linear.name for linear in linears)
        alone[names] = evidence.base_error(names, worst)
        sizes[names] = sum(linear.in_features * linear.out_features for linear in linears)

    def measured(groups: Iterable[Names]) -> float:
        names = [name for group in groups for name in group]
        return evidence.base_error(names, evidence.steps)

    fitting, order = within(bound, alone, sizes), cheapest(alone, sizes)
    kept, error = together(fitting, order, alone, measured, bound)
    return BasePolicy(
        eight=frozenset(name for names in kept for name in names),
        alone={name: alone[names] for names in alone for name in names},
        lifted=reasons(alone, kept, kept, bound) | dict.fromkeys(sorted(lift), "as asked for"),
        error=error,
    )
