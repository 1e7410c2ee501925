"""The first-block cache: steps that take the denoiser's tail from the last whole step.

The denoiser is two graphs: a head of embedders and the first block, and the tail behind it
(`model.step_cache`). The head says by how much its block's residual has changed since the last
whole step, and gives the step as it is with that step's tail. A bundle knows for every route what
such a change costs: the relative error of the velocity is at most `slope` times it, on nearly all
steps of its calibration. A threshold bounds that error. All arithmetic is in the graphs.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from a2edit.runtime.engines.base import Array, Engine, GraphSpec, TensorSpec
from a2edit.runtime.errors import RequestError
from a2edit.runtime.manifest import CACHE_GRAPHS, CACHE_KIND, Manifest, StepCacheEntry
from a2edit.runtime.routing import RouteChoice

HEAD, TAIL = CACHE_GRAPHS


@dataclass(frozen=True, slots=True)
class FirstBlockCache:
    """A wish for the cache.

    `threshold`: the relative error of the velocity that a step without its tail may be predicted to
    have, above 0 and below 1; None is the bundle's own. Raises RequestError for another.
    """

    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise RequestError(
                f"the step cache's threshold is {self.threshold:g}: it must be above 0 and below "
                "1, such as 0.08 for steps that are predicted to be at most 8 % off"
            )

    @classmethod
    def of(cls, given: "str | FirstBlockCache") -> Self:
        """From "first-block" or "first-block:<threshold>"; raises RequestError for other text."""
        if isinstance(given, FirstBlockCache):
            return cls(given.threshold)
        kind, colon, number = given.partition(":")
        if kind != CACHE_KIND:
            raise RequestError(
                f"--cache {given!r} is unknown: use {CACHE_KIND}, or {CACHE_KIND}:0.08 with a "
                "threshold"
            )
        if not colon:
            return cls()
        try:
            threshold = float(number)
        except ValueError:
            raise RequestError(
                f"--cache {given!r} has no number behind the colon: use {CACHE_KIND}:0.08"
            ) from None
        return cls(threshold)

    def __str__(self) -> str:
        return CACHE_KIND if self.threshold is None else f"{CACHE_KIND}:{self.threshold:g}"


@dataclass(frozen=True, slots=True)
class SkipRule:
    """When a step does without its tail: `slope` · change ≤ `threshold`, at most `most` in a row.

    Never the first step, which has nothing to go by, and never the last, which no later one
    corrects.
    """

    threshold: float
    slope: float
    most: int

    @classmethod
    def of_route(cls, entry: StepCacheEntry, route: str | None) -> Self:
        """At the bundle's threshold; None is merged weights: the steepest slope of all routes."""
        steepest = max(entry.slopes.values())
        slope = steepest if route is None else entry.slopes[route]
        return cls(entry.threshold, slope, entry.most_skipped)

    @classmethod
    def of(cls, wish: FirstBlockCache, entry: StepCacheEntry, choice: RouteChoice) -> Self:
        """Of the weights that run, at the threshold that is asked for."""
        rule = cls.of_route(entry, choice.route if choice.supply == "static" else None)
        return replace(rule, threshold=wish.threshold or rule.threshold)

    def skips(self, change: Array) -> bool:
        """Whether samples whose residuals changed by `change` fp32 [B] all do without it."""
        return bool(self.slope * change.max() <= self.threshold)  # False for NaN


def cache_entry(manifest: Manifest) -> StepCacheEntry:
    """What a bundle says of its cache; raises RequestError where it has none."""
    if manifest.step_cache is None:
        raise RequestError(
            f"the bundle {manifest.name!r} was built without a step cache: build it again with "
            f"`a2edit-build engines --cache {CACHE_KIND}`, or leave out --cache"
        )
    return manifest.step_cache


class CachedDenoiser:
    """Head and tail as one denoiser, for loops of `steps` steps, one after the other.

    Several samples go together: the tail runs where one of them needs it. With `rule` None it runs
    at every step, which makes the steps those of the graph `dit`.
    """

    def __init__(self, head: Engine, tail: Engine, rule: SkipRule | None, steps: int) -> None:
        self.skipped = self.steps_done = 0  # of all loops
        self._head, self._tail, self._rule, self._steps = head, tail, rule, steps
        self._row = 0
        self._kept: dict[str, Array] = {}
        named = {spec.name: spec for spec in head.spec.inputs}
        self._states = [named[name] for name in ("previous", "residual")]

    @property
    def spec(self) -> GraphSpec:
        """The head's, without what is kept between steps."""
        spec = self._head.spec
        inputs = tuple(part for part in spec.inputs if part not in self._states)
        return GraphSpec(spec.name, inputs, spec.outputs)

    def run(self, inputs: Mapping[str, Array], unchanged: Collection[str] = ()) -> dict[str, Array]:
        """The next latents; inputs as of the graph `dit`, and `unchanged` as of an engine."""
        step = self.steps_done % self._steps
        if step == 0:
            shape = inputs["latents"].shape[:-1]
            self._kept = {spec.name: _zeros(spec, shape) for spec in self._states}
        found = self._head.run({**inputs, **self._kept}, unchanged)
        inner = 0 < step < self._steps - 1
        self.steps_done += 1
        if (
            inner
            and self._rule
            and self._row < self._rule.most
            and self._rule.skips(found["change"])
        ):
            self._row += 1
            self.skipped += 1
            return {"next_latents": found["next_latents"]}
        self._row = 0
        whole = self._whole({**inputs, **found})
        self._kept = {"previous": found["first"], "residual": whole["residual"]}
        return {"next_latents": whole["next_latents"]}

    def _whole(self, known: Mapping[str, Array]) -> dict[str, Array]:
        """The tail's outputs, of the step's inputs and what the head made of them."""
        return self._tail.run({spec.name: known[spec.name] for spec in self._tail.spec.inputs})


def _zeros(spec: TensorSpec, shape: tuple[int, ...]) -> Array:
    """What is kept before the first step; `shape` is that of the latents, without channels."""
    return np.zeros((*shape, spec.shape[-1]), np.float32)
