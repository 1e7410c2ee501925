"""Memory plans: what is open and when, what that takes by stage, and which of them is fastest.

Pure functions. An edit goes through STEPS, which make up STAGES; a plan says which engines may
stay open during a step, and how many weight sets stay in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from a2edit.runtime.errors import RequestError
from a2edit.runtime.memory.costs import Footprint
from a2edit.runtime.sizes import format_size

LOAD, ROUTE, MODULATION, DENOISER = "load", "route", "modulation", "dit"
# The steps of an edit in their order, and the stage that each belongs to: engines by their graph's
# name; at ROUTE weights are read or merged.
STAGES: Mapping[str, str] = {
    "vae_encoder": "encode",
    "image_encoder": "encode",
    "text_encoder": "encode",
    "pooled_encoder": "encode",
    "gate": "gate",
    MODULATION: "modulate",
    ROUTE: ROUTE,
    DENOISER: "denoise",
    "vae_decoder": "decode",
}
ENCODERS = ("text_encoder", "pooled_encoder", "image_encoder")


class Keep(IntEnum):
    """What stays open from one step to the next: each keeps less than the one before."""

    EVERYTHING = 0
    NO_ENCODERS = 1
    NO_AUTOENCODER = 2
    ONE_STAGE = 3
    ONE_ENGINE = 4


# A processor merges a byte in about the time in which so many are read: 27 GB of base, experts and
# weights took two cores 623 s (docs/gpus.md), and a file is read at one or two GB a second; this is
# for eight cores or so.
PROCESSOR_MERGES = 8

_WORDS = {
    Keep.EVERYTHING: "every engine stays open",
    Keep.NO_ENCODERS: "text and image encoders and modulation are open in their stages alone",
    Keep.NO_AUTOENCODER: "encoders, modulation and decoder are open in their stages alone",
    Keep.ONE_STAGE: "only the engines of the stage at hand are open",
    Keep.ONE_ENGINE: "one engine is open at a time",
}


@dataclass(frozen=True, slots=True)
class Load:
    """What plans are made for: sizes in bytes.

    Attributes:
        engines: by name, "dit.<route>" where a route's weights are baked.
        set_bytes: of one weight set.
        routes: that were built ahead.
        rests: whether a set that was built ahead takes nothing while it is not bound.
        merging: beyond the set, while one is merged; None where none can be.
        modulation: of a loop's modulation at the usual number of steps, where the device keeps it.
        base: of base and experts on a GPU that can merge by itself; 0 where none can.
    """

    engines: Mapping[str, Footprint]
    set_bytes: int
    routes: int
    rests: bool
    merging: int | None
    modulation: int = 0
    base: int = 0

    @property
    def baked(self) -> bool:
        """Whether every route has an engine of its own."""
        return any(name.startswith(f"{DENOISER}.") for name in self.engines)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """`sets` weight sets (of a baked bundle: denoisers) may stay in memory at a time.

    `base`: whether the GPU merges by itself, from base and experts that lie there.
    """

    keep: Keep
    sets: int
    base: bool = False

    def stays(self, engine: str, step: str) -> bool:
        """Whether an engine may be open during a step that is not its own."""
        graph, stage = graph_of(engine), STAGES.get(step, step)
        if graph == step or self.keep == Keep.EVERYTHING:
            return True
        if self.keep == Keep.ONE_ENGINE:
            return False
        own = STAGES.get(graph, STAGES[DENOISER])
        if self.keep == Keep.ONE_STAGE:
            return own == stage
        leaves = {*ENCODERS, MODULATION}
        if self.keep == Keep.NO_AUTOENCODER:
            leaves |= {"vae_encoder", "vae_decoder"}
        return graph not in leaves or own == stage

    def base_stays(self, step: str) -> bool:
        """Whether base and experts may be on the GPU during a step."""
        return self.base and (self.keep < Keep.ONE_STAGE or step == ROUTE)

    def __str__(self) -> str:
        sets = "1 weight set stays" if self.sets == 1 else f"up to {self.sets} weight sets stay"
        where = "stay on" if self.base_stays(DENOISER) else "are sent to"
        base = f", base and experts {where} the GPU that merges" if self.base else ""
        return f"{_WORDS[self.keep]}, {sets} in memory{base}"


def graph_of(engine: str) -> str:
    """Of an engine's name; one whose graph is no step of its own belongs to the denoiser."""
    graph = engine.partition(".")[0]
    return graph if graph in STAGES else DENOISER


def peaks(load: Load, plan: MemoryPlan, merged: int | None = None) -> dict[str, int]:
    """Bytes at the most in every stage, over the first edit and those after it.

    `merged` of the sets in memory were merged for a request; by default as many as can be.
    """
    if merged is None:
        merged = plan.sets if load.merging is not None else 0
    found: dict[str, int] = {}
    opened: dict[str, bool] = {}
    for edit in range(3):  # what one leaves behind, the next begins with
        sets = plan.sets if edit else 1
        for stage, nbytes in _edit(load, plan, sets, min(merged, sets), opened, edit > 0):
            found[stage] = max(found.get(stage, 0), nbytes)
    return found


