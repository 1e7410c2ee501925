"""What a build would make, how large, and what memory it needs: from config files and shapes alone.

Numbers are counted, not measured: parameters and their types, by pure functions. What compilers
add to an engine's parameters is a guess, by the number of modules (`_ENGINE`) or by what plans took
(`_KERNELS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console

from a2edit.export.held_out import compared_steps
from a2edit.export.inspect import plain_table
from a2edit.export.memory import (
    comparing_bytes,
    counting_bytes,
    denoiser_bytes,
    encoder_bytes,
    merging_bytes,
    skipping_bytes,
)
from a2edit.export.settings import BuildSettings
from a2edit.export.source import DIT, HEAD, TAIL, Source, graph_names
from a2edit.export.steps.calibrate import VERIFY_SAMPLES
from a2edit.export.targets import TargetPlan, target_plans

if TYPE_CHECKING:
    from a2edit.calibration.policy import GraphPolicy
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.model.graphs import GraphModule
    from a2edit.runtime.engines.base import TensorSpec

# Bytes a module adds to an ONNX file, and to an engine beside its parameters.
_ONNX, _ENGINE = 900, 2800
# A GPU's plan holds kernels: as many bytes for the tiny model as for the embedded one.
_KERNELS = {DIT: 6.5e6, HEAD: 6.5e6, TAIL: 6.5e6, "vae_encoder": 0.3e6, "vae_decoder": 0.5e6}
_OTHER_KERNELS = 1.3e6
# A package of AOTInductor: what every one has, and what a module adds to its code.
_PACKAGE, _CODE = 2_000_000, 20_000
# What a graph's modules have and the graph does not read: the other half, SigLIP's pooling head.
_UNUSED = {
    "vae_encoder": ("vae.decoder.", "vae.deblock."),
    "vae_decoder": ("vae.encoder.",),
    "image_encoder": ("encoder.head.", "encoder.vision_model.head."),
}
# Python with torch, transformers and OpenVINO, before any model; and a compiler's process.
_LIBRARIES, _COMPILER = 800e6, 300e6
# A compiler holds an engine's constants this often: as read, and as packed.
_COPIES = 3


@dataclass(frozen=True, slots=True)
class Item:
    """Something that will lie in the bundle."""

    kind: str  # "graph", "weights", "engine", "file"
    name: str
    variant: str  # or a target, of an engine
    count: int
    bytes: int  # of each, at most
    least: int | None = None  # of each, where that is not known before the build

    @property
    def total(self) -> int:
        return self.count * self.bytes


@dataclass(frozen=True, slots=True)
class Constants:
    """How many parameters an engine holds.

    Attributes:
        wide: those that are never in 8 bits.
        narrow: those that may be, with 8-bit weights only.
    """

    wide: int
    narrow: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A build before anything is made.

    Attributes:
        targets: the first choice of each.
        routes: most routes that will be made.
        items: everything of any size in the bundle.
        peak: bytes of memory of the build with its compilers, at most, without pages of files.
        per_job: how many of them each further job of --jobs adds, at most.
        read: bytes of the model's files, as much of which stays in memory as there is room.
    """

    targets: Sequence[TargetPlan]
    routes: int
    items: Sequence[Item]
    peak: int
    per_job: int
    read: int

    @property
    def total(self) -> int:
        """Bytes of the bundle; a build's cached steps take as much again."""
        return sum(item.total for item in self.items)


