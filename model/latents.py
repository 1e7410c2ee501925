"""Packing, position ids and the mask's tokens: SPEC §2's shapes as functions on tensors.

Tokens keep their places: [B, rows, columns, C], so that a graph knows the picture's shape from
its inputs'. In memory that is the sequence [B, rows · columns, C] that the transformer takes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pack(latents: Tensor) -> Tensor:
    """[B, c, h, w] → [B, h/2, w/2, 4c] with channel = c·4 + dy·2 + dx."""
    batch, channels, height, width = latents.shape
    cells = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    grid = cells.permute(0, 2, 4, 1, 3, 5)
    return grid.reshape(batch, height // 2, width // 2, channels * 4)


def unpack(tokens: Tensor) -> Tensor:
    """[B, rows, columns, 4c] → [B, c, 2 rows, 2 columns]: what `pack` took."""
    batch, rows, columns, channels = tokens.shape
    cells = tokens.reshape(batch, rows, columns, channels // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, rows * 2, columns * 2)


def mask_tokens(mask: Tensor, factor: int = 8) -> Tensor:
    """Binary mask [B, 1, H, W] → [B, H/2f, W/2f, 4f²], f = factor: unshuffled, never scaled."""
    return pack(functional.pixel_unshuffle(mask, factor))


def image_ids(rows: int, columns: int) -> Tensor:
    """RoPE ids [rows·columns, 3] = (0, row, column); columns run on across a diptych."""
    down = torch.arange(rows, dtype=torch.float32)[:, None].expand(rows, columns)
    along = torch.arange(columns, dtype=torch.float32)[None, :].expand(rows, columns)
    return torch.stack([torch.zeros_like(down), down, along], -1).flatten(0, 1)
