"""The C++ host beside the Python runtime: warm edits, cold start, memory, many edits in a process.

Warm edits are interleaved in one process, in which the C++ library is loaded by its C ABI; both run
the same engines of the same OpenVINO. Cold start and memory are the two command lines'.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from a2edit.bench.heldout.cases import drawn_case
from a2edit.bench.host_library import HostEditor
from a2edit.bench.latency import (
    CASE,
    COLD_RUNS,
    PYTHON_HOST,
    Host,
    edit_command,
    interleaved,
    write_request,
)
from a2edit.bench.rows import Row, Setup
from a2edit.runtime.editor import Editor
from a2edit.runtime.errors import EngineError
from a2edit.runtime.memory import status_mb
from a2edit.runtime.request import EditRequest

Note = Callable[[str], None]
LIBRARY, HOST = "liba2edit.so", "host/a2edit-host"
# Edits whose memory is compared: the first after warming up, and the last.
PART = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to compare: a bundle, and the folder that the C++ host was built in."""

    bundle: Path
    build: Path
    rounds: int = 15
    many: int = 500  # edits in one process
    steps: int | None = None  # default: the bundle's


def measure(plan: Plan, note: Note) -> list[Row]:
    """Every row; `note` is told what is being measured."""
    if missing := [name for name in (LIBRARY, HOST) if not (plan.build / name).is_file()]:
        raise EngineError(f"{plan.build} has no {', '.join(missing)}: run `make cpp` first")
    case = drawn_case(CASE)
    with Editor.open(plan.bundle) as python, HostEditor(plan.build / LIBRARY, plan.bundle) as cpp:
        manifest = python.bundle.manifest
        steps = plan.steps or manifest.sampler.steps
        setup = Setup.here("hosts", manifest.name, steps)
        note(f"warm edits, {plan.rounds} rounds of both")
        sides: dict[str, Host] = {"Python": python, "C++": cpp}
        seconds = interleaved(sides, case, steps, plan.rounds, time.perf_counter)
    rows = [setup.row(f"{side}, warm edit", "s", values) for side, values in seconds.items()]
    ratio = np.array(seconds["C++"]) / np.array(seconds["Python"])
    rows.append(setup.row("C++ / Python, warm edit", "x", ratio.tolist()))
    with tempfile.TemporaryDirectory() as folder:
        request = write_request(case, steps, Path(folder))
        note(f"cold start and memory, {COLD_RUNS} processes of each")
        hosts = {"Python": [sys.executable, "-c", PYTHON_HOST], "C++": [str(plan.build / HOST)]}
        runs: dict[str, list[tuple[float, float]]] = {side: [] for side in hosts}
        for _ in range(COLD_RUNS):
            for side, host in hosts.items():
                runs[side].append(_process(edit_command(host, plan.bundle, request)))
        for side, found in runs.items():
            rows.append(setup.row(f"{side}, process to file", "s", [run[0] for run in found]))
            rows.append(setup.row(f"{side}, peak resident set", "MB", [run[1] for run in found]))
        for place, what in enumerate(("process to file", "peak resident set")):
            ratios = [c[place] / p[place] for c, p in zip(runs["C++"], runs["Python"], strict=True)]
            rows.append(setup.row(f"C++ / Python, {what}", "x", ratios))
        note(f"{plan.many} edits in one process")
        command = [sys.executable, "-m", "a2edit.bench.hosts", str(plan.build / LIBRARY)]
        said = subprocess.run(
            [*command, str(plan.bundle), str(request), str(plan.many)],
            capture_output=True,
            text=True,
            check=False,
        )
    if said.returncode:
        raise EngineError(f"{plan.many} edits in one process: {said.stderr.strip()}")
    held: list[float] = json.loads(said.stdout.splitlines()[-1])
    part = len(held) // PART
    first, last = np.median(held[:part]), np.median(held[-part:])
    rows.append(setup.row(f"C++, resident set over {plan.many} edits", "MB", held))
    rows.append(setup.row("C++, resident set, last fifth / first fifth", "x", [last / first]))
    return rows


def _hold(library: str, bundle: str, request: str, many: str) -> list[float]:
    """Resident memory in MB after each of many edits, of two steps and another seed."""
    asked: dict[str, Any] = json.loads(Path(request).read_text(encoding="utf-8"))
    held = []
    with HostEditor(Path(library), Path(bundle)) as editor:
        for seed in range(int(many)):
            editor.edit(EditRequest(**{**asked, "steps": 2, "seed": seed}))
            held.append(status_mb("VmRSS") or 0.0)
    return held


def _process(command: list[str]) -> tuple[float, float]:
    """Seconds of a process, and its peak resident set in MB, as far as it was seen every 5 ms."""
    with tempfile.TemporaryFile() as said:
        start, peak = time.perf_counter(), 0.0
        process = subprocess.Popen(command, stdout=said, stderr=said)
        while process.poll() is None:
            # not what `wait4` tells: that begins with the peak of this process
            peak = max(peak, status_mb("VmHWM", process.pid) or 0.0)
            time.sleep(5e-3)
        seconds = time.perf_counter() - start
        if process.returncode:
            said.seek(0)
            words = said.read().decode(errors="replace").strip()
            raise EngineError(f"{command[0]} exited with {process.returncode}: {words}")
    return seconds, peak


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_hold(*sys.argv[1:])) + "\n")
