"""Experts in other programs' files: ΔW is the file's, whoever named the tensors.

The writers here follow each format's definition: the linears of Flux's reference code and the rows
that diffusers cut them into are written out below, not taken from the code under test.
"""

import json
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers.loaders import lora_conversion_utils
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import ExpertBank, RoutedLinear
from a2edit.model.peft_files import load_experts

# Path in the file → its input's width and its rows, as diffusers' linears; d wide, the MLP m.
Modules = dict[str, tuple[int, list[tuple[str, int]]]]


def _bfl(d: int, m: int, doubles: int, singles: int) -> Modules:
    found: Modules = {}
    for i in range(doubles):
        to, at = f"transformer_blocks.{i}", f"double_blocks.{i}"
        q, k, v = ((f"{to}.attn.to_{x}", d) for x in "qkv")
        found[f"{at}.img_attn.qkv"] = d, [q, k, v]
        found[f"{at}.img_attn.proj"] = d, [(f"{to}.attn.to_out.0", d)]
        found[f"{at}.img_mlp.0"] = d, [(f"{to}.ff.net.0.proj", m)]
        found[f"{at}.img_mlp.2"] = m, [(f"{to}.ff.net.2", d)]
        q, k, v = ((f"{to}.attn.add_{x}_proj", d) for x in "qkv")
        found[f"{at}.txt_attn.qkv"] = d, [q, k, v]
        found[f"{at}.txt_attn.proj"] = d, [(f"{to}.attn.to_add_out", d)]
        found[f"{at}.txt_mlp.0"] = d, [(f"{to}.ff_context.net.0.proj", m)]
        found[f"{at}.txt_mlp.2"] = m, [(f"{to}.ff_context.net.2", d)]
    for i in range(singles):
        to, at = f"single_transformer_blocks.{i}", f"single_blocks.{i}"
        q, k, v = ((f"{to}.attn.to_{x}", d) for x in "qkv")
        found[f"{at}.linear1"] = d, [q, k, v, (f"{to}.proj_mlp", m)]
        found[f"{at}.linear2"] = d + m, [(f"{to}.proj_out", d)]
    return found


def _xlabs(d: int, m: int, doubles: int, singles: int) -> Modules:
    bfl, found = _bfl(d, m, doubles, singles), {}
    for i in range(doubles):
        for number, stream in (("1", "img"), ("2", "txt")):
            for part in ("qkv", "proj"):
                path = f"double_blocks.{i}.processor.{part}_lora{number}"
                found[path] = bfl[f"double_blocks.{i}.{stream}_attn.{part}"]
    for i in range(singles):
        width, rows = bfl[f"single_blocks.{i}.linear1"]
        found[f"single_blocks.{i}.processor.qkv_lora"] = width, rows[:3]
        found[f"single_blocks.{i}.processor.proj_lora"] = bfl[f"single_blocks.{i}.linear2"]
    return found


def _diffusers(d: int, m: int, doubles: int, singles: int) -> Modules:
    fused = _bfl(d, m, doubles, singles).values()
    return {name: (width, [(name, out)]) for width, rows in fused for name, out in rows}


@dataclass(frozen=True)
class Style:
    """Who writes: which modules, the prefix, dots or underscores, what A and B are called."""

    modules: Callable[[int, int, int, int], Modules]
    prefix: str = ""
    separator: str = "."
    names: tuple[str, str] = ("lora_A.weight", "lora_B.weight")

    def key(self, module: str, ending: str) -> str:
        return f"{self.prefix}{module.replace('.', self.separator)}.{ending}"


_KOHYA = ("lora_down.weight", "lora_up.weight")
_OLD = ("lora.down.weight", "lora.up.weight")
_STATE = ("lora_A.default.weight", "lora_B.default.weight")
STYLES = {
    "kohya": Style(_bfl, "lora_unet_", "_", _KOHYA),
    "bfl": Style(_bfl),
    "comfyui": Style(_bfl, "diffusion_model."),
    "comfyui-kohya": Style(_bfl, "diffusion_model.", ".", _KOHYA),
    "fal": Style(_bfl, "base_model.model."),
    "xlabs": Style(_xlabs, names=("down.weight", "up.weight")),
    "diffusers": Style(_diffusers, "transformer."),
    "diffusers-old": Style(_diffusers, "transformer.", ".", _OLD),
    "diffsynth": Style(_diffusers, "", ".", _STATE),
    "peft": Style(_diffusers, "base_model.model."),
    "peft-pipeline": Style(_diffusers, "base_model.model.transformer.", ".", _STATE),
    "onetrainer": Style(_diffusers, "lora_transformer_", "_", _KOHYA),
    "lycoris": Style(_diffusers, "lycoris_", "_", _KOHYA),
}
Sizes = tuple[int, int, int, int]
Tensors = dict[str, Tensor]
TINY_SIZES = (32, 128, 1, 2)


