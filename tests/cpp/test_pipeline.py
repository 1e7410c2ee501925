"""The same picture from the same squares: every graph, the route, the loop, on real engines."""

import ctypes
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2edit.runtime.editor import Editor
from a2edit.runtime.errors import A2EditError, EngineError, TargetError
from a2edit.runtime.manifest import read_manifest
from a2edit.runtime.prepare import prepare
from a2edit.runtime.request import EditRequest

STAGES = ["encode", "gate", "route", "modulate", "denoise", "decode"]


@contextmanager
def opened(
    probe: Any,
    folder: Path,
    device: str = "cpu",
    engine: str = "auto",
    tolerance: float = math.nan,
    strict: bool = False,
    budget: int = 0,
) -> Iterator[Any]:
    handle = ctypes.c_void_p()
    probe("pipeline_open", folder, device, engine, tolerance, strict, budget, ctypes.byref(handle))
    try:
        yield handle
    finally:
        probe.library.probe_pipeline_close(handle)


def painted(
    probe: Any, handle: Any, editor: Editor, request: EditRequest, cancel_at: int = 0
) -> tuple[Any, dict[str, Any]]:
    """The square that C++ makes of what Python laid out, and what it says of it."""
    model = editor.bundle.manifest.model
    laid_out = prepare(request, model)
    text_ids, pooled_ids, _ = editor._tokens(request.prompt)
    pixels = np.empty((laid_out.size, laid_out.size, 3), np.uint8)
    said = probe.answer(
        "pipeline_paint",
        handle,
        laid_out.size,
        np.ascontiguousarray(laid_out.canvas),
        np.ascontiguousarray(laid_out.mask),
        np.ascontiguousarray(laid_out.reference),
        text_ids,
        pooled_ids,
        np.uint64(request.seed),
        editor.steps(request),
        cancel_at,
        pixels,
    )
    return pixels, said


def square(editor: Editor, request: EditRequest) -> tuple[Any, Any]:
    """The square that Python makes of a request, and its result."""
    found = []
    run = editor._run

    def recorded(graph: str, **inputs: Any) -> Any:
        outputs = run(graph, **inputs)
        if graph == "vae_decoder":
            found.append(outputs["pixels"][0])
        return outputs

    editor._run = recorded  # type: ignore[method-assign]
    try:
        result = editor.edit(request)
    finally:
        editor._run = run  # type: ignore[method-assign]
    return found[0], result


def requests(pictures: Path) -> list[EditRequest]:
    given: dict[str, Any] = {"image": pictures / "scene.png", "mask": pictures / "mask.png"}
    return [
        EditRequest(
            **given, reference=pictures / f"{name}.png", prompt=prompt, seed=seed, steps=steps
        )
        for name, prompt, seed, steps in (
            ("red", "a red chair", 0, None),
            ("green", "", 2**64 - 1, 3),
            ("red", "blue", 7, 1),
        )
    ]


