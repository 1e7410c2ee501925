"""The step cache over tiny, closed-form engines, and its rule over recorded ones."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.base import Array, GraphSpec, TensorSpec
from a2edit.runtime.engines.recording import RecordingEngine
from a2edit.runtime.errors import BundleError, RequestError
from a2edit.runtime.jobs import read_jobs, run_jobs
from a2edit.runtime.manifest import manifest_from_json, read_manifest
from a2edit.runtime.memory.plans import ladder, peak
from a2edit.runtime.request import EditRequest
from a2edit.runtime.sampler import denoise, sigmas
from a2edit.runtime.step_cache import CachedDenoiser, FirstBlockCache, SkipRule


def request(pictures: Path, reference: str = "red", **changes: object) -> EditRequest:
    values = {
        "image": pictures / "scene.png",
        "mask": pictures / "mask.png",
        "reference": pictures / f"{reference}.png",
    }
    return EditRequest(**(values | changes))  # type: ignore[arg-type]


def spec(name: str, *parts: str) -> tuple[TensorSpec, ...]:
    """Tensors of one number a sample, or of a grid of 1 x 2 x 3 numbers."""
    grids = {"latents", "first", "previous", "residual", "next_latents"}
    return tuple(
        TensorSpec(part, "float32", (-1, 1, 2, 3) if part in grids else (-1,))
        for part in (name, *parts)
    )


class Model:
    """Changes of one's choosing, a row a step; a tail that adds the number of its run."""

    def __init__(self, changes: list[list[float]]) -> None:
        self._changes = changes
        self.head = RecordingEngine(
            GraphSpec(
                "dit_head",
                spec("latents", "modulation", "delta", "previous", "residual"),
                spec("first", "change", "next_latents"),
            ),
            self._head,
        )
        self.tail = RecordingEngine(
            GraphSpec("dit_tail", spec("latents", "delta"), spec("next_latents", "residual")),
            self._tail,
        )

    def _head(self, inputs: Mapping[str, Array], _: Mapping[str, Array]) -> dict[str, Array]:
        step = len(self.head.runs) - 1
        return {
            "first": np.full_like(inputs["latents"], step + 1),
            "change": np.array(self._changes[step], np.float32),
            "next_latents": inputs["latents"] + inputs["residual"],
        }

    def _tail(self, inputs: Mapping[str, Array], _: Mapping[str, Array]) -> dict[str, Array]:
        residual = np.full_like(inputs["latents"], len(self.tail.runs))
        return {"next_latents": inputs["latents"] + residual, "residual": residual}

    def run(self, rule: SkipRule | None) -> tuple[Array, CachedDenoiser]:
        steps, samples = len(self._changes), len(self._changes[0])
        denoiser = CachedDenoiser(self.head, self.tail, rule, steps)
        latents = np.zeros((samples, 1, 2, 3), np.float32)
        nothing = np.zeros((steps, samples), np.float32)
        return denoise(denoiser, {}, latents, sigmas(steps, 2), nothing), denoiser


def test_a_step_is_skipped_while_its_change_predicts_little() -> None:
    model = Model([[9.0], [0.1], [0.11], [0.1], [0.1], [0.0]])
    last, denoiser = model.run(SkipRule(threshold=0.05, slope=0.5, most=8))
    # whole: the first, the one above 0.1, the last
    assert denoiser.skipped == 3
    assert [run["previous"].flat[0] for run in model.head.runs] == [0, 1, 1, 3, 3, 3]
    assert [run["residual"].flat[0] for run in model.head.runs] == [0, 1, 1, 2, 2, 2]
    assert (last == 1 + 1 + 2 + 2 + 2 + 3).all()


def test_never_more_in_a_row_than_was_calibrated() -> None:
    model = Model([[0.0]] * 9)
    _, denoiser = model.run(SkipRule(threshold=0.05, slope=0.5, most=2))
    assert [run["previous"].flat[0] for run in model.head.runs] == [0, 1, 1, 1, 4, 4, 4, 7, 7]
    assert denoiser.skipped == 5  # of steps 1 to 7, all but 3 and 6


@pytest.mark.parametrize("steps", [1, 2])
def test_the_first_step_and_the_last_are_whole(steps: int) -> None:
    model = Model([[0.0]] * steps)
    _, denoiser = model.run(SkipRule(threshold=0.9, slope=0.5, most=8))
    assert (denoiser.skipped, len(model.tail.runs)) == (0, steps)


@pytest.mark.parametrize("change", [float("nan"), float("inf")])
def test_a_change_that_is_no_number_is_not_little(change: float) -> None:
    _, denoiser = Model([[0.0], [change], [0.0]]).run(SkipRule(0.9, 0.5, 8))
    assert denoiser.skipped == 0


def test_samples_that_go_together_all_need_to_have_changed_little() -> None:
    model = Model([[0.0, 0.0], [0.0, 0.2], [0.2, 0.0], [0.05, 0.05], [0.0, 0.0]])
    _, denoiser = model.run(SkipRule(threshold=0.05, slope=0.5, most=8))
    assert denoiser.skipped == 1
    assert [len(run["latents"]) for run in model.tail.runs] == [2] * 4


