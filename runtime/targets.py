"""What engines are built for and run on: processors by name, and what each can compute.

A pair that a target lacks is refused here, before anything is built: compilers would fail after
minutes, or compute in another type and say nothing (SPEC §11.9).
"""

from dataclasses import dataclass
from typing import Literal

from a2edit.runtime.errors import TargetError

Precision = Literal["fp32", "bf16", "int8", "fp8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8", "fp8")


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of processor.

    Attributes:
        name: "cpu", or "sm<major><minor>" of an NVIDIA GPU's compute capability.
        capability: (major, minor) of a GPU.
        precisions: what its matrix products run in; of "cpu", what some processors have.
        backends: what builds engines for it, the preferred one first.
        example: cards, for messages and tables.
    """

    name: str
    capability: tuple[int, int] | None
    precisions: tuple[Precision, ...]
    backends: tuple[str, ...]
    example: str

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """What an editor is opened on."""
        return "cpu" if self.capability is None else "cuda"


_GPU = ("tensorrt_rtx", "tensorrt", "inductor")
TARGETS = {
    target.name: target
    for target in (
        Target("cpu", None, ("fp32", "bf16", "int8"), ("openvino", "inductor"), "x86-64, Arm"),
        # TensorRT for RTX has only fp16 products for it, and fp16 overflows (SPEC §11.4)
        Target("sm75", (7, 5), ("fp32", "int8"), ("tensorrt",), "T4, RTX 20"),
        Target("sm80", (8, 0), ("fp32", "bf16", "int8"), _GPU, "A100"),
        Target("sm86", (8, 6), ("fp32", "bf16", "int8"), _GPU, "A10, RTX 30"),
        Target("sm89", (8, 9), PRECISIONS, _GPU, "L4, L40S, RTX 40"),
        Target("sm90", (9, 0), PRECISIONS, ("tensorrt", "inductor"), "H100, H200"),
        Target("sm120", (12, 0), PRECISIONS, _GPU, "RTX 50, RTX PRO Blackwell"),
        Target("sm121", (12, 1), PRECISIONS, _GPU, "DGX Spark"),
    )
}


def parse_targets(text: str) -> tuple[Target, ...]:
    """Targets of a text like "cpu,sm80", each once; raises TargetError for an unknown one."""
    names = list(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    if not names:
        raise TargetError(f"--target {text!r} names no target; known are {', '.join(TARGETS)}")
    if unknown := [name for name in names if name not in TARGETS]:
        raise TargetError(
            f"--target {unknown[0]} is unknown; known are {', '.join(TARGETS)}, "
            "several joined by commas"
        )
    return tuple(TARGETS[name] for name in names)


def target_of(capability: tuple[int, int]) -> Target:
    """The target of a GPU; raises TargetError for one that no engine can be built for."""
    for target in TARGETS.values():
        if target.capability == capability:
            return target
    gpus = ", ".join(name for name, target in TARGETS.items() if target.capability)
    major, minor = capability
    raise TargetError(f"this GPU is sm{major}{minor}; engines are built for {gpus}")


def check_precision(target: Target, precision: Precision) -> None:
    """Raises TargetError where `target` has no `precision`, and says what to use instead."""
    if precision in target.precisions:
        return
    instead = "int8" if precision == "fp8" else "fp32"
    holders = [name for name, other in TARGETS.items() if precision in other.precisions]
    raise TargetError(
        f"{target.name} ({target.example}) has no {precision} arithmetic; it has "
        f"{', '.join(target.precisions)}: use --precision {instead}, or a target that has "
        f"{precision} ({', '.join(holders)})"
    )


def check_backend(target: Target, backend: str) -> None:
    """Raises TargetError where `backend` cannot build for `target`, and says what can."""
    if backend in target.backends:
        return
    instead = f"use --backend {' or '.join(target.backends)}"
    if backend == "tensorrt_rtx" and "tensorrt" in target.backends:
        instead = (
            f"build with --backend {' or '.join(target.backends)} on a machine that has such a GPU"
        )
    raise TargetError(f"{backend} cannot build for {target.name} ({target.example}): {instead}")
