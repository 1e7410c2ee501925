"""Gate tables of a calibration set, and activation ranges over it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from a2edit.export.files import read_json, write_json

if TYPE_CHECKING:
    from a2edit.calibration.traces import EncodedSample
    from a2edit.export.source import Source

# Requests that activation ranges and verification run the denoiser on: one a category of UniEdit.
RANGE_SAMPLES = 8
VERIFY_SAMPLES = 2
_FEEDS = ("conditioning", "text_tokens", "reference_tokens", "pooled")


def save_traces(folder: Path, source: Source, count: int) -> None:
    """traces.safetensors: gate tables, and what the denoiser saw of the first; categories.json."""
    from a2edit.calibration.traces import drawn_requests, encode

    samples = list(encode(source.graphs, drawn_requests(source.checkpoint, count)))
    arrays: dict[str, Any] = {"tables": np.stack([sample.table for sample in samples])}
    for place, sample in enumerate(samples[:RANGE_SAMPLES]):
        arrays |= {f"{place}.{key}": sample.feeds[key].numpy() for key in _FEEDS}
    save_file(dict(sorted(arrays.items())), folder / "traces.safetensors")
    write_json(folder / "categories.json", [sample.category for sample in samples])


def read_samples(traces: Path, count: int) -> list[EncodedSample]:
    """The first samples of a folder that `save_traces` wrote, at most `RANGE_SAMPLES`."""
    import torch

    from a2edit.calibration.traces import EncodedSample

    arrays = load_file(traces / "traces.safetensors")
    categories = read_json(traces / "categories.json")
    return [
        EncodedSample(
            categories[place],
            {key: torch.from_numpy(arrays[f"{place}.{key}"]) for key in _FEEDS},
            arrays["tables"][place],
        )
        for place in range(min(count, len(categories)))
    ]


def save_ranges(folder: Path, source: Source, traces: Path) -> None:
    """ranges.json: the largest inputs of every quantised linear."""
    from a2edit.calibration.ranges import activation_ranges

    samples = read_samples(traces, RANGE_SAMPLES)
    write_json(folder / "ranges.json", activation_ranges(source.checkpoint, source.dit, samples))
