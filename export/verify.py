"""The quality gate: what a build does about figures that are out of tolerance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from a2edit.export.quality import Figure
from a2edit.runtime.errors import EngineError

if TYPE_CHECKING:
    from a2edit.export.layer_errors import LayerError

# Layers that an error names.
_NAMED = 3
# Before the name of a route that is merged on demand from a base in 8 bits.
MERGED = "merged route"


class MergedError(EngineError):
    """What was built ahead passes, and what would be merged on demand does not.

    Another precision of the engines is no way out.
    """


def check(
    figures: Mapping[str, Figure],
    layers: Sequence[LayerError] = (),
    alone: Mapping[str, float] | None = None,
    *,
    accept: bool = False,
) -> list[str]:
    """Fail the build over a figure out of tolerance, or say what is accepted.

    Args:
        figures: by "<graph>", "route <name>" or "merged route <name>".
        layers: of a denoiser in less than fp32, the largest own errors first.
        alone: linear → the velocity's relative error that calibration found if it alone is 8 bits.
        accept: go on all the same (--accept-quality).

    Returns:
        what failed and was accepted: name, figure and what is allowed.

    Raises:
        EngineError: names every figure that failed, the layers that err most, and what to do; a
            MergedError if they all are of routes merged on demand.
    """
    failed = [f"{name}: {figure.over}" for name, figure in figures.items() if not figure.passed]
    if not failed or accept:
        return failed
    merged = [said for said in failed if said.startswith(MERGED)]
    ways = ["--merge-base full"] if merged else []
    if merged != failed:
        ways.append("--precision fp32")
    worst = layers[:_NAMED]
    where = ", ".join(_named(layer, (alone or {}).get(layer.name)) for layer in worst)
    lift = " ".join(f"--lift '{layer.name}'" for layer in worst)
    kind = MergedError if merged == failed else EngineError
    raise kind(
        f"the engines do not repeat the model: {'; '.join(failed)}. "
        + (f"The layers with the largest errors of their own: {where}. " if worst else "")
        + (f"Keep them in high precision ({lift}), build" if worst else "Build")
        + f" with {' and '.join(ways)}, or take it as it is (--accept-quality)"
    )


def _named(layer: LayerError, alone: float | None) -> str:
    """A layer with its error and what calibration foresaw of it, which is what lifting gains."""
    foreseen = "" if alone is None else f", by calibration {alone:.1e} of the velocity"
    return f"{layer.name} ({layer.own:.1e}{foreseen})"
