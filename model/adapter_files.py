"""One expert's LoRA file, whoever wrote it: factors and scale of every linear it holds (SPEC §4).

A factor's name is a module path (`flux_names`) and an ending. PEFT and diffusers end in
`.lora_A.weight` and `.lora_B.weight`, PEFT's own state dict with the adapter's name in between;
kohya and ComfyUI in `.lora_down.weight` and `.lora_up.weight`, beside a scalar `.alpha`; older
diffusers in `.lora.down.weight` or `.lora_linear_layer.down.weight`; XLabs in `.down.weight`.
ΔW = (α/r)·B A with r the rows of A as stored. Where nothing says α, it is r: that is what diffusers
and ComfyUI take, and what trainers mean that fold α into the factors. diffusers may say it in the
file's metadata instead, as the PEFT config under `lora_adapter_metadata`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from a2edit.model.experts import RoutedLinear
from a2edit.model.flux_names import (
    bare_module,
    is_text_encoder,
    linears_by_module,
    unrouted_part,
)
from a2edit.runtime.errors import CheckpointError

_ENDING = re.compile(
    r"(?P<module>.+?)\.(?:"
    r"lora_(?P<letter>[AB])(?:\.[^.]+)?\.weight"
    r"|(?:lora_|lora\.|lora_linear_layer\.)?(?P<way>down|up)\.weight"
    r"|(?P<alpha>alpha))"
)
# Endings that make an adapter something else than B·A beside a frozen linear.
_KINDS = {
    r"dora_scale|lora_magnitude_vector": "DoRA",
    r"lokr_": "LoKr",
    r"hada_": "LoHa",
    r"boft_|oft_": "OFT",
    r"ia3_l|on_input$": "IA3",
    r"lora_mid": "LoRA in Tucker form",
    r"(?:lora_[AB]|lora_up|lora_down|lora\.up|lora\.down)(?:\.[^.]+)?\.bias$": "LoRA with biases",
    r"diff(?:_b)?$|set_weight$|w_norm$|b_norm$|reshape_weight$": "a full weight difference",
}
_PLAIN = (
    "Experts are plain LoRA, ΔW = (α/r)·B A on attention and feed-forward linears; retrain it so, "
    "or extract such a LoRA from the merged weights (an SVD of merged minus base)"
)
# What a PEFT config can say and this runtime does not compute, with the value that means "off".
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
_METADATA_KEY = "lora_adapter_metadata"


@dataclass(frozen=True, slots=True)
class LoraPair:
    """ΔW = scale · B A of one linear; A [r, in] and B [out, r] as stored, in the file's dtype.

    `module` is what the file calls it. The linears of a fused module share one A.
    """

    linear: RoutedLinear
    module: str
    A: Tensor
    B: Tensor
    scale: float


@dataclass(slots=True)
class _Module:
    """Where a file keeps one module: keys of "A", "B" and "alpha", and the linears of B's rows."""

    name: str
    linears: list[RoutedLinear]
    keys: dict[str, str] = field(default_factory=dict)
    rank: int = 0
    scale: float = 1.0
    dtypes: tuple[torch.dtype, torch.dtype] = (torch.float32, torch.float32)  # of A and B