def plan_build(settings: BuildSettings) -> Plan:
    """The plan of a build; reads config files and the heads of weight files.

    Raises:
        CheckpointError: the model is missing, or its files are.
        TargetError: a target, or this processor, lacks what was asked for.
    """
    from a2edit.export.steps.merge import merge_specs, small_specs
    from a2edit.export.weights import shared_specs
    from a2edit.model.checkpoint import find_checkpoint

    plans = [choices[0] for choices in target_plans(settings)]
    source = Source(find_checkpoint(settings.model))
    names = graph_names(split=settings.step_cache is not None)
    outline, graphs = source.outline, {name: source.outline_graph(name) for name in names}
    variants = {
        name: {plan.policies[name].variant: plan.policies[name] for plan in plans} for name in names
    }
    sets = {variant: set_bytes(outline, how) for variant, how in variants[DIT].items()}
    least = {variant: least_set_bytes(outline, how) for variant, how in variants[DIT].items()}
    routes = route_count(settings, max(least.values()))
    shared = shared_specs(outline, source.folder)
    stored = {spec.name: spec.nbytes for spec in shared}
    items = [
        Item("file", f"graphs/{file}", "", 1, size)
        for file, size in shared_bytes(shared, narrow=settings.preset == "small").items()
    ]
    if not settings.routes_only:
        merged = merge_specs(source)
        most, fewest = file_bytes(merged), None
        if settings.merge_base == "int8":  # of how many linears it is, the build finds out
            weights = {spec.name for spec in merged if spec.name.endswith(".weight")}
            fewest = file_bytes(small_specs(merged, weights))
        items.append(Item("file", "weights/merge.safetensors", "", 1, most, fewest))
    for name, found in variants.items():
        size = _ONNX * len(list(graphs[name].modules()))
        items += [Item("graph", name, variant, 1, size) for variant in found]
    for variant, how in variants[DIT].items():
        fewest = least[variant] if how.quantised else None
        items.append(Item("weights", "route", variant, routes, sets[variant], fewest))
    sizes = sorted({outline.config.size, *settings.sizes})
    verification = verification_bytes(outline, graphs, routes, sizes)
    items.append(Item("file", "verification/", "", 1, verification))
    engines = []
    for plan in plans:
        for name, policy in plan.policies.items():
            own = graph_parameters(outline, graphs[name], stored, policy)
            size = engine_bytes(own, policy, plan.target.device)
            if plan.backend == "inductor":
                # code alone: every parameter is an input
                size = _PACKAGE + _CODE * len(list(graphs[name].modules()))
            elif plan.target.device == "cpu":
                size += _ENGINE * len(list(graphs[name].modules()))
            else:
                tuned = len(sizes) if graphs[name].picture_dims else 1
                size += tuned * int(_KERNELS.get(name, _OTHER_KERNELS))
            baked = name == DIT and settings.materialise == "baked"
            extra = sets[policy.variant] if baked else 0
            target = plan.target.name
            engines.append(Item("engine", name, target, routes if baked else 1, size + extra))
    largest = max(item.bytes for item in engines)
    job = max(int(_COMPILER + _COPIES * largest), merging_bytes(outline))
    wide = replace(outline, config=outline.config.at(sizes[-1]))
    steps = (
        denoiser_bytes(wide) + counting_bytes(outline, settings.samples),
        denoiser_bytes(outline) + skipping_bytes(outline) if settings.step_cache else 0,
        encoder_bytes(wide),
        settings.jobs * job,
        # Weight sets are files, and stay there.
        denoiser_bytes(wide) + comparing_bytes(outline) + largest,
    )
    read = sum(path.stat().st_size for path in source.folder.rglob("*.safetensors"))
    return Plan(plans, routes, [*items, *engines], int(_LIBRARIES) + max(steps), job, read)


def shared_bytes(specs: Sequence[TensorSpec], *, narrow: bool) -> dict[str, int]:
    """The files of parameters that no route changes; where `narrow`, some as 8 bits and a scale."""
    from a2edit.export.onnx_export import SHARED_FILE
    from a2edit.export.weight_only import WEIGHT_ONLY_FILE, is_weight_only, weight_only_specs

    eight = [spec for spec in specs if narrow and is_weight_only(spec.name)]
    files = {SHARED_FILE: file_bytes([spec for spec in specs if spec not in eight])}
    if eight:
        files[WEIGHT_ONLY_FILE] = file_bytes(weight_only_specs(eight))
    return files


def file_bytes(specs: Sequence[TensorSpec]) -> int:
    """A safetensors file of these tensors, its head included."""
    from a2edit.export.weights import tensor_header

    return len(tensor_header(specs)) + sum(spec.nbytes for spec in specs)


def graph_parameters(
    outline: Checkpoint, graph: GraphModule, stored: Mapping[str, int], policy: GraphPolicy
) -> Constants:
    """Parameters of a graph that are constants of its engines: not routed, not fed, not unused.

    `stored` are bytes of the shared parameters; a bf16 graph is fed its large matrices.
    """
    from a2edit.export.passes.external import LARGE
    from a2edit.export.weight_only import is_weight_only
    from a2edit.export.weights import shared_parameters
    from a2edit.model.graphs import TransformerGraph
    from a2edit.model.step_cache import unread

    unused = _UNUSED.get(graph.graph_name, ("-",))
    if isinstance(graph, TransformerGraph):
        unused = unread(graph)
    names = {id(parameter): name for name, parameter in shared_parameters(outline).items()}
    wide = narrow = 0
    for own, parameter in graph.named_parameters():
        name = names.get(id(parameter))
        if name is None or own.startswith(unused):
            continue
        eight = is_weight_only(name)
        size = parameter.numel() if eight and policy.weight_only else stored[name]
        if policy.rest == "bf16" and parameter.dim() == 2 and size >= LARGE:
            continue
        if eight:
            narrow += parameter.numel()
        else:
            wide += parameter.numel()
    return Constants(wide, narrow)


