"""Which inputs are joined from parts, which are shared, and how their values are spread."""

import numpy as np
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from a2edit.calibration.ranges import InputSpread, input_parts, shared_inputs
from a2edit.model.experts import RoutedLinear

BLOCK, SINGLE = "transformer_blocks.0", "single_transformer_blocks.0"


def linears(*names: str) -> list[RoutedLinear]:
    return [RoutedLinear(name, 0, 64, 64) for name in names]


def test_only_a_single_blocks_proj_out_is_joined() -> None:
    linear = RoutedLinear(f"{SINGLE}.proj_out", 1, 320, 64)
    assert input_parts(linear, 64) == (64, 256)
    assert input_parts(RoutedLinear(f"{BLOCK}.attn.to_q", 0, 64, 64), 64) == (64,)


def test_what_reads_one_tensor_stands_together() -> None:
    double = [
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
    ]
    single = ["proj_mlp", "proj_out", "attn.to_q", "attn.to_k", "attn.to_v"]
    names = [
        *(f"transformer_blocks.{block}.{name}" for block in range(2) for name in double),
        *(f"single_transformer_blocks.{block}.{name}" for block in range(2) for name in single),
    ]
    groups = [{linear.name for linear in group} for group in shared_inputs(linears(*names))]
    assert len(groups) == 2 * 8 + 2 * 2
    assert sorted(name for group in groups for name in group) == sorted(names)
    for block in range(2):
        q, k, v = (f"transformer_blocks.{block}.attn.to_{x}" for x in "qkv")
        assert {q, k, v} in groups
        added = {f"transformer_blocks.{block}.attn.add_{x}_proj" for x in "qkv"}
        assert added in groups
        read = {f"single_transformer_blocks.{block}.attn.to_{x}" for x in "qkv"}
        assert {*read, f"single_transformer_blocks.{block}.proj_mlp"} in groups


@example(seed=99999999, share=0.99, pieces=1)  # inputs of 4,844 and more
@given(st.integers(0, 2**32 - 1), st.sampled_from([1.0, 0.99, 0.9]), st.integers(1, 4))
def test_a_share_is_represented(seed: int, share: float, pieces: int) -> None:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(400, 16, generator=random) * torch.randn(16, generator=random).exp() ** 2
    smooth = torch.rand(16, generator=random) + 0.5
    spread = InputSpread.empty(16)
    for piece in x.chunk(pieces):
        spread.add(piece[None])
    parts = (6, 10)
    split = zip((x / smooth).abs().split(parts, -1), spread.split(smooth, parts), strict=True)
    for part, (own, factors) in split:
        peak = own.represented(factors, share)
        exact = float(np.quantile(part.numpy(), share, method="inverted_cdf"))
        # up to the edge of its bin, and never beyond what there is
        assert exact * 0.99999 <= peak <= min(exact * 2**0.251, float(part.max()) * 1.00001)
        assert own.beyond(factors, peak) <= 1 - share + 1e-9


def test_zeros_have_no_size() -> None:
    spread = InputSpread.empty(4)
    spread.add(torch.zeros(8, 4))
    assert spread.represented(torch.ones(4), 0.999) == 0
