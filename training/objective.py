"""What a stage minimises, as one module: what is trained by it is what it holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from a2edit.model.checkpoint import Checkpoint
from a2edit.training.autoencoder import autoencoder_loss
from a2edit.training.data import Batch
from a2edit.training.flow import FlowModel, Noise
from a2edit.training.specialise import carries
from a2edit.training.stages import Stage

_TRAINED = {
    "autoencoder": ("vae",),
    "base": ("transformer", "text_encoder", "pooled_encoder", "image_encoder", "redux"),
    "experts": ("experts", "gate"),
}


def trained_parts(stage: Stage) -> tuple[str, ...]:
    """Names, in `Checkpoint.modules`, of what a stage trains."""
    return _TRAINED[stage.trains]


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a step's batch, with their noise.

    Attributes:
        batch: the samples.
        noise: of a flow-matching stage; of the autoencoder's, values are [B, C, S/8, S/8].
        total: what the weighted sum of the piece is divided by, a scalar.
    """

    batch: Batch
    noise: Noise
    total: Tensor


class Objective(nn.Module):
    """A stage's loss of a piece. Trained modules are registered and take gradients; no others."""

    def __init__(self, checkpoint: Checkpoint, flow: FlowModel, stage: Stage) -> None:
        super().__init__()
        modules = checkpoint.modules()
        self.parts = nn.ModuleDict({name: modules[name] for name in trained_parts(stage)})
        # Neither is a module, so what they hold is not registered through them.
        self.checkpoint, self.flow, self.stage = checkpoint, flow, stage
        if stage.semantic:
            self.parts["semantics"] = flow.semantics
        self.parts.requires_grad_(True)
        if stage.trains == "experts":
            for name in checkpoint.experts.linears:
                pair = checkpoint.experts.pair(name)
                pair.requires_grad_(carries(name, stage.experts_on))

    def learning(self) -> list[nn.Parameter]:
        """The parameters that take gradients."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def freeze(self) -> None:
        """Undo what the start did to the modules."""
        self.parts.requires_grad_(False)

    def noise(self, batch: int, tokens: int) -> Noise:
        """For a whole batch, from torch's generator."""
        if self.stage.trains != "autoencoder":
            return self.flow.noise(batch, tokens)
        side, device = self.checkpoint.config.size // 8, self.flow.device
        channels = int(self.checkpoint.vae.config.latent_channels)
        values = torch.randn(batch, channels, side, side, device=device)
        return Noise(values.new_zeros(batch), values)

    def weight(self, batch: Batch) -> Tensor:
        """What some samples count for, a scalar: pieces are weighed by it in a step's mean."""
        if self.stage.trains == "autoencoder":
            return torch.tensor(float(len(batch.canvas)), device=self.flow.device)
        return self.flow.weight(batch).sum()

    def forward(self, piece: Piece) -> tuple[Tensor, Tensor | None]:
        """The piece's weighted sum over its `total`, and the gate's logits [B, L, N] if it ran."""
        batch, noise = piece.batch, piece.noise
        if self.stage.trains != "autoencoder":
            experts = self.stage.trains == "experts"
            return self.flow.loss(
                batch,
                experts=experts,
                noise=noise,
                total=piece.total,
                semantic=self.stage.semantic,
            )
        # The target panel is the only one that is ever decoded.
        canvas = batch.canvas[:, :, -self.checkpoint.config.size :]
        with torch.autocast(self.flow.device.type, enabled=False):
            loss = autoencoder_loss(self.checkpoint.vae, canvas, noise.values)
        return loss * (len(canvas) / piece.total), None