def peak(load: Load, plan: MemoryPlan, merged: int | None = None) -> int:
    """Bytes at the most."""
    return max(peaks(load, plan, merged).values())


def _edit(
    load: Load,
    plan: MemoryPlan,
    sets: int,
    merged: int,
    opened: dict[str, bool],
    merged_before: bool,
) -> Iterator[tuple[str, int]]:
    """(stage, bytes) wherever more may be in memory than before.

    `opened` goes with it: engines that are open, and whether each has run. `merged_before`:
    whether an edit before may have merged already.
    """
    running = False  # the denoiser: weights are bound
    placed = merged if plan.base and merged_before else 0  # sets, on the GPU without an engine
    base_there = placed > 0 and plan.base_stays(LOAD)

    def now() -> int:
        engines = load.modulation + sum(load.engines[name].held for name in opened)
        engines += sum(load.engines[name].waiting for name, ran in opened.items() if not ran)
        bound = running or any(graph_of(name) == DENOISER and ran for name, ran in opened.items())
        engines += load.base if base_there else 0
        if load.baked:
            return engines + merged * load.set_bytes
        copies = max(merged, int(bound)) if load.rests else sets if bound else 0
        return engines + max(copies, placed) * load.set_bytes

    def opening(name: str, stage: str, flowing: int) -> Iterator[tuple[str, int]]:
        if name not in opened:
            opened[name] = False
            yield stage, now() + load.engines[name].opening + flowing

    def names(step: str) -> list[str]:
        of_step = [name for name in load.engines if graph_of(name) == step]
        return of_step[:sets] if step == DENOISER and load.baked else of_step

    if plan.keep == Keep.EVERYTHING:
        yield LOAD, now()
        for name in load.engines:
            if not (load.baked and graph_of(name) == DENOISER):
                yield from opening(name, LOAD, 0)
    for step, stage in STAGES.items():
        running = False
        base_there = base_there and plan.base_stays(step)
        for name in [name for name in opened if not plan.stays(name, step)]:
            del opened[name]
        if step == ROUTE:
            if merged and load.merging is not None:
                base_there, placed = plan.base, merged if plan.base else 0
                yield stage, now() + load.merging
            continue
        flowing = max(load.engines[name].running for name in names(step))
        for name in names(step):
            yield from opening(name, stage, flowing)
        # room for weights that an engine had of its own is only given back in its first run
        running = step == DENOISER
        yield stage, now() + flowing
        opened.update(dict.fromkeys(names(step), True))


def reread(load: Load, plan: MemoryPlan) -> float:
    """Bytes that an edit reads again, on average, if every route is asked for as often.

    It is what a plan is slower by than keeping everything, so plans are ordered by it.
    """
    again = 0.0
    for graph in STAGES:
        own = [it for name, it in load.engines.items() if graph_of(name) == graph]
        kept = all(plan.stays(graph, step) for step in STAGES)
        if graph != DENOISER:
            again += 0 if kept else sum(it.read for it in own)
            continue
        engine = max(it.read for it in own)
        route = engine if load.baked else load.set_bytes
        missing = 1 - min(plan.sets, load.routes) / load.routes if kept else 1
        again += missing * route + (0 if kept or load.baked else engine)
    # as if a merge were asked for as often as any one route
    return again + _merging(load, plan) / (load.routes + 1)


def _merging(load: Load, plan: MemoryPlan) -> float:
    """Of one merge, in bytes read, where a GPU could do it."""
    if plan.base_stays(DENOISER) or not load.base:
        return 0
    return load.base if plan.base else PROCESSOR_MERGES * (load.base + load.set_bytes)


def ladder(load: Load) -> list[MemoryPlan]:
    """The plans worth having, the fastest first: each takes less than all before it."""
    every = [
        MemoryPlan(keep, sets, base)
        for keep in Keep
        for sets in range(load.routes, 0, -1)
        for base in ((True, False) if load.base else (False,))
    ]
    found: list[MemoryPlan] = []
    for plan in sorted(every, key=lambda it: (reread(load, it), peak(load, it))):
        if not found or peak(load, plan) < peak(load, found[-1]):
            found.append(plan)
    if found[
        -1
    ].base:  # what is left where the GPU has no room for it, though no other peak is less
        found.append(replace(found[-1], base=False))
    return found


def fitting(load: Load, plans: Sequence[MemoryPlan], budget: int) -> MemoryPlan:
    """The fastest of `plans` that takes at most `budget`; raises RequestError if none does."""
    for plan in plans:
        if peak(load, plan) <= budget:
            return plan
    smallest = peak(load, plans[-1])
    raise RequestError(
        f"memory budget {format_size(budget)} is less than any plan for this bundle takes: the "
        f"smallest takes {format_size(smallest)} ({plans[-1]}); give that at least, or no budget"
    )


def set_budget(load: Load, plan: MemoryPlan, budget: int | None) -> int | None:
    """Bytes that weight sets may take together: all that the rest of the plan leaves."""
    if budget is None:
        return None
    least = plan.sets * load.set_bytes
    return least + budget - peak(load, plan)
