"""Names of targets, and what is refused for them before anything is built."""

import pytest

from a2edit.runtime.errors import TargetError
from a2edit.runtime.targets import (
    TARGETS,
    Precision,
    check_backend,
    check_precision,
    parse_targets,
    target_of,
)


def test_targets_are_read_from_a_list() -> None:
    assert [target.name for target in parse_targets("cpu, SM80,sm89,cpu")] == [
        "cpu",
        "sm80",
        "sm89",
    ]
    assert {target.device for target in parse_targets("sm75,sm121")} == {"cuda"}
    assert TARGETS["cpu"].device == "cpu"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sm70", r"--target sm70 is unknown; known are cpu, sm75, .*sm121, several joined by comm"),
        ("cpu,a100", r"--target a100 is unknown"),
        (" , ", r"names no target; known are cpu"),
    ],
)
def test_an_unknown_target_is_refused(text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        parse_targets(text)


def test_a_gpu_is_known_by_its_compute_capability() -> None:
    for target in TARGETS.values():
        if target.capability is not None:
            assert target_of(target.capability) is target
            major, minor = target.capability
            assert target.name == f"sm{major}{minor}"
    with pytest.raises(TargetError, match=r"this GPU is sm70; engines are built for sm75, sm80"):
        target_of((7, 0))


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        (
            "sm80",
            "fp8",
            r"sm80 \(A100\) has no fp8.*--precision int8, .* has fp8 \(sm89, sm90, sm1",
        ),
        (
            "sm75",
            "bf16",
            r"sm75 \(T4, RTX 20\) has no bf16 .*it has fp32, int8: use --precision fp",
        ),
        ("cpu", "fp8", r"cpu .* has no fp8 arithmetic; it has fp32, bf16, int8"),
    ],
)
def test_a_precision_that_a_target_lacks_is_refused(
    name: str, precision: Precision, message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        check_precision(TARGETS[name], precision)


def test_every_precision_that_a_target_has_is_let_through() -> None:
    for target in TARGETS.values():
        for precision in target.precisions:
            check_precision(target, precision)
        for backend in target.backends:
            check_backend(target, backend)


@pytest.mark.parametrize(
    ("name", "backend", "message"),
    [
        (
            "sm75",
            "tensorrt_rtx",
            r"tensorrt_rtx cannot build for sm75 .*: build with --backend ten",
        ),
        (
            "sm90",
            "tensorrt_rtx",
            r"cannot build for sm90 \(H100, H200\): build with --backend tenso",
        ),
        ("cpu", "tensorrt_rtx", r"tensorrt_rtx cannot build for cpu .*: use --backend openvino"),
        (
            "sm80",
            "openvino",
            r"openvino cannot build for sm80 .*use --backend tensorrt_rtx or tenso",
        ),
    ],
)
def test_a_backend_that_cannot_build_for_a_target_is_refused(
    name: str, backend: str, message: str
) -> None:
    with pytest.raises(TargetError, match=message):
        check_backend(TARGETS[name], backend)
