"""An editor's memory: a plan within a budget, followed; a smaller one where memory runs out."""

import logging
import traceback
from collections.abc import Callable
from typing import Protocol, TypeVar

from a2edit.runtime.engines.base import WeightSet
from a2edit.runtime.errors import DeviceMemoryError
from a2edit.runtime.memory.ledger import Ledger
from a2edit.runtime.memory.plans import (
    STAGES,
    Load,
    MemoryPlan,
    fitting,
    graph_of,
    ladder,
    peak,
    peaks,
    set_budget,
)
from a2edit.runtime.memory.process import trim
from a2edit.runtime.routing import RouteStore
from a2edit.runtime.sizes import format_size

T = TypeVar("T")

log = logging.getLogger(__name__)


class Engines(Protocol):
    """What a keeper needs of an engine pool."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def bound(self) -> WeightSet | None:
        """The weights that an engine runs on now."""
        ...

    def load(self) -> Load:
        """What plans are made for; it changes when an engine says how much it takes."""
        ...

    def make_room(self, plan: MemoryPlan, step: str) -> None:
        """Close the engines that `plan` does not keep open during `step`."""
        ...

    def shut(self, step: str) -> None:
        """Close the engines of a step."""
        ...


class MemoryKeeper:
    """Chooses a plan and keeps engines and weight sets to it.

    Attributes:
        plan: that is being followed.
        budget: bytes that engines, weight sets and what flows through them may take; None: no
            limit.
        said: a sentence for every time that memory ran out.
    """

    def __init__(self, engines: Engines, routes: RouteStore, budget: int | None = None) -> None:
        """Raises RequestError where no plan fits into `budget`."""
        self._engines, self._routes = engines, routes
        self.budget = budget
        self.said: list[str] = []
        self._load = engines.load()
        self._plans = ladder(self._load)
        self.plan = self._plans[0]
        if budget is not None:
            self.plan = fitting(self._load, self._plans, budget)
        routes.limit(set_budget(self._load, self.plan, budget))

    @property
    def foreseen(self) -> dict[str, int]:
        """Bytes at the most by stage, under the plan."""
        return peaks(self._load, self.plan)

    def __str__(self) -> str:
        most = format_size(peak(self._load, self.plan))
        limit = f" of {format_size(self.budget)}" if self.budget is not None else ""
        return f"{self.plan}; at most {most}{limit} foreseen"

    def within(self, step: str, work: Callable[[], T]) -> T:
        """What `work` of a step gives, with open what the plan allows.

        Where memory runs out, the step is begun again by the next plan that takes less in it.
        Raises DeviceMemoryError where there is none.
        """
        while True:
            self._keep_to_budget()
            self._engines.make_room(self.plan, step)
            if self.budget is not None:
                trim()  # what a stage before has freed would count for this one, too
            self._engines.ledger.enter(STAGES.get(step, step))
            try:
                with self._engines.ledger.passing("inputs and outputs", self._flowing(step)):
                    result = work()
                    self._count_sets()
                return result
            except MemoryError as error:
                self._retreat(step, error)

    def _retreat(self, step: str, error: MemoryError) -> None:
        # frames hold the pictures and weights that there was no room for
        traceback.clear_frames(error.__traceback__)
        self._engines.shut(step)
        stage = STAGES.get(step, step)
        taken = self._taken(self.plan, stage)
        behind = self._plans[self._plans.index(self.plan) + 1 :]
        smaller = next((it for it in behind if self._taken(it, stage) < taken), None)
        why = str(error) or "out of memory"
        if smaller is None:
            raise DeviceMemoryError(
                f"{why}; no memory plan takes less to {stage} than the {format_size(taken)} of "
                f"this one ({self.plan}): close what else uses the memory, or use a bundle of a "
                "smaller size or precision"
            ) from error
        self.said.append(f"memory ran out to {stage} ({why}): from here on {smaller}")
        log.info("%s", self.said[-1])
        self._follow(smaller)

    def _flowing(self, step: str) -> int:
        own = [it.running for name, it in self._load.engines.items() if graph_of(name) == step]
        return max(own, default=0)

    def _taken(self, plan: MemoryPlan, stage: str) -> int:
        # a plan that opens nothing ahead takes nothing to load
        return peaks(self._load, plan).get(stage, 0)

    def _follow(self, plan: MemoryPlan) -> None:
        self.plan = plan
        limit = set_budget(self._load, plan, self.budget)
        if not plan.base:
            self._routes.leave_gpu()  # such a plan does not count them
        own = plan.sets * self._load.set_bytes  # memory is less than the budget said
        self._routes.limit(own if limit is None else min(limit, own))
        self._count_sets()

    def _keep_to_budget(self) -> None:
        """Plan anew where an engine has said that it takes something else than was foreseen."""
        load = self._engines.load()
        if load is self._load:
            return
        before, self._load, place = self._load.base, load, self.plan
        lost = before != load.base  # kernels did not load
        if lost or (self.budget is not None and peak(load, place) > self.budget):
            self._plans = ladder(load)
            self._follow(self._like(place))

    def _like(self, plan: MemoryPlan) -> MemoryPlan:
        """Of plans that were made anew, the one to go on by."""
        if self.budget is not None:
            return fitting(self._load, self._plans, self.budget)
        keeps_less = (it for it in self._plans if (it.keep, -it.sets) >= (plan.keep, -plan.sets))
        return next(keeps_less, self._plans[-1])

    def _count_sets(self) -> None:
        bound = self._engines.bound
        there = [
            it.nbytes
            for it in self._routes.held
            if it is bound or it.memory is None or not self._load.rests
        ]
        self._engines.ledger.hold("weight sets", sum(there))
