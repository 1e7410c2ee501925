"""The editor: a bundle, opened; requests in, results out."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np

from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.compose import compose
from a2edit.runtime.engines.base import Array
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.prepare import prepare
from a2edit.runtime.request import EditRequest, EditResult
from a2edit.runtime.routing import RouteStore
from a2edit.runtime.sampler import noise, sigmas
from a2edit.runtime.tokenizer import PromptTokenizer

Progress = Callable[[int, int], None]  # steps done, steps in all


class Editor:
    """Runs edits on one bundle, one at a time: an editor is not thread-safe.

    Opening checks every file of the bundle; engines are opened by the first edit (or
    `open_engines`) and weight sets when a route first needs them. Both stay in memory until
    `close`, which `with` calls.
    """

    def __init__(self, bundle: Bundle, engines: EnginePool) -> None:
        self.bundle = bundle
        self.engines = engines
        manifest = bundle.manifest
        self.routes = RouteStore(manifest.routes, manifest.route_metric, engines.load)
        self._tokenizers = {
            name: PromptTokenizer(bundle.path(entry.file), entry.length, entry.pad_id)
            for name, entry in manifest.tokenizers.items()
        }

    @classmethod
    def open(
        cls, bundle: str | os.PathLike[str], device: str = "cpu", engine: str = "auto"
    ) -> Self:
        """Check a bundle and get ready; raises BundleError or TargetError."""
        checked = open_bundle(bundle)
        return cls(checked, EnginePool(checked, device, engine))

    def edit(self, request: EditRequest, progress: Progress | None = None) -> EditResult:
        """Carry out one request; `progress` is called after every step."""
        model, sampler = self.bundle.manifest.model, self.bundle.manifest.sampler
        steps = request.steps or sampler.steps
        clock = Clock()
        with clock("load"):
            self.engines.open_all()
        with clock("prepare"):
            prepared = prepare(request, model)
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
        with clock("route"):
            choice = self.routes.get(gate_weights)
            dit = self.engines.denoiser(choice)
        with clock("denoise"):
            levels = sigmas(steps, model.image_tokens, sampler.shift)
            latents = noise(request.seed, (1, model.image_tokens, model.latent_channels))
            context = tokens | pooled | {"guidance": np.array([sampler.guidance], np.float32)}
            for step in range(steps):
                sigma, delta = levels[step, None], levels[step + 1, None] - levels[step, None]
                state = {"latents": latents, "sigma": sigma, "delta": delta}
                latents = dit.run(context | state)["next_latents"]
                if progress:
                    progress(step + 1, steps)
        with clock("decode"):
            generated = self._run("vae_decoder", latents=latents)["pixels"][0]
        with clock("compose"):
            image = compose(prepared, generated)
        return EditResult(
            image=image,
            route=choice.route,
            predicted_error=choice.predicted_error,
            seed=request.seed,
            steps=steps,
            timings=clock.seconds,
            gate_weights=gate_weights,
            bundle_hash=self.bundle.manifest.bundle_hash,
            window=prepared.window,
            supply=choice.supply,
            warnings=warnings,
            prepared=prepared,
        )

    def open_engines(self) -> None:
        """Open every engine now instead of at the first edit."""
        self.engines.open_all()

    def close(self) -> None:
        self.engines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, graph: str, **inputs: Array) -> dict[str, Array]:
        return self.engines.get(graph).run(inputs)

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
        self.seconds[stage] = time.perf_counter() - start
