"""A transformer's experts as PEFT adapters, as the papers run them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import RoutedLinear

Layers = Sequence[tuple[int, LoraLayer]]


def layers_of(checkpoint: Checkpoint, linears: Sequence[RoutedLinear]) -> Layers:
    """(block, layer) of every linear that carries adapters."""
    found = [(it.block, checkpoint.transformer.get_submodule(it.name)) for it in linears]
    assert all(isinstance(layer, LoraLayer) for _, layer in found)
    return found


def activate(layers: Layers, table: Tensor) -> None:
    """Make each layer's active experts its active adapters, at the gate's weights [L, N]."""
    for block, layer in layers:
        row = table[block].tolist()
        active = [str(expert) for expert, weight in enumerate(row) if weight]
        layer.set_adapter(active)
        for name in active:
            layer.set_scale(name, row[int(name)])


@torch.no_grad()
def inject_adapters(checkpoint: Checkpoint, dtype: torch.dtype) -> Layers:
    """The bank's experts as adapters "0" to "N-1" in the transformer itself, in `dtype`."""
    bank, linears = checkpoint.experts, checkpoint.linears
    config = LoraConfig(
        r=bank.rank,
        lora_alpha=bank.alpha,
        target_modules=[linear.name for linear in linears],
        init_lora_weights=False,
    )
    for expert in range(bank.experts):
        name = str(expert)
        inject_adapter_in_model(config, checkpoint.transformer, name)
        for linear in linears:
            layer, pair = checkpoint.transformer.get_submodule(linear.name), bank.pair(linear.name)
            assert isinstance(layer, LoraLayer)
            for factors, own in ((layer.lora_A, pair.A), (layer.lora_B, pair.B)):
                factors[name].weight.data = own[expert].to(dtype)
    checkpoint.transformer.eval().requires_grad_(False)
    return layers_of(checkpoint, linears)


def eject_adapters(checkpoint: Checkpoint, layers: Layers) -> None:
    """Undo `inject_adapters`."""
    for linear, (_, layer) in zip(checkpoint.linears, layers, strict=True):
        parent, _, leaf = linear.name.rpartition(".")
        setattr(checkpoint.transformer.get_submodule(parent), leaf, layer.get_base_layer())
