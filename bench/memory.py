"""What memory plans foresee against what a process takes, stage by stage.

    python -m a2edit.bench.memory BUNDLE DEVICE ENGINE KEEP SETS host|gpu static|merged REQUEST…

is one plan in a process of its own: it carries out the requests and prints one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.cuda import bytes_in_use
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.errors import EngineError
from a2edit.runtime.memory.ledger import Ledger
from a2edit.runtime.memory.plans import DENOISER, Keep, Load, MemoryPlan, ladder, peak, peaks
from a2edit.runtime.memory.process import peak_since, trim
from a2edit.runtime.prepare import prepare
from a2edit.runtime.request import EditRequest

# Above any predicted error: the nearest route runs. Nothing is within the other.
STATIC, MERGED = 1e9, 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One plan, in bytes by stage: engines, weights, and the process that they are in."""

    plan: MemoryPlan
    merged: bool
    foreseen: Mapping[str, int]
    measured: Mapping[str, int]

    @property
    def error(self) -> float:
        """Of the foreseen peak, relative."""
        return max(self.foreseen.values()) / max(self.measured.values()) - 1

    @property
    def name(self) -> str:
        supply = "merged" if self.merged else "static"
        return f"{name_of(self.plan)} {supply}"


def name_of(plan: MemoryPlan) -> str:
    """In rows: what stays open, whether the base stays on the GPU, and how many weight sets."""
    kept = "kept" if plan.base_stays(DENOISER) else "sent"
    base = f", base {kept}" if plan.base else ""
    return f"{plan.keep.name.lower().replace('_', ' ')}{base}, {plan.sets}"


def cases(load: Load) -> list[tuple[MemoryPlan, bool]]:
    """Plans that are worth measuring, and whether their sets are merged: of every kind the one with
    the most sets and the one with the fewest.
    """
    plans = ladder(load)
    found = [(plans[0], False)]
    if load.merging is None:
        return found
    kinds = [(keep, base) for keep in Keep for base in (True, False)]
    for kind in kinds:
        own = [plan for plan in plans if (plan.keep, plan.base) == kind]
        found += [(plan, True) for plan in own[:1] + own[1:][-1:]]
    return found


def measure_plan(
    bundle: Path,
    device: str,
    engine: str,
    plan: MemoryPlan,
    merged: bool,
    requests: Sequence[Path],
) -> Measured:
    """In a process of its own."""
    base, supply = "gpu" if plan.base else "host", "merged" if merged else "static"
    given = [bundle, device, engine, plan.keep.name, plan.sets, base, supply]
    command = [sys.executable, "-m", "a2edit.bench.memory", *map(str, [*given, *requests])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineError(f"the process of plan {plan} exited with {done.returncode}: {last}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Measured(plan=plan, merged=merged, **found)


def run_plan(
    bundle: Path,
    device: str,
    engine: str,
    plan: MemoryPlan,
    merged: bool,
    requests: Sequence[EditRequest],
) -> dict[str, dict[str, int]]:
    """Carry out the requests under a plan; bytes by stage, foreseen and measured."""
    opened = open_bundle(bundle)
    pool = EnginePool(opened, device, engine)
    measure = peak_since if device == "cpu" else bytes_in_use
    load = pool.load()
    pool.ledger = Ledger(measure)
    tolerance = MERGED if merged else STATIC
    budget = peak(load, plan)
    with Editor(opened, pool, route_tolerance=tolerance, memory_budget=budget) as editor:
        if editor.memory.plan != plan:
            raise EngineError(f"{plan} is none of this bundle's plans: a faster one takes less")
        for request in requests:  # a host's own memory is no engine's
            prepare(request, opened.manifest.model)
        trim()
        peak_since()
        before = measure()  # the peak since the last call is what is there now
        for request in requests:
            editor.edit(request)
        pool.ledger.settle()
    rest = before + pool.costs.library
    found = peaks(load, plan, merged=None if merged else 0)
    measured = {name: size for name, size in pool.ledger.measured.items() if name in found}
    return {"foreseen": {name: rest + found[name] for name in measured}, "measured": measured}


def main(arguments: Sequence[str]) -> None:
    """The worker."""
    bundle, device, engine, keep, sets, base, supply, *files = arguments
    requests = [EditRequest(**json.loads(Path(file).read_text(encoding="utf-8"))) for file in files]
    plan = MemoryPlan(Keep[keep], int(sets), base == "gpu")
    found = run_plan(Path(bundle), device, engine, plan, supply == "merged", requests)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
