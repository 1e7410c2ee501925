"""The training loop: stages in order, state, sheets, and a stop that loses nothing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from a2edit.model.checkpoint import Checkpoint
from a2edit.runtime.errors import RequestError
from a2edit.training.begin import begin_gate, begin_weights
from a2edit.training.data import Batch, PairFactory
from a2edit.training.flow import FlowModel
from a2edit.training.metrics import Metrics
from a2edit.training.objective import trained_parts
from a2edit.training.recipe import Recipe
from a2edit.training.settings import LoopSettings, Start, new_accelerator
from a2edit.training.sheet import draw_sheet
from a2edit.training.stages import Stage
from a2edit.training.state import RunState
from a2edit.training.steps import StageRun, Stepped
from a2edit.training.stop import Stopped, StopSignals
from a2edit.training.stream import Choice, Share, batches

Progress = Callable[[Stage, int, float], None]


class Trainer:
    """Runs stages over one checkpoint; `state.pt` holds all that is needed to go on."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        recipe: Recipe,
        settings: LoopSettings,
        start: Start | None = None,
        factory: PairFactory | None = None,
    ) -> None:
        self.checkpoint, self.recipe, self.settings = checkpoint, recipe, settings
        self.start = start or Start()
        self.accelerator = new_accelerator(settings)
        self.factory = factory or PairFactory(checkpoint)
        self.share = Share(self.accelerator.process_index, self.accelerator.num_processes)
        self._check_stages()
        kinds = len(self.factory.source.categories)
        self.flow = FlowModel(
            checkpoint, recipe.noise, self.accelerator.device, kinds, weighted=recipe.weighted
        )
        self.state = RunState(origin=self.start.origin)
        self.metrics = Metrics(settings.folder, settings.log_every)
        settings.folder.mkdir(parents=True, exist_ok=True)

    def _check_stages(self) -> None:
        cuts = self.share.count * self.settings.accumulate
        for stage in self.recipe.stages:
            Choice.of(stage).categories.draw(0, self.factory.source.categories)
            if stage.batch % cuts:
                raise RequestError(
                    f"stage {stage.name}: a batch of {stage.batch} cannot be cut into {cuts} equal "
                    "parts (processes × accumulate): change one of the three"
                )

    # -- state -----------------------------------------------------------------------------------

    @property
    def done(self) -> dict[str, int]:
        """Steps finished, by stage."""
        return self.state.done

    @property
    def _state_path(self) -> Path:
        return self.settings.folder / "state.pt"

    @property
    def _fresh(self) -> frozenset[str]:
        fresh = self.start.fresh
        return frozenset(self.checkpoint.modules()) if fresh is None else fresh

    def _changing(self) -> dict[str, torch.nn.Module]:
        """Modules that a state holds: the others are as they were in the start's checkpoint."""
        names = self._fresh.union(*(trained_parts(stage) for stage in self.recipe.stages))
        held = {key: value for key, value in self.checkpoint.modules().items() if key in names}
        if any(stage.semantic for stage in self.recipe.stages):
            held["semantics"] = self.flow.semantics
        return held

    def resume(self) -> bool:
        """Take up what an earlier run left; False when there is nothing."""
        if not self._state_path.exists():
            return False
        self.state = RunState.load(self._state_path, self._changing(), self.start.origin)
        return True

    def _save(self, run: StageRun) -> None:
        self.state.stage = run.stage.name
        self.state.optimiser = run.optimiser.state_dict()
        self.state.average = run.average.values
        with run.ejected():
            self.state.save(self._state_path, self._changing(), self.accelerator)

    # -- running ---------------------------------------------------------------------------------

    def run(self, progress: Progress) -> Path:
        """Train what is left of every stage and write `checkpoint/`; returns that folder.

        Raises:
            Stopped: SIGINT or SIGTERM came; everything is written, and the same call goes on.
        """
        with StopSignals() as signals:
            if not self.done:
                begin_weights(self.checkpoint, self.flow, self.factory, self.settings, self._fresh)
            for module in self.checkpoint.modules().values():
                module.to(self.accelerator.device)
            self.flow.graphs["dit"].to(self.accelerator.device)
            for stage in self.recipe.stages:
                if self.done.get(stage.name, 0) < stage.steps:
                    self._stage(stage, signals, progress)
            self._plot()
            return self._write_checkpoint()

    def _plot(self) -> None:
        if self.accelerator.is_main_process:
            self.metrics.plot()

    def _write_checkpoint(self) -> Path:
        target = self.settings.folder / "checkpoint"
        if self.accelerator.is_main_process:
            for left in target.parent.glob(".checkpoint-*"):  # by a run that was killed in it
                shutil.rmtree(left, ignore_errors=True)
            self.start.write(self.checkpoint, target)
        self.accelerator.wait_for_everyone()
        return target

    def _stage(self, stage: Stage, signals: StopSignals, progress: Progress) -> None:
        if stage.trains == "experts" and stage.experts_on == "none":
            self.done[stage.name] = stage.steps
            return
        settings = self.settings
        first = self.done.get(stage.name, 0)
        if stage.trains == "experts" and "gate" in self._fresh and not self._experts_began():
            with self._inference():
                begin_gate(self.flow, self.factory, self.recipe, stage, settings.seed)
        with StageRun(
            self.accelerator,
            self.checkpoint,
            self.flow,
            stage,
            ema=settings.ema,
            clip=settings.clip,
            checkpointing=settings.checkpointing and stage.trains != "autoencoder",
        ) as run:
            if first and self.state.stage == stage.name:
                run.load(self.state.optimiser, self.state.average)
            number = self._steps(run, first, signals, progress)
            # A state that calls a stage done holds its averaged weights.
            if self.done[stage.name] == stage.steps:
                run.average.keep()
            self._save(run)
            if number:
                self._plot()
                with run.at_rest():
                    folder = self._write_checkpoint()
                step = self.done[stage.name]
                raise Stopped(number, f"after step {step} of {stage.name}: {folder} can be loaded")

    def _experts_began(self) -> bool:
        return any(self.done.get(s.name, 0) for s in self.recipe.stages if s.trains == "experts")

    def _inference(self) -> AbstractContextManager[None]:
        """A frozen base in bf16 needs autocast beside modules in fp32; fp32 ones do without."""
        if self.checkpoint.transformer.dtype == torch.float32:
            return nullcontext()
        context: AbstractContextManager[None] = self.accelerator.autocast()
        return context

    def _samples(self, stage: Stage, first: int) -> Iterator[Batch]:
        # A multiple of every batch size's group, so that stages never share samples.
        return batches(
            self.factory,
            Choice.of(stage),
            first=self._offset(stage) // stage.batch // 4 * 4 + first,
            workers=self.settings.workers,
            share=self.share,
        )

    def _offset(self, stage: Stage) -> int:
        return 1_000_000 * (1 + [s.name for s in self.recipe.stages].index(stage.name))

    def _steps(self, run: StageRun, first: int, signals: StopSignals, progress: Progress) -> int:
        """Train on; returns the signal that ended it before the last step, or 0."""
        stage, settings = run.stage, self.settings
        samples = self._samples(stage, first)
        for step in range(first, stage.steps):
            began = time.perf_counter()
            batch = next(samples).to(self.accelerator.device)
            # After the batch: a loader draws from torch's generator when it starts, and a resumed
            # run starts one in the middle of the curve.
            torch.manual_seed(settings.seed * 1_000_003 + self._offset(stage) + step)
            stepped = run.step(step, batch, signals.received)
            self.done[stage.name] = step + 1
            last = step + 1 == stage.steps
            if self.accelerator.is_main_process:
                self._log(stage, step, stepped, time.perf_counter() - began, last=last)
                progress(stage, step + 1, stepped.loss)
            if (step + 1) % settings.sheet_every == 0 or last:
                self._sheet(run, step + 1)
                if not last:
                    self._plot()
            if stepped.stop:
                return stepped.stop
            if (step + 1) % settings.save_every == 0 and not last:
                self._save(run)
        return 0

    def _sheet(self, run: StageRun, step: int) -> None:
        stage = run.stage
        with run.at_rest():
            if self.accelerator.is_main_process and self.settings.sheets:
                name = f"{len(self.done):02d}-{stage.name}-{step:06d}.png"
                path = self.settings.folder / "sheets" / name
                with self._inference():
                    draw_sheet(
                        self.checkpoint, self.factory, path, experts=stage.trains == "experts"
                    )
            self._write_checkpoint()

    def _log(
        self, stage: Stage, step: int, stepped: Stepped, seconds: float, *, last: bool
    ) -> None:
        figures = {
            "loss": stepped.loss,
            "norm": stepped.norm,
            "rate": stage.rate_at(step),
            "seconds": seconds,
            "samples_per_second": stage.batch / seconds,
            **stepped.gate,
        }
        self.metrics.add(stage.name, step, figures, flush=last or bool(stepped.stop))
