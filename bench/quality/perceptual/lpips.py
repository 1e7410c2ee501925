"""LPIPS with AlexNet (Zhang et al. 2018, v0.1), from torchvision's weights but without torchvision.

The five linear heads are those in torchmetrics' wheel; the backbone is the file that torchvision
serves as alexnet-owt-7be5be79.pth. The tests hold it to torchmetrics' own LPIPS.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from a2edit.bench.quality.perceptual.weights import load_weights
from a2edit.export.pixels import Pixels
from a2edit.runtime.errors import RequestError

CHANNELS = (64, 192, 384, 256, 256)
TAPS = (1, 4, 7, 9, 11)  # the ReLUs of AlexNet's features that are compared
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
EPSILON = 1e-8
LEAST_SIDE = 64  # pixels, below which the last features have no room


class Lpips(nn.Module):
    """Distance of pictures f32 [n,3,H,W] in −1 … 1: f32 [n]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
        )
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in CHANNELS)
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    @classmethod
    def load(cls, path: Path) -> "Lpips":
        """Raises RequestError for a file that is not AlexNet's, or where the heads are missing."""
        made = cls().eval().requires_grad_(requires_grad=False)
        weights = load_weights(path, "--lpips")
        wanted = {f"features.{name}" for name in made.features.state_dict()}
        if missing := wanted - weights.keys():
            raise RequestError(
                f"--lpips {path} is not torchvision's AlexNet: it has no {min(missing)}: "
                "give alexnet-owt-7be5be79.pth"
            )
        made.features.load_state_dict(
            {name.removeprefix("features."): weights[name] for name in wanted}
        )
        made.load_heads(heads_file())
        return made

    def load_heads(self, path: Path) -> None:
        heads = load_weights(path, "LPIPS heads")
        for number, head in enumerate(self.heads):
            head.load_state_dict({"weight": heads[f"lin{number}.model.1.weight"]})

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        total = torch.zeros(len(first), device=first.device)
        one, two = ((picture - self.shift) / self.scale for picture in (first, second))
        heads = iter(self.heads)
        for number, layer in enumerate(self.features):
            one, two = layer(one), layer(two)
            if number in TAPS:
                gap = (_unit(one) - _unit(two)) ** 2
                total = total + next(heads)(gap).mean(dim=(1, 2, 3))
        return total


def distance(network: Lpips, first: Pixels, second: Pixels) -> float:
    """LPIPS of two pictures u8 [H,W,3]; small ones are compared at 64 pixels."""
    with torch.inference_mode():
        pair = [_tensor(picture, network.shift.device) for picture in (first, second)]
        return float(network(*pair)[0])


def heads_file() -> Path:
    """Where torchmetrics keeps the heads; raises RequestError where it is not installed."""
    spec = find_spec("torchmetrics")
    if spec is None or spec.origin is None:
        raise RequestError(
            "LPIPS's heads are in torchmetrics, which is not installed: "
            'pip install -c constraints.txt -e ".[quality]"'
        )
    return Path(spec.origin).parent / "functional/image/lpips_models/alex.pth"


def _tensor(picture: Pixels, device: torch.device) -> Tensor:
    pixels = torch.from_numpy(picture.copy()).to(device).permute(2, 0, 1)[None] / 127.5 - 1
    least = min(pixels.shape[-2:])
    if least >= LEAST_SIDE:
        return pixels
    return nn.functional.interpolate(pixels, scale_factor=LEAST_SIDE / least, mode="bilinear")


def _unit(features: Tensor) -> Tensor:
    return features / torch.sqrt(EPSILON + (features**2).sum(dim=1, keepdim=True))
