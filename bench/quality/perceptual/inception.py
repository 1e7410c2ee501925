"""The Inception network of FID (the TensorFlow graph of 2015-12-05), for its usual weight file.

It is torchvision's Inception v3 with FID's differences: averages do not count the padding, the
last block takes a maximum, and pictures are resized as TensorFlow 1 did. Names are those of
pt_inception-2015-12-05-6726825d.pth; the tests hold it to torch-fidelity's network.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from a2edit.bench.quality.perceptual.weights import load_weights
from a2edit.runtime.errors import RequestError

SIDE = 299
FEATURES = 2048


class Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, given: int, made: int, kernel: int | tuple[int, int], **options: int
    ) -> None:
        super().__init__()
        size = (kernel, kernel) if isinstance(kernel, int) else kernel
        stride, pad = options.get("stride", 1), options.get("pad", 1)
        padding = ((size[0] - 1) // 2 * pad, (size[1] - 1) // 2 * pad)
        self.conv = nn.Conv2d(given, made, size, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(made, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class A(nn.Module):
    def __init__(self, given: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(given, 64, 1)
        self.branch5x5_1 = Conv(given, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5)
        self.branch3x3dbl_1 = Conv(given, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3)
        self.branch_pool = Conv(given, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], 1)


class B(nn.Module):
    def __init__(self, given: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(given, 384, 3, stride=2, pad=0)
        self.branch3x3dbl_1 = Conv(given, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2, pad=0)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class C(nn.Module):
    def __init__(self, given: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(given, 192, 1)
        self.branch7x7_1 = Conv(given, width, 1)
        self.branch7x7_2 = Conv(width, width, (1, 7))
        self.branch7x7_3 = Conv(width, 192, (7, 1))
        self.branch7x7dbl_1 = Conv(given, width, 1)
        self.branch7x7dbl_2 = Conv(width, width, (7, 1))
        self.branch7x7dbl_3 = Conv(width, width, (1, 7))
        self.branch7x7dbl_4 = Conv(width, width, (7, 1))
        self.branch7x7dbl_5 = Conv(width, 192, (1, 7))
        self.branch_pool = Conv(given, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], 1)


class D(nn.Module):
    def __init__(self, given: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(given, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2, pad=0)
        self.branch7x7x3_1 = Conv(given, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1))
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2, pad=0)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, 2)], 1)


class E(nn.Module):
    def __init__(self, given: int, *, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.branch1x1 = Conv(given, 320, 1)
        self.branch3x3_1 = Conv(given, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3))
        self.branch3x3_2b = Conv(384, 384, (3, 1))
        self.branch3x3dbl_1 = Conv(given, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1))
        self.branch_pool = Conv(given, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self.maximum else _average(x)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(three),
                self.branch3x3_2b(three),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(pooled),
            ],
            1,
        )


class Inception(nn.Module):
    """Pictures u8 [n,3,H,W] to features f32 [n,2048]."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2, pad=0)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, pad=0)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.MaxPool_1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, pad=0)
        self.MaxPool_2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b = A(192, 32)
        self.Mixed_5c = A(256, 64)
        self.Mixed_5d = A(288, 64)
        self.Mixed_6a = B(288)
        self.Mixed_6b = C(768, 128)
        self.Mixed_6c = C(768, 160)
        self.Mixed_6d = C(768, 160)
        self.Mixed_6e = C(768, 192)
        self.Mixed_7a = D(768)
        self.Mixed_7b = E(1280, maximum=False)
        self.Mixed_7c = E(2048, maximum=True)

    @classmethod
    def load(cls, path: Path) -> "Inception":
        """Raises RequestError for a file that holds another network."""
        made = cls().eval().requires_grad_(requires_grad=False)
        weights = load_weights(path, "--fid")
        wanted = made.state_dict()
        counters = {name for name in wanted if name.endswith("num_batches_tracked")}
        missing = sorted(wanted.keys() - weights.keys() - counters)
        if missing:
            raise RequestError(
                f"--fid {path} is not FID's Inception: it has no {missing[0]}: "
                "give pt_inception-2015-12-05-6726825d.pth"
            )
        made.load_state_dict({name: weights.get(name, wanted[name]) for name in wanted})
        return made

    def forward(self, pictures: Tensor) -> Tensor:
        x = (tensorflow_resize(pictures.float()) - 128) / 128
        for layer in self.children():
            x = layer(x)
        return x.mean(dim=(2, 3))


def tensorflow_resize(pictures: Tensor) -> Tensor:
    """[n,3,H,W] to 299 × 299, bilinear, output pixel i at input place i·H/299: TensorFlow 1's."""
    places = []
    for length in pictures.shape[-2:]:
        place = torch.arange(SIDE, device=pictures.device) * (length / SIDE)
        places.append(2 * place.clamp(max=length - 1) / max(length - 1, 1) - 1)
    rows, columns = torch.meshgrid(*places, indexing="ij")
    grid = torch.stack([columns, rows], dim=-1).expand(len(pictures), -1, -1, -1)
    return F.grid_sample(pictures, grid, "bilinear", "border", align_corners=True)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