@dataclass(frozen=True, slots=True)
class LoraFile:
    """One expert's file, of which only the head and every α are in memory.

    Attributes:
        path: of the file.
        modules: linear's name → where the file keeps it; what the file leaves out is not there.
    """

    path: Path
    modules: Mapping[str, _Module]

    @classmethod
    def of(
        cls, path: Path, linears: dict[str, RoutedLinear], alpha: float | None = None
    ) -> LoraFile:
        """Read what a safetensors file holds.

        Args:
            path: the file.
            linears: by name, those that may carry experts.
            alpha: α of the whole adapter; None: the file's `.alpha` or metadata, or else r.

        Raises:
            CheckpointError: a key that names no such linear, an adapter kind other than plain
                LoRA, a linear named twice, half of a pair, a wrong shape, an α that is no
                positive number.
        """
        try:
            with safe_open(path, "pt") as file:
                modules = _modules(path, list(file.keys()), linears)
                if alpha is None:
                    alpha = _metadata_alpha(path, file.metadata() or {})
                _check(path, file, modules, alpha)
                for module in modules:
                    _describe(path, file, module, alpha)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
        return cls(path, {linear.name: module for module in modules for linear in module.linears})

    def dtypes(self, name: str) -> tuple[torch.dtype, torch.dtype]:
        """Of A and B of a linear, as they are stored."""
        return self.modules[name].dtypes

    def scale(self, name: str) -> float:
        """α/r of a linear."""
        return self.modules[name].scale

    def read(self, name: str) -> LoraPair:
        """The factors of a linear that the file holds.

        Raises:
            CheckpointError: the file cannot be read any more.
        """
        return self._pairs([name])[name]

    def mapped(self) -> dict[str, LoraPair]:
        """The factors of all linears that the file holds, lying in it.

        Raises:
            CheckpointError: the file cannot be read any more.
        """
        return self._pairs(self.modules)

    def _pairs(self, names: Iterable[str]) -> dict[str, LoraPair]:
        try:
            with safe_open(self.path, "pt") as file:
                return {name: _pair(file, self.modules[name], name) for name in names}
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.path} cannot be read as safetensors: {error}") from error


def _pair(file: Any, module: _Module, name: str) -> LoraPair:
    """One linear's factors out of the module that holds them."""
    place = [linear.name for linear in module.linears].index(name)
    linear = module.linears[place]
    first = sum(before.out_features for before in module.linears[:place])
    A = file.get_tensor(module.keys["A"])
    B = file.get_slice(module.keys["B"])[first : first + linear.out_features]
    return LoraPair(linear, module.name, A, B, module.scale)


def stored_dtype(name: str) -> torch.dtype:
    """torch's type that holds what safetensors calls `name` and a model loads as floats."""
    return {"F16": torch.float16, "BF16": torch.bfloat16}.get(name, torch.float32)


def check_peft_config(config: dict[str, Any], source: str, *, ranks_differ: bool = False) -> None:
    """Refuse a PEFT config that asks for more than plain LoRA.

    Args:
        config: of adapter_config.json, or of diffusers' metadata.
        source: what a refusal names.
        ranks_differ: `rank_pattern` may be set, because ranks are read off the tensors.
    """
    for key, off in _REFUSED.items():
        if ranks_differ and key == "rank_pattern":
            continue
        if (value := config.get(key, off)) not in (off, None):
            raise CheckpointError(
                f"{source}: {key} is {value!r}; experts must be plain LoRA ({key} = {off!r}). "
                "Retrain, or convert the adapter to plain LoRA first"
            )


def _modules(path: Path, keys: list[str], linears: dict[str, RoutedLinear]) -> list[_Module]:
    """Group a file's keys by module, or refuse the first that is no plain LoRA of ours."""
    by_module = linears_by_module(linears)
    modules: dict[str, _Module] = {}
    for key in sorted(keys):
        name, letter = _parse(path, key)
        if (bare := bare_module(name)) not in by_module:
            raise CheckpointError(
                f"{path}: {key} matches no linear that carries experts; there are {len(linears)}, "
                f"the first is {min(linears)} (or the same in BFL's, XLabs' or kohya's names)"
            )
        where = [linears[linear] for linear in by_module[bare]]
        module = modules.setdefault(name, _Module(name, where))
        if letter in module.keys:
            raise CheckpointError(
                f"{path}: {module.keys[letter]} and {key} are both {letter} of {bare}; "
                "one expert is one adapter: split the file"
            )
        module.keys[letter] = key
    if not modules:
        raise CheckpointError(f"{path} holds no tensors; an expert must cover at least one linear")
    return list(modules.values())