def set_bytes(outline: Checkpoint, policy: GraphPolicy) -> int:
    """A route's weights, at most: as if all linears kept high precision."""
    weights = sum(linear.in_features * linear.out_features for linear in outline.linears)
    return (4 if policy.rest == "fp32" else 2) * weights


def least_set_bytes(outline: Checkpoint, policy: GraphPolicy) -> int:
    """A route's weights, at least: which of 8-bit ones keep high precision the build finds out."""
    if not policy.quantised:
        return set_bytes(outline, policy)
    scale = 4 if policy.rest == "fp32" else 2
    return sum(it.out_features * (it.in_features + scale) for it in outline.linears)


def verification_bytes(
    outline: Checkpoint, graphs: Mapping[str, GraphModule], routes: int, sizes: Sequence[int]
) -> int:
    """Held-out requests, what torch makes of them on every route, examples of every graph."""
    config, total = outline.config, 0
    others = [graph for name, graph in graphs.items() if name not in {DIT, HEAD, TAIL}]
    for size in sizes:
        height, width = config.at(size).canvas
        latents, *context = graphs[DIT].example_inputs(size=size)
        told = 4 * sum(it.numel() for it in context)
        picture = 3 * size**2
        sample = told + 4 * height * width + 3 * outline.reference_size**2
        truth = len(compared_steps(config.steps)) * 2 * latents.nbytes + picture
        total += (VERIFY_SAMPLES if size == config.size else 1) * (sample + routes * truth)
        examples = sum(it.nbytes for graph in others for it in graph.example_inputs(size=size))
        total += examples + told + picture
    return total


def engine_bytes(constants: Constants, policy: GraphPolicy, device: str) -> int:
    """An engine's constants: a CPU's stay fp32, a GPU's have the graph's types."""
    wide = 4 if device == "cpu" or policy.rest == "fp32" else 2
    narrow = 1 if policy.weight_only else wide
    return wide * constants.wide + narrow * constants.narrow


def route_count(settings: BuildSettings, bytes_each: int) -> int:
    """Most routes: a count, what a budget holds, or one a sample where only an error is given."""
    if settings.limit.error is not None:
        return settings.samples
    return min(settings.samples, settings.limit.most(bytes_each))


def check_budget(
    settings: BuildSettings, targets: Sequence[TargetPlan], outline: Checkpoint
) -> None:
    """Refuse --routes-budget where not even one route fits, before the calibration set is traced.

    Raises:
        RequestError: as `RouteLimit.most` does.
    """
    if settings.limit.budget is not None:
        settings.limit.most(max(least_set_bytes(outline, it.denoiser) for it in targets))


def print_plan(plan: Plan, console: Console) -> None:
    """Tables of what would be made."""
    targets = plain_table("Targets", ("target", "backend", "denoiser", "others"), ())
    for it in plan.targets:
        others = sorted({how.precision for name, how in it.policies.items() if name != DIT})
        targets.add_row(it.target.name, it.backend, it.denoiser.precision, ", ".join(others))
    console.print(targets)
    made = plain_table("Bundle", ("", "name", "for"), ("count", "MB each", "MB"))
    for item in plan.items:
        least = "" if item.least is None else f"{item.least / 1e6:,.2f} to "
        sizes = f"{least}{item.bytes / 1e6:,.2f}", f"{item.total / 1e6:,.2f}"
        made.add_row(item.kind, item.name, item.variant, str(item.count), *sizes)
    console.print(made)
    graphs = sum(item.kind == "graph" for item in plan.items)
    engines = sum(item.count for item in plan.items if item.kind == "engine")
    console.print(
        f"{graphs} graphs, up to {plan.routes} routes, {engines} engines: up to about "
        f"{plan.total / 1e6:,.0f} MB, and as much again for the steps beside it",
        soft_wrap=True,
    )
    console.print(
        f"memory: up to {plan.peak / 1e9:,.1f} GB; each further job of --jobs adds up to "
        f"{plan.per_job / 1e9:,.1f} GB. Of the model's {plan.read / 1e9:,.1f} GB of files as much "
        "stays beside it as there is room for; the rest is read again",
        soft_wrap=True,
    )
