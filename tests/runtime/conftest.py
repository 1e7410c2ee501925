"""A bundle of a tiny model in closed form (`closed_form.py`), compiled by the real OpenVINO.

`dit_head` and `dit_tail` are of `cached_bundle` alone. Merged, W is the sum of w_i a_i I over block
0; the routes' W is `SCALES` times I, and would be merged as well.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import numpy_helper
from PIL import Image
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from a2edit.runtime.engines import cuda
from a2edit.runtime.engines.base import Array
from a2edit.runtime.engines.openvino import backend_version
from a2edit.runtime.manifest import (
    EngineEntry,
    FileEntry,
    GraphEntry,
    Manifest,
    MergeEntry,
    MetricEntry,
    RouteEntry,
    SamplerEntry,
    StepCacheEntry,
    TokenizerEntry,
    WeightSetEntry,
)
from a2edit.runtime.merge import RouteMerger
from a2edit.runtime.spec import ModelSpec
from tests.runtime.closed_form import (
    BLOCKS,
    CACHE_GRAPHS,
    EXPERTS,
    GRAPHS,
    POOLED,
    REFERENCE,
    SIZE,
    TEXT,
    WORDS,
    GraphWriter,
    edge,
)
from tests.runtime.host_cuda import HostCuda

ROUTES = {
    "red": [[0.8, 0.1, 0.1]] * BLOCKS,
    "green": [[0.1, 0.8, 0.1]] * BLOCKS,
    "blue": [[0.1, 0.1, 0.8]] * BLOCKS,
}
SCALES = {"red": 1.0, "green": 0.75, "blue": 0.5}
# a_i of the experts: what makes the routes' tables give SCALES, the base being 0
STRENGTHS = np.linalg.solve([ROUTES[name][0] for name in SCALES], list(SCALES.values()))


def model_spec(**changes: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "layout": "diptych",
        "reference_placement": "aligned",
        "size": SIZE,
        "batch": 1,
        "latent_channels": 64,
        "conditioning_channels": 320,
        "text_length": TEXT,
        "pooled_length": POOLED,
        "reference_size": REFERENCE,
        "blocks": BLOCKS,
        "experts": EXPERTS,
        "checkpoint_hash": "0" * 64,
    }
    values |= changes
    return ModelSpec(**{"sizes": (values["size"],), **values})


CACHE = StepCacheEntry(
    kind="first-block",
    threshold=0.25,
    most_skipped=2,
    slopes={"red": 0.5, "green": 1.0, "blue": 0.75},
)


def write_merge(folder: Path) -> RouteMerger:
    """Write weights/merge.safetensors: expert i is a_i times the identity, of full rank."""
    entry = MergeEntry(file="weights/merge.safetensors", scale=0.5, blocks={"proj": 0})
    eye = np.eye(64, dtype=np.float32)
    tensors: dict[str, Array] = {
        "proj.weight": np.zeros((64, 64), np.float16),
        "proj.A": np.stack([eye] * EXPERTS).astype(np.float16),
        "proj.B": np.stack([eye * (2 * strength) for strength in STRENGTHS]).astype(np.float32),
    }
    save_file(tensors, folder / entry.file)
    return RouteMerger(folder / entry.file, entry, edge(GRAPHS["dit"][3]))


def write_bundle(
    folder: Path,
    *,
    baked: bool = False,
    routes_only: bool = False,
    cached: bool = False,
    **changes: Any,
) -> Path:
    """Write a bundle; `changes` replace fields of the manifest."""
    for part in ("graphs", "weights/routes", "engines/cpu", "tokenizer"):
        (folder / part).mkdir(parents=True)
    graphs, engines = {}, {}
    written = GRAPHS | (CACHE_GRAPHS if cached else {})
    for name, (write, inputs, outputs, weights) in written.items():
        entry = GraphEntry(
            file=f"graphs/{name}.onnx",
            inputs=edge(inputs),
            outputs=edge(outputs),
            weights=edge(weights) if weights else (),
        )
        writer = GraphWriter()
        write(writer)
        writer.save(folder / entry.file, entry)
        graphs[name] = {"fp32": entry}
        if not (baked and name == "dit"):
            engines[name] = _engine(folder, name, folder / entry.file, "inputs")
    merger = write_merge(folder)
    for name, table in ROUTES.items():
        weight = merger.merge(np.array(table, np.float32), name).tensors["proj.weight"]
        save_file({"proj.weight": weight}, folder / f"weights/routes/{name}.safetensors")
        if baked:
            model = onnx.load(folder / "graphs/dit.onnx")
            model.graph.initializer.append(numpy_helper.from_array(weight, "proj.weight"))
            kept = [value for value in model.graph.input if value.name != "proj.weight"]
            del model.graph.input[:]
            model.graph.input.extend(kept)
            path = folder / f"baked_{name}.onnx"
            path.write_bytes(model.SerializeToString())
            engines[f"dit.{name}"] = _engine(folder, f"dit.{name}", path, "baked")
            path.unlink()
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for name in ("text", "pooled"):
        tokenizer.save(str(folder / f"tokenizer/{name}.json"))
    if routes_only:
        (folder / "weights/merge.safetensors").unlink()
    identity = tuple(tuple(row) for row in np.eye(EXPERTS).tolist())
    values: dict[str, Any] = {
        "name": "tiny",
        "model": model_spec(),
        "sampler": SamplerEntry(
            steps=4,
            guidance=30.0,
            base_shift=0.5,
            max_shift=1.15,
            base_tokens=256,
            max_tokens=4096,
        ),
        "tokenizers": {
            "text": TokenizerEntry(file="tokenizer/text.json", length=TEXT, pad_id=0),
            "pooled": TokenizerEntry(file="tokenizer/pooled.json", length=POOLED, pad_id=0),
        },
        "graphs": graphs,
        "weight_sets": {
            "fp32": {
                name: WeightSetEntry(file=f"weights/routes/{name}.safetensors") for name in SCALES
            }
        },
        "routes": {
            name: RouteEntry(
                table=tuple(tuple(row) for row in table),
                predicted_error=0.01,
                members=3,
            )
            for name, table in ROUTES.items()
        },
        "route_metric": MetricEntry(gram=(identity,) * BLOCKS, energy=float(BLOCKS), tolerance=0.3),
        "merge": None if routes_only else merger.entry,
        "step_cache": CACHE if cached else None,
        "engines": {"cpu": engines},
        "tools": {"openvino": backend_version()},
    }
    values |= changes
    seal(folder, Manifest(**values, files={}))
    return folder


def _engine(folder: Path, name: str, graph: Path, materialise: str) -> EngineEntry:
    core = ov.Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    blob = core.compile_model(core.read_model(graph), "CPU", options).export_model().getvalue()
    entry = EngineEntry(
        file=f"engines/cpu/{name}.blob",
        variant="fp32",
        backend="openvino",
        version=backend_version(),
        precision="fp32",
        materialise=materialise,
    )
    (folder / entry.file).write_bytes(blob)
    return entry


def seal(folder: Path, manifest: Manifest) -> None:
    """List every file with its hash, and write the manifest."""
    files = {
        path.relative_to(folder).as_posix(): FileEntry(
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(), bytes=path.stat().st_size
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    }
    replace(manifest, files=files).write(folder)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle; nobody changes it."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def baked_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with one engine a route."""
    return write_bundle(tmp_path_factory.mktemp("baked") / "tiny", baked=True)


