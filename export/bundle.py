"""Finished steps → a bundle folder that appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file, save_file

from a2edit.export.chain import Made, file_hash
from a2edit.export.compile import compiler_version, engine_file
from a2edit.export.compile import openvino as processor
from a2edit.export.compile.layers import SUFFIX
from a2edit.export.compile.merge_kernels import read_merge_kernels, triton_version
from a2edit.export.edge import graph_file, read_graph
from a2edit.export.files import read_json
from a2edit.export.gallery import Shown
from a2edit.export.held_out import (
    BUNDLED_EXAMPLES,
    BUNDLED_SAMPLES,
    EXAMPLES_FILE,
    SAMPLES_FILE,
    TRUTH_FILE,
    bundled_truth,
    read_held_out,
    read_truth,
)
from a2edit.export.openings import Openings
from a2edit.export.quality import target_panel
from a2edit.export.report import Report, report_page
from a2edit.export.settings import DRAWN_DATA, GIVEN_DATA, BuildSettings, tool_versions
from a2edit.export.steps.calibrate import read_policy, read_traces
from a2edit.export.steps.merge import MERGE_FILE, base_section, read_merge_entry
from a2edit.export.steps.page import PAGE_FILE
from a2edit.export.steps.verified import PICTURES_FILE
from a2edit.runtime.manifest import (
    CalibrationEntry,
    EngineEntry,
    FileEntry,
    Manifest,
    MetricEntry,
    RouteEntry,
    SamplerEntry,
    StepCacheEntry,
    TokenizerEntry,
    WeightSetEntry,
)
from a2edit.runtime.merge_kernels import MergeKernelEntry
from a2edit.runtime.sampler import FLUX_SHIFT

if TYPE_CHECKING:
    from a2edit.calibration.routes import Route
    from a2edit.export.targets import TargetPlan
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.runtime.metric import RouteMetric

_MERGE = "weights/merge.safetensors"
_TABLES = "calibration/tables.safetensors"


@dataclass(frozen=True, slots=True)
class Built:
    """One target's finished steps: engines by graph or "dit.<route>".

    `kernels` merge routes on its GPU; None where the processor does.
    """

    plan: TargetPlan
    engines: Mapping[str, Made]
    verified: Made
    kernels: Made | None = None

    @property
    def folder(self) -> str:
        """Of its files in a bundle."""
        return f"engines/{self.plan.target.name}"

    @property
    def merge_kernels(self) -> tuple[MergeKernelEntry, ...]:
        return read_merge_kernels(self.kernels.folder, self.folder) if self.kernels else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """Everything that a bundle is put together from.

    Attributes:
        openings: what the graphs leave open.
        graphs: finished steps by graph and variant.
        weights: by variant of the denoiser and route.
        targets: engines and figures.
        metric: what a wrong expert weight costs.
        traces: of the calibration set.
        ranges: of quantised denoisers, by their 8-bit type.
        merge: what the runtime merges from; None to leave it out.
        samples, examples, truths: what engines are verified on, the last by route.
        step_cache: what skipping steps costs; None where the denoiser is not in two.
        page: about the routes.
    """

    settings: BuildSettings
    checkpoint_hash: str
    openings: Openings
    shared: Made
    graphs: Mapping[str, Mapping[str, Made]]
    weights: Mapping[str, Mapping[str, Made]]
    targets: Sequence[Built]
    routes: Sequence[Route]
    metric: RouteMetric
    traces: Made
    ranges: Mapping[str, Made]
    merge: Made | None
    samples: Made
    examples: Made
    truths: Mapping[str, Made]
    step_cache: StepCacheEntry | None
    page: Made


def save_bundle(pieces: Pieces, checkpoint: Checkpoint) -> str:
    """Assemble, write the manifest, rename into `settings.out`; returns the bundle's hash.

    `checkpoint` may be an outline: no weights are read.
    """
    out = pieces.settings.out
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        manifest = _fill(work, pieces, checkpoint)
        bundle_hash = manifest.write(work)
        work.chmod(0o755)
        old = work.with_name(f"{work.name}-old")
        if out.exists():
            out.rename(old)
        work.rename(out)
        shutil.rmtree(old, ignore_errors=True)
        return bundle_hash
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _fill(folder: Path, pieces: Pieces, checkpoint: Checkpoint) -> Manifest:
    """Put every file in its place, and describe them."""
    for path in pieces.shared.folder.glob("*.safetensors"):
        _place(path, folder / "graphs" / path.name)
    for name, variants in pieces.graphs.items():
        for variant, made in variants.items():
            file = graph_file(name, variant)
            _place(made.folder / file, folder / "graphs" / file)
    for variant, sets in pieces.weights.items():
        for route, made in sets.items():
            _place(made.folder / f"{route}.safetensors", folder / _weights_file(variant, route))
    for built in pieces.targets:
        for name, made in built.engines.items():
            file = _engine_file(built, name)
            _place(made.folder / Path(file).name, folder / file)
        for kernel in built.merge_kernels:
            assert built.kernels
            _place(built.kernels.folder / Path(kernel.file).name, folder / kernel.file)
    if pieces.merge:
        _place(pieces.merge.folder / MERGE_FILE, folder / _MERGE)
    _place(pieces.samples.folder / SAMPLES_FILE, folder / BUNDLED_SAMPLES)
    _place(pieces.examples.folder / EXAMPLES_FILE, folder / BUNDLED_EXAMPLES)
    for route, made in pieces.truths.items():
        _place(made.folder / TRUTH_FILE, folder / bundled_truth(route))
    found = read_traces(pieces.traces.folder)
    (folder / "calibration").mkdir()
    save_file({"tables": found.tables}, folder / _TABLES)
    for kind, source in checkpoint.tokenizers.items():
        (folder / "tokenizer").mkdir(exist_ok=True)
        shutil.copyfile(source / "tokenizer.json", folder / f"tokenizer/{kind}.json")

    sizes = {path: path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}
    verification = {
        built.plan.target.name: read_json(built.verified.folder / "verification.json")
        for built in pieces.targets
    }
    precision = _precision(pieces, checkpoint)
    _place(pieces.page.folder / PAGE_FILE, folder / "report" / PAGE_FILE)
    page = report_page(
        Report(
            name=checkpoint.config.name,
            sizes={path.relative_to(folder).as_posix(): size for path, size in sizes.items()},
            routes=pieces.routes,
            verification=verification,
            precision=precision,
            tools=tool_versions(),
            shown=_shown(pieces),
        )
    )
    (folder / "report/index.html").write_text(page, encoding="utf-8")
    return _manifest(folder, pieces, checkpoint, verification, precision)


def _shown(pieces: Pieces) -> list[Shown]:
    """Every held-out request as its nearest route paints it, on every target."""
    tables = np.stack([route.table for route in pieces.routes])
    painted = {
        built.plan.target.name: load_file(built.verified.folder / PICTURES_FILE)
        for built in pieces.targets
    }
    rows = []
    for place, sample in enumerate(read_held_out(pieces.samples.folder / SAMPLES_FILE)):
        nearest = int(pieces.metric.errors(sample.table[None], tables)[0].argmin())
        route = pieces.routes[nearest].name
        truth = read_truth(pieces.truths[route].folder / TRUTH_FILE)[place].pixels
        rows.append(
            Shown(
                category=sample.category,
                route=route,
                scene=target_panel(sample.canvas, len(truth)),
                mask=target_panel(sample.mask, len(truth)),
                reference=sample.reference,
                truth=truth,
                painted={target: found[f"{route}.{place}"] for target, found in painted.items()},
            )
        )
    return rows


def _manifest(
    folder: Path,
    pieces: Pieces,
    checkpoint: Checkpoint,
    verification: Mapping[str, Any],
    precision: Mapping[str, Any],
) -> Manifest:
    from a2edit.model.pipeline import model_spec

    config = checkpoint.config
    lengths = {"text": config.text_length, "pooled": config.pooled_length}
    encoders = {"text": checkpoint.text_encoder, "pooled": checkpoint.pooled_encoder}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Manifest(
        name=config.name,
        model=replace(
            model_spec(checkpoint),
            checkpoint_hash=pieces.checkpoint_hash,
            sizes=pieces.openings.sizes,
            batch=pieces.openings.batch,
        ),
        sampler=SamplerEntry(steps=config.steps, guidance=config.guidance, **asdict(FLUX_SHIFT)),
        tokenizers={
            kind: TokenizerEntry(
                file=f"tokenizer/{kind}.json",
                length=lengths[kind],
                pad_id=int(encoders[kind].config.pad_token_id or 0),
            )
            for kind in sorted(checkpoint.tokenizers)
        },
        graphs={
            name: {
                variant: read_graph(made.folder, f"graphs/{graph_file(name, variant)}")
                for variant, made in variants.items()
            }
            for name, variants in pieces.graphs.items()
        },
        weight_sets={
            variant: {route: WeightSetEntry(file=_weights_file(variant, route)) for route in sets}
            for variant, sets in pieces.weights.items()
        },
        routes={
            route.name: RouteEntry(
                table=tuple(tuple(row) for row in route.table.tolist()),
                predicted_error=route.predicted_error,
                members=route.members,
            )
            for route in pieces.routes
        },
        route_metric=MetricEntry(
            gram=tuple(tuple(tuple(row) for row in block) for block in pieces.metric.gram.tolist()),
            energy=pieces.metric.energy,
            tolerance=pieces.settings.tolerance,
        ),
        engines={built.plan.target.name: _engines(built) for built in pieces.targets},
        files={
            path.relative_to(folder).as_posix(): FileEntry(
                sha256=file_hash(path), bytes=path.stat().st_size
            )
            for path in files
        },
        merge=read_merge_entry(pieces.merge.folder, _MERGE) if pieces.merge else None,
        merge_kernels={
            built.plan.target.name: kernels
            for built in pieces.targets
            if (kernels := built.merge_kernels)
        },
        calibration=CalibrationEntry(
            file=_TABLES, categories=read_traces(pieces.traces.folder).categories
        ),
        step_cache=pieces.step_cache,
        precision=dict(precision),
        verification=dict(verification),
        tools={
            **tool_versions(),
            **(
                {"triton": str(triton_version())}
                if any(it.kernels for it in pieces.targets)
                else {}
            ),
            "processor": processor.processor()[0],
            "calibration": GIVEN_DATA if pieces.settings.calibration else DRAWN_DATA,
        },
    )


def _engines(built: Built) -> dict[str, EngineEntry]:
    plan = built.plan
    return {
        name: EngineEntry(
            file=_engine_file(built, name),
            variant=plan.policy(name).variant,
            backend=plan.backend,
            version=compiler_version(plan.backend),
            precision=plan.policy(name).precision,
            materialise="baked" if "." in name else "inputs",
        )
        for name in built.engines
    }


def _precision(pieces: Pieces, checkpoint: Checkpoint) -> dict[str, Any]:
    """What computes in which precision, counted (SPEC §11.2)."""
    stored = {
        variant: Counter(
            weight.dtype
            for weight in read_graph(made.folder, "").weights
            if weight.name.endswith(".weight")
        )
        for variant, made in pieces.graphs["dit"].items()
    }
    return {
        "targets": {
            built.plan.target.name: {
                name: policy.precision for name, policy in built.plan.policies.items()
            }
            for built in pieces.targets
        },
        "products": {
            built.plan.target.name: {
                name: read_json(made.folder / f"{name}{SUFFIX}")
                for name, made in built.engines.items()
            }
            for built in pieces.targets
        },
        "routed_linears": len(checkpoint.linears),
        "routed_weights": {
            variant: dict(sorted(types.items())) for variant, types in stored.items()
        },
        "ranges": {kind: read_policy(made.folder) for kind, made in pieces.ranges.items()},
        **(base_section(pieces.merge.folder) if pieces.merge else {}),
    }


def _weights_file(variant: str, route: str) -> str:
    return f"weights/{variant}/{route}.safetensors"


def _engine_file(built: Built, name: str) -> str:
    return f"{built.folder}/{engine_file(name, built.plan.backend)}"


def _place(source: Path, target: Path) -> None:
    # A copy: a bundle stands alone, and ONNX's own tools refuse external data with hard links.
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
