"""The schedule, the noise and the loop between them: plain functions (SPEC §2, "schedule").

The first two are repeated by hosts in other languages, so every constant and rounding is written
out.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.engines.base import Array, Engine, GraphSpec
from a2edit.runtime.errors import RequestError

# What encoders give: conditioning fp32 [B, h, w, 320], tokens [B, L, D], pooled [B, P]. The
# denoiser takes all but the last, which is the modulation's.
CONTEXT = ("conditioning", "text_tokens", "reference_tokens")
ENCODED = (*CONTEXT, "pooled")
MAX_STEPS = 1000
MAX_SEED = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Shift:
    """How the schedule bends with the length of the image sequence."""

    base_shift: float = 0.5
    max_shift: float = 1.15
    base_tokens: int = 256
    max_tokens: int = 4096

    def __post_init__(self) -> None:
        if self.max_tokens <= self.base_tokens:
            raise RequestError(
                f"shift.max_tokens is {self.max_tokens}: it must exceed "
                f"base_tokens, {self.base_tokens}"
            )

    def mu(self, image_tokens: int) -> float:
        """The line through both ends, not clamped: 1024x2048 has mu 1.84333."""
        slope = (self.max_shift - self.base_shift) / (self.max_tokens - self.base_tokens)
        return self.base_shift + (image_tokens - self.base_tokens) * slope


FLUX_SHIFT = Shift(base_shift=0.5, max_shift=1.15, base_tokens=256, max_tokens=4096)


def check_steps(steps: int) -> int:
    """Return `steps`, or raise RequestError where no schedule of that length exists."""
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer):
        raise RequestError(f"steps must be a whole number, got {steps!r}")
    if not 1 <= steps <= MAX_STEPS:
        raise RequestError(f"steps must be between 1 and {MAX_STEPS}, got {steps}")
    return int(steps)


def check_seed(seed: int) -> int:
    """Return `seed`, or raise RequestError where it is no unsigned 64-bit number."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise RequestError(f"seed must be a whole number, got {seed!r}")
    if not 0 <= seed <= MAX_SEED:
        raise RequestError(f"seed must be between 0 and 2^64 - 1, got {seed}")
    return int(seed)


def sigmas(steps: int, image_tokens: int, shift: Shift = FLUX_SHIFT) -> NDArray[np.float32]:
    """The noise levels from 1 to 0: float32 [steps + 1], the last exactly 0 (SPEC §2).

    sigma_i = 1 - i/N and sigma' = e^mu / (e^mu + 1/sigma - 1), in float64, rounded once.
    `image_tokens` counts the whole image sequence: both halves of a diptych.
    """
    check_steps(steps)
    linear = 1.0 - np.arange(steps, dtype=np.float64) / steps
    bent = np.exp(shift.mu(image_tokens))
    shifted = bent / (bent + 1.0 / linear - 1.0)
    return np.append(shifted, 0.0).astype(np.float32)


def noise(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Standard normal float32 of `shape` in C order, the same for a seed in every host.

    The generator is Philox4x64-10 with key (seed, 0); its counter is a 256-bit number that is
    1 for the first block of four 64-bit words and grows by 1 a block (numpy steps before it
    draws). The words are used two by two, a then b, each cut to its top 53 bits:

        u1 = ((a >> 11) + 1) * 2^-53    in (0, 1], so that the logarithm is finite
        u2 = (b >> 11) * 2^-53          in [0, 1)
        r  = sqrt(-2 ln u1)
        values 2k and 2k + 1:  r cos(2 pi u2), r sin(2 pi u2)

    All of it in float64; the cast to float32 is last and hides the last bits in which maths
    libraries differ. An odd count drops the last sine.
    """
    count = int(np.prod(shape, dtype=np.int64))
    pairs = (count + 1) // 2
    key = np.array([check_seed(seed), 0], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=0).random_raw(2 * pairs)
    bits = (words >> np.uint64(11)).astype(np.float64).reshape(pairs, 2)
    radius = np.sqrt(-2.0 * np.log((bits[:, 0] + 1.0) * 2.0**-53))
    angle = bits[:, 1] * 2.0**-53 * (2.0 * np.pi)
    values = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return values.reshape(-1)[:count].astype(np.float32).reshape(shape)


def modulations(
    engine: Engine, pooled: Array, guidance: Array, levels: NDArray[np.float32]
) -> NDArray[np.float32]:
    """adaLN's shifts, scales and gates in every step of a loop: fp32 [steps, B, M].

    They depend on no latents, so that their weights need not lie beside the denoiser's.

    Args:
        engine: of the graph `modulation`.
        pooled: fp32 [B, P].
        guidance: fp32 [B].
        levels: float32 [steps + 1], as `sigmas` gives them.
    """
    given = {"pooled": pooled, "guidance": guidance}
    return np.stack([
        engine.run({**given, "sigma": np.repeat(sigma, len(pooled))})["modulation"]
        for sigma in levels[:-1]
    ])  # fmt: skip


class Denoiser(Protocol):
    """What makes a step: an engine of the graph `dit`, or head and tail of one with a cache."""

    @property
    def spec(self) -> GraphSpec: ...

    def run(self, inputs: Mapping[str, Array], unchanged: Collection[str] = ()) -> dict[str, Array]:
        """The output `next_latents` from the inputs of `dit`; `unchanged` as of an engine."""
        ...


def denoise(
    denoiser: Denoiser,
    context: Mapping[str, Array],
    latents: Array,
    levels: NDArray[np.float32],
    modulation: NDArray[np.float32],
    each: Callable[[int], object] = lambda _: None,
) -> Array:
    """Euler steps of a denoiser from `latents` at levels[0] to the last level.

    Args:
        denoiser: its weights bound or baked in.
        context: what stays the same in every step: `CONTEXT`.
        latents: fp32 [B, h, w, C]; not written to.
        levels: float32 [steps + 1], as `sigmas` gives them.
        modulation: fp32 [steps, B, M], as `modulations` gives it.
        each: told how many steps are done.
    """
    for step in range(len(levels) - 1):
        delta = np.repeat(levels[step + 1] - levels[step], len(latents))
        state = {"latents": latents, "modulation": modulation[step], "delta": delta}
        unchanged = context if step else ()
        latents = denoiser.run({**context, **state}, unchanged)["next_latents"]
        each(step + 1)
    return latents
