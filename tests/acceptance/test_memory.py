"""Memory plans of the embedded model: what was foreseen against a process's resident set."""

from __future__ import annotations

from pathlib import Path

import pytest

from a2edit.bench.heldout.cases import drawn_cases
from a2edit.bench.latency import write_request
from a2edit.bench.memory import measure_plan
from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.memory.plans import Keep, MemoryPlan, ladder

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [tmp_path_factory.mktemp(case.name) for case in drawn_cases()[:4]]
    pairs = zip(drawn_cases(), folders, strict=False)
    return [write_request(case, 2, folder) for case, folder in pairs]


def test_what_everything_takes_was_foreseen(bundle: Path, requests: list[Path]) -> None:
    routes = len(open_bundle(bundle).manifest.routes)
    plan = MemoryPlan(Keep.EVERYTHING, routes)
    found = measure_plan(bundle, "cpu", "auto", plan, False, requests)
    assert abs(found.error) < 0.05, found


def test_what_the_smallest_plan_takes_was_foreseen(bundle: Path, requests: list[Path]) -> None:
    plans = ladder(EnginePool(open_bundle(bundle)).load())
    found = measure_plan(bundle, "cpu", "auto", plans[-1], True, requests)
    assert abs(found.error) < 0.05, found
    everything = measure_plan(bundle, "cpu", "auto", plans[0], True, requests)
    assert max(found.measured.values()) < 0.9 * max(everything.measured.values())
