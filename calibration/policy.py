"""What every graph computes in on a target: one table, with the error that each choice may have.

| preset   | routed linears of the denoiser         | its other values | modulation, T5     |
|----------|----------------------------------------|------------------|--------------------|
| lossless | as the others                          | bf16 (CPU: fp32) | as the others      |
| balanced | FP8 where the target has it, else INT8 | bf16 (CPU: fp32) | as the others      |
| small    | as balanced                            | bf16 (CPU: fp32) | 8-bit weights only |

A GPU without bf16 (sm75) computes in fp32 what others compute in bf16; the gate is fp32 everywhere.
On a CPU the other graphs are fp32 too, and so is the denoiser's file: with `lossless` its engine
rounds to bf16 by itself, where the processor has it and the result passes.

Never in 8 bits: embedders, norm_out, the last projection, q/k norms, the gate, RoPE (SPEC §11.2).
Of the routed linears, those that the velocity cannot bear are lifted (`calibration.choice`).

Tolerances add up as errors do that hardly know of each other, in squares: of the 8-bit products,
of bf16 around them, of 8-bit weights beside them, of a base in 8 bits that they are merged from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from a2edit.runtime.manifest import CACHE_GRAPHS
from a2edit.runtime.targets import Precision, Target, check_precision

Kind = Literal["int8", "fp8"]
Preset = Literal["lossless", "balanced", "small"]
PRESETS: tuple[Preset, ...] = ("lossless", "balanced", "small")

DENOISER, GATE, TEXT, DECODER = "dit", "gate", "text_encoder", "vae_decoder"
MODULATION = "modulation"
# Computed alike: a head and a tail are the same layers as the whole.
_DENOISERS = frozenset({DENOISER, *CACHE_GRAPHS})
# Largest ‖engine − truth‖ / ‖truth‖ of a graph's output; of the denoiser, of the velocity.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-5, "bf16": 1e-2, "int8": 2e-2, "fp8": 4e-2}
# Bytes: a last-bit difference before rounding moves a pixel by one level here and there.
BYTES_TOLERANCE: dict[Precision, float] = {"fp32": 1e-3, "bf16": 2e-2}
# Of the decoded picture in its mask, against the torch model's at the end of the loop.
LEAST_PSNR_DB: dict[Precision, float] = {"fp32": 50, "bf16": 30, "int8": 30, "fp8": 30}
# A GPU's denoiser, bf16 throughout. At the last step, where the velocity is what is left of the
# noise, PyTorch's own bf16 errs by up to 2.3e-2 on the embedded model; there is no fp32 to fall
# back to, as a CPU has.
BF16_NETWORK = 2.5e-2
# Beside it, what 8-bit weights of modulation and T5 may cost.
WEIGHT_ONLY_TOLERANCE = 2e-2
# What a base in 8 bits may cost routes that are merged on demand, beside all else that they have.
BASE_TOLERANCE = TOLERANCE["int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphPolicy:
    """How one graph is computed on one target.

    Attributes:
        precision: of the products that cost the time; what the manifest states.
        rest: type of all other values in the ONNX file. A CPU engine rounds to bf16 by itself, so
            that its graphs stay fp32.
        weight_only: whether weights that no product takes in 8 bits are stored in 8 bits.
        tolerance: largest relative error that passes.
    """

    precision: Precision
    rest: Literal["fp32", "bf16"]
    weight_only: bool = False
    tolerance: float

    @property
    def kind(self) -> Kind | None:
        """What routed linears' weights and activations are rounded to, if to 8 bits."""
        match self.precision:
            case "int8" | "fp8" as kind:
                return kind
            case _:
                return None

    @property
    def quantised(self) -> bool:
        """Whether routed linears have 8-bit weights and activations."""
        return self.kind is not None

    @property
    def variant(self) -> str:
        """Name of the graph's file and of its weight sets; targets with equal ones share them."""
        name: str = self.rest
        if self.quantised:
            name = self.precision if self.rest == "fp32" else f"{self.precision}-{self.rest}"
        return f"{name}-w8" if self.weight_only else name


def resolve(target: Target, precision: Precision | None, preset: Preset | None) -> Precision:
    """The precision of a target's denoiser.

    Args:
        target: to build for.
        precision: asked for by name.
        preset: asked for instead; neither: lossless on a CPU, balanced on a GPU.

    Raises:
        TargetError: the target lacks it.
    """
    if precision is not None:
        check_precision(target, precision)
        return precision
    preset = preset or ("lossless" if target.device == "cpu" else "balanced")
    if preset == "lossless":
        return "bf16" if "bf16" in target.precisions else "fp32"
    return "fp8" if "fp8" in target.precisions else "int8"


def graph_policy(graph: str, target: Target, precision: Precision, small: bool) -> GraphPolicy:
    """How `graph` is computed where the denoiser is computed in `precision`.

    On a CPU everything but the denoiser stays fp32: it is all of the time. On a GPU memory counts
    too, so encoders and autoencoder follow to bf16 (never fp16, SPEC §11.4). The gate's choice of
    experts must not flip: fp32 everywhere.
    """
    wide: Precision = "fp32"
    if target.device == "cuda" and "bf16" in target.precisions and precision != "fp32":
        wide = "bf16"
    narrow = small and graph in {TEXT, MODULATION}
    if graph == GATE:
        wide = "fp32"
    if graph not in _DENOISERS:
        precision = wide
    allowed = BYTES_TOLERANCE if graph == DECODER else TOLERANCE
    parts = [allowed[precision]]
    if graph in _DENOISERS and wide == "bf16":
        parts = [BF16_NETWORK] if precision == "bf16" else [allowed[precision], BF16_NETWORK]
    if narrow or (small and graph in _DENOISERS):  # whose velocity is of both
        parts.append(WEIGHT_ONLY_TOLERANCE)
    return GraphPolicy(
        precision=precision,
        rest="bf16" if wide == "bf16" else "fp32",
        weight_only=narrow,
        tolerance=float(f"{math.hypot(*parts):.1e}"),
    )


def merged_tolerance(policy: GraphPolicy) -> float:
    """Largest relative velocity error of a route that is merged from a base in 8 bits."""
    return float(f"{math.hypot(policy.tolerance, BASE_TOLERANCE):.1e}")


def merged_psnr_db(policy: GraphPolicy) -> float:
    """What its pictures must reach in their masks: no more than anything in 8 bits."""
    return min(LEAST_PSNR_DB[policy.precision], LEAST_PSNR_DB["int8"])
