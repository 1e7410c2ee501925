"""Linears and convolutions in the types of a policy, as modules: what ONNX passes do to a graph.

Swapped in before `torch.export` and back after it. Figures are those of the ONNX variant: the same
weights, scales and ranges, rounded at the same places, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from a2edit.calibration.policy import MODULATION
from a2edit.kernels.ops import quantised, quantize_activation
from a2edit.runtime.errors import EngineError

if TYPE_CHECKING:
    import onnx_ir as ir

    from a2edit.model.graphs import GraphModule
    from a2edit.runtime.engines.base import GraphSpec

BF16 = torch.bfloat16
# Sides of an FP8 product's matrices, and of an INT8 one's, are multiples of these on a GPU.
MULTIPLES = {"float8_e4m3fn": 16, "int8": 8}
_KINDS = {"int8": torch.int8, "float8_e4m3fn": torch.float8_e4m3fn}


@dataclass(frozen=True, slots=True, eq=False)
class Activation:
    """How the input of a quantised linear becomes 8 bits.

    Attributes:
        step: the scale of all its values.
        factors: what it is multiplied by before, fp32 [in]; None: by nothing.
    """

    step: float
    factors: NDArray[np.float32] | None = None


def activations(model: ir.Model) -> dict[str, Activation]:
    """By routed linear, from the constants that `QuantiseRoutedLinears` left in a graph."""
    found = {}
    suffix = ".input_scale"
    constants = {
        name.removesuffix(".bfloat16"): value.const_value
        for name, value in model.graph.initializers.items()
    }
    for name, scale in constants.items():
        if name.endswith(suffix) and scale is not None:
            linear = name.removesuffix(suffix)
            factors = constants.get(f"{linear}.input_factors")
            found[linear] = Activation(
                float(scale.numpy()),
                None if factors is None else factors.numpy().astype(np.float32),
            )
    return found


class QuantisedLinear(nn.Module):
    """x → (levels of x) · Wᵀ · step · scale + bias, the product of 8 bits by 8 bits.

    `weight` int8 or float8_e4m3fn [out, in] and `scale` [out] take the place of the parameters.
    The result is bf16 where the network is, else fp32.
    """

    bias: Tensor | None
    factors: Tensor | None

    def __init__(
        self, source: nn.Linear, how: Activation, kind: torch.dtype, *, narrow: bool, fused: bool
    ) -> None:
        super().__init__()
        self.weight, self.bias = source.weight, source.bias
        self.scale = nn.Parameter(torch.empty(source.out_features), requires_grad=False)
        factors = None if how.factors is None else torch.from_numpy(how.factors.copy())
        self.register_buffer("factors", factors, persistent=False)
        self.step, self.kind, self.fused = how.step, kind, fused
        self.result = BF16 if narrow else torch.float32

    def forward(self, x: Tensor) -> Tensor:
        if self.factors is not None:
            x = x.float() * self.factors
        tokens = x.flatten(0, -2)
        if self.fused:
            levels = quantize_activation(tokens, self.step, self.kind != torch.int8)
        else:
            levels = quantised(tokens, self.step, self.kind)
        product = self._int8 if self.kind == torch.int8 else self._fp8
        return product(levels).unflatten(0, x.shape[:-1])

    def _int8(self, levels: Tensor) -> Tensor:
        sums = torch._int_mm(levels, self.weight.t())  # noqa: SLF001 # it has no other name
        result = sums.float() * (self.step * self.scale.float())
        if self.bias is not None:
            result = result + self.bias.float()
        return result.to(self.result)

    def _fp8(self, levels: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(BF16)
        result: Tensor = torch._scaled_mm(  # noqa: SLF001 # it has no other name
            levels,
            self.weight.t(),
            scale_a=torch.full((levels.shape[0], 1), self.step, device=levels.device),
            scale_b=self.scale.float()[None],
            bias=bias,
            out_dtype=BF16,
        )
        return result.to(self.result)


class StoredIn8Bits(nn.Module):
    """A linear whose weight is int8 [out, in] with a `scale` a row, multiplied in x's network."""

    bias: Tensor | None

    def __init__(self, source: nn.Linear, *, narrow: bool) -> None:
        super().__init__()
        self.weight, self.bias = source.weight, source.bias
        self.scale = nn.Parameter(torch.empty(source.out_features), requires_grad=False)
        self.result = BF16 if narrow else torch.float32

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight.float() * self.scale.float()[:, None]).to(self.result)
        bias = None if self.bias is None else self.bias.to(self.result)
        return nn.functional.linear(x.to(self.result), weight, bias)


