"""LoRA experts on Flux's linears, running side by side or merged (SPEC §3, §4).

`W = W⁰ + Σ_{i∈S} w_i ΔW_i` with ΔW_i = (α/r)·B_i A_i. Unmerged, all experts are stacked to one
rank-N·r branch and the weights, one vector per sample and block, scale its middle: exact for any
weights and differentiable. Merged, the sum is one matrix per linear.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional

# The linears of SPEC §4, by full match: a plain list of names would also hit the last `proj_out`.
_DOUBLE = re.compile(
    r"transformer_blocks\.(\d+)\.(?:attn\.(?:to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj"
    r"|add_v_proj|to_add_out)|(?:ff|ff_context)\.net\.(?:0\.proj|2))"
)
_SINGLE = re.compile(
    r"single_transformer_blocks\.(\d+)\.(?:attn\.(?:to_q|to_k|to_v)|proj_mlp|proj_out)"
)


@dataclass(frozen=True, slots=True)
class RoutedLinear:
    """A linear that carries experts.

    Attributes:
        name: module path in the transformer, e.g. "transformer_blocks.0.attn.to_q".
        block: row of the gate table, double blocks first.
        in_features, out_features: of the base weight [out, in].
    """

    name: str
    block: int
    in_features: int
    out_features: int


def routed_linears(transformer: FluxTransformer2DModel) -> list[RoutedLinear]:
    """All linears that carry experts, in module order; 418 of them at full size."""
    doubles = len(transformer.transformer_blocks)
    found = []
    for name, module in transformer.named_modules():
        linear = module.base if isinstance(module, MixtureLinear) else module
        if not isinstance(linear, nn.Linear):
            continue
        if match := _DOUBLE.fullmatch(name):
            block = int(match[1])
        elif match := _SINGLE.fullmatch(name):
            block = doubles + int(match[1])
        else:
            continue
        found.append(RoutedLinear(name, block, linear.in_features, linear.out_features))
    return found


class ExpertPair(nn.Module):
    """The factors of all N experts at one linear: A [N, r, in] and B [N, out, r], fp32."""

    def __init__(self, A: Tensor, B: Tensor) -> None:
        super().__init__()
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)

    @classmethod
    def new(cls, experts: int, rank: int, in_features: int, out_features: int) -> ExpertPair:
        """PEFT's start: A uniform as a linear's weight, B zero, so that ΔW = 0."""
        pair = cls(
            torch.empty(experts, rank, in_features), torch.zeros(experts, out_features, rank)
        )
        bound = in_features**-0.5
        nn.init.uniform_(pair.A, -bound, bound)
        return pair


class ExpertBank(nn.Module):
    """The N experts of every routed linear, and the gate weights that they run with.

    `weights` is [B, L, N] (or None: the base alone); set it before the transformer runs. Not
    thread-safe: one bank, one forward at a time.
    """

    def __init__(self, linears: list[RoutedLinear], experts: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.linears = {linear.name: linear for linear in linears}
        self.experts, self.rank, self.alpha = experts, rank, alpha
        self.pairs = nn.ModuleList(
            ExpertPair.new(experts, rank, linear.in_features, linear.out_features)
            for linear in linears
        )
        self._index = {linear.name: place for place, linear in enumerate(linears)}
        self.weights: Tensor | None = None

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def blocks(self) -> int:
        """L: rows of a gate table."""
        return 1 + max(linear.block for linear in self.linears.values())

    def pair(self, name: str) -> ExpertPair:
        pair = self.pairs[self._index[name]]
        assert isinstance(pair, ExpertPair)
        return pair

    def branch(self, name: str, x: Tensor) -> Tensor | None:
        """Σ_i w_i ΔW_i x for the current weights; x [B, T, in] → [B, T, out]."""
        if self.weights is None:
            return None
        pair, block = self.pair(name), self.linears[name].block
        mixed = self.weights[:, block].repeat_interleave(self.rank, -1) * self.scale
        low = functional.linear(x, pair.A.flatten(0, 1)) * mixed.to(x.dtype)[:, None]
        return functional.linear(low, pair.B.permute(1, 0, 2).flatten(1))

    @torch.no_grad()
    def merged_weight(self, name: str, base: Tensor, table: Tensor) -> Tensor:
        """W⁰ + Σ w_i ΔW_i in fp32, cast once; base [out, in], table [L, N] → [out, in]."""
        pair, weights = self.pair(name), table[self.linears[name].block].float()
        low = pair.A.float() * (weights * self.scale)[:, None, None]
        delta = pair.B.float().permute(1, 0, 2).flatten(1) @ low.flatten(0, 1)
        return (base.float() + delta).to(base.dtype)


class MixtureLinear(nn.Module):
    """A routed linear with its experts unmerged beside it."""

    def __init__(self, base: nn.Linear, name: str, bank: ExpertBank) -> None:
        super().__init__()
        self.base, self.name = base, name
        # In a tuple, so that the bank's parameters are not registered once a linear.
        self._bank = (bank,)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        branch = self._bank[0].branch(self.name, x)
        return y if branch is None else y + branch


def _replace(transformer: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(transformer.get_submodule(parent), leaf, module)


def inject(
    transformer: FluxTransformer2DModel, bank: ExpertBank, names: Collection[str] | None = None
) -> None:
    """Put `MixtureLinear` in the place of routed linears (by default all), sharing parameters."""
    for name in bank.linears if names is None else names:
        base = transformer.get_submodule(name)
        assert isinstance(base, nn.Linear), f"{name} already carries experts"
        _replace(transformer, name, MixtureLinear(base, name, bank))


def eject(
    transformer: FluxTransformer2DModel, bank: ExpertBank, names: Collection[str] | None = None
) -> None:
    """Undo `inject`."""
    for name in bank.linears if names is None else names:
        mixture = transformer.get_submodule(name)
        assert isinstance(mixture, MixtureLinear), f"{name} carries no experts"
        _replace(transformer, name, mixture.base)


@contextmanager
def unmerged(
    transformer: FluxTransformer2DModel, bank: ExpertBank, weights: Tensor
) -> Iterator[None]:
    """Run the transformer with experts unmerged at gate weights [B, L, N] inside the block."""
    inject(transformer, bank)
    bank.weights = weights
    try:
        yield
    finally:
        bank.weights = None
        eject(transformer, bank)


def merged_state(
    transformer: FluxTransformer2DModel, bank: ExpertBank, table: Tensor
) -> dict[str, Tensor]:
    """Weights of all routed linears for a table [L, N]: "<linear>.weight" → [out, in].

    For `torch.func.functional_call`: the transformer itself stays pristine (SPEC §11.1).
    """
    return {
        f"{name}.weight": bank.merged_weight(
            name, transformer.get_parameter(f"{name}.weight"), table
        )
        for name in bank.linears
    }
