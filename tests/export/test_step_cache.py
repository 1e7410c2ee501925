"""A bundle with the denoiser in two: its graphs, its slopes, its figures, and edits with it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from a2edit.calibration.policy import TOLERANCE
from a2edit.calibration.step_cache import WINDOW
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.cli import main
from a2edit.export.plan import plan_build
from a2edit.export.quality import Likeness
from a2edit.export.settings import BuildSettings
from a2edit.export.source import DIT, HEAD, TAIL, Source
from a2edit.export.steps.cached import CacheFigure, cache_section
from a2edit.model.experts import unmerged
from a2edit.model.step_cache import in_head
from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.editor import Editor
from a2edit.runtime.engines.base import Array
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.errors import CheckpointError, RequestError
from a2edit.runtime.request import EditRequest
from a2edit.runtime.sampler import CONTEXT, denoise, modulations, sigmas
from a2edit.runtime.step_cache import CachedDenoiser, FirstBlockCache, SkipRule
from tests.export.test_gpu_targets import tiny_is_large

STEPS = 6
Settings = Callable[..., BuildSettings]


@pytest.fixture(scope="module")
def longer(checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with as many steps as there is something to skip in."""
    folder = tmp_path_factory.mktemp("longer") / "a2edit-tiny"
    shutil.copytree(checkpoint_folder, folder)
    config = json.loads((folder / "mot_config.json").read_text())
    (folder / "mot_config.json").write_text(json.dumps(config | {"steps": STEPS}))
    return folder


@pytest.fixture(scope="module")
def settings(
    tiny_settings: Settings, longer: Path, tmp_path_factory: pytest.TempPathFactory
) -> BuildSettings:
    out = tmp_path_factory.mktemp("cached") / "tiny"
    given = tiny_settings(out, routes=2, step_cache=FirstBlockCache(0.5))
    return replace(given, model=str(longer))


@pytest.fixture(scope="module")
def cached(settings: BuildSettings) -> Bundle:
    build(settings, Silent())
    return open_bundle(settings.out)


@pytest.fixture(scope="module")
def source(longer: Path) -> Source:
    return Source(longer)


def feeds(source: Source) -> dict[str, Array]:
    graph = source.dit
    given = zip(graph.input_names, graph.example_inputs(), strict=True)
    return {name: value.numpy() for name, value in given}


def test_the_halves_take_the_weights_of_their_own_linears(cached: Bundle) -> None:
    (dit,), (head,), (tail,) = (cached.manifest.graphs[it].values() for it in (DIT, HEAD, TAIL))
    assert set(head.weights) | set(tail.weights) == set(dit.weights)
    assert head.weights
    assert all(in_head(spec.name) for spec in head.weights)
    assert not any(in_head(spec.name) for spec in tail.weights)


def test_the_manifest_says_what_a_change_costs(cached: Bundle) -> None:
    entry = cached.manifest.step_cache
    assert entry
    assert (entry.kind, entry.threshold, entry.most_skipped) == ("first-block", 0.5, WINDOW)
    assert entry.slopes.keys() == cached.manifest.routes.keys()
    assert all(0 < slope < 100 for slope in entry.slopes.values())


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_whole_steps_are_the_models(cached: Bundle, source: Source, backend: str) -> None:
    route, entry = next(iter(cached.manifest.routes.items()))
    pool = EnginePool(cached, "cpu", backend, split=True)
    given = feeds(source) | {"delta": np.ones(1, np.float32)}
    try:
        halves = pool.get(HEAD), pool.get(TAIL)
        for half in halves:
            half.bind(cached.weight_set(route, "fp32"))
        found = CachedDenoiser(*halves, None, 1).run(given)["next_latents"] - given["latents"]
    finally:
        pool.close()
    with torch.no_grad():
        checkpoint = source.checkpoint
        with unmerged(checkpoint.transformer, checkpoint.experts, torch.tensor([entry.table])):
            truth = source.dit(*map(torch.from_numpy, given.values())).numpy() - given["latents"]
    error = np.linalg.norm(found - truth) / np.linalg.norm(truth)
    assert error < TOLERANCE["fp32"]