class Narrow(nn.Module):
    """A linear or a convolution in bf16, whatever its input is."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    @property
    def weight(self) -> Tensor:
        """The inner one's: T5 asks for its dtype, SigLIP for its convolution's."""
        weight: Tensor = self.inner.weight  # type: ignore[assignment] # a parameter, or what is fed
        return weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x.to(BF16))
        return result


class Wide(nn.Module):
    """A norm, whose statistics are fp32, between narrow values."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x.float())
        return result.to(x.dtype)


@contextmanager
def in_types(
    graph: GraphModule,
    eight: Mapping[str, str],
    how: Mapping[str, Activation],
    stored: Collection[int],
    *,
    narrow: bool,
    fused: bool = False,
) -> Iterator[None]:
    """The graph with its products in these types; undone at the end.

    Args:
        graph: its parameters' values are not read.
        eight: module of a quantised linear → "int8" or "float8_e4m3fn".
        how: module of a quantised linear → how its input is quantised.
        stored: ids of weights that are stored in 8 bits.
        narrow: whether everything else is bf16.
        fused: whether our kernels are operators of their own (`kernels.ops`).
    """
    swapped: list[tuple[nn.Module, str, nn.Module]] = []

    def swap(parent: nn.Module, place: str, child: nn.Module, by: nn.Module) -> None:
        swapped.append((parent, place, child))
        setattr(parent, place, by.eval())

    hooks = []
    try:
        if narrow and MODULATION in graph.input_names:
            # the norms multiply by it: fp32 would make their results fp32, too
            hooks.append(graph.register_forward_pre_hook(_narrowed(graph)))
        for path, module in list(graph.named_modules()):
            for place, child in list(module.named_children()):
                name = f"{path}.{place}" if path else place
                if isinstance(child, nn.Linear) and name in eight:
                    kind = _KINDS[eight[name]]
                    swap(
                        module,
                        place,
                        child,
                        QuantisedLinear(child, how[name], kind, narrow=narrow, fused=fused),
                    )
                elif isinstance(child, nn.Linear) and id(child.weight) in stored:
                    swap(module, place, child, StoredIn8Bits(child, narrow=narrow))
                elif narrow and _is_product(child):
                    swap(module, place, child, Narrow(child))
                elif narrow and _is_norm(child):
                    swap(module, place, child, Wide(child))
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for parent, place, child in reversed(swapped):
            setattr(parent, place, child)


def _narrowed(graph: GraphModule) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """The graph's inputs with the modulation in bf16."""
    place = graph.input_names.index(MODULATION)

    def narrowed(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (*given[:place], given[place].to(BF16), *given[place + 1 :])

    return narrowed


def _is_product(module: nn.Module) -> bool:
    """Not what only looks like one: `nn.MultiheadAttention` reads its linear itself."""
    return type(module) in {nn.Linear, nn.Conv2d, nn.ConvTranspose2d}


def _is_norm(module: nn.Module) -> bool:
    """Whether it is a norm itself, and not a block that is named after the one in it."""
    leaf = next(module.children(), None) is None
    return leaf and "Norm" in type(module).__name__


def check_sides(spec: GraphSpec) -> None:
    """Raises EngineError where a GPU has no 8-bit product for a routed weight [out, in]."""
    for part in spec.weights:
        multiple = MULTIPLES.get(part.dtype, 1)
        if any(side % multiple for side in part.shape):
            name = part.name.removesuffix(".weight")
            raise EngineError(
                f"graph {spec.name}: {part}: a GPU multiplies 8-bit matrices whose sides are "
                f"multiples of {multiple}: keep it in high precision by --lift {name}"
            )
