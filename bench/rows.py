"""Result rows: what was measured, on what, by which commit; appended to a CSV that is kept."""

import csv
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np
from rich.table import Table

from a2edit.runtime.engines.cuda import gpu_name

# Whose versions change the figures.
TOOLS = ("numpy", "openvino", "onnxruntime", "torch", "diffusers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured quantity; of a single value all three percentiles are that value."""

    bench: str  # latency, quality, …
    subject: str  # what was measured, such as "engine, warm edit"
    unit: str
    n: int
    p20: float
    p50: float
    p80: float
    model: str
    steps: int
    device: str
    versions: str
    commit: str
    date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What every row of one run shares."""

    bench: str
    model: str
    steps: int
    device: str
    versions: str
    commit: str
    date: str

    @classmethod
    def here(cls, bench: str, model: str, steps: int, device: str = "cpu") -> "Setup":
        """Of "cpu", or of "cuda": an editor's GPU; raises TargetError where there is none."""
        return cls(
            bench=bench,
            model=model,
            steps=steps,
            device=gpu_name() if device == "cuda" else device_name(),
            versions=versions(),
            commit=commit(),
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
        )

    def row(self, subject: str, unit: str, values: Sequence[float]) -> Row:
        p20, p50, p80 = (float(part) for part in np.percentile(values, (20, 50, 80)))
        return Row(
            subject=subject, unit=unit, n=len(values), p20=p20, p50=p50, p80=p80, **asdict(self)
        )


def append_rows(path: Path, rows: Iterable[Row]) -> None:
    """Add rows below those of earlier runs; a new file gets a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(Row)]
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        if fresh:
            writer.writeheader()
        for row in rows:
            values = asdict(row)
            rounded = {name: f"{values[name]:.6g}" for name in ("p20", "p50", "p80")}
            writer.writerow(values | rounded)


def device_name() -> str:
    """The processor's model and the cores that this process may use; never a host's name."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            model = value.strip()
            break
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return f"{model}, {cores} cores"


def versions() -> str:
    found = []
    for tool in TOOLS:
        try:
            found.append(f"{tool} {metadata.version(tool)}")
        except metadata.PackageNotFoundError:
            continue
    return "; ".join(found)


def commit() -> str:
    """The checkout's commit, with "+" where tracked files differ from it."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("diff", "--stat", "HEAD") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def table_of(rows: list[Row]) -> Table:
    """Percentiles of every row, for a console."""
    table = Table(box=None, header_style="bold")
    table.add_column("figure")
    for name in ("p20", "p50", "p80"):
        table.add_column(name, justify="right")
    table.add_column("unit")
    for row in rows:
        one = row.n == 1
        cells = ("", f"{row.p50:.4g}", "") if one else (f"{v:.4g}" for v in _percentiles(row))
        table.add_row(row.subject, *cells, row.unit)
    return table


def _percentiles(row: Row) -> tuple[float, float, float]:
    return row.p20, row.p50, row.p80
