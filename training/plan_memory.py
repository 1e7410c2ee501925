"""How much memory a stage takes on one device: counted on a model without memory.

The transformer's own forward runs once on fake tensors, under the precision that training uses,
and a hook notes each storage that autograd saves. From these counts, `Footprint.peak` follows the
backward pass: before it, everything saved is held; at block b, what the blocks up to b saved (or,
recomputing, their inputs and all that b saves), the gradients of the blocks behind b, and what is
in flight. Beside that lie weights, optimiser and average, which never change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import inject
from a2edit.model.weightless import Shapes, fake_checkpoint, without_memory
from a2edit.training.data import Batch
from a2edit.training.flow import FlowModel, NoiseLevels
from a2edit.training.objective import Objective, Piece
from a2edit.training.stages import Stage

# Gradients that exist at once inside a block: of the widest linear's input (attention and MLP,
# 5·d) and of what the activation gave it (4·d).
_IN_FLIGHT = 9


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of one training step on one device.

    Attributes:
        frozen: weights that do not learn.
        learning: weights that learn; gradients take as much, AdamW twice, an average once.
        before, after: saved by what runs before the blocks (embedders, trained encoders, gate)
            and after them (the last projection, the loss).
        saved, inputs, gradients: by block: what autograd saves, what goes in, what learns there.
        in_flight: gradients of activations inside a block's backward.
        encoding: the autoencoder's own activations, gone before the transformer runs.
    """

    frozen: int
    learning: int
    before: int
    after: int
    saved: tuple[int, ...]
    inputs: tuple[int, ...]
    gradients: tuple[int, ...]
    in_flight: int
    encoding: int

    @property
    def saved_in_all(self) -> int:
        """Bytes that autograd saves in a forward pass without recomputing."""
        return self.before + sum(self.saved) + self.after

    def peak(self, *, recompute: bool, kept_gradients: bool) -> int:
        """Highest sum of activations and gradients in a step.

        Args:
            recompute: gradient checkpointing of the blocks.
            kept_gradients: all gradients exist from the start: in later pieces of a batch, and
                with several processes, whose buckets hold them.
        """
        held = self.inputs if recompute else self.saved

        def gradients(done: int) -> int:
            return self.learning if kept_gradients else done

        turn = self.before + sum(held) + self.after + self.in_flight + gradients(0)
        moments = [turn, self.encoding + gradients(0), self.before + self.learning]
        for block in reversed(range(len(held))):
            own = self.saved[block] if recompute else 0
            # What a block saved goes as its gradients come.
            done = gradients(sum(self.gradients[block + 1 :]))
            moments.append(self.before + sum(held[: block + 1]) + own + self.in_flight + done)
        return max(moments)

    def total(self, *, recompute: bool, kept_gradients: bool, average: bool) -> int:
        """Of everything: weights, AdamW's two moments, the average, and the step's peak."""
        lasting = self.frozen + self.learning * (1 + 2 + average)
        return lasting + self.peak(recompute=recompute, kept_gradients=kept_gradients)


def footprint(
    shapes: Shapes, stage: Stage, samples: int, precision: Literal["fp32", "bf16"]
) -> Footprint:
    """Count a stage with a piece of `samples` samples, without taking any memory."""
    half = precision == "bf16"
    frozen = torch.bfloat16 if half and stage.trains == "experts" else torch.float32
    with without_memory():
        checkpoint = fake_checkpoint(shapes, frozen)
        return count_step(checkpoint, stage, samples, half=half)