def _parse(path: Path, key: str) -> tuple[str, str]:
    """The module and what the key holds of it: "A", "B" or "alpha"."""
    if is_text_encoder(bare_module(key)):
        raise CheckpointError(
            f"{path}: {key} is of a text encoder; A²-Edit experts do not touch text encoders. "
            "Save the adapter without them"
        )
    for pattern, kind in _KINDS.items():
        if re.search(rf"\.(?:{pattern})", key):
            raise CheckpointError(f"{path}: {key} makes this {kind}. {_PLAIN}")
    match = _ENDING.fullmatch(key)
    if part := unrouted_part(bare_module(match["module"] if match else key)):
        raise CheckpointError(
            f"{path}: {key} is of {part}, which carries no experts, so it cannot be routed. "
            "Retrain on attention and feed-forward linears alone, or remove these tensors if "
            "the expert is meant to do without them"
        )
    if match is None:
        raise CheckpointError(f"{path}: {key} does not end as a factor of a LoRA. {_PLAIN}")
    letter = match["letter"] or {"down": "A", "up": "B", None: "alpha"}[match["way"]]
    return match["module"], letter


def _metadata_alpha(path: Path, metadata: dict[str, str]) -> float | None:
    """α as diffusers writes it: a PEFT config in the metadata, each key behind the part's name."""
    if not (text := metadata.get(_METADATA_KEY)):
        return None
    try:
        config = {
            key.removeprefix("transformer."): value for key, value in json.loads(text).items()
        }
        alpha = config.get("lora_alpha")
        found = None if alpha is None else float(alpha)
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {_METADATA_KEY} cannot be read: {error}") from error
    check_peft_config(config, f"{path}, {_METADATA_KEY}", ranks_differ=True)
    return found


def _check(path: Path, file: Any, modules: list[_Module], alpha: float | None) -> None:
    """Every pair whole and of the model's sizes, every linear named once, one source of α."""
    owner: dict[str, str] = {}
    for module in modules:
        if missing := {"A", "B"} - module.keys.keys():
            has = " and ".join(module.keys.values())
            raise CheckpointError(f"{path}: {has} lacks its {' and '.join(sorted(missing))}")
        if alpha is not None and "alpha" in module.keys:
            raise CheckpointError(
                f"{path}: {module.keys['alpha']} and the adapter's config (lora_alpha {alpha}) "
                "both say α; remove one of them"
            )
        for linear in module.linears:
            if (other := owner.setdefault(linear.name, module.name)) != module.name:
                raise CheckpointError(f"{path}: {other} and {module.name} both cover {linear.name}")
        a, b = (tuple(file.get_slice(module.keys[letter]).get_shape()) for letter in "AB")
        rank = a[0] if a else 0
        rows = sum(linear.out_features for linear in module.linears)
        for key, shape, expected in (
            (module.keys["A"], a, (max(rank, 1), module.linears[0].in_features)),
            (module.keys["B"], b, (rows, max(rank, 1))),
        ):
            if shape != expected:
                raise CheckpointError(f"{path}: {key} has shape {shape}, expected {expected}")


def _describe(path: Path, file: Any, module: _Module, alpha: float | None) -> None:
    """Note a module's scale, which its own α comes before, and its stored dtypes."""
    if key := module.keys.get("alpha"):
        value = file.get_tensor(key)
        alpha = float(value.item()) if value.numel() == 1 else math.nan
        if not (math.isfinite(alpha) and alpha > 0):
            raise CheckpointError(f"{path}: {key} is {value.tolist()}; α is one positive number")
    A, B = (file.get_slice(module.keys[letter]) for letter in "AB")
    module.rank = A.get_shape()[0]
    module.scale = 1.0 if alpha is None else alpha / module.rank
    module.dtypes = stored_dtype(A.get_dtype()), stored_dtype(B.get_dtype())
