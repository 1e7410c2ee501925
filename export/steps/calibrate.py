"""What a calibration set does to the model: traces, the route metric, activation ranges."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from a2edit.export.files import read_json, write_json
from a2edit.runtime.errors import RequestError
from a2edit.runtime.metric import RouteMetric
from a2edit.runtime.sampler import ENCODED

if TYPE_CHECKING:
    from a2edit.calibration.evidence import Evidence
    from a2edit.calibration.routes import Route
    from a2edit.calibration.samples import EncodedSample
    from a2edit.calibration.traces import Traces
    from a2edit.export.source import Source
    from a2edit.runtime.targets import Precision

# Requests of a calibration set that are traced as one step: what a killed build does again.
TRACED_AT_ONCE = 8
# Requests that the denoiser is traced on, each in (steps + blocks + 1) forwards: inputs and gains
# are means over tokens and steps, which settle long before gate tables have shown all they ask.
DEEP_SAMPLES = 16
# Requests that activation ranges and verification run the denoiser on: one a category of UniEdit.
RANGE_SAMPLES = 8
VERIFY_SAMPLES = 2
# The share of an 8-bit tolerance that calibration may use up: the rest is for other requests.
MARGIN = 0.9
SMOOTH_FILE = "smooth.safetensors"


def save_part(
    folder: Path,
    source: Source,
    data: Path | None,
    first: int,
    count: int,
    tick: Callable[[int], None],
) -> None:
    """Traces of requests `first` to `first + count`, and what the denoiser saw of the first few."""
    from a2edit.calibration.samples import calibration_requests, encode
    from a2edit.calibration.tracing import trace

    kept: dict[str, np.ndarray] = {}

    def samples() -> Iterator[EncodedSample]:
        requests = calibration_requests(source.checkpoint, data, first, count)
        for place, sample in enumerate(encode(source.graphs, requests), first):
            if place < RANGE_SAMPLES:
                kept.update({f"{place}.{key}": sample.feeds[key].numpy() for key in ENCODED})
            yield sample

    deep = min(count, max(0, DEEP_SAMPLES - first))
    trace(source.checkpoint, source.dit, samples(), first=first, deep=deep, tick=tick).save(folder)
    save_file(dict(sorted(kept.items())), folder / "feeds.safetensors")


def join_parts(folder: Path, parts: Sequence[Path]) -> None:
    """The traces of the whole set."""
    from a2edit.calibration.traces import Traces

    Traces.join([Traces.load(part) for part in parts]).save(folder)
    feeds = [load_file(part / "feeds.safetensors") for part in parts]
    kept = {name: array for part in feeds for name, array in part.items()}
    save_file(dict(sorted(kept.items())), folder / "feeds.safetensors")


def read_traces(folder: Path) -> Traces:
    """What `join_parts` wrote."""
    from a2edit.calibration.traces import Traces

    return Traces.load(folder)


def read_samples(traces: Path, count: int) -> list[EncodedSample]:
    """The first samples of a set that `join_parts` wrote, at most `RANGE_SAMPLES`."""
    import torch

    from a2edit.calibration.samples import EncodedSample

    found, feeds = read_traces(traces), load_file(traces / "feeds.safetensors")
    return [
        EncodedSample(
            found.categories[place],
            {key: torch.from_numpy(feeds[f"{place}.{key}"]) for key in ENCODED},
            found.tables[place],
        )
        for place in range(min(count, RANGE_SAMPLES, len(found.categories)))
    ]


def save_metric(folder: Path, source: Source, traces: Path) -> None:
    """metric.json: what a wrong expert weight costs."""
    from a2edit.calibration.gram import traced_metric

    metric = traced_metric(source.checkpoint, read_traces(traces))
    write_json(folder / "metric.json", {"gram": metric.gram.tolist(), "energy": metric.energy})


def read_metric(folder: Path) -> RouteMetric:
    """What `save_metric` wrote."""
    found = read_json(folder / "metric.json")
    return RouteMetric(np.asarray(found["gram"], np.float64), found["energy"])


def save_ranges(
    folder: Path, source: Source, traces: Path, kind: Precision, lift: Sequence[str] = ()
) -> None:
    """ranges.json and smooth.safetensors: which linears become `kind`, and how.

    Chosen on other requests than the engines are verified on, where there are as many, and held to
    the bound at the tables of as many routes as a build makes unless told otherwise.

    Raises:
        RequestError: a pattern of `lift` matches no routed linear.
    """
    from a2edit.calibration.choice import choose
    from a2edit.calibration.gram import traced_metric
    from a2edit.calibration.policy import TOLERANCE
    from a2edit.calibration.routes import DEFAULT_ROUTES, cluster_routes

    assert kind in ("int8", "fp8")
    checkpoint, dit = source.checkpoint, source.dit
    asked = _lifted(lift, [linear.name for linear in checkpoint.linears])
    found = read_traces(traces)
    routes = cluster_routes(
        found.tables, found.categories, traced_metric(checkpoint, found), DEFAULT_ROUTES
    )
    evidence = _evidence(source, traces, routes)
    bound = TOLERANCE[kind] * MARGIN
    policy = choose(checkpoint, dit, evidence, bound, kind, lift=asked)
    smooth = {
        f"{name}.smooth": how.smooth.numpy()
        for name, how in policy.ranges.items()
        if policy.settings[name].alpha is not None
    }
    save_file(dict(sorted(smooth.items())), folder / SMOOTH_FILE)
    write_json(folder / "ranges.json", policy.to_dict(bound))


def choose_eight(source: Source, traces: Path, lift: Sequence[str] = ()) -> dict[str, Any]:
    """Which linears' base may be in 8 bits, as `BasePolicy.to_dict` says it.

    Chosen on the requests that ranges are chosen on.

    Raises:
        RequestError: a pattern of `lift` matches no routed linear.
    """
    from a2edit.calibration.base import choose_base
    from a2edit.calibration.policy import BASE_TOLERANCE

    checkpoint, bound = source.checkpoint, BASE_TOLERANCE * MARGIN
    asked = _lifted(lift, [linear.name for linear in checkpoint.linears])
    evidence = _evidence(source, traces, ())
    return choose_base(checkpoint, evidence, bound, asked).to_dict(bound)


def _evidence(source: Source, traces: Path, routes: Sequence[Route]) -> Evidence:
    """Of other requests than the engines are verified on, where there are as many."""
    from a2edit.calibration.evidence import Evidence
    from a2edit.export.held_out import compared_steps

    samples = read_samples(traces, RANGE_SAMPLES)
    samples = samples[VERIFY_SAMPLES:] or samples
    steps = compared_steps(source.checkpoint.config.steps)
    return Evidence.gather(source.checkpoint, source.dit, samples, routes, steps)


def _lifted(patterns: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    found: set[str] = set()
    for pattern in patterns:
        matched = fnmatch.filter(names, pattern)
        if not matched:
            raise RequestError(
                f"--lift {pattern!r} matches no routed linear; they are named like {names[0]} and "
                f"{names[-1]}, and * stands for anything"
            )
        found.update(matched)
    return frozenset(found)


def read_ranges(folder: Path) -> dict[str, float]:
    """The largest |x / s| of every linear that is quantised."""
    found = read_json(folder / "ranges.json")["quantised"]
    return {name: float(entry["peak"]) for name, entry in found.items()}


def read_smooth(folder: Path) -> dict[str, np.ndarray]:
    """Of every linear whose input is smoothed, "<linear>.smooth": s [in]."""
    return load_file(folder / SMOOTH_FILE)


def read_alone(folder: Path) -> dict[str, float]:
    """What each linear that is quantised costs the velocity if it is the only one."""
    found = read_json(folder / "ranges.json")["quantised"]
    return {name: float(entry["error_alone"]) for name, entry in found.items()}


def read_policy(folder: Path) -> dict[str, Any]:
    """What `EightBitPolicy.to_dict` gave: how each linear is quantised, or why it is not."""
    found: dict[str, Any] = read_json(folder / "ranges.json")
    return found
