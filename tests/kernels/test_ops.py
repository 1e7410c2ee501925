"""The kernels as torch's operators: on a processor they are numpy's formulas."""

import numpy as np
import pytest
import torch

from a2edit.kernels import activations
from a2edit.kernels.ops import qk_norm_rope, quantised, quantize_activation


@pytest.mark.parametrize(("fp8", "dtype"), [(False, "int8"), (True, "float8_e4m3fn")])
def test_levels_are_numpys_byte_for_byte(fp8: bool, dtype: str) -> None:
    """Ties, and values past the largest level too."""
    x = np.random.default_rng(0).standard_normal((40, 24)).astype(np.float32) * 60
    x[0] = np.arange(24) / 2 - 6
    step = 0.5
    levels, _ = activations.quantize_activation(x, dtype, step)
    for found in (
        quantize_activation(torch.from_numpy(x), step, fp8),
        quantised(torch.from_numpy(x), step, getattr(torch, dtype)),
    ):
        assert found.dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(found.view(torch.uint8).numpy(), levels.view(np.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norm_and_rope_are_numpys_for_every_request(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k = (torch.randn(2, 7, 3, 16).to(dtype) for _ in range(2))
    q_weight, k_weight = torch.randn(16), torch.randn(16)
    angles = torch.rand(7, 8) * 6
    found = qk_norm_rope(q, k, q_weight, k_weight, angles.cos(), angles.sin())
    for x, weight, turned in ((q, q_weight, found[0]), (k, k_weight, found[1])):
        assert (turned.dtype, turned.shape) == (dtype, x.shape)
        for request in range(2):
            truth = activations.qk_norm_rope(
                x[request].double().numpy(),
                weight.double().numpy(),
                angles.cos().double().numpy(),
                angles.sin().double().numpy(),
            )
            step = torch.finfo(dtype).eps
            np.testing.assert_allclose(
                turned[request].double().numpy(), truth, rtol=2 * step, atol=4 * step
            )


def test_operators_keep_the_promises_that_compilers_rely_on() -> None:
    x, table = torch.randn(5, 16), torch.rand(5, 4)
    q, ones = torch.randn(2, 5, 3, 8), torch.ones(8)
    checks = ("test_schema", "test_faketensor")
    ops = torch.ops.a2edit
    for fp8 in (False, True):
        given = (x, 0.1, fp8)
        torch.library.opcheck(ops.quantize_activation.default, given, test_utils=checks)
    heads = (q, q, ones, ones, table, table)
    torch.library.opcheck(ops.qk_norm_rope.default, heads, test_utils=checks)


@pytest.mark.gpu
@pytest.mark.parametrize("fp8", [False, True])
def test_a_gpus_operators_compute_what_a_processors_do(fp8: bool) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this torch was built without CUDA")
    x = torch.randn(40, 3072) * 30
    levels = quantize_activation(x.cuda(), 0.5, fp8).cpu()
    assert torch.equal(levels.view(torch.uint8), quantize_activation(x, 0.5, fp8).view(torch.uint8))
    q, k = torch.randn(2, 40, 24, 128), torch.randn(2, 40, 24, 128)
    angles = torch.rand(40, 64)
    given = (q, k, torch.randn(128), torch.randn(128), angles.cos(), angles.sin())
    compiled = torch.compile(qk_norm_rope)
    for found, wanted in zip(
        compiled(*(it.cuda() for it in given)), qk_norm_rope(*given), strict=True
    ):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-5, atol=1e-5)