def _write(style: Style, sizes: Sizes, rank: int, alpha: float | None, seed: int = 0) -> Tensors:
    """Random factors of every module in the style's names; no α: it is folded in."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, (width, rows) in style.modules(*sizes).items():
        a, b = (style.key(module, name) for name in style.names)
        tensors[a] = torch.randn(rank, width, generator=generator)
        tensors[b] = torch.randn(sum(out for _, out in rows), rank, generator=generator)
        if alpha is not None:
            tensors[style.key(module, "alpha")] = torch.tensor(alpha)
    return tensors


def _deltas(style: Style, tensors: Tensors) -> Tensors:
    """ΔW of each linear in fp64: the fused product, cut into its rows."""
    deltas: Tensors = {}
    for module, (_, rows) in style.modules(*TINY_SIZES).items():
        if (a := style.key(module, style.names[0])) in tensors:
            A, B = tensors[a].double(), tensors[style.key(module, style.names[1])].double()
            alpha = tensors.get(style.key(module, "alpha"), torch.tensor(len(A))).double()
            names, outs = zip(*rows, strict=True)
            parts = (alpha / len(A) * (B @ A)).split(list(outs))
            deltas |= dict(zip(names, parts, strict=True))
    return deltas


def _load(
    tensors: Tensors,
    linears: list[RoutedLinear],
    rank: int,
    alpha: float,
    metadata: dict[str, str] | None = None,
) -> ExpertBank:
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, Path(folder) / "expert_00.safetensors", metadata)
        return load_experts(Path(folder), linears, 1, rank, alpha)


def _assert_deltas(bank: ExpertBank, deltas: Tensors) -> None:
    """Folding α rounds twice in fp32, the factor and its product with B: 2 · 2⁻²⁴ of each term."""
    for name in bank.linears:
        A, B = (factor[0].detach().double() for factor in bank.pair(name).parameters())
        if name in deltas:
            error = (bank.scale * (B @ A) - deltas[name]).norm() / deltas[name].norm()
            assert error <= 2**-23, (name, error.item())
        else:
            assert not A.any(), name
            assert not B.any(), name


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_every_style_holds_what_its_definition_says(tiny: Checkpoint, style: Style) -> None:
    tensors = _write(style, TINY_SIZES, rank=3, alpha=None)
    deltas = _deltas(style, tensors)
    assert deltas.keys() <= {linear.name for linear in tiny.linears}
    assert style.modules is _xlabs or len(deltas) == len(tiny.linears)
    _assert_deltas(_load(tensors, tiny.linears, 4, 2.0), deltas)


@pytest.mark.parametrize(
    "style", [STYLES["kohya"], STYLES["diffusers"]], ids=["kohya", "diffusers"]
)
def test_factors_at_the_banks_rank_and_scale_keep_their_bits(
    tiny: Checkpoint, style: Style
) -> None:
    tensors = _write(style, TINY_SIZES, rank=2, alpha=4.0)
    bank = _load(tensors, tiny.linears, 2, 4.0)
    for module, (_, rows) in style.modules(*TINY_SIZES).items():
        A, B = (tensors[style.key(module, name)] for name in style.names)
        names, outs = zip(*rows, strict=True)
        for name, part in zip(names, B.split(list(outs)), strict=True):
            assert torch.equal(bank.pair(name).A[0], A)
            assert torch.equal(bank.pair(name).B[0], part)


@settings(max_examples=40, deadline=None)
@given(
    style=st.sampled_from(list(STYLES.values())),
    rank=st.integers(1, 5),
    padding=st.integers(0, 3),
    alpha=st.none() | st.floats(2**-7, 2**7, width=32),
    bank_alpha=st.floats(2**-7, 2**7),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_any_rank_alpha_and_coverage(
    tiny: Checkpoint,
    style: Style,
    rank: int,
    padding: int,
    alpha: float | None,
    bank_alpha: float,
    seed: int,
    data: st.DataObject,
) -> None:
    tensors = _write(style, TINY_SIZES, rank, alpha, seed)
    modules = style.modules(*TINY_SIZES)
    dropped: Collection[str] = data.draw(st.sets(st.sampled_from(sorted(modules))))
    kept = modules.keys() - dropped or {min(modules)}
    endings = (*style.names, "alpha")
    keys = {style.key(module, ending) for module in kept for ending in endings}
    tensors = {key: tensors[key] for key in keys & tensors.keys()}
    _assert_deltas(
        _load(tensors, tiny.linears, rank + padding, bank_alpha), _deltas(style, tensors)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_as_stored(tiny: Checkpoint, dtype: torch.dtype) -> None:
    written = _write(STYLES["diffusers"], TINY_SIZES, rank=2, alpha=None)
    tensors = {key: value.to(dtype) for key, value in written.items()}
    bank = _load(tensors, tiny.linears, 2, 2.0)
    for name in bank.linears:
        stored = tensors[f"transformer.{name}.lora_B.weight"]
        assert torch.equal(bank.pair(name).B[0], stored.float())


def test_parts_trained_apart_and_stored_fused_fit_their_own_rank(tiny: Checkpoint) -> None:
    """kohya's split_qkv: B is blocks on a diagonal, the stored rank 3r or 4r; α/r is of that."""
    rank, tensors, deltas = 2, {}, {}
    style = STYLES["kohya"]
    for module, (width, rows) in _bfl(*TINY_SIZES).items():
        As = [torch.randn(rank, width) for _ in rows]
        Bs = [torch.randn(out, rank) for _, out in rows]
        tensors[style.key(module, "lora_down.weight")] = torch.cat(As)
        tensors[style.key(module, "lora_up.weight")] = torch.block_diag(*Bs)
        tensors[style.key(module, "alpha")] = torch.tensor(1.0)
        for (name, _), A, B in zip(rows, As, Bs, strict=True):
            deltas[name] = B.double() @ A.double() / (rank * len(rows))
    _assert_deltas(_load(tensors, tiny.linears, rank, 4.0), deltas)


