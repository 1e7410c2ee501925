"""Which routed linears INT8 takes, and how: measured on the velocity (SPEC §11.1–3).

Rounding errors of different linears hardly know of each other, so their squares add up: what each
costs alone foretells what all cost together, and which to lift back to fp32 first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from a2edit.calibration.probe import VelocityProbe
from a2edit.calibration.ranges import channel_peaks, input_parts
from a2edit.calibration.samples import EncodedSample
from a2edit.calibration.smoothing import SETTINGS, InputRange, input_range
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import DitGraph


@dataclass(frozen=True, slots=True, eq=False)
class Int8Policy:
    """What the denoiser's linears become.

    Attributes:
        ranges: of every linear that is quantised.
        lifted: linears that stay fp32 → relative error of the velocity if each alone were int8.
        error: measured with all of `ranges` quantised, the largest over probes and steps.
    """

    ranges: Mapping[str, InputRange]
    lifted: Mapping[str, float]
    error: float


def choose_int8(
    checkpoint: Checkpoint,
    dit: DitGraph,
    samples: Sequence[EncodedSample],
    probes: Sequence[VelocityProbe],
    steps: Collection[int],
    bound: float,
) -> Int8Policy:
    """Quantise as many linears as the velocity bears, each in its best setting.

    1. Every linear alone in every setting, at the step where quantising all errs most.
    2. The worst stay fp32, so that the sum of squares of the others keeps `bound`,
    3. and more, until what is measured with all others quantised keeps it at every step.

    Args:
        checkpoint: base and experts.
        dit: its denoiser.
        samples: to take ranges from.
        probes: to measure on.
        steps: those that every probe has.
        bound: largest relative error of the velocity.
    """
    candidates = _candidates(checkpoint, dit, samples)
    plain = {name: ranges[0] for name, ranges in candidates.items()}
    worst = max(steps, key=lambda step: _error(probes, plain, {step}))
    chosen, errors = {}, {}
    for name, ranges in candidates.items():
        found = [_error(probes, {name: how}, {worst}) for how in ranges]
        errors[name] = min(found)
        chosen[name] = ranges[found.index(errors[name])]
    sizes = {it.name: it.in_features * it.out_features for it in checkpoint.linears}
    kept = within(bound, errors, sizes)
    while (error := _error(probes, {name: chosen[name] for name in kept}, steps)) > bound and kept:
        kept.pop()
    lifted = {name: errors[name] for name in errors.keys() - set(kept)}
    return Int8Policy({name: chosen[name] for name in kept}, lifted, error)


def within(bound: float, errors: Mapping[str, float], sizes: Mapping[str, int]) -> list[str]:
    """Linears whose squared errors add up to at most `bound`², the cheapest first.

    Cheap is what has little squared error for each of its `sizes` weights. Beside what is listed,
    no other fits.
    """
    kept: list[str] = []
    total = 0.0
    for name in sorted(errors, key=lambda name: (errors[name] ** 2 / sizes[name], name)):
        if total + errors[name] ** 2 <= bound**2:
            kept.append(name)
            total += errors[name] ** 2
    return kept


def _candidates(
    checkpoint: Checkpoint, dit: DitGraph, samples: Sequence[EncodedSample]
) -> dict[str, list[InputRange]]:
    """Every setting of every linear, for weights merged at the mean of the samples' tables.

    Factors are the same for all routes: experts move the largest weights of a column little.
    """
    peaks = channel_peaks(checkpoint, dit, samples)
    table = torch.from_numpy(np.mean([sample.table for sample in samples], 0))
    inner, found = checkpoint.transformer.inner_dim, {}
    for linear in checkpoint.linears:
        base = checkpoint.transformer.get_parameter(f"{linear.name}.weight")
        weight = checkpoint.experts.merged_weight(linear.name, base, table)
        parts = input_parts(linear, inner)
        found[linear.name] = [
            input_range(peaks[linear.name], weight, parts, setting) for setting in SETTINGS
        ]
    return found


def _error(
    probes: Sequence[VelocityProbe], ranges: Mapping[str, InputRange], steps: Collection[int]
) -> float:
    return max(probe.error(ranges, steps) for probe in probes)
