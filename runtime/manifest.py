"""manifest.json: what is in a bundle (docs/architecture.md, "The bundle"), as dataclasses.

The file is plain JSON, read by other languages too. `bundle_hash` is the SHA-256 of its canonical
form with that field left out: keys sorted, no spaces, UTF-8 as it is. Every other file of the
bundle is listed in `files` with its own hash, so a changed byte anywhere is seen.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from a2edit.runtime.engines.base import GraphSpec, TensorSpec
from a2edit.runtime.errors import BundleError
from a2edit.runtime.fields import built
from a2edit.runtime.images import atomic_path
from a2edit.runtime.merge_kernels import MergeKernelEntry
from a2edit.runtime.metric import RouteMetric
from a2edit.runtime.sampler import Shift
from a2edit.runtime.spec import ModelSpec
from a2edit.runtime.targets import Precision

SCHEMA_VERSION = 6
MANIFEST = "manifest.json"
# What an edit cannot do without.
GRAPHS = (
    "vae_encoder",
    "text_encoder",
    "pooled_encoder",
    "image_encoder",
    "gate",
    "modulation",
    "dit",
    "vae_decoder",
)
TOKENIZERS = ("text", "pooled")
# The denoiser in two, for a step cache of this kind: built where it is asked for.
CACHE_KIND, CACHE_GRAPHS = "first-block", ("dit_head", "dit_tail")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerEntry:
    """Defaults of an edit, and the bend of the schedule (SPEC §2)."""

    steps: int
    guidance: float
    base_shift: float
    max_shift: float
    base_tokens: int
    max_tokens: int

    @property
    def shift(self) -> Shift:
        return Shift(self.base_shift, self.max_shift, self.base_tokens, self.max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerEntry:
    file: str
    length: int
    pad_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphEntry:
    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[TensorSpec, ...] = ()
    parameters: tuple[TensorSpec, ...] = ()  # by their names in graphs/*.safetensors
    activations: int = 0  # the most bytes between its nodes, at its largest; 0: not known

    def spec(self, name: str) -> GraphSpec:
        return GraphSpec(name, self.inputs, self.outputs, self.weights, self.parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightSetEntry:
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteEntry:
    """A table R[L][N] of frozen expert weights, 0 = inactive (SPEC §3)."""

    table: tuple[tuple[float, ...], ...]
    predicted_error: float  # mean over the calibration samples of this route
    members: int  # how many of them there were


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricEntry:
    """What a wrong expert weight costs (SPEC §5)."""

    gram: tuple[tuple[tuple[float, ...], ...], ...]  # [L][N][N]
    energy: float  # of the output that errors are relative to
    tolerance: float  # the predicted error up to which a static route is good enough

    def __post_init__(self) -> None:
        if not self.energy > 0:
            raise BundleError(f"route_metric.energy is {self.energy!r}: it must be above 0")

    @property
    def metric(self) -> RouteMetric:
        return RouteMetric(np.asarray(self.gram, np.float64), self.energy)


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeEntry:
    """What a route that was not built ahead is merged from.

    `file` (safetensors, mapped into memory) holds for every routed linear "<linear>.weight", the
    pristine base [out, in], and the experts "<linear>.A" [N, r, in] and "<linear>.B" [N, out, r];
    of linears that become int8 "<linear>.smooth" [in] too, which the merged weight's columns are
    multiplied by before it is quantised (the graph divides the input by it).
    """

    file: str
    scale: float  # α/r
    blocks: Mapping[str, int]  # linear -> row of the gate table
    error: float = 0.0  # of the velocity, relative: what a base in 8 bits costs, measured

    def __post_init__(self) -> None:
        if not 0 <= self.error < 1:
            raise BundleError(f"merge.error is {self.error!r}: it must be 0 or more, and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationEntry:
    """The gate tables that the routes were made from: "tables" float32 [S, L, N] in `file`."""

    file: str
    categories: tuple[str, ...]  # [S], what each sample shows


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCacheEntry:
    """What leaving out the denoiser's tail costs (runtime.step_cache)."""

    kind: str
    threshold: float  # the relative error of the velocity that a step may be predicted to have
    most_skipped: int  # steps in a row
    slopes: Mapping[str, float]  # route -> that error over the change of the first block's residual

    def __post_init__(self) -> None:
        if self.kind != CACHE_KIND:
            raise BundleError(f"step_cache.kind is {self.kind!r}; known is {CACHE_KIND}")
        if not 0 < self.threshold < 1:
            raise BundleError(
                f"step_cache.threshold is {self.threshold!r}: it must be above 0 and below 1"
            )
        if self.most_skipped < 1:
            raise BundleError(f"step_cache.most_skipped is {self.most_skipped}: must be 1 or more")
        if not all(slope > 0 for slope in self.slopes.values()):
            raise BundleError("step_cache.slopes must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEntry:
    """A compiled graph; `variant` says which of its graph's forms, and which weights fit it."""

    file: str
    variant: str
    backend: str
    version: str
    precision: Precision
    materialise: str  # "inputs": routes are bound; "baked": one engine a route


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything that a host needs to know.

    A graph has a variant for every combination of types that some target needs (a bf16 network, one
    with INT8 products); targets with equal ones share it. Weight sets, one a route, belong to a
    variant of the denoiser, and kernels that merge routes to a target.
    """

    name: str
    model: ModelSpec
    sampler: SamplerEntry
    tokenizers: Mapping[str, TokenizerEntry]
    graphs: Mapping[str, Mapping[str, GraphEntry]]  # graph -> variant
    weight_sets: Mapping[str, Mapping[str, WeightSetEntry]]  # variant of the denoiser -> route
    routes: Mapping[str, RouteEntry]
    route_metric: MetricEntry
    engines: Mapping[str, Mapping[str, EngineEntry]]  # target -> graph -> engine
    files: Mapping[str, FileEntry]
    merge: MergeEntry | None = None  # None: built with --routes-only
    merge_kernels: Mapping[str, tuple[MergeKernelEntry, ...]] = field(default_factory=dict)
    calibration: CalibrationEntry | None = None
    step_cache: StepCacheEntry | None = None  # None: built without --cache
    precision: Json = field(default_factory=dict)
    verification: Json = field(default_factory=dict)
    tools: Json = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    bundle_hash: str = ""

    def to_json(self) -> Json:
        """The file's content, its hash filled in."""
        content: Json = json.loads(json.dumps(dataclasses.asdict(self), allow_nan=False))
        content["bundle_hash"] = canonical_hash(content)
        return content

    def write(self, folder: Path) -> str:
        """Write `folder`/manifest.json, whole or not at all; returns the bundle's hash."""
        content = self.to_json()
        with atomic_path(folder / MANIFEST) as temporary:
            temporary.write_bytes(file_bytes(content))
        return str(content["bundle_hash"])


def canonical_hash(content: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON without `bundle_hash`."""
    rest = {key: value for key, value in content.items() if key != "bundle_hash"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_bytes(content: Mapping[str, Any]) -> bytes:
    """The one way in which a manifest's content is written."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder`/manifest.json; raises BundleError, which names the file."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise BundleError(
            f"bundle {str(folder)!r} does not exist: build one with "
            f"`a2edit-build engines --out {folder}`"
        )
    if not path.is_file():
        raise BundleError(
            f"{str(folder)!r} is not a bundle: it has no {MANIFEST}; give the folder that "
            "`a2edit-build engines --out` wrote"
        )
    try:
        data = path.read_bytes()
        content = json_of(data)
        # the bytes too: some changed bytes, such as another space, leave the content as it was
        sealed = (
            isinstance(content, dict)
            and content.get("bundle_hash") == canonical_hash(content)
            and data == file_bytes(content)
        )
    except (OSError, ValueError, RecursionError) as error:  # half of a surrogate pair is one, too
        raise BundleError(f"{str(path)!r} is damaged ({error}): {REBUILD}") from None
    if not isinstance(content, dict):
        raise BundleError(f"{str(path)!r} is damaged (not a JSON object): {REBUILD}")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{str(path)!r} has schema version {version!r}, and this a2edit reads "
            f"{SCHEMA_VERSION}: build the bundle again with this version"
        )
    if not sealed:
        raise BundleError(f"{str(path)!r} does not match its own hash: {REBUILD}")
    try:
        return manifest_from_json(content)
    except BundleError as error:
        raise BundleError(f"{str(path)!r}: {error}; {REBUILD}") from None


