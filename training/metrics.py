"""metrics.csv and metrics.png: how a run went."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIELDS: tuple[str, ...] = (
    "stage",
    "step",
    "loss",
    "norm",
    "rate",
    "seconds",
    "samples_per_second",
    "active",
    "entropy",
    "own_entropy",
    "spread",
)
_GATE = ("active", "entropy", "own_entropy", "spread")


class Metrics:
    """Rows of a run's figures, one every `every` steps with the means since the last.

    A run that is taken up again appends, and repeats the steps that a kill threw away: of rows
    with equal stage and step, the last counts.
    """

    def __init__(self, folder: Path, every: int = 1) -> None:
        self.path, self.plot_path = folder / "metrics.csv", folder / "metrics.png"
        self.every = every
        self._since: list[dict[str, float]] = []

    def add(self, stage: str, step: int, figures: dict[str, float], *, flush: bool = False) -> None:
        """Count a finished step 0, 1, …; it is written with its row, at the latest by `flush`."""
        self._since.append(figures)
        if (step + 1) % self.every and not flush:
            return
        means = {
            key: f"{np.mean([row[key] for row in self._since if key in row]):.5g}"
            for key in figures
        }
        self._since = []
        self._write({"stage": stage, "step": step, **means})

    def _write(self, row: dict[str, Any]) -> None:
        fields = FIELDS
        if self.path.exists():
            with self.path.open(encoding="utf-8") as stream:
                # An older run's columns stay as they are: rows of one file have one meaning.
                fields = tuple(next(csv.reader(stream), FIELDS))
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, fields, restval="", extrasaction="ignore")
            if new:
                writer.writeheader()
            writer.writerow(row)

    def plot(self) -> None:
        """Draw loss and gate over all steps into metrics.png."""
        rows = read_metrics(self.path)
        if not rows:
            return
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True)
        for name, places in _by_stage(rows).items():
            losses = np.array([float(rows[place]["loss"]) for place in places])
            (line,) = upper.plot(places, losses, lw=0.5, alpha=0.3)
            upper.plot(places, smoothed(losses), color=line.get_color(), label=name)
        upper.set(yscale="log", ylabel="loss")
        upper.legend(loc="upper right")
        self._gate(lower, rows)
        lower.set(xlabel="row of metrics.csv")
        work = self.plot_path.with_suffix(".tmp.png")
        figure.savefig(work, dpi=100)
        work.replace(self.plot_path)

    @staticmethod
    def _gate(axes: Any, rows: list[dict[str, str]]) -> None:
        places = [place for place, row in enumerate(rows) if row.get("active")]
        right = axes.twinx()
        for field in _GATE:
            if shown := [place for place in places if rows[place].get(field)]:
                values = smoothed(np.array([float(rows[place][field]) for place in shown]))
                # Experts are counted; the other figures lie between 0 and 1.
                if field == "active":
                    right.plot(shown, values, label=field, ls="--", color="0.3")
                else:
                    axes.plot(shown, values, label=field)
        axes.set(ylabel="entropy, spread", ylim=(0, 1.05))
        right.set(ylabel="active experts")
        if places:
            right.set(ylim=(1, None))
            axes.legend(loc="lower left")
            right.legend(loc="lower right")


def read_metrics(path: Path) -> list[dict[str, str]]:
    """Rows of a metrics.csv, in order; of repeated steps the last."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        rows = {(row["stage"], row["step"]): row for row in csv.DictReader(stream)}
    return list(rows.values())


def _by_stage(rows: list[dict[str, str]]) -> dict[str, list[int]]:
    stages: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        stages.setdefault(row["stage"], []).append(place)
    return stages


def smoothed(values: NDArray[np.float64], share: float = 0.05) -> NDArray[np.float64]:
    """Running mean over a share of the points, shorter at the ends."""
    width = max(1, round(share * len(values)))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    low = np.maximum(0, places - width // 2)
    high = np.minimum(len(values), places + (width + 1) // 2)
    means: NDArray[np.float64] = (sums[high] - sums[low]) / (high - low)
    return means
