"""Many requests: the same pictures as one by one, and each route bound once a window."""

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from pathlib import Path

import pytest

from a2edit.runtime import batch
from a2edit.runtime.batch import edits_by_route
from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.base import Array, Engine, WeightSet
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.engines.recording import RecordingEngine
from a2edit.runtime.errors import EngineError, RequestError
from a2edit.runtime.request import EditRequest, EditResult

COLOURS = ["red", "plum", "blue", "red", "plum", "green", "blue", "red"]


def request(pictures: Path, reference: str, seed: int = 0, **changes: object) -> EditRequest:
    values = {
        "image": pictures / "scene.png",
        "mask": pictures / "mask.png",
        "reference": pictures / f"{reference}.png",
        "steps": 2,
        "seed": seed,
    }
    return EditRequest(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def requests(pictures: Path) -> list[EditRequest]:
    return [request(pictures, colour, seed) for seed, colour in enumerate(COLOURS)]


class RecordingPool(EnginePool):
    """Records which weights the denoiser ran on; fails where `broken` says so."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.recorded: RecordingEngine | None = None
        self.broken: Callable[[], bool] = lambda: False

    def get(self, name: str) -> Engine:
        inner = super().get(name)
        if name != "dit":
            return inner

        def compute(inputs: Mapping[str, Array], weights: Mapping[str, Array]) -> dict[str, Array]:
            if self.broken():
                raise EngineError("the denoiser broke")
            inner.bind(WeightSet("recorded", weights))
            return inner.run(inputs)

        self.recorded = self.recorded or RecordingEngine(inner.spec, compute)
        return self.recorded


@pytest.fixture
def recorded(bundle: Path) -> Iterator[tuple[Editor, RecordingPool]]:
    opened = open_bundle(bundle)
    pool = RecordingPool(opened)
    with Editor(opened, pool) as editor:
        yield editor, pool


def runs(pool: RecordingPool) -> list[str]:
    """The weights that ran, one name for every time they changed."""
    assert pool.recorded is not None
    return [name for name, _ in groupby(pool.recorded.binds)]


def test_the_same_pictures_in_the_callers_order(bundle: Path, requests: list[EditRequest]) -> None:
    finished: list[tuple[int, EditResult]] = []
    with Editor.open(bundle) as editor:
        alone = [editor.edit(one) for one in requests]
        results = editor.edit_many(requests, lambda index, result: finished.append((index, result)))
        assert editor.edit_many([]) == []
    assert len({result.image.tobytes() for result in alone}) == len(alone)
    for one, other in zip(alone, results, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert (one.route, one.seed, one.supply) == (other.route, other.seed, other.supply)
        assert one.timings.keys() == other.timings.keys()
    assert [index for index, _ in finished] == [0, 3, 7, 1, 4, 2, 6, 5]
    assert all(results[index] is result for index, result in finished)


def test_a_route_is_bound_once_a_window(
    recorded: tuple[Editor, RecordingPool], requests: list[EditRequest]
) -> None:
    editor, pool = recorded
    results = editor.edit_many(requests)
    assert runs(pool) == ["red", results[1].route, "blue", "green"]


def test_windows_bound_what_waits_and_go_on_with_the_route_that_is_bound(
    recorded: tuple[Editor, RecordingPool], requests: list[EditRequest]
) -> None:
    editor, pool = recorded
    drawn: list[int] = []

    def lazily() -> Iterator[EditRequest]:
        for index, one in enumerate(requests):
            drawn.append(index)
            yield one

    order = []
    for index, _ in edits_by_route(editor, lazily(), window=4):
        order.append(index)
        assert len(drawn) - len(order) <= 3
    plum = editor.routes.plan(editor.edit(requests[1]).gate_weights).route
    assert order == [0, 3, 1, 2, 6, 4, 5, 7]
    # blue ends one window and begins the next
    assert runs(pool) == ["red", plum, "blue", plum, "green", "red", plum]


def test_large_pictures_make_small_windows(
    bundle: Path, requests: list[EditRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "WINDOW_BYTES", 1)
    with Editor.open(bundle) as editor:
        order = [index for index, _ in edits_by_route(editor, requests)]
    assert order == list(range(len(requests)))


def test_a_failure_takes_the_place_of_its_result(
    recorded: tuple[Editor, RecordingPool], requests: list[EditRequest], pictures: Path
) -> None:
    editor, pool = recorded
    requests[2] = request(pictures, "nothing")
    requests[5] = request(pictures, "red", mask=pictures / "red.png")
    pool.broken = lambda: pool.recorded is not None and len(pool.recorded.runs) == 5
    seen = []
    outcomes = editor.edit_many(
        requests, lambda index, outcome: seen.append((index, outcome)), return_exceptions=True
    )
    assert isinstance(outcomes[2], RequestError)
    assert "nothing.png' does not exist" in str(outcomes[2])
    assert isinstance(outcomes[5], RequestError)
    assert [str(o) for o in outcomes if isinstance(o, EngineError)] == ["the denoiser broke"]
    assert sum(isinstance(outcome, EditResult) for outcome in outcomes) == len(requests) - 3
    assert sorted(index for index, _ in seen) == list(range(len(requests)))
    assert all(outcomes[index] is outcome for index, outcome in seen)
    assert seen[0][0] == 2  # what fails before it is painted is said at once


def test_otherwise_the_first_failure_is_raised_at_once(
    recorded: tuple[Editor, RecordingPool], requests: list[EditRequest]
) -> None:
    editor, pool = recorded
    pool.broken = lambda: pool.recorded is not None and len(pool.recorded.runs) == 5
    seen: list[int] = []
    with pytest.raises(EngineError, match="the denoiser broke"):
        editor.edit_many(requests, lambda index, _: seen.append(index))
    assert len(seen) == 2
    assert pool.recorded is not None
    assert len(pool.recorded.runs) == 5


def test_an_error_that_is_kept_holds_no_weights(
    recorded: tuple[Editor, RecordingPool], requests: list[EditRequest]
) -> None:
    editor, pool = recorded
    pool.broken = lambda: True
    ((_, error),) = edits_by_route(editor, requests[:1])
    assert isinstance(error, EngineError)
    trace = error.__traceback__
    names = []
    while trace:
        names.append(trace.tb_frame.f_code.co_name)
        if trace.tb_frame.f_code.co_name == "paint_together":
            assert trace.tb_frame.f_locals == {}
        trace = trace.tb_next
    assert "paint_together" in names