def test_a_skipped_step_has_the_error_that_its_slope_foretells(
    cached: Bundle, source: Source
) -> None:
    """Over a loop of whole steps; the slopes are of other requests and hold for nearly all."""
    route = next(iter(cached.manifest.routes))
    entry = cached.manifest.step_cache
    assert entry
    pool = EnginePool(cached, split=True)
    given, ratios = feeds(source), []
    context = {name: given[name] for name in CONTEXT}
    levels = sigmas(STEPS, given["latents"].shape[1] * given["latents"].shape[2])
    (pooled,) = source.dit.shapes.random(("pooled",), 1, None)
    guidance = np.full(1, source.config.guidance, np.float32)

    class Watched(CachedDenoiser):
        def run(self, inputs, unchanged=()):  # type: ignore[no-untyped-def]
            kept, place = dict(self._kept), self.steps_done
            whole = super().run(inputs, unchanged)
            if 0 < place < STEPS - 1:
                head = self._head.run({**inputs, **kept})
                velocity = whole["next_latents"] - inputs["latents"]
                error = np.linalg.norm(head["next_latents"] - whole["next_latents"])
                ratios.append(error / np.linalg.norm(velocity) / head["change"][0])
            return whole

    try:
        halves = pool.get(HEAD), pool.get(TAIL)
        for half in halves:
            half.bind(cached.weight_set(route, "fp32"))
        modulation = modulations(pool.get("modulation"), pooled.numpy(), guidance, levels)
        denoise(Watched(*halves, None, STEPS), context, given["latents"], levels, modulation)
    finally:
        pool.close()
    assert len(ratios) == STEPS - 2
    assert np.median(ratios) == pytest.approx(entry.slopes[route], rel=0.8)


def test_what_the_cache_changes_is_measured_and_told(cached: Bundle) -> None:
    found = cached.manifest.verification["cpu"]["step_cache"]
    assert found["threshold"] == 0.5
    assert found["routes"].keys() == cached.manifest.routes.keys()
    for figure in found["routes"].values():
        assert figure["relative_error"] <= figure["tolerance"]
        # shares of four inner steps of two loops
        assert figure["skipped"] in {round(n / 12, 3) for n in range(1, 9)}
        assert 10 < figure["pictures"]["mask"]["psnr_db"] < 99
    page = (cached.folder / "report/index.html").read_text()
    assert "<h3>Step cache</h3>" in page
    assert all(f"{it['skipped']:.0%}" in page for it in found["routes"].values())
    shown = CliRunner().invoke(main, ["inspect", str(cached.folder)])
    assert "Step cache, first-block:0.5, up to 4 steps in a row" in shown.output


def test_figures_are_taken_again(cached: Bundle) -> None:
    again = CliRunner().invoke(main, ["verify", str(cached.folder)])
    assert again.exit_code == 0, again.output
    for route in cached.manifest.routes:
        assert re.search(rf"step cache {route} ", again.output)


def test_pictures_that_change_much_are_told_of_and_no_reason_to_fail() -> None:
    zones = {"mask": Likeness(24.25, 0.9), "outside": Likeness(50, 1)}
    figure = CacheFigure(1e-7, 1e-5, 0.5, zones, 30)
    section = cache_section(0.08, {"objects": figure, "fine": replace(figure, least_psnr_db=20)})
    assert figure.passed
    (said,) = section["over"]
    assert said.startswith("with the step cache at 0.08, route objects differs from without")
    assert said.endswith("24.2 dB in the mask, below 30 dB")
    assert "over" not in cache_section(0.08, {})


