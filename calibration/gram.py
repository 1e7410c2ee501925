"""How far apart two gate tables are, in output error: the Gram matrices of the experts (SPEC §5).

For block l, (w−r)ᵀ G_l (w−r) is the expected squared error of the block's linears when weights r
run where the gate asked for w. ΔW_i = s·B_i A_i is never materialised: with both factors at hand,
the trace of a product of products is an elementwise sum of two small matrices.

An error inside the model is not yet one of its velocity: blocks pass theirs on more or less. So
each block's Gram matrix is scaled by a gain, measured by swapping rows of gate tables between
samples (docs/decisions/0009). Nothing is differentiated: it costs L + 1 forwards a sample.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.metric import RouteMetric

if TYPE_CHECKING:
    from a2edit.calibration.traces import Traces
    from a2edit.model.checkpoint import Checkpoint

Float64Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LinearFactors:
    """One routed linear as the metric needs it.

    Attributes:
        block: row of the gate table.
        A: [N, r, in].
        B: [N, out, r].
        base: W⁰ [out, in]; None where the energy of the outputs is known otherwise.
        moments: E[x²] of the input, [in]; None is the data-free form, E[x xᵀ] = I.
    """

    block: int
    A: NDArray[np.float32]
    B: NDArray[np.float32]
    base: NDArray[np.float32] | None = None
    moments: NDArray[np.float32] | None = None


def to_euclid(metric: RouteMetric, tables: NDArray[np.floating]) -> Float64Array:
    """Tables [S, L, N] → [S, L·N] in which Euclid's distance is `metric.errors`: w ↦ G^{1/2} w."""
    values, vectors = np.linalg.eigh(metric.gram)
    # Rounding may leave eigenvalues a little below zero; a Gram matrix has none.
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None, :]
    places = np.einsum("sli,lij->slj", tables, root).reshape(len(tables), -1)
    found: Float64Array = places / np.sqrt(metric.energy)
    return found


def gram_matrix(linear: LinearFactors, scale: float) -> Float64Array:
    """G[i, j] = s²·tr(B_jᵀB_i A_i C A_jᵀ) = s²·Σ_pq (B_iᵀB_j)[p, q]·(A_i C A_jᵀ)[p, q].

    Costs O((N·r)²(in + out)); ΔW would cost O(N·in·out·r) and N·in·out numbers of memory.

    Returns:
        [N, N], symmetric, positive semidefinite.
    """
    count, rank = linear.A.shape[:2]
    low = linear.A.reshape(count * rank, -1).astype(np.float64)
    high = linear.B.transpose(0, 2, 1).reshape(count * rank, -1).astype(np.float64)
    weighted = low if linear.moments is None else low * linear.moments
    product = (weighted @ low.T) * (high @ high.T)
    total: Float64Array = product.reshape(count, rank, count, rank).sum(axis=(1, 3)) * scale**2
    return (total + total.T) / 2


def base_energy(linear: LinearFactors) -> float:
    """E‖W⁰x‖² = tr(W⁰ C W⁰ᵀ); 0 where the base is not given."""
    if linear.base is None:
        return 0.0
    squares = linear.base.astype(np.float64) ** 2
    return float((squares if linear.moments is None else squares * linear.moments).sum())


def metric_of(
    linears: Iterable[LinearFactors], scale: float, blocks: int, experts: int
) -> RouteMetric:
    """Sum the linears of every block; the linears may come from a generator, one at a time."""
    gram, energy = np.zeros((blocks, experts, experts)), 0.0
    for linear in linears:
        gram[linear.block] += gram_matrix(linear, scale)
        energy += base_energy(linear)
    return RouteMetric(gram, max(energy, np.finfo(np.float64).tiny))


def checkpoint_metric(checkpoint: Checkpoint) -> RouteMetric:
    """The data-free metric of a checkpoint's experts: E[x xᵀ] = I, relative to base outputs."""
    bank = checkpoint.experts
    return metric_of(_factors(checkpoint), bank.scale, bank.blocks, bank.experts)


def traced_metric(checkpoint: Checkpoint, traces: Traces) -> RouteMetric:
    """The metric in units of velocity: inputs weigh by their traced moments, blocks by their gains.

    Falls back to the data-free form where no forward was traced.
    """
    if not traces.forwards.sum():
        return checkpoint_metric(checkpoint)
    bank = checkpoint.experts
    raw = metric_of(_factors(checkpoint, traces), bank.scale, bank.blocks, bank.experts)
    gains = block_gains(raw.gram, traces.gaps, traces.changes)
    if gains is None:  # no two samples differ in their tables, so no route is wrong either
        return RouteMetric(raw.gram, traces.mean_energy)
    return RouteMetric(raw.gram * gains[:, None, None], traces.mean_velocity)


def block_gains(
    gram: Float64Array, gaps: NDArray[np.floating], changes: NDArray[np.floating]
) -> Float64Array | None:
    """What a squared error inside each block comes to in the velocity, measured.

    1. A block's gain is the velocity's squared change when its row alone is another sample's, over
       what the Gram matrix gives for that row: sums over samples, so that large changes count most.
    2. A block whose rows never differed takes the mean of the others.
    3. Errors of blocks add up a little more or less than squares do; one factor for all blocks
       brings the sum to the change that was measured with the whole table swapped.

    Args:
        gram: G [L, N, N].
        gaps: differences of tables, [P, L, N].
        changes: squared change of the velocity by block, and of all blocks at once, [P, L + 1].

    Returns:
        [L], or None if no gap changes anything.
    """
    wide = np.asarray(gaps, np.float64)
    inside = np.einsum("pli,lij,plj->pl", wide, gram, wide)
    measured, predicted = np.asarray(changes, np.float64).sum(0), inside.sum(0)
    known = predicted > 1e-12 * max(float(predicted.max(initial=0)), np.finfo(np.float64).tiny)
    if not known.any():
        return None
    gains = np.full(len(gram), measured[:-1][known].sum() / predicted[known].sum())
    gains[known] = measured[:-1][known] / predicted[known]
    together = float((gains * predicted).sum())
    found: Float64Array = gains * (measured[-1] / together if together > 0 else 1.0)
    return found


def _factors(checkpoint: Checkpoint, traces: Traces | None = None) -> Iterator[LinearFactors]:
    bank, transformer = checkpoint.experts, checkpoint.transformer
    for linear in checkpoint.linears:
        pair = bank.pair(linear.name)
        A, B = (tensor.detach().float().numpy() for tensor in (pair.A, pair.B))
        if traces:
            yield LinearFactors(linear.block, A, B, moments=traces.mean_moments(linear.name))
        else:
            base = transformer.get_parameter(f"{linear.name}.weight").detach().float().numpy()
            yield LinearFactors(linear.block, A, B, base)
