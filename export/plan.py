"""What a build would make, how large, and what memory it needs: from config files and shapes alone.

Numbers are counted, not measured: parameters and their types, by pure functions. What compilers
add to an engine's parameters is a guess by the number of modules (`_ENGINE`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from a2edit.export.inspect import plain_table
from a2edit.export.settings import BuildSettings
from a2edit.export.source import DIT, GRAPH_NAMES, Source
from a2edit.export.targets import TargetPlan, target_plans

if TYPE_CHECKING:
    from a2edit.calibration.policy import GraphPolicy
    from a2edit.model.checkpoint import Checkpoint
    from a2edit.model.graphs import GraphModule

# Bytes a module adds to an ONNX file, and to an engine beside its parameters.
_ONNX, _ENGINE = 900, 4000
# What a graph's modules have and the graph does not read: the other half, SigLIP's pooling head.
_UNUSED = {
    "vae_encoder": ("vae.decoder.",),
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
    bytes: int  # of each

    @property
    def total(self) -> int:
        return self.count * self.bytes


@dataclass(frozen=True, slots=True)
class Plan:
    """A build before anything is made.

    Attributes:
        targets: the first choice of each.
        routes: most routes that will be made.
        items: everything of any size in the bundle.
        peak: bytes of memory of the build with its compilers, at most.
        per_job: how many of them each further job of --jobs adds.
    """

    targets: Sequence[TargetPlan]
    routes: int
    items: Sequence[Item]
    peak: int
    per_job: int

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
    from a2edit.export.steps.merge import merge_specs
    from a2edit.export.weights import shared_specs
    from a2edit.model.checkpoint import find_checkpoint

    plans = [choices[0] for choices in target_plans(settings)]
    source = Source(find_checkpoint(settings.model))
    outline, graphs = source.outline, source.outline_graphs
    own = {name: graph_parameters(outline, graphs[name]) for name in GRAPH_NAMES}
    variants = {
        name: {plan.policies[name].variant: plan.policies[name] for plan in plans}
        for name in GRAPH_NAMES
    }
    sets = {variant: set_bytes(outline, how) for variant, how in variants[DIT].items()}
    routes = route_count(settings, max(sets.values()))
    shared = sum(spec.nbytes for spec in shared_specs(outline, source.folder))
    items = [Item("file", "graphs/shared.safetensors", "", 1, shared)]
    if not settings.routes_only:
        merge = sum(spec.nbytes for spec in merge_specs(source))
        items.append(Item("file", "weights/merge.safetensors", "", 1, merge))
    for name, found in variants.items():
        size = _ONNX * len(list(graphs[name].modules()))
        items += [Item("graph", name, variant, 1, size) for variant in found]
    items += [Item("weights", "route", variant, routes, size) for variant, size in sets.items()]
    engines = []
    for plan in plans:
        for name, policy in plan.policies.items():
            size = engine_bytes(own[name], policy, plan.target.device)
            size += _ENGINE * len(list(graphs[name].modules()))
            baked = name == DIT and settings.materialise == "baked"
            extra = sets[policy.variant] if baked else 0
            target = plan.target.name
            engines.append(Item("engine", name, target, routes if baked else 1, size + extra))
    compiler = int(_COMPILER + _COPIES * max(item.bytes for item in engines))
    job = max(compiler, 2 * max(sets.values()))
    peak = int(_LIBRARIES + checkpoint_bytes(outline) + max(sets.values())) + settings.jobs * job
    return Plan(plans, routes, [*items, *engines], peak, job)


def graph_parameters(outline: Checkpoint, graph: GraphModule) -> int:
    """Parameters of a graph that are constants of its engines: neither routed nor unused."""
    routed = {f"transformer.{linear.name}.weight" for linear in outline.linears}
    return sum(
        parameter.numel()
        for name, parameter in graph.named_parameters()
        if name not in routed and not name.startswith(_UNUSED.get(graph.graph_name, ("-",)))
    )


def set_bytes(outline: Checkpoint, policy: GraphPolicy) -> int:
    """A route's weights, at least: which linears keep high precision the build finds out."""
    wide = 4 if policy.rest == "fp32" else 2
    weights = sum(linear.in_features * linear.out_features for linear in outline.linears)
    if not policy.quantised:
        return wide * weights
    return weights + wide * sum(linear.out_features for linear in outline.linears)


def engine_bytes(parameters: int, policy: GraphPolicy, device: str) -> int:
    """An engine's constants: a CPU's stay fp32, a GPU's have the graph's types."""
    if device == "cpu":
        return 4 * parameters
    if policy.weight_only:
        return parameters
    return (4 if policy.rest == "fp32" else 2) * parameters


def checkpoint_bytes(outline: Checkpoint) -> int:
    """The whole model in fp32, as calibration and verification hold it."""
    modules = outline.modules().values()
    return 4 * sum(parameter.numel() for module in modules for parameter in module.parameters())


def route_count(settings: BuildSettings, bytes_each: int) -> int:
    """Most routes: a count, what a budget holds, or one a sample where only an error is given."""
    if settings.limit.error is not None:
        return settings.samples
    return min(settings.samples, settings.limit.most(bytes_each))


def print_plan(plan: Plan, console: Console) -> None:
    """Tables of what would be made."""
    targets = plain_table("Targets", ("target", "backend", "denoiser", "others"), ())
    for it in plan.targets:
        others = sorted({how.precision for name, how in it.policies.items() if name != DIT})
        targets.add_row(it.target.name, it.backend, it.denoiser.precision, ", ".join(others))
    console.print(targets)
    made = plain_table("Bundle", ("", "name", "for"), ("count", "MB each", "MB"))
    for item in plan.items:
        sizes = f"{item.bytes / 1e6:,.2f}", f"{item.total / 1e6:,.2f}"
        made.add_row(item.kind, item.name, item.variant, str(item.count), *sizes)
    console.print(made)
    graphs = sum(item.kind == "graph" for item in plan.items)
    engines = sum(item.count for item in plan.items if item.kind == "engine")
    console.print(
        f"{graphs} graphs, up to {plan.routes} routes, {engines} engines: about "
        f"{plan.total / 1e6:,.0f} MB, and as much again for the steps beside it",
        soft_wrap=True,
    )
    console.print(
        f"memory: up to {plan.peak / 1e9:,.1f} GB; each further job of --jobs adds up to "
        f"{plan.per_job / 1e9:,.1f} GB",
        soft_wrap=True,
    )