def test_alpha_in_diffusers_metadata(tiny: Checkpoint) -> None:
    tensors = _write(STYLES["diffusers"], TINY_SIZES, rank=2, alpha=None)
    config = {"transformer.r": 2, "transformer.lora_alpha": 6, "transformer.use_dora": False}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(config)}
    bank = _load(tensors, tiny.linears, 2, 4.0, metadata)
    deltas = _deltas(STYLES["diffusers"], tensors)
    _assert_deltas(bank, {name: 3 * delta for name, delta in deltas.items()})


@pytest.mark.parametrize(
    ("style", "alpha", "convert"),
    [
        ("kohya", 2.0, "_convert_kohya_flux_lora_to_diffusers"),
        ("xlabs", None, "_convert_xlabs_flux_lora_to_diffusers"),
    ],
)
def test_diffusers_reads_the_same(style: str, alpha: float | None, convert: str) -> None:
    """A witness that shares nothing with us, at the one width that it knows."""
    sizes = (3072, 12288, 1, 1)
    linears = [
        RoutedLinear(name, 0, width, out)
        for width, rows in _diffusers(*sizes).values()
        for name, out in rows
    ]
    tensors = _write(STYLES[style], sizes, rank=3, alpha=alpha)
    bank = _load(tensors, linears, 4, 4.0)
    theirs = getattr(lora_conversion_utils, convert)(dict(tensors))
    names = {key.removeprefix("transformer.").rpartition(".lora_")[0] for key in theirs}
    assert names == {name for name in bank.linears if bank.pair(name).B[0].any()}
    for name in names:
        A, B = (theirs[f"transformer.{name}.lora_{letter}.weight"].double() for letter in "AB")
        # Traces of products of factors stand for ΔW, which is 3072 × 12288 here.
        ours_a, ours_b = (x[0].detach().double() for x in bank.pair(name).parameters())
        ours_b = ours_b * bank.scale
        squares = (
            ((first.T @ second) * (left @ right.T)).sum()
            for first, second, left, right in (
                (B, B, A, A),
                (ours_b, ours_b, ours_a, ours_a),
                (B, ours_b, A, ours_a),
            )
        )
        theirs_norm, ours_norm, cross = squares
        assert theirs_norm + ours_norm - 2 * cross <= 2**-40 * theirs_norm, name
