"""The experts folder: one LoRA an expert, written as PEFT, read in the format it came (SPEC §4).

`expert_00/{adapter_config.json, adapter_model.safetensors}` is PEFT's, and what we write: rank and
α are mot_config.json's, every linear is covered. In its place may lie one safetensors file in
diffusers', kohya's, BFL's or XLabs' names, `expert_00/<any>.safetensors` or
`expert_00.safetensors`: its own ranks, its own α, and ΔW = 0 where it leaves a linear out. To
write such a checkpoint as PEFT, load it and save it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from a2edit.model.adapter_files import LoraFile, LoraPair, check_peft_config
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


@dataclass(frozen=True, slots=True)
class ExpertFiles:
    """The experts folder, read one linear at a time: full-size experts need not fit in memory.

    Attributes:
        files: of every expert.
        linears: by name.
        rank, alpha: that factors are given at.
    """

    files: tuple[LoraFile, ...]
    linears: dict[str, RoutedLinear]
    rank: int
    alpha: float

    @classmethod
    def of(
        cls, folder: Path, linears: list[RoutedLinear], experts: int, rank: int, alpha: float
    ) -> ExpertFiles:
        """Find `experts` LoRA adapters, and read what they hold.

        Raises:
            CheckpointError: an expert is missing or given twice, its file cannot be read, names
                what carries no experts, or is of an adapter kind that cannot be merged linearly
                (DoRA, rsLoRA, biases, …), or has a rank above this one; a PEFT folder leaves a
                linear out, or has another rank or α.
        """
        named = {linear.name: linear for linear in linears}
        files = []
        for expert in range(experts):
            path, is_peft = _find(folder, f"expert_{expert:02d}")
            if is_peft:
                _check_config(path.with_name(_CONFIG), rank, alpha)
            file = LoraFile.of(path, named, alpha if is_peft else None)
            if is_peft and (left := named.keys() - file.modules.keys()):
                raise CheckpointError(f"{path}: {min(left)} is missing; every expert must cover it")
            if is_peft:
                _check_ranks(file, rank)
            files.append(file)
        found = cls(tuple(files), named, rank, alpha)
        for name in named:  # what has a rank above this one is refused now, by its values
            if any(name in file.modules and file.modules[name].rank > rank for file in files):
                found.read(name)
        return found

    def dtypes(self, name: str) -> tuple[torch.dtype, torch.dtype]:
        """Of A and B as `read` gives them: the files' own where they agree, else fp32."""
        holders = [file for file in self.files if name in file.modules]
        stored = [file.dtypes(name) for file in holders] or [(torch.float16, torch.float16)]
        A, B = (reduce(torch.promote_types, kinds) for kinds in zip(*stored, strict=True))
        scaled = any(file.scale(name) != self.alpha / self.rank for file in holders)
        return A, torch.float32 if scaled else B

    def read(self, name: str) -> tuple[Tensor, Tensor]:
        """The factors of one linear: A [N, r, in] and B [N, out, r].

        A lower rank is padded with zeros, and a file's own α/r folded into B: ΔW is the file's.

        Raises:
            CheckpointError: `alpha` is 0 and the file's is not, or a file cannot be read any more.
        """
        return self.stacked(
            name, [file.read(name) if name in file.modules else None for file in self.files]
        )

    def stacked(self, name: str, pairs: Sequence[LoraPair | None]) -> tuple[Tensor, Tensor]:
        """What `read` gives, from what each expert's file holds of the linear."""
        linear, (kind_A, kind_B) = self.linears[name], self.dtypes(name)
        A = torch.zeros(len(self.files), self.rank, linear.in_features, dtype=kind_A)
        B = torch.zeros(len(self.files), linear.out_features, self.rank, dtype=kind_B)
        for expert, (file, pair) in enumerate(zip(self.files, pairs, strict=True)):
            if pair is not None:
                _place(A[expert], B[expert], pair, self.alpha, file.path)
        return A, B


def load_experts(
    folder: Path, linears: list[RoutedLinear], experts: int, rank: int, alpha: float
) -> ExpertBank:
    """Read `experts` LoRA adapters into one bank of this rank and α, fp32.

    Raises:
        CheckpointError: as `ExpertFiles` does.
    """
    bank = ExpertBank(linears, experts, rank, alpha)
    files = ExpertFiles.of(folder, linears, experts, rank, alpha)
    for name in bank.linears:
        A, B = files.read(name)
        with torch.no_grad():
            bank.pair(name).A.copy_(A)
            bank.pair(name).B.copy_(B)
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


def _place(A: Tensor, B: Tensor, pair: LoraPair, alpha: float, path: Path) -> None:
    """Put one linear's factors into zeros A [r, in] and B [out, r], at α/r of these."""
    given_A, given_B, limit = pair.A, pair.B, len(A)
    if len(given_A) > limit:
        # Where q, k and v were trained apart and stored fused (kohya's split_qkv), B is blocks on
        # a diagonal: most of a linear's share of the rank is zero, and leaving that out is exact.
        used = (given_A != 0).any(1) & (given_B != 0).any(0)
        given_A, given_B = given_A[used], given_B[:, used]
    if (rank := len(given_A)) > limit:
        raise CheckpointError(
            f"{path}: {pair.module} has rank {rank}; mot_config.json says {limit}. Raise "
            f"rank there to {rank} and alpha to {alpha * rank / limit:g} (lower ranks are "
            "padded, but PEFT folders have to be given the new rank themselves), or resize the "
            f"file to rank {limit} (an SVD of B A, as kohya's resize_lora.py does)"
        )
    A[:rank], B[:, :rank] = given_A, given_B
    if pair.scale != (scale := alpha / limit):
        if not scale:
            raise CheckpointError(f"{path}: mot_config.json says alpha 0, at which no expert acts")
        B.mul_(pair.scale / scale)


def _check_ranks(file: LoraFile, rank: int) -> None:
    """A PEFT folder's tensors have the rank that its config says."""
    for module in file.modules.values():
        if module.rank != rank:
            inner = module.linears[0].in_features
            raise CheckpointError(
                f"{file.path}: {module.keys['A']} has shape {(module.rank, inner)}, "
                f"expected {(rank, inner)} (rank {rank})"
            )


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