def json_of(data: bytes) -> Any:
    """The JSON of a file; raises ValueError also for what Python reads though it is none: NaN,
    infinities, encodings besides UTF-8, and half of a surrogate pair.
    """
    data.decode()
    content = json.loads(data, parse_constant=_no_number, parse_float=_finite)
    json.dumps(content, ensure_ascii=False).encode()
    return content


def _no_number(constant: str) -> float:
    raise ValueError(f"{constant}, which is no number in JSON")


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError("a number that is too large")
    return number


REBUILD = "the bundle is damaged or incomplete; copy it again or build it again"


def manifest_from_json(content: Mapping[str, Any]) -> Manifest:
    """Content to dataclasses; keys that are unknown or missing, values of another type than the
    field's and loose ends are refused.
    """
    manifest = built(Manifest, content)
    _check_references(manifest)
    return manifest


def _check_references(manifest: Manifest) -> None:
    """What an edit needs is there, files that entries name are listed, tables have shapes."""
    named = [entry.file for entry in manifest.tokenizers.values()]
    named += [entry.file for entry in (manifest.merge, manifest.calibration) if entry]
    named += [kernel.file for kernels in manifest.merge_kernels.values() for kernel in kernels]
    for tables in (manifest.graphs, manifest.weight_sets, manifest.engines):
        named += [entry.file for entries in tables.values() for entry in entries.values()]
    if unlisted := sorted(set(named) - manifest.files.keys()):
        raise BundleError(f"files are named but not listed: {', '.join(unlisted)}")
    if not manifest.routes:
        raise BundleError("there are no routes")
    _check_complete("graphs", manifest.graphs, GRAPHS)
    _check_complete("tokenizers", manifest.tokenizers, TOKENIZERS)
    _check_complete("weight_sets", manifest.weight_sets, manifest.graphs["dit"])
    for variant, sets in manifest.weight_sets.items():
        _check_complete(f"weight_sets.{variant}", sets, manifest.routes)
    _check_cache(manifest)
    _check_engines(manifest)
    blocks, experts = manifest.model.blocks, manifest.model.experts
    for name, route in manifest.routes.items():
        if len(route.table) != blocks or any(len(row) != experts for row in route.table):
            raise BundleError(f"routes.{name}.table is not {blocks} rows of {experts} weights")
    gram = manifest.route_metric.gram
    square = all(len(g) == experts and all(len(row) == experts for row in g) for g in gram)
    if len(gram) != blocks or not square:
        raise BundleError(f"route_metric is not for {blocks} blocks of {experts} experts")
    if manifest.merge:
        rows = set(manifest.merge.blocks.values())
        if not rows <= set(range(blocks)):
            raise BundleError(f"merge.blocks names rows outside of {blocks} blocks")


def _check_engines(manifest: Manifest) -> None:
    for target, engines in manifest.engines.items():
        for name, entry in engines.items():
            graph = name.partition(".")[0]
            if entry.variant not in manifest.graphs.get(graph, {}):
                raise BundleError(
                    f"engines.{target}.{name} is of {graph} {entry.variant!r}, which is not there"
                )
    for target in manifest.merge_kernels:
        if target not in manifest.engines:
            raise BundleError(f"merge_kernels.{target} is of a target that has no engines")


def _check_cache(manifest: Manifest) -> None:
    if manifest.step_cache:
        _check_complete("graphs", manifest.graphs, CACHE_GRAPHS)
        for name in CACHE_GRAPHS:
            _check_complete(f"graphs.{name}", manifest.graphs[name], manifest.graphs["dit"])
        _check_complete("step_cache.slopes", manifest.step_cache.slopes, manifest.routes)


def _check_complete(what: str, found: Iterable[str], needed: Iterable[str]) -> None:
    if missing := sorted(set(needed) - set(found)):
        raise BundleError(f"{what} lacks {', '.join(missing)}")