def test_without_a_rule_every_step_is_whole() -> None:
    model = Model([[0.0]] * 5)
    _, denoiser = model.run(None)
    assert (denoiser.skipped, len(model.tail.runs)) == (0, 5)


def test_wishes() -> None:
    assert FirstBlockCache.of("first-block") == FirstBlockCache()
    assert FirstBlockCache.of("first-block:0.08") == FirstBlockCache(0.08)
    assert FirstBlockCache.of(FirstBlockCache(0.5)).threshold == 0.5
    assert [str(FirstBlockCache(it)) for it in (None, 0.08)] == ["first-block", "first-block:0.08"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("taylor", "use first-block"),
        ("first-block:", "no number"),
        ("first-block:much", "no number"),
        ("first-block:0", "above 0 and below 1"),
        ("first-block:1", "above 0 and below 1"),
        ("first-block:nan", "above 0 and below 1"),
        ("first-block:-0.1", "above 0 and below 1"),
    ],
)
def test_wishes_that_make_no_sense(given: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        FirstBlockCache.of(given)


def test_a_bundle_without_the_graphs_is_refused(bundle: Path) -> None:
    with pytest.raises(RequestError, match="a2edit-build engines --cache first-block"):
        Editor.open(bundle, cache="first-block")


def test_head_and_tail_in_place_of_the_denoiser(cached_bundle: Path, pictures: Path) -> None:
    with Editor.open(cached_bundle, cache=FirstBlockCache(1e-9)) as editor:
        whole = editor.edit(request(pictures, steps=4, seed=3))
        opened = set(editor.engines._engines)
    assert {"dit_head", "dit_tail"} < opened
    assert "dit" not in opened
    with Editor.open(cached_bundle) as editor:
        plain = editor.edit(request(pictures, steps=4, seed=3))
        assert not {"dit_head", "dit_tail"} & set(editor.engines._engines)
    assert whole.image.tobytes() == plain.image.tobytes()
    assert (whole.skipped_steps, plain.skipped_steps) == (0, 0)
    assert "a2edit:skipped_steps" not in whole.text()


def test_steps_are_skipped_by_the_slope_of_their_route(cached_bundle: Path, pictures: Path) -> None:
    levels = sigmas(12, 8)
    entry = open_bundle(cached_bundle).manifest.step_cache
    assert entry

    def expected(slope: float) -> int:
        kept, row, skipped = levels[0], 0, 0
        for sigma in levels[1:11]:
            if row < entry.most_skipped and slope * abs(sigma - kept) / kept <= entry.threshold:
                row, skipped = row + 1, skipped + 1
            else:
                kept, row = sigma, 0
        return skipped

    found = {}
    with Editor.open(cached_bundle, cache="first-block") as editor:
        for reference in ("red", "green"):
            result = editor.edit(request(pictures, reference, steps=12))
            assert (result.route, result.supply) == (reference, "static")
            found[reference] = result.skipped_steps
        assert result.text()["a2edit:skipped_steps"] == str(result.skipped_steps)
    assert found == {"red": expected(0.5), "green": expected(1.0)}
    assert 0 < found["green"] < found["red"]
    with Editor.open(cached_bundle, cache="first-block", route_tolerance=0) as editor:
        merged = editor.edit(request(pictures, "plum", steps=12))
    assert (merged.supply, merged.skipped_steps) == ("merged", expected(1.0))


def test_under_the_smallest_budget_it_is_the_same_edit(cached_bundle: Path, pictures: Path) -> None:
    """Head and tail are opened for every loop and closed after it."""
    asked = request(pictures, steps=12)
    with Editor.open(cached_bundle, cache="first-block") as editor:
        expected = editor.edit(asked)
        load = editor.engines.load()
        smallest = ladder(load)[-1]
    with Editor.open(
        cached_bundle, cache="first-block", memory_budget=peak(load, smallest)
    ) as editor:
        results = [editor.edit(asked) for _ in range(2)]
        opened = {name for name in editor.engines._engines if name.startswith("dit")}
    assert not opened
    for result in results:
        assert result.skipped_steps == expected.skipped_steps > 0
        assert result.image.tobytes() == expected.image.tobytes()


def test_a_list_that_was_made_without_the_cache_is_made_again(
    cached_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    jobs = pictures / "jobs.jsonl"
    jobs.write_text('{"image": "scene.png", "mask": "mask.png", "reference": "red.png"}\n')
    done = []
    for cache in (None, None, "first-block", "first-block", "first-block:0.9"):
        with Editor.open(cached_bundle, cache=cache) as editor:
            (outcome,) = run_jobs(editor, read_jobs(jobs), tmp_path)
            done.append(outcome.status)
    assert done == ["done", "skipped", "done", "skipped", "done"]


def test_a_cache_needs_a_slope_for_every_route(cached_bundle: Path) -> None:
    manifest = read_manifest(cached_bundle)
    assert manifest.step_cache
    content = manifest.to_json()
    del content["step_cache"]["slopes"]["green"]
    with pytest.raises(BundleError, match=r"step_cache\.slopes lacks green"):
        manifest_from_json(content)
