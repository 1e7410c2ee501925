"""`mot_config.json`: a checkpoint's experts, gate, routing and layout (SPEC §4)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from a2edit.runtime.errors import CheckpointError

CONFIG_NAME = "mot_config.json"

_ALLOWED: dict[str, tuple[object, ...]] = {
    "version": (1,),
    "fallback": ("strongest", "none"),
    "anchor_weight": ("gate", "one"),
    # `hidden` (a gate inside every block, at every step) freezes into a route only approximately;
    # SPEC §3 names it, nothing here computes it, so a checkpoint asking for it is refused.
    "gate_input": ("conditioning",),
    "pooling": ("mean",),
    "layout": ("diptych", "redux"),
    "reference_placement": ("aligned", "centred"),
}


@dataclass(frozen=True, slots=True)
class MoTConfig:
    """Mixture-of-Transformer settings of one checkpoint.

    Attributes:
        version: schema of this file.
        name: what the checkpoint calls itself; the bundle takes it over.
        num_experts: N, experts a block (8 in the paper).
        anchor: index b of the backbone expert, which is always active.
        rank, alpha: LoRA rank r and numerator of its scale α/r.
        fallback: who joins an anchor that nobody beats: the "strongest" other expert, or "none".
        renorm: divide the active weights by their sum.
        anchor_weight: the anchor's own weight: what the "gate" gave it, or "one".
        gate_input: "conditioning": the gate sees masked image, reference and text, no noise.
        pooling: how tokens become the gate's features.
        layout: "diptych" (reference pixels as the canvas's left half) or "redux" (tokens only).
        reference_placement: where the left half shows the reference: fitted to the mask's box
            ("aligned") or over the whole panel ("centred").
        size: working size in pixels; the target is size × size.
        steps, guidance: sampler defaults.
        text_length, pooled_length: tokens given to T5 and to CLIP.
        base_hash: sha256 over the bytes of `base/`, "" before the first save.
    """

    version: int
    name: str
    num_experts: int
    anchor: int
    rank: int
    alpha: float
    fallback: Literal["strongest", "none"]
    renorm: bool
    anchor_weight: Literal["gate", "one"]
    gate_input: Literal["conditioning"]
    pooling: Literal["mean"]
    layout: Literal["diptych", "redux"]
    reference_placement: Literal["aligned", "centred"]
    size: int
    steps: int
    guidance: float
    text_length: int
    pooled_length: int
    base_hash: str

    def __post_init__(self) -> None:
        for field, allowed in _ALLOWED.items():
            value = getattr(self, field)
            if value not in allowed:
                choices = ", ".join(repr(choice) for choice in allowed)
                raise CheckpointError(f"{CONFIG_NAME}: {field} is {value!r}; allowed: {choices}")
        for field in ("num_experts", "rank", "size", "steps", "text_length", "pooled_length"):
            if getattr(self, field) < 1:
                value = getattr(self, field)
                raise CheckpointError(f"{CONFIG_NAME}: {field} is {value}; it must be at least 1")
        if not 0 <= self.anchor < self.num_experts:
            raise CheckpointError(
                f"{CONFIG_NAME}: anchor is {self.anchor}; it must be one of the "
                f"{self.num_experts} experts, 0 to {self.num_experts - 1}"
            )
        if self.size % 16:
            raise CheckpointError(
                f"{CONFIG_NAME}: size is {self.size}; it must be a multiple of 16"
            )

    @property
    def scale(self) -> float:
        """α/r, the factor PEFT puts on every B·A."""
        return self.alpha / self.rank

    def at(self, size: int | None) -> Self:
        """The same with another working size, if one is given."""
        return self if size is None else replace(self, size=size)

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width in pixels of what the transformer sees."""
        return self.size, self.size * (2 if self.layout == "diptych" else 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of image tokens: 2×2-packed f8 latents of the whole canvas (SPEC §2)."""
        height, width = self.canvas
        return height // 16, width // 16

    @property
    def image_tokens(self) -> int:
        """Li, of both halves of a diptych."""
        rows, columns = self.grid
        return rows * columns

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = CONFIG_NAME) -> Self:
        known = {field.name for field in fields(cls)}
        unknown, missing = sorted(values.keys() - known), sorted(known - values.keys())
        if unknown or missing:
            raise CheckpointError(
                f"{source}: unknown keys {unknown}, missing keys {missing}; "
                f"the keys of version 1 are {sorted(known)}"
            )
        return cls(**values)

    @classmethod
    def load(cls, folder: Path) -> Self:
        path = folder / CONFIG_NAME
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{folder} is no A²-Edit checkpoint: it has no {CONFIG_NAME}; "
                "give a folder with base/, redux/, experts/, gate/ and that file"
            ) from error
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
        if not isinstance(values, dict):
            raise CheckpointError(f"{path} must hold one JSON object")
        return cls.from_dict(values, str(path))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


A2EDIT_MINI = MoTConfig(
    version=1,
    name="a2edit-mini",
    num_experts=8,
    anchor=0,
    rank=8,
    alpha=8.0,
    fallback="strongest",
    renorm=False,
    anchor_weight="gate",
    gate_input="conditioning",
    pooling="mean",
    layout="diptych",
    reference_placement="aligned",
    size=256,
    steps=16,
    guidance=30.0,
    text_length=24,
    pooled_length=24,
    base_hash="",
)

# The paper's model: FLUX.1-Fill with the reference as SigLIP + Redux tokens, 1024².
A2EDIT_FULL = MoTConfig(
    version=1,
    name="a2edit",
    num_experts=8,
    anchor=0,
    rank=32,
    alpha=32.0,
    fallback="strongest",
    renorm=False,
    anchor_weight="gate",
    gate_input="conditioning",
    pooling="mean",
    layout="redux",
    reference_placement="centred",
    size=1024,
    steps=50,
    guidance=30.0,
    text_length=512,
    pooled_length=77,
    base_hash="",
)
