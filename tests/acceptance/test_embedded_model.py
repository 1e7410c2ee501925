"""The main job on the model that ships: build its engines, edit with them, look at the result."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from a2edit import Editor, EditRequest
from a2edit.bench.figures import edit_cases, figures
from a2edit.bench.heldout.cases import drawn_cases
from a2edit.bench.metrics import psnr
from a2edit.bench.switching import example_inputs
from a2edit.calibration.policy import TOLERANCE
from a2edit.calibration.samples import HELD_OUT, calibration_requests, encode
from a2edit.export.held_out import feeds_of, truth_of
from a2edit.export.plan import plan_build
from a2edit.export.quality import velocity_error
from a2edit.export.settings import BuildSettings
from a2edit.model.checkpoint import Checkpoint, find_checkpoint
from a2edit.model.graphs import make_graphs
from a2edit.model.pipeline import A2EditPipeline
from a2edit.runtime.boxes import Box
from a2edit.runtime.compose import compose
from a2edit.runtime.manifest import read_manifest
from a2edit.runtime.masks import boxes_mask
from a2edit.runtime.prepare import prepare
from tests.acceptance.conftest import run_command

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def request_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, case = tmp_path_factory.mktemp("request"), drawn_cases()[0]
    files = {name: folder / f"{name}.png" for name in ("image", "mask", "reference")}
    case.scene.save(files["image"])
    Image.fromarray(case.mask).save(files["mask"])
    case.reference.save(files["reference"])
    return files


def test_the_checkpoint_is_small_and_whole() -> None:
    folder = find_checkpoint("a2edit-mini")
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 40e6
    assert len(list((folder / "experts").glob("expert_*/adapter_model.safetensors"))) == 8
    Checkpoint.load(folder)


def test_engines_are_the_model(bundle: Path) -> None:
    """Every graph and route was verified at build; the figures are in the manifest."""
    verification = read_manifest(bundle).verification
    routes = verification["cpu"]["routes"]
    assert 1 <= len(routes) <= 8
    assert all(float(figure["relative_error"]) <= 1e-5 for figure in routes.values())


def test_an_edit_is_the_references_with_the_same_weights(bundle: Path) -> None:
    """The whole edit, torch with unmerged experts against engines: the same picture."""
    case = drawn_cases()[2]
    request = case.request(seed=3)
    with Editor.open(bundle) as editor:
        result = editor.edit(request)
        table = editor.bundle.manifest.routes[result.route].table
    pipeline = A2EditPipeline(Checkpoint.load("a2edit-mini"))
    with torch.inference_mode():
        prepared = prepare(request, pipeline.spec)
        encoded = pipeline.encode(prepared, request.prompt)
        asked = pipeline.gate(encoded)[0].numpy()
        weights = torch.tensor(table, dtype=torch.float32)[None]
        latents = pipeline.denoise(encoded, weights, result.steps, request.seed)
        pixels = pipeline.graphs["vae_decoder"](latents)[0].numpy()
    np.testing.assert_allclose(result.gate_weights, asked, atol=1e-5)
    expected, got = np.asarray(compose(prepared, pixels)), np.asarray(result.image)
    assert psnr(got, expected, prepared.source_mask) >= 45


def test_what_no_route_is_near_is_merged_and_is_the_model(bundle: Path) -> None:
    """Weights merged on demand: the velocity of torch with unmerged experts at the gate's table."""
    checkpoint = Checkpoint.load("a2edit-mini")
    graphs = make_graphs(checkpoint)
    (sample,) = encode(graphs, calibration_requests(checkpoint, None, HELD_OUT, 1))
    with Editor.open(bundle, route_tolerance=0) as editor:
        choice = editor.routes.get(sample.table)
        assert choice.supply == "merged"
        engine = editor.engines.denoiser(choice)
        truth = truth_of(checkpoint, graphs, sample, 0, sample.table)
        feeds = feeds_of(sample, checkpoint.config.guidance)
        error = velocity_error(engine, editor.engines.get("modulation"), feeds, truth)
    assert error <= TOLERANCE["fp32"] == 1e-5


def test_any_order_of_routes_gives_the_same_bytes(bundle: Path) -> None:
    """A thousand random switches under a budget of two sets; every twentieth is compared."""
    rng = np.random.default_rng(0)
    with Editor.open(bundle, route_tolerance=0) as editor:
        size = editor.engines.static_weights().nbytes
        manifest = editor.bundle.manifest
    tables = [np.array(route.table, np.float32) for route in manifest.routes.values()]
    tables.append(0.5 * (tables[0] + tables[1]))  # merged
    first: dict[int, bytes] = {}
    with Editor.open(bundle, route_tolerance=0) as editor:
        editor.routes.limit(2 * size)
        inputs = example_inputs(editor)
        for turn, place in enumerate(rng.integers(0, len(tables), 1000).tolist()):
            choice = editor.routes.get(tables[place])
            engine = editor.engines.denoiser(choice)
            weights = hashlib.sha256()
            if turn % 20 == 0 or place not in first:
                for name in sorted(choice.weight_set.tensors):
                    weights.update(choice.weight_set.tensors[name].tobytes())
                weights.update(engine.run(inputs)["next_latents"].tobytes())
                assert first.setdefault(place, weights.digest()) == weights.digest()
        assert editor.routes.nbytes <= 2 * size
    assert len(first) == len(tables)


def test_a_seed_is_a_picture_in_any_process(
    bundle: Path, request_files: dict[str, Path], tmp_path: Path
) -> None:
    options = [part for name, path in request_files.items() for part in (f"--{name}", path)]
    for name, seed in (("first", 7), ("again", 7), ("other", 8)):
        out = tmp_path / f"{name}.png"
        run_command("runtime", *options, "--bundle", bundle, "--seed", seed, "--out", out)
    first = (tmp_path / "first.png").read_bytes()
    assert first == (tmp_path / "again.png").read_bytes()
    pictures = [np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("first", "other")]
    assert not np.array_equal(pictures[0], pictures[1])


def test_it_opens_without_torch(bundle: Path) -> None:
    code = (
        "import sys\n"
        "from a2edit import Editor\n"
        f"Editor.open({str(bundle)!r}).close()\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_held_out_references_are_painted(bundle: Path) -> None:
    """Objects and scenes that training never drew; its own reference's colours come back."""
    with Editor.open(bundle) as editor:
        edited = edit_cases(editor, drawn_cases()[:8], time.perf_counter)
    found = figures(edited)
    assert found.identical_outside == 1.0
    assert found.own_closer >= 0.9, {case.name: case.own_closer for case in found.cases}


def test_another_reference_gives_another_object(bundle: Path) -> None:
    first, second = drawn_cases()[0], drawn_cases()[4]
    with Editor.open(bundle) as editor:
        pictures = [
            np.asarray(
                editor.edit(
                    EditRequest(
                        image=first.scene, boxes=[first.place], reference=case.reference, seed=0
                    )
                ).image.convert("RGB")
            )
            for case in (first, second)
        ]
    height, width = pictures[0].shape[:2]
    region = boxes_mask([Box.of(first.place)], width, height)
    assert psnr(pictures[0], pictures[1], region) < 25


def test_a_dry_run_foretells_the_bundles_size(bundle: Path, tmp_path: Path) -> None:
    plan = plan_build(BuildSettings(model="a2edit-mini", out=tmp_path / "new", precision="fp32"))
    made = sum(entry.bytes for entry in read_manifest(bundle).files.values())
    assert plan.total == pytest.approx(made, rel=0.05)
