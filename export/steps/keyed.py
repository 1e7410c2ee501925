"""Every step of a build under its key: a step's inputs say everything that its result depends on.

Of an earlier step that is its key, so that what changes in one is done again in all that follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from a2edit.export.chain import Chain, Made, Task
from a2edit.export.compile import compiler_version, made_for, merge_kernels
from a2edit.export.edge import graph_file, read_graph
from a2edit.export.held_out import save_examples, save_samples, save_truth
from a2edit.export.openings import Openings
from a2edit.export.settings import (
    BuildSettings,
    build_code_hash,
    cache_code_hash,
    range_code_hash,
    route_code_hash,
    sample_code_hash,
    tool_versions,
)
from a2edit.export.source import DIT, Source, data_hash
from a2edit.export.steps import cached, calibrate, choose, merge, page
from a2edit.export.steps.engines import save_engine, save_program_engine
from a2edit.export.steps.graphs import save_graph, save_parameters
from a2edit.export.steps.verified import Verified, save_verification
from a2edit.runtime.errors import EngineError, TargetError

if TYPE_CHECKING:
    from a2edit.calibration.policy import GraphPolicy
    from a2edit.calibration.routes import Route
    from a2edit.export.targets import TargetPlan
    from a2edit.runtime.targets import Precision


@dataclass(frozen=True)
class Steps:
    """A build's steps; each method does one, or finds it done.

    `logged` are gate tables [T, L, N] of traffic, to make routes from beside the calibration set.
    """

    settings: BuildSettings
    source: Source
    chain: Chain
    logged: NDArray[np.float32] | None = None

    @cached_property
    def _base(self) -> Mapping[str, Any]:
        return {
            "checkpoint": self.source.hash,
            "code": build_code_hash(),
            "tools": tool_versions(),
        }

    @cached_property
    def _drawn(self) -> Mapping[str, Any]:
        """What requests of the calibration set depend on."""
        data = self.settings.calibration
        return {"data": data_hash(data) if data else None, "drawing": sample_code_hash()}

    @cached_property
    def openings(self) -> Openings:
        """What the graphs leave open."""
        sizes = {self.source.config.size, *self.settings.sizes}
        return Openings(tuple(sorted(sizes)), self.settings.batch)

    def shared(self) -> Made:
        """Parameters that no route changes; those that get 8 bits in a file of their own."""
        narrow = self.settings.preset == "small"
        work = partial(save_parameters, source=self.source, narrow=narrow)
        return self.chain.run("shared", {**self._base, "narrow": narrow}, work)

    def traces(self) -> Made:
        """In parts, each a step, so that a killed build goes on after the last."""
        total, data = self.settings.samples, self.settings.calibration
        parts = []
        for first in range(0, total, calibrate.TRACED_AT_ONCE):
            count = min(calibrate.TRACED_AT_ONCE, total - first)
            name = f"traces-{first:04}"
            work = partial(
                calibrate.save_part,
                source=self.source,
                data=data,
                first=first,
                count=count,
                tick=partial(self._traced, name, first),
            )
            inputs = {**self._base, **self._drawn, "first": first, "count": count}
            parts.append(self.chain.run(name, inputs, work))
        folders = [part.folder for part in parts]
        keys = {"parts": [part.key for part in parts]}
        return self.chain.run("traces", keys, partial(calibrate.join_parts, parts=folders))

    def _traced(self, step: str, first: int, count: int) -> None:
        self.chain.progress.at(step, first + count, self.settings.samples)

    def ranges(self, traces: Made, kind: Precision) -> Made:
        """Of inputs that become `kind`, "int8" or "fp8"."""
        lift = self.settings.lift
        work = partial(
            calibrate.save_ranges,
            source=self.source,
            traces=traces.folder,
            kind=kind,
            lift=lift,
        )
        inputs = {"traces": traces.key, "kind": kind, "lift": lift, "code": range_code_hash()}
        return self.chain.run(f"ranges-{kind}", inputs, work)

    def graph(self, name: str, policy: GraphPolicy, shared: Made, ranges: Made | None) -> Made:
        """One variant of a graph; `ranges` of the kind that its policy asks for."""
        inputs = {
            **self._base,
            "variant": policy.variant,
            "shared": shared.key,
            "ranges": ranges.key if ranges else None,
            "openings": asdict(self.openings),
        }
        work = partial(
            save_graph,
            name=name,
            policy=policy,
            source=self.source,
            openings=self.openings,
            shared=shared.folder,
            ranges=ranges.folder if ranges else None,
        )
        return self.chain.run(f"graph-{name}.{policy.variant}", inputs, work)

    def metric(self, traces: Made) -> Made:
        inputs = {"traces": traces.key, "code": route_code_hash()}
        work = partial(calibrate.save_metric, source=self.source, traces=traces.folder)
        return self.chain.run("metric", inputs, work)

    def routes(self, traces: Made, metric: Made, set_bytes: int) -> Made:
        """`set_bytes` is what the largest weight set of a route takes."""
        limit, logged = self.settings.limit, self.logged
        inputs = {
            "traces": traces.key,
            "metric": metric.key,
            "limit": asdict(limit),
            "set_bytes": set_bytes if limit.budget is not None else None,
            "logged": sha256(logged.tobytes()).hexdigest() if logged is not None else None,
            "code": route_code_hash(),
        }
        work = partial(
            choose.save_routes,
            traces=traces.folder,
            metric=metric.folder,
            logged=logged,
            limit=limit,
            set_bytes=set_bytes,
        )
        return self.chain.run("routes", inputs, work)

    def slope(self, route: Route, traces: Made, chosen: Made) -> Made:
        """Of a step cache: what a change of the first block's residual costs on a route."""
        inputs = {
            **self._base,
            "traces": traces.key,
            "routes": chosen.key,
            "route": route.name,
            "code": cache_code_hash(),
        }
        table = np.asarray(route.table)
        work = partial(cached.save_slope, source=self.source, traces=traces.folder, table=table)
        return self.chain.run(f"cache-{route.name}", inputs, work)

    def merge_source(self, ranges: Made | None) -> Made:
        inputs = {**self._base, "ranges": ranges.key} if ranges else self._base
        folder = ranges.folder if ranges else None
        work = partial(merge.save_merge_source, source=self.source, ranges=folder)
        return self.chain.run("merge-source", inputs, work)

    def carried(self, source: Made, traces: Made) -> Made | None:
        """What the bundle is to merge other routes from: `source`, or that in 8 bits; or nothing.

        Weight sets are merged from `source` whatever is carried.
        """
        if self.settings.routes_only:
            return None
        if self.settings.merge_base == "full":
            return source
        about: dict[str, Any] = {"lift": self.settings.lift}
        inputs = {**about, "traces": traces.key, "source": source.key, "code": range_code_hash()}
        work = partial(
            merge.save_small_base,
            merge=source.folder,
            source=self.source,
            traces=traces.folder,
            **about,
        )
        return self.chain.run("merge-base", inputs, work)

    def weight_sets(
        self, routes: Sequence[Route], variant: str, chosen: Made, source: Made, dit: Made
    ) -> dict[str, Made]:
        """By route, as one variant of the denoiser takes them."""
        weights = read_graph(dit.folder, "").weights
        about = {
            "routes": chosen.key,
            "source": source.key,
            "weights": [str(spec) for spec in weights],
        }
        save = partial(merge.save_weight_set, merge=source.folder, weights=weights)
        tasks = [
            Task(
                f"weights-{variant}-{route.name}",
                {**about, "route": route.name},
                partial(save, route=route),
            )
            for route in routes
        ]
        names = [route.name for route in routes]
        return dict(zip(names, self.chain.run_all(tasks), strict=True))

    def merge_kernels(self, plan: TargetPlan, source: Made | None, dit: Made) -> Made | None:
        """What merges a target's routes on its GPU; None where the processor is to do it.

        `source` is what the bundle carries, whose base may have other types than the checkpoint's.
        """
        target = plan.target
        if target.device == "cpu" or source is None:
            return None
        entry = merge.read_merge_entry(source.folder, merge.MERGE_FILE)
        weights = read_graph(dit.folder, "").weights
        try:
            merge_kernels.check_triton(target)
            work = merge_kernels.merge_work(source.folder / merge.MERGE_FILE, entry, weights)
            inputs = {
                "work": asdict(work),
                "target": target.name,
                "triton": merge_kernels.triton_version(),
                "code": build_code_hash(),
            }
            save = partial(merge_kernels.save_merge_kernels, target=target, work=work)
            return self.chain.run(f"merge-kernels-{target.name}", inputs, save)
        except (TargetError, EngineError) as error:
            self.chain.progress.note(f"{target.name} will merge routes on the processor: {error}")
            return None

    def engines(
        self,
        plan: TargetPlan,
        graphs: Mapping[str, Made],
        shared: Made,
        weights: Mapping[str, Made],
    ) -> dict[str, Made]:
        """One target's, by graph or "dit.<route>", from its variants of graphs and weight sets."""
        wanted: dict[str, str | None] = dict.fromkeys(graphs)
        if self.settings.materialise == "baked":
            del wanted[DIT]
            wanted |= {f"{DIT}.{route}": route for route in weights}
        tasks = [
            self._engine(plan, name, graphs[name.partition(".")[0]], shared, route, weights)
            for name, route in wanted.items()
        ]
        return dict(zip(wanted, self.chain.run_all(tasks), strict=True))

    def _engine(
        self,
        plan: TargetPlan,
        name: str,
        graph: Made,
        shared: Made,
        route: str | None,
        weights: Mapping[str, Made],
    ) -> Task:
        policy = plan.policy(name)
        inputs = {
            "graph": graph.key,
            "shared": shared.key,
            "route": weights[route].key if route else None,
            "precision": policy.precision,
            "target": made_for(plan.target),
            "backend": (plan.backend, compiler_version(plan.backend)),
            "fused": self.settings.fused_kernels,
        }
        about: dict[str, Any] = {
            "name": name,
            "plan": plan,
            "onnx": graph.folder / graph_file(name.partition(".")[0], policy.variant),
            "shared": shared.folder,
        }
        if plan.backend == "inductor":
            work = partial(
                save_program_engine,
                **about,
                source=self.source,
                openings=self.openings,
                fused=self.settings.fused_kernels,
            )
        else:
            own = weights[route].folder / f"{route}.safetensors" if route else None
            work = partial(save_engine, **about, route=own)
        return Task(f"engine-{plan.target.name}-{name}", inputs, work)

    def page(
        self, traces: Made, metric: Made, chosen: Made, routes: Sequence[Route], set_bytes: int
    ) -> Made:
        about: dict[str, Any] = {
            "tolerance": self.settings.tolerance,
            "set_bytes": set_bytes,
            "merges": not self.settings.routes_only,
        }
        inputs = {
            **about,
            "traces": traces.key,
            "metric": metric.key,
            "routes": chosen.key,
            "code": route_code_hash(),
        }
        work = partial(
            page.save_page,
            source=self.source,
            traces=traces.folder,
            metric=metric.folder,
            routes=routes,
            **about,
        )
        return self.chain.run("report", inputs, work)

    def held_out(self, traces: Made) -> Made:
        """The requests that engines are verified on."""
        sizes = self.openings.sizes
        work = partial(
            save_samples,
            source=self.source,
            traces=traces.folder,
            data=self.settings.calibration,
            sizes=sizes,
        )
        inputs = {**self._base, **self._drawn, "traces": traces.key, "sizes": sizes}
        return self.chain.run("held-out", inputs, work)

    def examples(self) -> Made:
        """Inputs of the graphs but the denoiser, and what torch makes of them."""
        data, sizes = self.settings.calibration, self.openings.sizes
        work = partial(save_examples, source=self.source, data=data, sizes=sizes)
        inputs = {**self._base, **self._drawn, "sizes": sizes}
        return self.chain.run("examples", inputs, work)

    def truth(self, route: Route, samples: Made, chosen: Made) -> Made:
        """What torch makes of the held-out requests: the same for every target."""
        inputs = {**self._base, "samples": samples.key, "routes": chosen.key, "route": route.name}
        work = partial(
            save_truth, source=self.source, samples=samples.folder, table=np.asarray(route.table)
        )
        return self.chain.run(f"truth-{route.name}", inputs, work)

    def verification(
        self, plan: TargetPlan, routes: Sequence[Route], made: Verified, *, accept: bool
    ) -> Made:
        """One target's engines and routes against the truth."""
        inputs = {
            "made": made.keys,
            "allowed": {name: policy.tolerance for name, policy in plan.policies.items()},
            "accept": accept,
            "step_cache": asdict(made.step_cache) if made.step_cache else None,
        }
        work = partial(
            save_verification,
            source=self.source,
            plan=plan,
            routes=routes,
            made=made,
            accept=accept,
        )
        return self.chain.run(f"verify-{plan.target.name}", inputs, work)
