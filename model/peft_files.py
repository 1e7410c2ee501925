"""Experts as PEFT LoRA folders: `expert_00/{adapter_config.json, adapter_model.safetensors}`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from a2edit.model.experts import ExpertBank, RoutedLinear
from a2edit.runtime.errors import CheckpointError

_PREFIXES = ("base_model.model.transformer.", "base_model.model.", "transformer.", "")
# What PEFT can write and this runtime does not compute, with the value that means "off".
_REFUSED: dict[str, Any] = {
    "use_dora": False,
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "bias": "none",
    "lora_bias": False,
    "fan_in_fan_out": False,
    "layer_replication": None,
    "modules_to_save": None,
}


def save_experts(bank: ExpertBank, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write every expert as a PEFT folder under `folder`."""
    from peft import LoraConfig

    for expert in range(bank.experts):
        target = folder / f"expert_{expert:02d}"
        target.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for name in bank.linears:
            pair = bank.pair(name)
            prefix = f"base_model.model.{name}"
            tensors[f"{prefix}.lora_A.weight"] = pair.A[expert].detach().to(dtype).contiguous()
            tensors[f"{prefix}.lora_B.weight"] = pair.B[expert].detach().to(dtype).contiguous()
        config = LoraConfig(
            r=bank.rank,
            # PEFT types alpha as int; whole numbers are written as such.
            lora_alpha=int(bank.alpha) if float(bank.alpha).is_integer() else bank.alpha,
            target_modules=sorted(bank.linears),
            inference_mode=True,
        )
        values = config.to_dict()
        values["target_modules"] = sorted(bank.linears)
        text = json.dumps(values, indent=2, sort_keys=True, default=str)
        (target / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
        save_file(tensors, target / "adapter_model.safetensors", metadata={"format": "pt"})


def load_experts(
    folder: Path, linears: list[RoutedLinear], experts: int, rank: int, alpha: float
) -> ExpertBank:
    """Read `experts` PEFT folders into one bank.

    Raises:
        CheckpointError: a folder or tensor is missing, has another rank or shape, or uses an
            adapter kind that cannot be merged linearly (DoRA, rsLoRA, biases, …).
    """
    bank = ExpertBank(linears, experts, rank, alpha)
    for expert in range(experts):
        source = folder / f"expert_{expert:02d}"
        _check_config(source / "adapter_config.json", rank, alpha)
        tensors = _read(source / "adapter_model.safetensors")
        for name in bank.linears:
            pair = bank.pair(name)
            for part, target in (("lora_A", pair.A), ("lora_B", pair.B)):
                key = f"{name}.{part}.weight"
                value = tensors.pop(key, None)
                if value is None:
                    raise CheckpointError(f"{source}: {key} is missing; every expert must cover it")
                if value.shape != target[expert].shape:
                    raise CheckpointError(
                        f"{source}: {key} has shape {tuple(value.shape)}, "
                        f"expected {tuple(target[expert].shape)} (rank {rank})"
                    )
                with torch.no_grad():
                    target[expert].copy_(value)
        if tensors:
            raise CheckpointError(
                f"{source}: {len(tensors)} tensors match no linear that carries experts, "
                f"the first is {min(tensors)}"
            )
    return bank


def _check_config(path: Path, rank: int, alpha: float) -> None:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{path}: peft_type is {config.get('peft_type')!r}; only LORA experts can be merged"
        )
    for key, off in _REFUSED.items():
        if (value := config.get(key, off)) not in (off, None):
            raise CheckpointError(
                f"{path}: {key} is {value!r}; experts must be plain LoRA ({key} = {off!r}). "
                "Retrain, or convert the adapter to plain LoRA first"
            )
    if config.get("r") != rank or float(config.get("lora_alpha", -1)) != float(alpha):
        raise CheckpointError(
            f"{path}: r is {config.get('r')}, lora_alpha {config.get('lora_alpha')}; "
            f"mot_config.json says {rank} and {alpha}"
        )


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
    named = {}
    for key, value in tensors.items():
        prefix = next(prefix for prefix in _PREFIXES if key.startswith(prefix))
        named[key.removeprefix(prefix)] = value.float()
    return named