def test_without_it_a_bundle_has_none_of_it(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    assert manifest.step_cache is None
    assert not {HEAD, TAIL} & manifest.graphs.keys()
    assert "step_cache" not in manifest.verification["cpu"]
    assert "Step cache" not in (bundle / "report/index.html").read_text()


def test_its_size_was_foretold(settings: BuildSettings, cached: Bundle) -> None:
    files = {name: entry.bytes for name, entry in cached.manifest.files.items()}
    plan = plan_build(settings)
    for name in (HEAD, TAIL):
        (engine,) = [it for it in plan.items if (it.kind, it.name) == ("engine", name)]
        assert engine.bytes == pytest.approx(files[f"engines/cpu/{name}.blob"], rel=0.25)
    engines = sum(size for name, size in files.items() if name.startswith("engines/"))
    foretold = sum(it.total for it in plan.items if it.kind == "engine")
    assert foretold == pytest.approx(engines, rel=0.2)


def test_a_dry_run_lists_it(settings: BuildSettings) -> None:
    options = ["--model", settings.model, "--out", str(settings.out), "--cache", "first-block"]
    shown = CliRunner().invoke(main, ["engines", *options, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert len(re.findall(r"dit_(head|tail)", shown.output)) == 4
    wrong = CliRunner().invoke(main, ["engines", *options[:-1], "teacache", "--dry-run"])
    assert wrong.exit_code == 2
    assert "use first-block" in wrong.output


def test_baked_weights_and_a_cache_are_refused_before_anything_is_built(
    tiny_settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="--cache and --materialise baked"):
        tiny_settings(tmp_path / "new", materialise="baked", step_cache=FirstBlockCache())


def test_a_denoiser_that_cannot_be_split_is_refused_before_anything_is_built(
    longer: Path, tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = tiny_settings(tmp_path / "new", step_cache=FirstBlockCache())
    lone = Source(longer)
    lone.outline.transformer.register_to_config(num_layers=0)
    monkeypatch.setattr("a2edit.export.build.Source", lambda _: lone)
    with pytest.raises(CheckpointError, match="build without --cache"):
        build(given, Silent())
    assert not given.cache.exists()


def test_the_rule_of_a_route_and_of_merged_weights(cached: Bundle) -> None:
    entry = cached.manifest.step_cache
    assert entry
    steepest = max(entry.slopes.values())
    assert SkipRule.of_route(entry, None) == SkipRule(0.5, steepest, WINDOW)
    for route, slope in entry.slopes.items():
        assert SkipRule.of_route(entry, route) == SkipRule(0.5, slope, WINDOW)


@pytest.mark.slow
def test_every_target_at_open_sizes_in_8_bits(
    tiny_settings: Settings, longer: Path, tmp_path: Path
) -> None:
    """Head and tail are graphs like any other: types, profiles, plans, several requests a run."""
    given = tiny_settings(
        tmp_path / "tiny",
        routes=2,
        precision="auto",
        preset="balanced",
        target="cpu,sm80,sm89",
        sizes=(48,),
        batch=3,
        step_cache=FirstBlockCache(0.9),
    )
    with tiny_is_large():
        build(replace(given, model=str(longer)), Silent())
    manifest = open_bundle(given.out).manifest
    assert set(manifest.graphs[HEAD]) == set(manifest.graphs[DIT])
    for target, engines in manifest.engines.items():
        assert {HEAD, TAIL} < engines.keys()
        for name in (HEAD, TAIL):
            assert (engines[name].variant, engines[name].precision) == (
                engines[DIT].variant,
                engines[DIT].precision,
            )
        for figure in manifest.verification[target]["step_cache"]["routes"].values():
            assert figure["relative_error"] <= figure["tolerance"]
    for variants in (manifest.graphs[HEAD], manifest.graphs[TAIL]):
        for graph in variants.values():
            edge = {spec.name: spec.shape for spec in (*graph.inputs, *graph.outputs)}
            assert edge["hidden"][:3] == edge["next_latents"][:3] == (-1, -1, -1)
            assert edge["context"][0] == edge["modulation"][0] == -1
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (60, 60, 3), np.uint8) for _ in range(3)]
    requests = [
        EditRequest(image=one, reference=pictures[0], boxes=["10,10,40,40"], seed=seed)
        for seed, one in enumerate(pictures)
    ]
    with Editor.open(given.out, cache="first-block", route_tolerance=100) as editor:
        results = editor.edit_many(requests)
    assert {result.skipped_steps for result in results} <= set(range(1, STEPS - 1))
