"""A ladder as a picture: a bar a rung, and beside it what it gains and what it costs."""

from pathlib import Path

import numpy as np

from a2edit.bench.ladder.rungs import Ladder


def draw(ladder: Ladder, title: str, path: Path) -> None:
    """PNG, PDF or SVG by the file's ending."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rungs = ladder.rungs
    figure, axes = plt.subplots(figsize=(10, 0.62 * len(rungs) + 1.3), layout="constrained")
    medians = [1e3 * rung.step for rung in rungs]
    spread = [np.abs(1e3 * np.percentile(rung.steps, (20, 80)) - 1e3 * rung.step) for rung in rungs]
    colours = ["#9aa1ae"] + ["#2b5c8a"] * (len(rungs) - 1)
    axes.barh(range(len(rungs)), medians, xerr=np.array(spread).T, color=colours, height=0.62,
              error_kw={"lw": 1, "ecolor": "#1d2330"})  # fmt: skip
    for place, rung in enumerate(rungs):
        told = [f"{1e3 * rung.step:.3g} ms"]
        if place:
            told.append(f"{np.median(ladder.times_faster(rung)):.2f} ×")
        if rung.peak_mb is not None:
            told.append(f"{rung.peak_mb:.0f} MB")
        if rung.likeness:
            told.append(f"{np.median(rung.likeness):.1f} dB")
        end = 1e3 * float(np.percentile(rung.steps, 80))
        axes.text(end + 0.012 * max(medians), place, "  " + " · ".join(told), va="center")
    axes.set_yticks(range(len(rungs)), [rung.name for rung in rungs])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.45 * max(medians))
    axes.set(xlabel="ms a step; × faster than the first rung; peak memory; likeness in the mask",
             title=title)  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