@pytest.fixture(scope="session")
def routes_only_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model without the experts."""
    return write_bundle(tmp_path_factory.mktemp("routes_only") / "tiny", routes_only=True)


@pytest.fixture(scope="session")
def cached_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with the denoiser in two as well."""
    return write_bundle(tmp_path_factory.mktemp("cached") / "tiny", cached=True)


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(bundle, tmp_path / "bundle")


@pytest.fixture(scope="session")
def spec() -> Callable[..., ModelSpec]:
    return model_spec


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    return write_bundle


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostCuda:
    """CUDA's runtime, played by the memory of this process."""
    host = HostCuda()
    monkeypatch.setattr(cuda, "_runtime", lambda: host)
    return host


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with scene.png, mask.png, red.png, green.png, blue.png; and plum.png, between
    red and blue, which no route of the tiny bundle is near to.
    """
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(7)
    Image.fromarray(rng.integers(0, 256, (90, 120, 3), np.uint8)).save(folder / "scene.png")
    mask = np.zeros((90, 120), np.uint8)
    mask[30:60, 40:80] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    colours = {"red": (220, 0, 0), "green": (0, 220, 0), "blue": (0, 0, 220), "plum": (212, 0, 208)}
    for name, colour in colours.items():
        picture = np.full((40, 40, 3), 255, np.uint8)
        picture[8:32, 8:32] = colour
        Image.fromarray(picture).save(folder / f"{name}.png")
    return folder
