"""The table of what computes in what: every target, preset and graph, against the rules."""

import itertools

import numpy as np
import pytest

from a2edit.calibration.policy import (
    BF16_NETWORK,
    BYTES_TOLERANCE,
    DECODER,
    DENOISER,
    GATE,
    MODULATION,
    PRESETS,
    TEXT,
    TOLERANCE,
    WEIGHT_ONLY_TOLERANCE,
    Preset,
    graph_policy,
    resolve,
)
from a2edit.export.source import GRAPH_NAMES
from a2edit.runtime.errors import TargetError
from a2edit.runtime.targets import TARGETS, Precision

# What the denoiser's products run in, for lossless, balanced and small.
DENOISERS: dict[str, tuple[Precision, Precision, Precision]] = {
    "cpu": ("bf16", "int8", "int8"),
    "sm75": ("fp32", "int8", "int8"),
    "sm80": ("bf16", "int8", "int8"),
    "sm86": ("bf16", "int8", "int8"),
    "sm89": ("bf16", "fp8", "fp8"),
    "sm90": ("bf16", "fp8", "fp8"),
    "sm120": ("bf16", "fp8", "fp8"),
    "sm121": ("bf16", "fp8", "fp8"),
}
VARIANTS: dict[str, tuple[str, str, str]] = {
    "cpu": ("fp32", "int8", "int8"),
    "sm75": ("fp32", "int8", "int8"),
    **dict.fromkeys(("sm80", "sm86"), ("bf16", "int8-bf16", "int8-bf16")),
    **dict.fromkeys(("sm89", "sm90", "sm120", "sm121"), ("bf16", "fp8-bf16", "fp8-bf16")),
}


def test_every_target_and_preset_stands_here() -> None:
    assert DENOISERS.keys() == VARIANTS.keys() == TARGETS.keys()
    assert PRESETS == ("lossless", "balanced", "small")


@pytest.mark.parametrize(("target", "preset"), list(itertools.product(DENOISERS, PRESETS)))
def test_the_denoiser(target: str, preset: Preset) -> None:
    place, small = PRESETS.index(preset), preset == "small"
    precision = resolve(TARGETS[target], None, preset)
    assert precision == DENOISERS[target][place]
    policy = graph_policy(DENOISER, TARGETS[target], precision, small)
    assert policy.precision == precision
    assert policy.variant == VARIANTS[target][place]
    assert policy.quantised == (preset != "lossless")
    assert policy.kind == (precision if policy.quantised else None)
    assert not policy.weight_only
    # A CPU's engine rounds to bf16 by itself; sm75 has none.
    assert policy.rest == ("fp32" if target in {"cpu", "sm75"} else "bf16")
    own = 0 if precision == policy.rest == "bf16" else TOLERANCE[precision]
    around = BF16_NETWORK if policy.rest == "bf16" else 0
    allowed = np.linalg.norm([own, around, small * WEIGHT_ONLY_TOLERANCE])
    assert policy.tolerance == pytest.approx(allowed, rel=0.05)


@pytest.mark.parametrize(
    ("target", "preset", "graph"),
    list(itertools.product(DENOISERS, PRESETS, [it for it in GRAPH_NAMES if it != DENOISER])),
)
def test_the_other_graphs(target: str, preset: Preset, graph: str) -> None:
    precision = resolve(TARGETS[target], None, preset)
    policy = graph_policy(graph, TARGETS[target], precision, preset == "small")
    wide = target not in {"cpu", "sm75"} and graph != GATE
    assert policy.precision == policy.rest == ("bf16" if wide else "fp32")
    assert not policy.quantised
    assert policy.weight_only == (preset == "small" and graph in {TEXT, MODULATION})
    table = BYTES_TOLERANCE if graph == DECODER else TOLERANCE
    allowed = np.hypot(table[policy.precision], policy.weight_only * WEIGHT_ONLY_TOLERANCE)
    assert policy.tolerance == pytest.approx(allowed, rel=0.05)
    assert policy.variant == policy.rest + ("-w8" if policy.weight_only else "")


@pytest.mark.parametrize("target", DENOISERS)
def test_fp32_that_is_asked_for_is_fp32_everywhere(target: str) -> None:
    precision = resolve(TARGETS[target], "fp32", None)
    for graph in GRAPH_NAMES:
        policy = graph_policy(graph, TARGETS[target], precision, small=False)
        assert (policy.precision, policy.rest, policy.variant) == ("fp32",) * 3


def test_what_nobody_asked_for_is_safe_on_a_cpu_and_fast_on_a_gpu() -> None:
    assert resolve(TARGETS["cpu"], None, None) == "bf16"  # where it passes; export.targets
    assert resolve(TARGETS["sm80"], None, None) == "int8"
    assert resolve(TARGETS["sm89"], None, None) == "fp8"


def test_tolerances_of_the_issue() -> None:
    assert TOLERANCE["int8"] == 0.02
    assert TOLERANCE["fp8"] == 0.04


REFUSALS: dict[tuple[str, Precision], str] = {
    ("sm80", "fp8"): "sm80 (A100) has no fp8 arithmetic; it has fp32, bf16, int8: use --precision "
    "int8, or a target that has fp8 (sm89, sm90, sm120, sm121)",
    ("sm75", "bf16"): "sm75 (T4, RTX 20) has no bf16 arithmetic; it has fp32, int8: use "
    "--precision fp32, or a target that has bf16 (cpu, sm80, sm86, sm89, sm90, sm120, sm121)",
    ("cpu", "fp8"): "cpu (x86-64, Arm) has no fp8 arithmetic; it has fp32, bf16, int8: use "
    "--precision int8, or a target that has fp8 (sm89, sm90, sm120, sm121)",
}


@pytest.mark.parametrize(("target", "precision"), REFUSALS)
def test_what_a_target_lacks_is_refused(target: str, precision: Precision) -> None:
    with pytest.raises(TargetError) as refusal:
        resolve(TARGETS[target], precision, None)
    assert str(refusal.value) == REFUSALS[target, precision]
