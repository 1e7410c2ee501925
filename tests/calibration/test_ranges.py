"""Which inputs are joined from parts with a range each."""

from a2edit.calibration.ranges import input_parts
from a2edit.model.experts import RoutedLinear


def test_only_a_single_blocks_proj_out_is_joined() -> None:
    linear = RoutedLinear("single_transformer_blocks.0.proj_out", 1, 320, 64)
    assert input_parts(linear, 64) == (64, 256)
    assert input_parts(RoutedLinear("transformer_blocks.0.attn.to_q", 0, 64, 64), 64) == (64,)
