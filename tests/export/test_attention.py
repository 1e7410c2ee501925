"""The attention kernel of a program: measured, lossless, and in force while it is traced."""

import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from a2edit.export.compile.attention import (
    Heads,
    Timed,
    fastest,
    fastest_attention,
    largest_attention,
    timed_kernels,
)

CPU = torch.device("cpu")
HERE = (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH)


class Two(nn.Module):
    """Attention over 12 tokens, and over 40."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return scaled_dot_product_attention(x, x, x), scaled_dot_product_attention(y, y, y)


def program() -> torch.export.ExportedProgram:
    x, y = torch.randn(1, 2, 12, 16), torch.randn(1, 2, 40, 16)
    return torch.export.export(Two(), (x, y))


def test_the_attention_of_most_tokens_is_found() -> None:
    assert largest_attention(program()) == Heads((1, 2, 40, 16), (1, 2, 40, 16), torch.float32)


def test_open_sizes_have_no_one_attention() -> None:
    tokens = torch.export.Dim("tokens", min=2, max=64)
    x, y = torch.randn(1, 2, 12, 16), torch.randn(1, 2, 40, 16)
    opened = torch.export.export(Two(), (x, y), dynamic_shapes=({2: tokens}, {2: tokens * 3 + 4}))
    assert largest_attention(opened) is None
    with fastest_attention(opened, CPU):
        pass


def test_kernels_are_measured_on_the_device() -> None:
    heads = Heads((1, 2, 40, 16), (1, 2, 24, 16), torch.bfloat16)
    found = timed_kernels(heads, CPU, (*HERE, SDPBackend.CUDNN_ATTENTION))
    assert [it.kernel for it in found] == list(HERE), "cuDNN is for GPUs"
    assert all(it.seconds > 0 and 1e-4 < it.error < 0.01 for it in found)


@pytest.mark.parametrize(
    ("timed", "chosen"),
    [
        ([(SDPBackend.MATH, 2.0, 1e-3), (SDPBackend.FLASH_ATTENTION, 1.0, 1.2e-3)], 1),
        # twice as fast, and ten times as far off
        ([(SDPBackend.MATH, 2.0, 1e-3), (SDPBackend.FLASH_ATTENTION, 1.0, 1e-2)], 0),
        ([(SDPBackend.MATH, 2.0, 0.0), (SDPBackend.FLASH_ATTENTION, 3.0, 0.0)], 0),
    ],
)
def test_the_fastest_that_loses_nothing_is_taken(
    timed: list[tuple[SDPBackend, float, float]], chosen: int
) -> None:
    assert fastest(Timed(*one) for one in timed) == timed[chosen][0]
    assert fastest([]) is None


@pytest.mark.parametrize(("kernel", "flash"), list(zip(HERE, (True, False), strict=True)))
def test_what_is_chosen_is_what_is_traced(kernel: SDPBackend, flash: bool) -> None:
    x, y = torch.randn(1, 2, 12, 16), torch.randn(1, 2, 40, 16)
    with sdpa_kernel(kernel):
        traced = make_fx(program().module(), tracing_mode="fake")(x, y)
    names = [str(node.target) for node in traced.graph.nodes]
    assert any("flash_attention" in name for name in names) == flash


def test_a_program_is_compiled_by_the_fastest() -> None:
    with fastest_attention(program(), CPU):
        enabled = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.math_sdp_enabled()
    assert enabled == (True, False)  # of KERNELS a processor has this one alone
    assert torch.backends.cuda.math_sdp_enabled()