def count_step(checkpoint: Checkpoint, stage: Stage, samples: int, *, half: bool) -> Footprint:
    """Count a forward pass of a checkpoint, fake or real; its experts are left injected."""
    flow = FlowModel(checkpoint, NoiseLevels(), torch.device("cpu"))
    if stage.trains == "experts":
        inject(checkpoint.transformer, checkpoint.experts)
    objective = Objective(checkpoint, flow, stage)
    batch = empty_batch(checkpoint, stage, samples)
    noise = objective.noise(samples, batch.tokens.shape[1])
    piece = Piece(batch, noise, torch.tensor(1.0))
    counter = _Counter(checkpoint)
    with counter.counting(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        objective(piece)
    learning = objective.learning()
    ours = {id(parameter) for parameter in learning}
    everything = [p for module in checkpoint.modules().values() for p in module.parameters()]
    width = checkpoint.transformer.inner_dim
    blocks = range(len(counter.blocks))
    return Footprint(
        frozen=sum(_bytes(p) for p in everything if id(p) not in ours),
        learning=sum(_bytes(p) for p in learning),
        before=counter.saved[-1],
        after=counter.saved[len(blocks)],
        saved=tuple(counter.saved[block] for block in blocks),
        inputs=tuple(counter.inputs[block] for block in blocks),
        gradients=tuple(_gradients(checkpoint, stage, block) for block in blocks),
        in_flight=_IN_FLIGHT * samples * tokens_of(checkpoint, stage) * width * (2 if half else 4),
        encoding=_encoding(checkpoint, samples),
    )


def tokens_of(checkpoint: Checkpoint, stage: Stage) -> int:
    """Tokens of a sample in the transformer: image, text and reference; of the largest window."""
    config, vision = checkpoint.config, checkpoint.image_encoder.config
    context = config.text_length + (vision.image_size // vision.patch_size) ** 2
    return _image_tokens(checkpoint, stage) + context


def empty_batch(checkpoint: Checkpoint, stage: Stage, samples: int) -> Batch:
    """A black batch of a stage's shapes, with its largest window."""
    config, side = checkpoint.config, checkpoint.reference_size
    height, width = config.canvas
    return Batch(
        canvas=torch.zeros(samples, height, width, 3, dtype=torch.uint8),
        mask=torch.zeros(samples, height, width, dtype=torch.uint8),
        reference=torch.zeros(samples, side, side, 3, dtype=torch.uint8),
        text_ids=torch.zeros(samples, config.text_length, dtype=torch.int64),
        pooled_ids=torch.zeros(samples, config.pooled_length, dtype=torch.int64),
        category=torch.zeros(samples, dtype=torch.int64),
        tokens=torch.zeros(samples, _image_tokens(checkpoint, stage), dtype=torch.int64),
    )


def _image_tokens(checkpoint: Checkpoint, stage: Stage) -> int:
    config = checkpoint.config
    panels = config.canvas[1] // config.size
    return panels * max(stage.sides) ** 2 if stage.sides else config.image_tokens


class _Counter:
    """Sums what autograd saves, and what goes into blocks, each storage once.

    `saved[b]` is block b's, `saved[-1]` of what ran before the blocks, `saved[len(blocks)]` after.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        transformer = checkpoint.transformer
        self.blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        self.saved: dict[int, int] = dict.fromkeys(range(-1, len(self.blocks) + 1), 0)
        self.inputs: dict[int, int] = dict.fromkeys(range(len(self.blocks)), 0)
        self._held = {
            _storage(tensor)
            for module in checkpoint.modules().values()
            for tensor in (*module.parameters(), *module.buffers())
        }
        self._place = -1
        # References, so that no storage is freed and its address used again.
        self._seen: dict[str, list[Tensor]] = {"saved": [], "inputs": []}
        self._known: dict[str, set[int]] = {"saved": set(self._held), "inputs": set(self._held)}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what runs inside the block."""
        hooks = []
        for place, block in enumerate(self.blocks):
            hooks.append(block.register_forward_pre_hook(self._entering(place), with_kwargs=True))
            hooks.append(block.register_forward_hook(self._leaving(place)))
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._save, lambda tensor: tensor):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _count(self, kind: str, place: int, tensor: Tensor) -> None:
        if (storage := _storage(tensor)) not in self._known[kind]:
            self._known[kind].add(storage)
            self._seen[kind].append(tensor)
            sums = self.saved if kind == "saved" else self.inputs
            sums[place] += tensor.untyped_storage().nbytes()

    def _save(self, tensor: Tensor) -> Tensor:
        self._count("saved", self._place, tensor)
        return tensor

    def _entering(self, place: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            del module
            self._place = place
            for value in (*args, *kwargs.values()):
                for tensor in value if isinstance(value, tuple) else (value,):
                    if isinstance(tensor, Tensor):
                        self._count("inputs", place, tensor)

        return hook

    def _leaving(self, place: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            # Between blocks nothing runs: what comes next is another block, or what is after them.
            self._place = place + 1

        return hook


def _storage(tensor: Tensor) -> int:
    # Fake tensors have no address to tell storages by.
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _gradients(checkpoint: Checkpoint, stage: Stage, block: int) -> int:
    """Bytes of what learns in a block."""
    if stage.trains == "experts":
        bank = checkpoint.experts
        here = [name for name, linear in bank.linears.items() if linear.block == block]
        return sum(_bytes(p) for name in here for p in bank.pair(name).parameters())
    transformer = checkpoint.transformer
    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    return sum(_bytes(p) for p in blocks[block].parameters() if p.requires_grad)


def _encoding(checkpoint: Checkpoint, samples: int) -> int:
    """A convolutional encoder's first residual block at full resolution: four pictures, fp32."""
    if not isinstance(checkpoint.vae, AutoencoderKL):
        return 0
    height, width = checkpoint.config.canvas
    return 4 * 4 * samples * int(checkpoint.vae.config.block_out_channels[0]) * height * width
