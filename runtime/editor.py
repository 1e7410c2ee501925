"""The editor: a bundle, opened; requests in, results out."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import NDArray

from a2edit.runtime.batch import Outcome, edits_by_route
from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.compose import compose
from a2edit.runtime.engines.base import Array
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.memory.keeper import MemoryKeeper
from a2edit.runtime.memory.plans import DENOISER, LOAD, MODULATION, ROUTE
from a2edit.runtime.prepare import Prepared, prepare
from a2edit.runtime.request import EditRequest, EditResult
from a2edit.runtime.route_log import RouteLog
from a2edit.runtime.routing import RouteChoice, RoutePlan, RouteStore
from a2edit.runtime.sampler import CONTEXT, Denoiser, denoise, modulations, noise, sigmas
from a2edit.runtime.step_cache import CachedDenoiser, FirstBlockCache, SkipRule, cache_entry
from a2edit.runtime.tokenizer import PromptTokenizer

Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True, slots=True, eq=False)
class Conditioned:
    """A request as the model sees it, and what its gate asks for: ready to be routed."""

    request: EditRequest
    prepared: Prepared
    tokens: dict[str, Array]  # what stays the same in every step
    gate_weights: NDArray[np.float32]  # [L, N]
    warnings: tuple[str, ...]
    clock: "Clock"


class Editor:
    """Runs edits on one bundle, one at a time: an editor is not thread-safe.

    Opening checks every file of the bundle; engines are opened by the first edit (or
    `open_engines`) and weight sets when a route first needs them. They stay in memory until
    `close`, which `with` calls, as far as `memory_budget` lets them: `memory` says by which plan.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: EnginePool,
        *,
        route_tolerance: float | None = None,
        memory_budget: int | None = None,
        strict_route: bool = False,
        route_log: str | os.PathLike[str] | None = None,
        cache: FirstBlockCache | None = None,
    ) -> None:
        self.bundle = bundle
        self.engines = engines
        self.cache = cache
        manifest = bundle.manifest
        self.routes = RouteStore(
            manifest.routes,
            manifest.route_metric,
            engines.static_weights(),
            engines.merged_weights(),
            tolerance=route_tolerance,
            strict=strict_route,
            dropped=engines.release,
        )
        self.memory = MemoryKeeper(engines, self.routes, memory_budget)
        self._tokenizers = {
            name: PromptTokenizer(bundle.path(entry.file), entry.length, entry.pad_id)
            for name, entry in manifest.tokenizers.items()
        }
        self._modulated: tuple[tuple[bytes, bytes], Array] | None = None  # the last loop's
        self._log = RouteLog(route_log, manifest.model.checkpoint_hash) if route_log else None

    @classmethod
    def open(
        cls,
        bundle: str | os.PathLike[str],
        device: str = "cpu",
        engine: str = "auto",
        *,
        route_tolerance: float | None = None,
        memory_budget: int | None = None,
        strict_route: bool = False,
        route_log: str | os.PathLike[str] | None = None,
        cache: str | FirstBlockCache | None = None,
    ) -> Self:
        """Check a bundle and get ready; raises BundleError, TargetError or RequestError.

        Args:
            bundle: the folder that `a2edit-build engines` wrote.
            device: what the engines run on.
            engine: "openvino", "onnxruntime", or "auto": what the bundle was compiled by.
            route_tolerance: predicted error up to which a route that was built ahead will do;
                past it weights are merged for the table, unless that errs as much (a base in 8
                bits). Default: the bundle's.
            memory_budget: bytes that engines and weight sets may take together, on a GPU of its
                memory. The fastest plan that fits is followed; RequestError if none does.
                Default: no limit.
            strict_route: where the nearest route runs past the tolerance (--routes-only, a base
                in 8 bits), refuse instead of warning.
            route_log: a file to which what every gate asked for is appended (RouteLog).
            cache: skip the denoiser's tail where it changes little: "first-block" at the bundle's
                threshold, "first-block:0.08" or FirstBlockCache(0.08) at another. Default: never.
        """
        wish = FirstBlockCache.of(cache) if cache is not None else None
        checked = open_bundle(bundle)
        if wish:
            cache_entry(checked.manifest)
        return cls(
            checked,
            EnginePool(checked, device, engine, split=wish is not None),
            route_tolerance=route_tolerance,
            memory_budget=memory_budget,
            strict_route=strict_route,
            route_log=route_log,
            cache=wish,
        )

    def edit(self, request: EditRequest, progress: Progress | None = None) -> EditResult:
        """Carry out one request; `progress` is called after every step."""
        conditioned = self.condition(request)
        plan = self.plan(conditioned)
        return self.paint(conditioned, plan, progress)

    def condition(self, request: EditRequest) -> Conditioned:
        """Lay a request out, encode it and ask the gate. Nothing here depends on the route."""
        clock, said = Clock(), len(self.memory.said)
        with clock("load"):
            self.memory.within(LOAD, self.engines.open_all)
        with clock("prepare"):
            prepared = prepare(request, self.bundle.manifest.model)
            text_ids, pooled_ids, warnings = self._tokens(request.prompt)
        with clock("encode"):
            conditioning = self._run(
                "vae_encoder", pixels=prepared.canvas[None], mask=prepared.mask[None]
            )
            reference_tokens = self._run("image_encoder", reference=prepared.reference[None])
            text_tokens = self._run("text_encoder", text_ids=text_ids)
            pooled = self._run("pooled_encoder", pooled_ids=pooled_ids)
        with clock("gate"):
            tokens = conditioning | reference_tokens | text_tokens
            gate_weights = self._run("gate", **tokens)["gate_weights"][0]
        warnings += tuple(self.memory.said[said:])
        return Conditioned(request, prepared, tokens | pooled, gate_weights, warnings, clock)

    def plan(self, conditioned: Conditioned) -> RoutePlan:
        """Which weights will run; none are read or merged yet."""
        with conditioned.clock("route"):
            return self.routes.plan(conditioned.gate_weights)

    def paint(
        self, conditioned: Conditioned, plan: RoutePlan, progress: Progress | None = None
    ) -> EditResult:
        """Bind the weights of `plan`, denoise, decode and compose."""
        (result,) = self.paint_together([(conditioned, plan)], progress)
        return result

    def paint_together(
        self, batch: Sequence[tuple[Conditioned, RoutePlan]], progress: Progress | None = None
    ) -> list[EditResult]:
        """`paint` of several requests in one run of the engines, at most `ModelSpec.batch`.

        They have one size and one number of steps, and plans that run the same weights. Stages that
        they share count in the times of each.
        """
        model, sampler = self.bundle.manifest.model, self.bundle.manifest.sampler
        clock, said, (first, _) = Clock(), len(self.memory.said), batch[0]
        steps = self.steps(first.request)
        rows, columns = model.grid(first.prepared.size)

        def told(done: int) -> None:
            if progress:
                progress(done, steps)

        levels = sigmas(steps, rows * columns, sampler.shift)
        with clock("modulate"):
            pooled = np.concatenate([one.tokens["pooled"] for one, _ in batch])
            modulation = self._modulation(pooled, levels)
        with clock("route"):
            choices = self.memory.within(
                ROUTE, lambda: [self.routes.supply(plan) for _, plan in batch]
            )
            self.memory.within(DENOISER, lambda: self._denoiser(choices[0], steps))
        with clock("denoise"):
            shape = (1, rows, columns, model.latent_channels)
            start = np.concatenate([noise(one.request.seed, shape) for one, _ in batch])
            context = {
                name: np.concatenate([one.tokens[name] for one, _ in batch]) for name in CONTEXT
            }

            def loop() -> tuple[Array, int]:
                dit = self._denoiser(choices[0], steps)
                ended = denoise(dit, context, start, levels, modulation, told)
                return ended, dit.skipped if isinstance(dit, CachedDenoiser) else 0

            latents, skipped = self.memory.within(DENOISER, loop)
        with clock("decode"):
            generated = self._run("vae_decoder", latents=latents)["pixels"]
        results, ran_out = [], self.memory.said[said:]
        for (one, _), choice, pixels in zip(batch, choices, generated, strict=True):
            own = one.clock
            own.add(clock)
            with own("compose"):
                image = compose(one.prepared, pixels)
            results.append(
                EditResult(
                    image=image,
                    route=choice.route,
                    predicted_error=choice.predicted_error,
                    seed=one.request.seed,
                    steps=steps,
                    skipped_steps=skipped,
                    timings=own.seconds,
                    gate_weights=one.gate_weights,
                    bundle_hash=self.bundle.manifest.bundle_hash,
                    window=one.prepared.window,
                    route_table=choice.table,
                    supply=choice.supply,
                    warnings=(*one.warnings, *ran_out, *self._said(one.gate_weights, choice)),
                    prepared=one.prepared,
                )
            )
        return results

    def steps(self, request: EditRequest) -> int:
        """Of its denoising loop."""
        return request.steps or self.bundle.manifest.sampler.steps

    @overload
    def edit_many(
        self,
        requests: Iterable[EditRequest],
        on_result: Callable[[int, EditResult], object] | None = None,
        return_exceptions: Literal[False] = False,
    ) -> list[EditResult]: ...

    @overload
    def edit_many(
        self,
        requests: Iterable[EditRequest],
        on_result: Callable[[int, Outcome], object] | None = None,
        *,
        return_exceptions: Literal[True],
    ) -> list[Outcome]: ...

    def edit_many(
        self,
        requests: Iterable[EditRequest],
        on_result: Callable[[int, Any], object] | None = None,
        return_exceptions: bool = False,
    ) -> list[Any]:
        """The results of `edit` in the order of `requests`, each route bound once a window.

        Where the bundle's engines take several requests a run, those of one route, size and number
        of steps are painted together.

        `on_result(index, result)` is called as they finish, which is another order. All results
        are held for the list: for very many requests take `a2edit.runtime.batch.edits_by_route`.

        A request that fails raises at once what `edit` would raise; what has finished by then
        only `on_result` has seen. With `return_exceptions` the exception (A2EditError, OSError,
        MemoryError) takes the result's place, in the list and for `on_result`, and the others go
        on.
        """
        outcomes: dict[int, Outcome] = {}
        for index, outcome in edits_by_route(self, requests):
            if isinstance(outcome, Exception) and not return_exceptions:
                raise outcome
            outcomes[index] = outcome
            if on_result:
                on_result(index, outcome)
        return [outcomes[index] for index in range(len(outcomes))]

    def open_engines(self) -> None:
        """Open every engine now instead of at the first edit."""
        self.memory.within(LOAD, self.engines.open_all)

    def close(self) -> None:
        self.routes.clear()
        self.engines.close()
        if self._log:
            self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _modulation(self, pooled: Array, levels: NDArray[np.float32]) -> Array:
        """Of a loop, fp32 [steps, B, M]; the last one's while prompt and schedule are the same."""
        key = pooled.tobytes(), levels.tobytes()
        if self._modulated is None or self._modulated[0] != key:
            guidance = np.full(len(pooled), self.bundle.manifest.sampler.guidance, np.float32)
            self._modulated = None
            found = self.memory.within(
                MODULATION,
                lambda: modulations(self.engines.get(MODULATION), pooled, guidance, levels),
            )
            self._modulated = key, found
            if self.engines.target == "cpu":  # a GPU has one step of it at a time
                self.engines.ledger.hold(MODULATION, found.nbytes)
        return self._modulated[1]

    def _denoiser(self, choice: RouteChoice, steps: int) -> Denoiser:
        """Of one loop, with the weights of `choice`."""
        if self.cache is None:
            return self.engines.denoiser(choice)
        rule = SkipRule.of(self.cache, cache_entry(self.bundle.manifest), choice)
        return CachedDenoiser(*self.engines.head_and_tail(choice), rule, steps)

    def _run(self, graph: str, **inputs: Array) -> dict[str, Array]:
        return self.memory.within(graph, lambda: self.engines.get(graph).run(inputs))

    def _said(self, gate_weights: NDArray[np.float32], choice: RouteChoice) -> Iterator[str]:
        """What is to be said about a choice, which the log takes down, if there is one."""
        verified = self.bundle.manifest.verification.get(self.engines.target, {})
        for figure in verified.get("accepted", ()):
            yield f"this bundle was built with --accept-quality, though {figure}"
        if self.cache:
            yield from verified.get("step_cache", {}).get("over", ())
        if choice.warning:
            yield choice.warning
        try:
            if self._log:
                self._log.append(gate_weights, choice)
        except OSError as error:  # no reason to lose an edit
            yield f"the route log could not be written: {error}"

    def _tokens(self, prompt: str) -> tuple[Array, Array, tuple[str, ...]]:
        """Ids for both encoders, and a warning where the prompt was cut."""
        text_ids, cut = self._tokenizers["text"].encode(prompt)
        pooled_ids, _ = self._tokenizers["pooled"].encode(prompt)
        length = text_ids.shape[1]
        warning = f"the prompt is longer than {length} tokens: its end was cut off"
        return text_ids, pooled_ids, (warning,) if cut else ()


class Clock:
    """Seconds by stage, in the order of the stages."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._spend(stage, time.perf_counter() - start)

    def add(self, other: "Clock") -> None:
        """Count the stages of another clock as well."""
        for stage, seconds in other.seconds.items():
            self._spend(stage, seconds)

    def _spend(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
