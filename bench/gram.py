"""What the metric of a full-size model costs: Gram matrices of 418 linears, one after the other."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from diffusers import FluxTransformer2DModel

from a2edit.calibration.gram import LinearFactors, gram_matrix
from a2edit.model.experts import RoutedLinear, routed_linears
from a2edit.model.weightless import shapes_of, without_memory


@dataclass(frozen=True, slots=True)
class GramCost:
    """Attributes:
    linears: how many there are.
    seconds: of each linear's matrix, its factors not counted.
    peak: largest memory in bytes that one linear took beyond its factors.
    parameters: of all experts.
    """

    linears: int
    seconds: list[float]
    peak: int
    parameters: int


def measure_gram(model: str, progress: Callable[[int, int], None]) -> GramCost:
    """Gram matrices of experts of `model`'s shapes, filled with random numbers.

    Args:
        model: "flux-fill" for the full size, or a checkpoint.
        progress: told (done, of) by linear.
    """
    shapes = shapes_of(model)
    with without_memory():
        transformer = FluxTransformer2DModel.from_config(shapes.transformer)
        linears = routed_linears(transformer)
    experts, rank = shapes.mot.num_experts, shapes.mot.rank
    scale, seconds, peak, parameters = shapes.mot.alpha / rank, [], 0, 0
    for place, factors in enumerate(_random_factors(linears, experts, rank)):
        # Timed without tracemalloc, and traced without a clock: tracing slows what it watches.
        start = time.perf_counter()
        gram_matrix(factors, scale)
        seconds.append(time.perf_counter() - start)
        tracemalloc.start()
        gram_matrix(factors, scale)
        peak = max(peak, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        parameters += factors.A.size + factors.B.size
        progress(place + 1, len(linears))
    return GramCost(len(linears), seconds, peak, parameters)


def _random_factors(
    linears: list[RoutedLinear], experts: int, rank: int
) -> Iterator[LinearFactors]:
    rng = np.random.default_rng(0)
    for linear in linears:
        yield LinearFactors(
            linear.block,
            A=rng.standard_normal((experts, rank, linear.in_features), np.float32),
            B=rng.standard_normal((experts, linear.out_features, rank), np.float32),
            moments=rng.random(linear.in_features, np.float32),
        )