@pytest.mark.parametrize("kind", ["bundle", "baked_bundle", "routes_only_bundle", "cached_bundle"])
@pytest.mark.parametrize("tolerance", [math.nan, 0.0, 10.0])
def test_the_same_squares_make_the_same_picture(
    probe: Any, pictures: Path, kind: str, tolerance: float, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    given = None if math.isnan(tolerance) else tolerance
    with (
        Editor.open(folder, route_tolerance=given) as editor,
        opened(probe, folder, tolerance=tolerance) as handle,
    ):
        for asked in requests(pictures):
            expected, result = square(editor, asked)
            pixels, said = painted(probe, handle, editor, asked)
            np.testing.assert_array_equal(pixels, expected)
            assert (said["route"], said["supply"]) == (result.route, result.supply)
            assert said["predicted_error"] == pytest.approx(result.predicted_error, rel=1e-9)
            np.testing.assert_array_equal(
                np.array(said["gate_weights"], np.float32), result.gate_weights.ravel()
            )
            np.testing.assert_array_equal(
                np.array(said["table"], np.float32), result.route_table.ravel()
            )
            assert said["warnings"] == list(result.warnings)
            assert said["told"] == [[i + 1, result.steps] for i in range(result.steps)]
            assert said["stages"] == STAGES


def test_the_halves_of_a_denoiser_are_left_alone(
    probe: Any, cached_bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    """They are for a step cache. Opened, one of another version would be compiled, and say so."""
    folder = shutil.copytree(cached_bundle, tmp_path / "other")
    manifest = read_manifest(folder)
    engines = dict(manifest.engines["cpu"])
    engines["dit_head"] = replace(engines["dit_head"], version="0")
    replace(manifest, engines={"cpu": engines}).write(folder)
    with Editor.open(folder) as editor, opened(probe, folder) as handle:
        asked = requests(pictures)[0]
        pixels, said = painted(probe, handle, editor, asked)
        np.testing.assert_array_equal(pixels, square(editor, asked)[0])
    assert said["warnings"] == []


def test_a_budget_of_one_set_changes_nothing(probe: Any, bundle: Path, pictures: Path) -> None:
    """Routes take turns, each bound anew when the other has left memory."""
    budget = 64 * 64 * 4
    with (
        Editor.open(bundle, route_tolerance=0.0) as editor,
        opened(probe, bundle, tolerance=0.0, budget=budget) as handle,
    ):
        for asked in requests(pictures) * 2:
            expected, _ = square(editor, asked)
            np.testing.assert_array_equal(painted(probe, handle, editor, asked)[0], expected)


def test_loops_at_the_same_levels_and_at_others(probe: Any, bundle: Path, pictures: Path) -> None:
    """Modulations are kept from loop to loop, and good for the same prompt and levels only."""
    asked = requests(pictures)[0]
    asks = [asked, replace(asked, seed=1), replace(asked, prompt="blue")]
    asks.append(replace(asks[-1], steps=2))
    expected = []
    for request in asks:
        with Editor.open(bundle) as editor:
            expected.append(square(editor, request)[0])
    with Editor.open(bundle) as editor, opened(probe, bundle) as handle:
        for request, picture in zip(asks, expected, strict=True):
            pixels, said = painted(probe, handle, editor, request)
            np.testing.assert_array_equal(pixels, picture)
            assert said["stages"] == STAGES


def test_progress_cancels(probe: Any, bundle: Path, pictures: Path) -> None:
    asked = requests(pictures)[1]
    with Editor.open(bundle) as editor, opened(probe, bundle) as handle:
        with pytest.raises(AssertionError, match="was cancelled after 2 of 3 steps"):
            painted(probe, handle, editor, asked, cancel_at=2)
        expected, _ = square(editor, asked)
        np.testing.assert_array_equal(painted(probe, handle, editor, asked)[0], expected)


@pytest.mark.parametrize(
    ("device", "engine"),
    [
        ("gpu", "auto"),
        ("cpu", "tensorflow"),
        ("cpu", "tensorrt"),
        ("cuda", "openvino"),
        ("cuda", "auto"),
    ],
)
def test_devices_and_engines_that_are_not_there(
    probe: Any, bundle: Path, same_refusal: Any, device: str, engine: str
) -> None:
    def cpp() -> None:
        with opened(probe, bundle, device, engine):
            pass

    same_refusal(lambda: Editor.open(bundle, device, engine), cpp)


@pytest.mark.parametrize("engine", ["onnxruntime", "inductor"])
def test_an_engine_that_only_python_has(probe: Any, bundle: Path, engine: str) -> None:
    with (
        pytest.raises(TargetError, match=f"built without the engine '{engine}': use openvino"),
        opened(probe, bundle, "cpu", engine),
    ):
        pass


def test_a_strict_route(probe: Any, routes_only_bundle: Path, pictures: Path) -> None:
    asked = requests(pictures)[0]
    with (
        Editor.open(routes_only_bundle, route_tolerance=0.0, strict_route=True) as editor,
        opened(probe, routes_only_bundle, tolerance=0.0, strict=True) as handle,
    ):
        with pytest.raises(A2EditError) as expected:
            editor.edit(asked)
        with pytest.raises(A2EditError) as found:
            painted(probe, handle, editor, asked)
        assert str(found.value) == str(expected.value)
        assert found.type is expected.type


def test_a_square_of_another_size(probe: Any, bundle: Path, pictures: Path) -> None:
    """What a host lays out for another side than the graph's is refused by the graph's edge."""
    asked = requests(pictures)[0]
    with Editor.open(bundle) as editor, opened(probe, bundle) as handle:
        model = editor.bundle.manifest.model
        side = model.size // 2
        canvas = np.zeros((side, 2 * side, 3), np.uint8)
        text_ids, pooled_ids, _ = editor._tokens(asked.prompt)
        reference = np.zeros((model.reference_size, model.reference_size, 3), np.uint8)
        with pytest.raises(EngineError, match=r"the inputs of 'vae_encoder': expected \w+ uint8"):
            probe(
                "pipeline_paint", handle, side, canvas, canvas[..., 0].copy(), reference,
                text_ids, pooled_ids, 0, 1, 0, np.empty((side, side, 3), np.uint8),
            )  # fmt: skip
