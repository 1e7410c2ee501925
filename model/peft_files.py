"""The experts folder: one LoRA an expert, written as PEFT, read in the format it came (SPEC §4).

`expert_00/{adapter_config.json, adapter_model.safetensors}` is PEFT's, and what we write: rank and
α are mot_config.json's, every linear is covered. In its place may lie one safetensors file in
diffusers', kohya's, BFL's or XLabs' names, `expert_00/<any>.safetensors` or
`expert_00.safetensors`: its own ranks, its own α, and ΔW = 0 where it leaves a linear out. To
write such a checkpoint as PEFT, load it and save it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from a2edit.model.adapter_files import LoraPair, check_peft_config, read_lora
from a2edit.model.experts import ExpertBank, RoutedLinear
from a2edit.runtime.errors import CheckpointError

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


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
        (target / _CONFIG).write_text(text + "\n", encoding="utf-8")
        save_file(tensors, target / _WEIGHTS, metadata={"format": "pt"})


def load_experts(
    folder: Path, linears: list[RoutedLinear], experts: int, rank: int, alpha: float
) -> ExpertBank:
    """Read `experts` LoRA adapters into one bank of this rank and α.

    A lower rank is padded with zeros, and a file's own α/r folded into B: ΔW is the file's.

    Raises:
        CheckpointError: an expert is missing or given twice, its file cannot be read, names what
            carries no experts, has a rank above the bank's, or is of an adapter kind that cannot
            be merged linearly (DoRA, rsLoRA, biases, …); a PEFT folder leaves a linear out, or
            has another rank or α.
    """
    bank = ExpertBank(linears, experts, rank, alpha)
    for expert in range(experts):
        path, is_peft = _find(folder, f"expert_{expert:02d}")
        if is_peft:
            _check_config(path.with_name(_CONFIG), rank, alpha)
        left = set(bank.linears)
        for pair in read_lora(path, bank.linears, alpha if is_peft else None):
            if is_peft and pair.A.shape[0] != rank:
                raise CheckpointError(
                    f"{path}: {pair.module} has shape {tuple(pair.A.shape)} in A, "
                    f"expected {(rank, pair.linear.in_features)} (rank {rank})"
                )
            _place(bank, expert, pair, path)
            left.remove(pair.linear.name)
        if left and is_peft:
            raise CheckpointError(f"{path}: {min(left)} is missing; every expert must cover it")
        for name in left:
            with torch.no_grad():
                bank.pair(name).A[expert].zero_()
    return bank


def _find(folder: Path, name: str) -> tuple[Path, bool]:
    """The weights of one expert, and whether they are a PEFT folder's."""
    inside, beside = folder / name, folder / f"{name}.safetensors"
    is_peft = (inside / _CONFIG).is_file()
    files = [inside / _WEIGHTS] if is_peft else sorted(inside.glob("*.safetensors"))
    files += [beside] * beside.is_file()
    if len(files) != 1:
        given = " and ".join(map(str, files)) or "nothing"
        raise CheckpointError(
            f"{folder}: {name} is given by {given}. Allowed is one of {name}/ with {_CONFIG} and "
            f"{_WEIGHTS}, {name}/ with a single .safetensors file, or {name}.safetensors"
        )
    if files[0] == inside / _WEIGHTS and not is_peft:
        raise CheckpointError(
            f"{inside / _CONFIG} is missing: without it the α of {_WEIGHTS} is not known. Copy it "
            "there; if the factors are meant as they are (α = r), give the file another name"
        )
    return files[0], is_peft


@torch.no_grad()
def _place(bank: ExpertBank, expert: int, pair: LoraPair, path: Path) -> None:
    """Put one linear's factors into the bank at the bank's rank and scale."""
    A, B = pair.A, pair.B
    if len(A) > bank.rank:
        # Where q, k and v were trained apart and stored fused (kohya's split_qkv), B is blocks on
        # a diagonal: most of a linear's share of the rank is zero, and leaving that out is exact.
        A, B = A.float(), B.float()
        used = (A != 0).any(1) & (B != 0).any(0)
        A, B = A[used], B[:, used]
    if (rank := len(A)) > bank.rank:
        raise CheckpointError(
            f"{path}: {pair.module} has rank {rank}; mot_config.json says {bank.rank}. Raise "
            f"rank there to {rank} and alpha to {bank.alpha * rank / bank.rank:g} (lower ranks are "
            "padded, but PEFT folders have to be given the new rank themselves), or resize the "
            f"file to rank {bank.rank} (an SVD of B A, as kohya's resize_lora.py does)"
        )
    target = bank.pair(pair.linear.name)
    target.A[expert, :rank], target.A[expert, rank:] = A, 0
    target.B[expert, :, :rank] = B  # the rest of B is zero in a new bank
    if pair.scale != bank.scale:
        if not bank.scale:
            raise CheckpointError(f"{path}: mot_config.json says alpha 0, at which no expert acts")
        target.B[expert].mul_(pair.scale / bank.scale)


def _check_config(path: Path, rank: int, alpha: float) -> None:
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else config
        raise CheckpointError(f"{path}: peft_type is {kind!r}; only LORA experts can be merged")
    check_peft_config(config, str(path))
    if config.get("r") != rank or float(config.get("lora_alpha", -1)) != float(alpha):
        raise CheckpointError(
            f"{path}: r is {config.get('r')}, lora_alpha {config.get('lora_alpha')}; "
            f"mot_config.json says {rank} and {alpha}"
        )
