"""What a build makes for each of its targets: which backend, and how every graph is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from a2edit.calibration.policy import DENOISER, GraphPolicy, graph_policy, resolve
from a2edit.export.compile import check_compiler, openvino
from a2edit.export.settings import BuildSettings
from a2edit.export.source import graph_names
from a2edit.runtime.errors import TargetError
from a2edit.runtime.targets import Precision, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetPlan:
    """One target's engines, before they are made."""

    target: Target
    backend: str
    policies: Mapping[str, GraphPolicy]  # by graph

    @property
    def denoiser(self) -> GraphPolicy:
        return self.policies[DENOISER]

    def policy(self, engine: str) -> GraphPolicy:
        """Of a graph, or of "dit.<route>"."""
        return self.policies[engine.partition(".")[0]]


def target_plans(settings: BuildSettings) -> list[list[TargetPlan]]:
    """For every target what to build, and what instead where that repeats the model too badly.

    Only "as exact as the processor is fast" has a second choice: on a CPU bf16 is tried, then fp32.

    Raises:
        TargetError: a target, or this processor, lacks what was asked for.
    """
    return [
        [_plan(settings, target, precision) for precision in _choices(settings, target)]
        for target in settings.targets
    ]


def _choices(settings: BuildSettings, target: Target) -> list[Precision]:
    asked = None if settings.precision == "auto" else settings.precision
    precision = resolve(target, asked, settings.preset)
    if settings.backend == "inductor":
        return [_inductor_precision(settings, target, precision)]
    if target.device != "cpu":
        return [precision]
    _, capabilities = openvino.processor()
    if asked is None and precision == "bf16":
        fast: Precision = openvino.choose_precision("auto", capabilities)
        return [fast] if fast == "fp32" else [fast, "fp32"]
    openvino.choose_precision(precision, capabilities)
    return [precision]


def _inductor_precision(settings: BuildSettings, target: Target, precision: Precision) -> Precision:
    """What inductor computes a target's denoiser in: a CPU's is fp32 or int8, as its graph says."""
    if settings.materialise == "baked":
        raise TargetError(
            "--materialise baked is nothing for --backend inductor: its engines hold no weights, "
            "and routes are bound to them without a copy; leave it out"
        )
    if target.device == "cpu" and precision == "bf16":
        if settings.precision == "bf16":
            raise TargetError(
                "inductor computes in fp32 or int8 on a cpu, not in bf16: use one of them, or "
                "--backend openvino"
            )
        return "fp32"
    return precision


def _plan(settings: BuildSettings, target: Target, precision: Precision) -> TargetPlan:
    backend = target.backends[0] if settings.backend == "auto" else settings.backend
    if settings.fused_kernels and (backend != "inductor" or target.device == "cpu"):
        raise TargetError(
            f"--fused-kernels is for GPUs' engines by inductor, and {target.name}'s is by "
            f"{backend}: leave it out, or use --target sm80 and the like with --backend inductor"
        )
    check_compiler(target, backend)
    small = settings.preset == "small"
    names = graph_names(split=settings.step_cache is not None)
    policies = {name: graph_policy(name, target, precision, small) for name in names}
    return TargetPlan(target=target, backend=backend, policies=policies)
