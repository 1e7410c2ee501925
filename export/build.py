"""Checkpoint → bundle, as a chain of steps (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from a2edit.export.bundle import Pieces, save_bundle
from a2edit.export.chain import Chain, Progress
from a2edit.export.compile import openvino as compiler
from a2edit.export.settings import BuildSettings
from a2edit.export.source import DIT, GRAPH_NAMES, Source
from a2edit.export.steps.calibrate import read_metric
from a2edit.export.steps.choose import read_routes
from a2edit.export.steps.keyed import Steps
from a2edit.runtime.errors import EngineError


def build(settings: BuildSettings, progress: Progress) -> str:
    """Build a bundle at `settings.out`; returns its hash.

    Raises:
        CheckpointError: the model is missing or broken.
        DataError: the calibration set or a log is missing, broken or of another checkpoint.
        TargetError: the processor lacks the precision.
        EngineError: a graph cannot be exported or compiled, or an engine is out of tolerance.
    """
    from a2edit.model.checkpoint import find_checkpoint

    _, capabilities = compiler.processor()
    precision = compiler.choose_precision(settings.precision, capabilities)
    source = Source(find_checkpoint(settings.model))
    logged = _logged(settings, source, progress)
    chain = Chain(settings.cache, progress)
    chain.open()
    with _one_thread():
        try:
            pieces = _pieces(Steps(settings, precision, source, chain, logged))
        except EngineError as error:
            # "auto" promises the fastest that repeats the model, and bf16 alone may fail to.
            if settings.precision != "auto" or precision == "fp32":
                raise
            progress.note(f"{precision} does not pass, building fp32: {error}")
            pieces = _pieces(Steps(settings, "fp32", source, chain, logged))
        return save_bundle(pieces, source.checkpoint)


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


def _pieces(steps: Steps) -> Pieces:
    """All the steps, in the order of docs/architecture.md."""
    shared = steps.shared()
    traces = steps.traces()
    ranges = steps.ranges(traces) if steps.precision == "int8" else None
    graphs = {name: steps.graph(name, shared, ranges) for name in GRAPH_NAMES}
    metric = steps.metric(traces)
    chosen = steps.routes(traces, metric, graphs[DIT])
    routes = read_routes(chosen.folder)
    merge = steps.merge_source(ranges)
    weights = {route.name: steps.weight_set(route, chosen, merge, graphs[DIT]) for route in routes}
    engines = steps.engines(graphs, shared, weights)
    verified = steps.verification(traces, chosen, routes, weights, engines, graphs)
    return Pieces(
        settings=steps.settings,
        precision={name: steps.precision_of(name) for name in GRAPH_NAMES},
        checkpoint_hash=steps.source.hash,
        shared=shared,
        traces=traces,
        ranges=ranges,
        graphs=graphs,
        metric=read_metric(metric.folder),
        routes=routes,
        merge=None if steps.settings.routes_only else merge,
        weights=weights,
        engines=engines,
        verified=verified,
        page=steps.page(traces, metric, chosen, routes, graphs[DIT]),
    )


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
