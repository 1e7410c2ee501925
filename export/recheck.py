"""A bundle's engines run again, beside the figures that its build wrote down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from a2edit.export.held_out import (
    BUNDLED_EXAMPLES,
    BUNDLED_SAMPLES,
    HeldOut,
    Truth,
    bundled_truth,
    read_examples,
    read_held_out,
    read_truth,
    truth_of,
)
from a2edit.export.pixels import Pixels
from a2edit.export.quality import Figure, RouteFigure, graph_figure, route_figure
from a2edit.export.source import HEAD, MODULATION, TAIL
from a2edit.export.steps.cached import cache_figure
from a2edit.export.steps.runner import is_here
from a2edit.export.verify import MERGED
from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.engines.base import Engine
from a2edit.runtime.engines.pool import DENOISER, EnginePool
from a2edit.runtime.errors import BundleError
from a2edit.runtime.manifest import RouteEntry
from a2edit.runtime.step_cache import SkipRule
from a2edit.runtime.targets import TARGETS

Truths = Callable[[str, RouteEntry], list[Truth]]


@dataclass(frozen=True, slots=True)
class Rechecked:
    """One figure, taken again.

    Attributes:
        target: whose engine.
        name: "<graph>", "route <name>" or "merged route <name>".
        now: measured here, beside what the build allowed.
        before: the relative error that the manifest has.
        accepted: whether the build went on although it was out of tolerance.
    """

    target: str
    name: str
    now: Figure
    before: float
    accepted: bool

    @property
    def passed(self) -> bool:
        return self.now.passed or self.accepted


def recheck(folder: Path, model: str | None, note: Callable[[str], None]) -> Iterator[Rechecked]:
    """Every engine of a bundle that this machine can run, on the bundle's held-out requests.

    Args:
        folder: of the bundle; every file's hash is compared first.
        model: the checkpoint, to compute the truth anew; None takes what the bundle brings.
        note: told of targets that this machine cannot run.

    Raises:
        BundleError: damaged, or not of `model`.
        CheckpointError: `model` is missing or broken.
    """
    bundle = open_bundle(folder)
    truths = _bundled(bundle) if model is None else _anew(bundle, model)
    samples = read_held_out(bundle.path(BUNDLED_SAMPLES))
    for target in sorted(bundle.manifest.engines):
        if not is_here(TARGETS[target]):
            runner = bundle.manifest.verification[target]["runner"]
            note(f"{target}: there is no such GPU here; its figures were taken by {runner}")
            continue
        pool = EnginePool(bundle, TARGETS[target].device)
        try:
            yield from _target(bundle, target, pool, samples, truths)
        finally:
            pool.close()


def _target(
    bundle: Bundle, target: str, pool: EnginePool, samples: list[HeldOut], truths: Truths
) -> Iterator[Rechecked]:
    manifest = bundle.manifest
    recorded = manifest.verification[target]
    accepted = {said.partition(":")[0] for said in recorded.get("accepted", ())}

    def beside(name: str, now: Figure, before: Mapping[str, Any]) -> Rechecked:
        return Rechecked(target, name, now, before["relative_error"], name in accepted)

    examples = read_examples(bundle.path(BUNDLED_EXAMPLES))
    for name, before in sorted(recorded["graphs"].items()):
        now = graph_figure(pool.get(name), examples[name], before["tolerance"])
        yield beside(name, now, before)
    for name, before in sorted(recorded["routes"].items()):
        if pool.baked:
            denoiser = pool.get(f"{DENOISER}.{name}")
        else:
            denoiser = pool.get(DENOISER)
            denoiser.bind(bundle.weight_set(name, pool.variant))
        routed = truths(name, manifest.routes[name])
        figure, pictures = _route(pool, denoiser, samples, routed, before)
        yield beside(f"route {name}", figure, before)
        if merged := recorded.get("merged"):
            denoiser = _bound_to_merged(bundle, pool, name)
            figure, _ = _route(pool, denoiser, samples, routed, merged[name])
            yield beside(f"{MERGED} {name}", figure, merged[name])
        if manifest.step_cache is not None:
            noted = recorded["step_cache"]["routes"][name]
            halves = pool.get(HEAD), pool.get(TAIL)
            for half in halves:
                half.bind(bundle.weight_set(name, pool.variant))
            cached = cache_figure(
                halves,
                pool.get(MODULATION),
                pool.get("vae_decoder"),
                SkipRule.of_route(manifest.step_cache, name),
                samples,
                routed,
                pictures,
                noted["tolerance"],
            )
            yield beside(f"step cache {name}", cached, noted)


def _route(
    pool: EnginePool,
    denoiser: Engine,
    samples: list[HeldOut],
    truths: list[Truth],
    before: Mapping[str, Any],
) -> tuple[RouteFigure, list[Pixels]]:
    """Of the weights that `denoiser` has, held to what the build allowed."""
    return route_figure(
        denoiser,
        pool.get(MODULATION),
        pool.get("vae_decoder"),
        samples,
        truths,
        tolerance=before["tolerance"],
        least_psnr_db=before["least_psnr_db"],
    )


def _bound_to_merged(bundle: Bundle, pool: EnginePool, route: str) -> Engine:
    """The shared denoiser with a route as it is merged on demand."""
    merger = bundle.merger(pool.variant)
    assert merger, "figures of merging in a bundle that merges nothing"
    table = np.array(bundle.manifest.routes[route].table, np.float32)
    denoiser = pool.get(DENOISER)
    denoiser.bind(merger.merge(table, route))
    return denoiser


def _bundled(bundle: Bundle) -> Truths:
    return lambda name, _: read_truth(bundle.path(bundled_truth(name)))


def _anew(bundle: Bundle, model: str) -> Truths:
    """The truth from the checkpoint that the bundle was built of."""
    from a2edit.export.source import Source
    from a2edit.model.checkpoint import find_checkpoint

    source = Source(find_checkpoint(model))
    wanted = bundle.manifest.model.checkpoint_hash
    if source.hash != wanted:
        raise BundleError(
            f"{str(bundle.folder)!r} was built of another checkpoint ({wanted[:16]}…) than "
            f"{model} ({source.hash[:16]}…): give the one that it was built of"
        )

    def truths(_: str, route: RouteEntry) -> list[Truth]:
        table: NDArray[np.float32] = np.array(route.table, np.float32)
        return [
            truth_of(
                source.checkpoint,
                source.graphs,
                sample.encoded(),
                seed,
                table,
            )
            for seed, sample in enumerate(read_held_out(bundle.path(BUNDLED_SAMPLES)))
        ]

    return truths
