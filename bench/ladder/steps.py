"""The denoiser's loop in torch on one device, and the rungs that change it in place."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from a2edit.bench.ladder.floor import eight_bits_of, synchronise
from a2edit.bench.peft_experts import Layers, activate, eject_adapters, inject_adapters
from a2edit.export.fused import fused_attention
from a2edit.export.products import Activation, QuantisedLinear
from a2edit.kernels.ops import quantised
from a2edit.kernels.reference import LEVELS
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.graphs import DitGraph, GateGraph
from a2edit.model.modulation import Modulation, modulated
from a2edit.runtime.sampler import ENCODED, sigmas

WARM_UP = 3  # steps: compile, choose kernels, fill caches

# latents fp32 [1, h, w, 64], delta and sigma fp32 [1], pooled [1, P] or modulation [1, M]
Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class HalfStep(nn.Module):
    """`DitGraph` at one request, its transformer in any dtype; latents are fp32 between steps."""

    def __init__(self, graph: DitGraph, guidance: Tensor, context: Sequence[Tensor]) -> None:
        super().__init__()
        self.graph, self.dtype = graph, graph.transformer.dtype
        self.guidance, self.context = guidance, [part.to(self.dtype) for part in context]

    def forward(self, latents: Tensor, delta: Tensor, sigma: Tensor, pooled: Tensor) -> Tensor:
        """The next latents."""
        conditioning, text, reference = self.context
        velocity = self.graph.velocity(
            latents.to(self.dtype), conditioning, text, reference, pooled, sigma, self.guidance
        )
        return latents + delta[:, None, None, None] * velocity.float()


class Denoiser:
    """A model's loop over noise levels on a device, at the gate's table for one request.

    Attributes:
        step: one step; what rungs replace.
        pooled: of each step, what it takes besides the noise level.
    """

    @torch.inference_mode()
    def __init__(self, checkpoint: Checkpoint, device: torch.device, steps: int) -> None:
        self.checkpoint, self.device, self.dtype = checkpoint, device, checkpoint.transformer.dtype
        graph, gate = DitGraph(checkpoint).to(device).eval(), GateGraph(checkpoint).to(device)
        latents, conditioning, text, reference, pooled = (
            part.to(device) for part in graph.shapes.random(("latents", *ENCODED), 1, None)
        )
        asked = (conditioning, reference, text)
        self.table = gate(*(part.to(_dtype(checkpoint.gate)) for part in asked))[0]
        self.latents = latents
        levels = torch.from_numpy(sigmas(steps, latents.shape[1] * latents.shape[2])).to(device)
        self.levels, self.deltas = levels[:-1, None], levels.diff()[:, None]
        self.guidance = torch.full((1,), checkpoint.config.guidance, device=device)
        self.pooled: Sequence[Tensor] = [pooled.to(self.dtype)] * steps
        self.module = HalfStep(graph, self.guidance, (conditioning, text, reference))
        self.step: Step = self.module

    @property
    def steps(self) -> int:
        return len(self.levels)

    @torch.inference_mode()
    def run(self, steps: int | None = None) -> tuple[Tensor, float]:
        """Latents after all steps (or the first `steps`), and the seconds that they took."""
        latents = self.latents
        synchronise(self.device)
        start = time.perf_counter()
        for place in range(self.steps if steps is None else steps):
            sigma, delta = self.levels[place], self.deltas[place]
            latents = self.step(latents, delta, sigma, self.pooled[place])
        synchronise(self.device)
        return latents, time.perf_counter() - start


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def _input_peaks(denoiser: Denoiser, linears: Mapping[str, nn.Module]) -> dict[str, float]:
    """The largest |x| that each linear is given over all steps."""
    peaks = {name: torch.zeros((), device=denoiser.device) for name in linears}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def seen(_: nn.Module, given: tuple[Tensor]) -> None:
            peaks[name] = torch.maximum(peaks[name], given[0].abs().amax().float())

        return seen

    hooks = [module.register_forward_pre_hook(watch(name)) for name, module in linears.items()]
    denoiser.run()
    for hook in hooks:
        hook.remove()
    return {name: float(peak) for name, peak in peaks.items()}


@dataclass(frozen=True, slots=True)
class Change:
    """A rung: what it is called, and what it does to a denoiser."""

    name: str
    apply: Callable[[Denoiser], None]
    only: str | None = None  # the kind of device that has it


class Changes(ExitStack):
    """What rungs do, later ones to what earlier ones left; undone as far as needed by `close`."""

    def __init__(self) -> None:
        super().__init__()
        self._layers: Layers = ()

    def all(self) -> Sequence[Change]:
        """From the papers' set-up on."""
        return (
            Change("eager, experts by PEFT", self.adapters),
            Change("route merged", self.merged),
            Change("compiled", self.compiled),
            Change("linears in 8 bits", self.eight_bits),
            # torch compiles an operator of Triton kernels for GPUs alone
            Change("fused kernels", self.fused, "cuda"),
            Change("modulation precomputed", self.modulation),
            Change("CUDA graph", self.captured, "cuda"),
        )

    def adapters(self, denoiser: Denoiser) -> None:
        """The papers' set-up: diffusers as it is, an adapter an expert, scaled by the gate."""
        self._layers = inject_adapters(denoiser.checkpoint, denoiser.dtype)
        activate(self._layers, denoiser.table)

    @torch.no_grad()
    def merged(self, denoiser: Denoiser) -> None:
        """One weight a linear; adapters and experts leave the device."""
        checkpoint, bank = denoiser.checkpoint, denoiser.checkpoint.experts
        eject_adapters(checkpoint, self._layers)
        self._layers = ()
        for name in bank.linears:
            weight = checkpoint.transformer.get_parameter(f"{name}.weight")
            weight.data = bank.merged_weight(name, weight, denoiser.table)
        bank.to("cpu")

    def compiled(self, denoiser: Denoiser) -> None:
        """torch.compile of the whole step."""
        torch.compiler.reset()
        denoiser.step = torch.compile(denoiser.module, fullgraph=True, dynamic=False)

    @torch.inference_mode()
    def eight_bits(self, denoiser: Denoiser) -> None:
        """Routed linears as E4M3 or INT8, a scale a row, and one an input that a run finds."""
        transformer, kind = denoiser.checkpoint.transformer, eight_bits_of(denoiser.device)
        largest = LEVELS["int8" if kind == torch.int8 else "float8_e4m3fn"]
        linears = {
            it.name: transformer.get_submodule(it.name) for it in denoiser.checkpoint.linears
        }
        bf16 = denoiser.dtype == torch.bfloat16
        denoiser.step = denoiser.module
        for name, peak in _input_peaks(denoiser, linears).items():
            source = linears[name]
            assert isinstance(source, nn.Linear)
            how = Activation(peak / largest)
            narrow = QuantisedLinear(source, how, kind, narrow=bf16, fused=False)
            rows = source.weight.float().abs().amax(1).clamp(min=1e-12) / largest
            narrow.weight = nn.Parameter(quantised(source.weight, rows[:, None], kind), False)
            narrow.scale = nn.Parameter(rows, False)
            parent, _, leaf = name.rpartition(".")
            setattr(transformer.get_submodule(parent), leaf, narrow)
        self.compiled(denoiser)

    def fused(self, denoiser: Denoiser) -> None:
        """Our own kernels quantise, and norm and turn q and k, in place of the compiler's."""
        for module in denoiser.module.modules():
            if isinstance(module, QuantisedLinear):
                module.fused = True
        self.enter_context(fused_attention(denoiser.module))
        self.compiled(denoiser)

    @torch.inference_mode()
    def modulation(self, denoiser: Denoiser) -> None:
        """Shifts, scales and gates of all steps before the loop; their weights leave the device."""
        transformer = denoiser.checkpoint.transformer
        apart, guidance = Modulation(transformer), denoiser.guidance.to(denoiser.dtype)
        denoiser.pooled = [
            apart(pooled, sigma.to(denoiser.dtype), guidance)
            for sigma, pooled in zip(denoiser.levels, denoiser.pooled, strict=True)
        ]
        self.enter_context(modulated(transformer))
        apart.to("cpu")
        self.compiled(denoiser)

    @torch.inference_mode()
    def captured(self, denoiser: Denoiser) -> None:
        """The kernels of a step, recorded once and launched as one."""
        step = denoiser.step
        inputs = [denoiser.latents, denoiser.deltas[0], denoiser.levels[0], denoiser.pooled[0]]
        fixed = [part.clone() for part in inputs]
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # as torch asks for, before a capture
            for _ in range(WARM_UP):
                step(*fixed)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = step(*fixed)

        def replayed(*given: Tensor) -> Tensor:
            for kept, part in zip(fixed, given, strict=True):
                kept.copy_(part)
            graph.replay()
            return output

        denoiser.step = replayed
