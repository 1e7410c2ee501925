"""Which routed linears 8 bits take, and how: measured on the velocity (SPEC §11.1–3).

Rounding errors of different linears hardly know of each other, so their squares add up: what each
costs alone foretells what all cost together, and which to lift back to the wider type first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from a2edit.calibration.evidence import Evidence
from a2edit.calibration.policy import Kind
from a2edit.calibration.ranges import input_parts, input_spreads, shared_inputs
from a2edit.calibration.samples import EncodedSample
from a2edit.calibration.sharing import RouteFit, RouteRun, fit
from a2edit.calibration.smoothing import PLAIN, InputRange, Setting, input_range
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import RoutedLinear
from a2edit.model.graphs import DitGraph

# Linears that are measured together; at the embedded model's size, one.
Names = tuple[str, ...]
_K = TypeVar("_K")

# In the order in which they win when two are alike. What routes are merged from holds one set of
# factors, int8's: fp8's settings have none.
SETTINGS: Mapping[Kind, tuple[Setting, ...]] = {
    "int8": (
        PLAIN,
        Setting(None, 0.9999),
        *(Setting(alpha, share) for alpha in (0.5, 0.65, 0.8) for share in (0.9999, 0.999)),
    ),
    "fp8": (PLAIN,),
}
# Blocks of one kind are measured one by one up to so many, and in so many bands beyond.
BANDS = 6


@dataclass(frozen=True, slots=True, eq=False)
class EightBitPolicy:
    """What the denoiser's linears become.

    Attributes:
        ranges: of every linear that is quantised.
        settings: that each of them was given.
        tried: of every linear, plain (the largest values, no factors) and in its best setting.
        alone: every linear that was not asked to be lifted → relative error of the velocity if it
            were quantised alone (at full size, with its like in the blocks of its band).
        lifted: linears that stay in the wider type → why.
        error: measured with all of `ranges` quantised, the largest over probes and steps.
        shared: whether the ranges held on every route as they were; else more were lifted.
        fits: every route's error, with the shared ranges and with its own.
    """

    ranges: Mapping[str, InputRange]
    settings: Mapping[str, Setting]
    tried: Mapping[Literal["plain", "best"], Mapping[str, InputRange]]
    alone: Mapping[str, float]
    lifted: Mapping[str, str]
    error: float
    shared: bool
    fits: Mapping[str, RouteFit]

    def to_dict(self, bound: float) -> dict[str, Any]:
        """For JSON, errors rounded to two digits, so that rebuilds repeat."""
        worst = max(self.fits, key=lambda route: self.fits[route].error, default=None)
        alone = {name: rounded(error) for name, error in self.alone.items()}
        return {
            "bound": bound,
            "error": rounded(self.error),
            "routes": {
                "shared": self.shared,
                "worst": worst,
                "fits": {
                    route: {
                        "error": rounded(fit.error),
                        "with_own_ranges": rounded(fit.own),
                        "clipped": rounded(fit.clipped),
                        "clipped_most": fit.linear,
                    }
                    for route, fit in self.fits.items()
                },
            },
            "quantised": {
                name: {
                    "peak": how.peak,
                    "error_alone": alone[name],
                    **asdict(self.settings[name]),
                }
                for name, how in self.ranges.items()
            },
            "lifted": {
                name: {"error_alone": alone.get(name), "why": why}
                for name, why in self.lifted.items()
            },
        }


def choose(
    checkpoint: Checkpoint,
    dit: DitGraph,
    evidence: Evidence,
    bound: float,
    kind: Kind,
    bands: int = BANDS,
    lift: Collection[str] = (),
) -> EightBitPolicy:
    """Quantise as many linears as the velocity bears, each in its best setting.

    1. Linears that read one tensor, in every setting, at the step where quantising all errs most.
    2. Every linear alone. The worst stay in the wider type, so that the sum of squares of the
       others keeps `bound`.
    3. All that is left together, at every step and probe: more are lifted until it keeps `bound`,
       or put back while it does.
    4. The same on every route, whose ranges are the same: more are lifted, for all of them.

    Blocks of a kind beyond `bands` are measured together in neighbouring bands, so that FLUX's 418
    linears take 60 · settings + 102 forwards a probe, and some for steps 3 and 4.

    Args:
        checkpoint: base and experts.
        dit: its denoiser.
        evidence: what to measure on.
        bound: largest relative error of the velocity.
        kind: what the linears become.
        bands: most groups that blocks of one kind are measured in.
        lift: names of linears that stay in the wider type whatever they cost.
    """
    offers = _Offers(checkpoint, dit, evidence.samples, kind)
    plain = offers.ranges(checkpoint.linears, PLAIN)
    worst = {max(evidence.steps, key=lambda step: evidence.error(plain, {step}))}
    chosen: dict[str, InputRange] = {}
    settings: dict[str, Setting] = {}
    for readers in banded(shared_inputs(checkpoint.linears), bands):
        tried = {setting: offers.ranges(readers, setting) for setting in SETTINGS[kind]}
        errors = {setting: evidence.error(found, worst) for setting, found in tried.items()}
        best = min(errors, key=lambda setting: errors[setting])
        chosen |= tried[best]
        settings |= dict.fromkeys(tried[best], best)
    alone: dict[Names, float] = {}
    sizes: dict[Names, int] = {}
    for linears in banded([(it,) for it in checkpoint.linears if it.name not in lift], bands):
        names = tuple(linear.name for linear in linears)
        alone[names] = evidence.error(_only(chosen, [names]), worst)
        sizes[names] = sum(linear.in_features * linear.out_features for linear in linears)

    def measured(groups: Iterable[Names]) -> float:
        return evidence.error(_only(chosen, groups), evidence.steps)

    kept, error = together(
        within(bound, alone, sizes), cheapest(alone, sizes), alone, measured, bound
    )
    runs = evidence.run_routes(_only(chosen, kept), settings)
    fitting = _on_routes(kept, chosen, runs, evidence.steps, bound)
    if fitting != kept:
        error = evidence.error(_only(chosen, fitting), evidence.steps)
    ranges = _only(chosen, fitting)
    return EightBitPolicy(
        ranges=ranges,
        settings={name: settings[name] for name in ranges},
        tried={"plain": plain, "best": chosen},
        alone={name: alone[names] for names in alone for name in names},
        lifted=reasons(alone, kept, fitting, bound) | dict.fromkeys(sorted(lift), "as asked for"),
        error=error,
        shared=fitting == kept,
        fits={route: fit(run, ranges, evidence.steps) for route, run in runs.items()},
    )


def rounded(error: float) -> float:
    """To two digits, so that rebuilds repeat."""
    return float(f"{error:.1e}")


def _only(chosen: Mapping[str, InputRange], groups: Iterable[Names]) -> dict[str, InputRange]:
    return {name: chosen[name] for names in groups for name in names}


def together(
    kept: list[Names],
    order: Sequence[Names],
    alone: Mapping[Names, float],
    measured: Callable[[Iterable[Names]], float],
    bound: float,
) -> tuple[list[Names], float]:
    """What keeps `bound` when all of it is quantised, and by how much that errs.

    Args:
        kept: to begin with, what is to go first at the end.
        order: of all groups, what is to come back first at the beginning.
        alone: each group's own error.
        measured: the error of several groups together.
        bound: largest error.
    """
    while (error := measured(kept)) > bound and kept:
        kept = kept[:-1]
    for names in order:
        if names in kept or math.hypot(error, alone[names]) > bound:
            continue
        if (more := measured([*kept, names])) <= bound:
            kept, error = [*kept, names], more
    return kept, error


def _on_routes(
    kept: list[Names],
    chosen: Mapping[str, InputRange],
    runs: Mapping[str, RouteRun],
    steps: Collection[int],
    bound: float,
) -> list[Names]:
    """What keeps `bound` on every route."""

    def worst(groups: Iterable[Names]) -> float:
        ranges = _only(chosen, groups)
        return max((run.probe.error(ranges, steps) for run in runs.values()), default=0.0)

    while kept and worst(kept) > bound:
        kept = kept[:-1]
    return kept


def reasons(
    alone: Mapping[Names, float], kept: Collection[Names], fitting: Collection[Names], bound: float
) -> dict[str, str]:
    """Why each linear that is not in `fitting` was lifted."""
    found: dict[str, str] = {}
    for names, error in alone.items():
        why = "together with the others it errs by more than is allowed"
        if error > bound:
            why = "alone it errs by more than is allowed"
        elif names in kept:
            why = "on a route's own table all errs by more than is allowed"
        if names not in fitting:
            found |= dict.fromkeys(names, why)
    return found


def cheapest(errors: Mapping[_K, float], sizes: Mapping[_K, int]) -> list[_K]:
    """All of them, those with the least squared error for each of their weights first."""
    return sorted(errors, key=lambda name: (errors[name] ** 2 / sizes[name], str(name)))


def within(bound: float, errors: Mapping[_K, float], sizes: Mapping[_K, int]) -> list[_K]:
    """What has squared errors that add up to at most `bound`², the cheapest first.

    Cheap is what has little squared error for each of its `sizes` weights. Beside what is listed,
    no other fits.
    """
    kept: list[_K] = []
    total = 0.0
    for name in cheapest(errors, sizes):
        if total + errors[name] ** 2 <= bound**2:
            kept.append(name)
            total += errors[name] ** 2
    return kept


def banded(
    groups: Sequence[tuple[RoutedLinear, ...]], bands: int
) -> list[tuple[RoutedLinear, ...]]:
    """Groups of linears, each with its like in the neighbouring blocks of its band.

    Of blocks of one kind there are at most `bands` bands, of which one block makes one if there
    are no more.
    """
    blocks: dict[str, set[int]] = {}
    for group in groups:
        stack, place, _ = _where(group[0])
        blocks.setdefault(stack, set()).add(place)
    found: dict[tuple[str, int, tuple[str, ...]], list[RoutedLinear]] = {}
    for group in groups:
        stack, place, _ = _where(group[0])
        band = place * min(bands, len(blocks[stack])) // len(blocks[stack])
        leaves = tuple(_where(linear)[2] for linear in group)
        found.setdefault((stack, band, leaves), []).extend(group)
    return [tuple(linears) for linears in found.values()]


def _where(linear: RoutedLinear) -> tuple[str, int, str]:
    """Of "single_transformer_blocks.3.attn.to_q": its stack, its place there, "attn.to_q"."""
    stack, place, leaf = linear.name.split(".", 2)
    return stack, int(place), leaf


class _Offers:
    """Ranges of any linear in any setting.

    Factors are the same for all routes, for weights merged at the mean of the samples' tables:
    experts move the largest weights of a column little.
    """

    def __init__(
        self, checkpoint: Checkpoint, dit: DitGraph, samples: Sequence[EncodedSample], kind: Kind
    ) -> None:
        self.checkpoint, self.kind = checkpoint, kind
        self.spreads = input_spreads(checkpoint, dit, samples)
        self.table = torch.from_numpy(np.mean([sample.table for sample in samples], 0))

    def ranges(self, linears: Iterable[RoutedLinear], setting: Setting) -> dict[str, InputRange]:
        """Of linears that are there with all others that read the same tensors."""
        found: dict[str, InputRange] = {}
        for readers in shared_inputs(linears):
            first = readers[0]
            parts = input_parts(first, self.checkpoint.transformer.inner_dim)
            weights = [self._weight(linear.name) for linear in readers]
            how = input_range(self.spreads[first.name], weights, parts, self.kind, setting)
            found |= {linear.name: how for linear in readers}
        return found

    def _weight(self, name: str) -> Tensor:
        base = self.checkpoint.transformer.get_parameter(f"{name}.weight").float()
        return self.checkpoint.experts.merged_weight(name, base, self.table)
