"""Packing, position ids and the mask's tokens: SPEC §2's shapes as functions on tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pack(latents: Tensor) -> Tensor:
    """[B, c, h, w] → [B, (h/2)(w/2), 4c] with channel = c·4 + dy·2 + dx."""
    batch, channels, height, width = latents.shape
    cells = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return cells.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """[B, (h/2)(w/2), 4c] → [B, c, h, w]; height and width are the latents', in f8 cells."""
    batch, _, channels = tokens.shape
    cells = tokens.reshape(batch, height // 2, width // 2, channels // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, height, width)


def mask_tokens(mask: Tensor, factor: int = 8) -> Tensor:
    """Binary mask [B, 1, H, W] → [B, Li, 4·factor²]: unshuffled and packed, never downsampled."""
    return pack(functional.pixel_unshuffle(mask, factor))


def image_ids(rows: int, columns: int) -> Tensor:
    """RoPE ids [rows·columns, 3] = (0, row, column); columns run on across a diptych."""
    ids = torch.zeros(rows, columns, 3)
    ids[..., 1] = torch.arange(rows)[:, None]
    ids[..., 2] = torch.arange(columns)[None, :]
    return ids.reshape(-1, 3)
