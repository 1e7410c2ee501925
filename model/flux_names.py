"""What LoRA files call Flux's linears (SPEC §4).

1. diffusers' own paths, `transformer_blocks.0.attn.to_q`: PEFT, diffusers, ai-toolkit, DiffSynth.
2. Black Forest Labs' paths, `double_blocks.0.img_attn.qkv`: modules of the reference code, where
   q, k and v (in single blocks the MLP's first linear too) are the rows of one linear. ComfyUI
   writes them, usually behind `diffusion_model.`; fal's trainer behind `base_model.model.`.
3. XLabs' attention processors, `double_blocks.0.processor.qkv_lora1`: 1 is the image stream, 2 the
   text stream. Their `qkv_lora` in single blocks adds to the first 3d rows of `linear1` alone.
4. The same paths with an underscore for every dot, behind a prefix that says so: `lora_unet_` of
   kohya's sd-scripts (BFL's paths), `lora_transformer_` of OneTrainer and `lycoris_` (diffusers').
"""

from __future__ import annotations

import re
from collections.abc import Iterable

# A prefix that goes on from another stands before it.
_DOTTED = ("base_model.model.transformer.", "base_model.model.", "transformer.", "diffusion_model.")
_UNDERSCORED = ("lora_unet_", "lora_transformer_", "lycoris_")

_QKV = ("attn.to_q", "attn.to_k", "attn.to_v")
_ADDED_QKV = ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")
# Path inside a block of the file → paths inside diffusers' block, in the order of B's rows.
_DOUBLE: dict[str, tuple[str, ...]] = {
    "img_attn.qkv": _QKV,
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_attn.qkv": _ADDED_QKV,
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "processor.qkv_lora1": _QKV,
    "processor.proj_lora1": ("attn.to_out.0",),
    "processor.qkv_lora2": _ADDED_QKV,
    "processor.proj_lora2": ("attn.to_add_out",),
}
_SINGLE: dict[str, tuple[str, ...]] = {
    "linear1": (*_QKV, "proj_mlp"),
    "linear2": ("proj_out",),
    "processor.qkv_lora": _QKV,
    "processor.proj_lora": ("proj_out",),
}
_STREAMS = {
    "transformer_blocks": ("double_blocks", _DOUBLE),
    "single_transformer_blocks": ("single_blocks", _SINGLE),
}
_BLOCK = re.compile(r"((?:single_)?transformer_blocks)\.(\d+)\.")

# Parts of Flux that carry no experts, as a refusal calls them; dots and underscores are one here.
_UNROUTED = {
    "the final layer (whose scale and shift halves BFL and diffusers store in opposite order)": (
        r"final_layer|proj_out|norm_out"
    ),
    "a block's modulation": r".*(img_mod|txt_mod|modulation)_lin|.*norm1?(_context)?_linear",
    "an embedder": (r"(img|txt|time|vector|guidance)_in|(x|context)_embedder|time_text_embed"),
    "a norm of queries and keys": r".*(query_norm|key_norm|norm_(added_)?[qk])",
}
_TEXT_ENCODERS = re.compile(r"lora_te\d*_|text_encoders?(_\d)?\.|text_model\.|t5xxl\.|clip_l\.")


def linears_by_module(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Module paths of files, in any scheme → the linears that hold their rows of B, in order.

    Args:
        names: the routed linears of the model at hand; what it lacks, files cannot name.
    """
    known = set(names)
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in known}
    for stream, index in {match.groups() for name in known if (match := _BLOCK.match(name))}:
        blocks, parts = _STREAMS[stream]
        for part, targets in parts.items():
            paths = tuple(f"{stream}.{index}.{target}" for target in targets)
            if known.issuperset(paths):
                found[f"{blocks}.{index}.{part}"] = paths
    for dotted, paths in list(found.items()):
        found[dotted.replace(".", "_")] = paths
    return found


def bare_module(module: str) -> str:
    """A module path of a file without the prefix of whoever wrote it."""
    for prefix in (*_DOTTED, *_UNDERSCORED):
        if module.startswith(prefix):
            return module.removeprefix(prefix)
    return module


def is_text_encoder(module: str) -> bool:
    """Whether a bare module path is of CLIP or T5, in the names of those who train them along."""
    return _TEXT_ENCODERS.match(module) is not None


def unrouted_part(module: str) -> str | None:
    """What a bare module path without experts belongs to, in words; None: not a part of Flux."""
    flat = module.replace(".", "_")
    for words, pattern in _UNROUTED.items():
        if re.match(rf"(?:{pattern})(?:_|$)", flat):
            return words
    return None
