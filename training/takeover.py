"""Starting a run from another checkpoint's parts, as far as they fit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from a2edit.model.checkpoint import Checkpoint

# Encoders whose weights mean nothing without the tokenizer they were trained with.
_TOKENIZER_OF = {"text_encoder": "text", "pooled_encoder": "pooled"}
_SPECIALISTS = ("gate", "experts")


@dataclass(frozen=True, slots=True)
class Takeover:
    """What was taken from a checkpoint, and why the rest was not.

    Attributes:
        taken: names of modules, as `Checkpoint.modules` has them.
        fresh: the other modules, each with the reason.
        origin: base hash of the checkpoint they are from.
    """

    taken: tuple[str, ...]
    fresh: dict[str, str]
    origin: str

    def __str__(self) -> str:
        new = ", ".join(f"{name} ({reason})" for name, reason in self.fresh.items())
        return f"taken over: {', '.join(self.taken) or 'nothing'}; new: {new or 'nothing'}"


def take_over(target: Checkpoint, source: Checkpoint, *, keep_experts: bool) -> Takeover:
    """Put `source`'s modules into `target` where shapes fit; `target` is changed in place.

    A module is taken whole, with its config, or not at all. Text encoders need the same tokenizer
    files besides; experts and gate are left new unless `keep_experts`.
    """
    taken, fresh = [], {}
    theirs = source.modules()
    for name, module in target.modules().items():
        if reason := _unfit(name, module, theirs[name], target, source):
            fresh[name] = reason
        elif name in _SPECIALISTS and not keep_experts:
            fresh[name] = "as asked"
        else:
            setattr(target, name, theirs[name])
            taken.append(name)
    hashed = source.config.base_hash or f"of {source.config.name}, without a hash"
    return Takeover(tuple(taken), fresh, hashed)


def _unfit(
    name: str, mine: nn.Module, other: nn.Module, target: Checkpoint, source: Checkpoint
) -> str:
    shapes, others = (
        {key: value.shape for key, value in module.state_dict().items()} for module in (mine, other)
    )
    if type(mine) is not type(other) or shapes != others:
        return "other shapes"
    if kind := _TOKENIZER_OF.get(name):
        files = [checkpoint.tokenizers[kind] / "tokenizer.json" for checkpoint in (target, source)]
        if files[0].read_bytes() != files[1].read_bytes():
            return "other tokenizer"
    if name == "experts" and mine.linears != other.linears:
        return "other linears"
    return ""
