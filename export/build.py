"""Checkpoint → bundle, as a chain of steps (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from a2edit.export.bundle import Built, Pieces, save_bundle
from a2edit.export.chain import Chain, Made, Progress
from a2edit.export.edge import read_graph, weight_set_bytes
from a2edit.export.plan import check_budget
from a2edit.export.settings import BuildSettings
from a2edit.export.source import DIT, Source
from a2edit.export.steps.cached import cache_entry
from a2edit.export.steps.calibrate import read_metric
from a2edit.export.steps.choose import read_routes
from a2edit.export.steps.keyed import Steps
from a2edit.export.steps.verified import Verified
from a2edit.export.targets import TargetPlan, target_plans
from a2edit.export.verify import MergedError
from a2edit.runtime.errors import EngineError

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route
    from a2edit.runtime.manifest import StepCacheEntry


def build(settings: BuildSettings, progress: Progress) -> str:
    """Build a bundle at `settings.out`; returns its hash.

    Raises:
        CheckpointError: the model is missing or broken.
        DataError: the calibration set or a log is missing, broken or of another checkpoint.
        RequestError: --routes-budget is below one route's weights.
        TargetError: a target, or this processor, lacks the precision.
        EngineError: a graph cannot be exported or compiled, or an engine is out of tolerance.
    """
    from a2edit.model.checkpoint import find_checkpoint

    plans = target_plans(settings)
    source = Source(find_checkpoint(settings.model))
    check_budget(settings, [choices[0] for choices in plans], source.outline)
    if settings.step_cache:
        _ = source.outline_halves  # a denoiser that cannot be split is refused now
    logged = _logged(settings, source, progress)
    chain = Chain(settings.cache, progress, settings.jobs)
    chain.open()
    try:
        with _one_thread():
            pieces = _pieces(Steps(settings, source, chain, logged), plans)
            with chain.alone("bundle"):
                bundle_hash = save_bundle(pieces, source.outline)
        chain.finish()
    finally:
        chain.close()
    return bundle_hash


def _logged(
    settings: BuildSettings, source: Source, progress: Progress
) -> NDArray[np.float32] | None:
    """Gate tables of the logs, read before anything is built from them."""
    if not settings.from_log:
        return None
    from a2edit.export.traffic import read_traffic

    traffic = read_traffic(settings.from_log, source.hash)
    for note in traffic.notes:
        progress.note(note)
    return traffic.tables


def _pieces(steps: Steps, plans: Sequence[Sequence[TargetPlan]]) -> Pieces:
    """All the steps, in the order of docs/architecture.md."""
    # Second choices need nothing that the first ones do not: their graphs are the same.
    first = [choices[0] for choices in plans]
    shared = steps.shared()
    traces = steps.traces()
    kinds = sorted({kind for plan in first if (kind := plan.denoiser.kind)})
    ranges: dict[str, Made] = {kind: steps.ranges(traces, kind) for kind in kinds}
    graphs = _graphs(steps, first, shared, ranges)
    metric = steps.metric(traces)
    set_bytes = max(weight_set_bytes(read_graph(dit.folder, "")) for dit in graphs[DIT].values())
    chosen = steps.routes(traces, metric, set_bytes)
    routes = read_routes(chosen.folder)
    merge = steps.merge_source(ranges.get("int8"))
    carried = steps.carried(merge, traces)
    weights = {
        variant: steps.weight_sets(routes, variant, chosen, merge, dit)
        for variant, dit in graphs[DIT].items()
    }
    cache = _step_cache(steps, routes, traces, chosen)
    samples, examples = steps.held_out(traces), steps.examples()
    truths = {route.name: steps.truth(route, samples, chosen) for route in routes}
    targets = []
    for choices in plans:
        for plan in choices:
            own = {name: graphs[name][policy.variant] for name, policy in plan.policies.items()}
            sets = weights[plan.denoiser.variant]
            engines = steps.engines(plan, own, shared, sets)
            try:
                made = Verified(
                    samples=samples,
                    examples=examples,
                    truths=truths,
                    weights=sets,
                    engines=engines,
                    graphs=own,
                    shared=shared,
                    ranges=ranges[plan.denoiser.kind] if plan.denoiser.kind else None,
                    step_cache=cache,
                    small_base=carried if carried is not merge else None,
                )
                # What is out of tolerance is accepted where there is nothing else to try.
                accept = steps.settings.accept_quality and plan is choices[-1]
                verified = steps.verification(plan, routes, made, accept=accept)
            except EngineError as error:
                if plan is choices[-1] or isinstance(error, MergedError):
                    raise
                asked = plan.denoiser.precision
                steps.chain.progress.note(f"{asked} does not pass, building the next: {error}")
            else:
                kernels = steps.merge_kernels(plan, carried, own[DIT])
                targets.append(Built(plan, engines, verified, kernels))
                break
    return Pieces(
        settings=steps.settings,
        checkpoint_hash=steps.source.hash,
        openings=steps.openings,
        shared=shared,
        traces=traces,
        ranges=ranges,
        graphs=graphs,
        metric=read_metric(metric.folder),
        routes=routes,
        merge=carried,
        weights=weights,
        targets=targets,
        samples=samples,
        examples=examples,
        truths=truths,
        step_cache=cache,
        page=steps.page(traces, metric, chosen, routes, set_bytes),
    )


def _step_cache(
    steps: Steps, routes: Sequence[Route], traces: Made, chosen: Made
) -> StepCacheEntry | None:
    """What skipping costs on every route; None where no cache is asked for."""
    wish = steps.settings.step_cache
    if wish is None:
        return None
    slopes = {route.name: steps.slope(route, traces, chosen).folder for route in routes}
    return cache_entry(wish.threshold, slopes)


def _graphs(
    steps: Steps, plans: Sequence[TargetPlan], shared: Made, ranges: Mapping[str, Made]
) -> dict[str, dict[str, Made]]:
    """Every variant of every graph that some target needs, each once."""
    found: dict[str, dict[str, Made]] = {}
    for plan in plans:
        for name, policy in plan.policies.items():
            if policy.variant not in found.setdefault(name, {}):
                own = ranges[policy.precision] if policy.quantised else None
                found[name][policy.variant] = steps.graph(name, policy, shared, own)
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Calibration on one thread: sums must not depend on how many cores there are."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)
