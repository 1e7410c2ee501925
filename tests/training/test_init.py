"""The pointer heads look where they should before anything is learnt."""

from pathlib import Path

import torch
from diffusers.models.embeddings import apply_rotary_emb

from a2edit.model.architectures import MINI, new_checkpoint
from a2edit.model.latents import image_ids
from a2edit.training.init import spread_gate, start_transformer


def test_pointer_head_finds_the_aligned_reference_token(tmp_path: Path) -> None:
    transformer = new_checkpoint(MINI, tmp_path).transformer
    start_transformer(transformer, offset_columns=16)
    rows, columns = 16, 32
    attention = transformer.single_transformer_blocks[2].attn
    hidden = torch.randn(1, rows * columns, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        rope = transformer.pos_embed(image_ids(rows, columns))
        query = attention.norm_q(attention.to_q(hidden).unflatten(-1, (4, 64)))
        key = attention.norm_k(attention.to_k(hidden).unflatten(-1, (4, 64)))
        query = apply_rotary_emb(query, rope, sequence_dim=1)[:, :, 0]
        key = apply_rotary_emb(key, rope, sequence_dim=1)[:, :, 0]
        shares = torch.softmax(query @ key.transpose(1, 2) / 8, -1)[0]
    place = torch.arange(rows * columns).reshape(rows, columns)
    right, left = place[:, 16:].reshape(-1), place[:, :16].reshape(-1)
    assert torch.equal(shares[right].argmax(-1), left)
    assert shares[right, left].mean() > 0.5


def test_the_gate_starts_with_requests_that_disagree(tmp_path: Path) -> None:
    gate = new_checkpoint(MINI, tmp_path).gate
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(64, 4, width, generator=generator) for width in (320, 128, 128)]
    with torch.no_grad():
        even = torch.softmax(gate(*inputs), -1)
        spread_gate(gate, gate(*inputs), spread=1.0)
        logits = gate(*inputs)
    torch.testing.assert_close(logits.mean(0), torch.zeros(6, 8), atol=1e-4, rtol=0)
    torch.testing.assert_close(logits.std(0), torch.ones(6, 8), atol=1e-4, rtol=0)
    assert torch.softmax(logits, -1).std(0).mean() > 3 * even.std(0).mean()


def test_modulation_starts_at_the_identity(tmp_path: Path) -> None:
    transformer = new_checkpoint(MINI, tmp_path).transformer
    start_transformer(transformer, offset_columns=16)
    block = transformer.single_transformer_blocks[0]
    hidden = torch.randn(2, 5, 256, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        normed, gate = block.norm(hidden, emb=torch.randn(2, 256))
    torch.testing.assert_close(normed, torch.nn.functional.layer_norm(hidden, (256,), eps=1e-6))
    assert torch.equal(gate, torch.ones_like(gate))
