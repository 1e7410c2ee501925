"""Bundles for GPUs, built where there is none: plans, their types, what targets share."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from a2edit.calibration import policy
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.cli import main
from a2edit.export.passes import external
from a2edit.export.settings import BuildSettings
from a2edit.export.weights import places
from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.errors import BundleError, RequestError, TargetError
from a2edit.runtime.manifest import GRAPHS
from a2edit.runtime.merging import Merging
from a2edit.runtime.targets import Precision

Settings = Callable[..., BuildSettings]
TARGETS = {"sm80": "int8", "sm86": "int8", "sm89": "fp8", "sm120": "fp8"}
pytestmark = pytest.mark.slow


@contextmanager
def tiny_is_large() -> Iterator[None]:
    """Random weights, a few dozen wide, average out less than a trained model's do."""
    allowed: dict[Precision, float] = {"int8": 0.1, "fp8": 0.15, "bf16": 0.03}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "TOLERANCE", {**policy.TOLERANCE, **allowed})
        # At full size they are megabytes.
        patch.setattr(external, "LARGE", 1024)
        yield


@pytest.fixture(scope="module")
def gpu_settings(
    bundle: Path, tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> BuildSettings:
    """One bundle for four GPUs; of the CPU's build it finds what does not depend on types."""
    out = tmp_path_factory.mktemp("gpu") / "tiny"
    settings = tiny_settings(out, routes=2, precision="auto", target=",".join(TARGETS))
    shutil.copytree(tiny_settings(bundle).cache, settings.cache)
    return settings


@pytest.fixture(scope="module")
def gpu_bundle(gpu_settings: BuildSettings) -> Bundle:
    with tiny_is_large():
        build(gpu_settings, Silent())
    return open_bundle(gpu_settings.out)


def test_every_graph_has_a_plan_for_every_target(gpu_bundle: Bundle) -> None:
    manifest = gpu_bundle.manifest
    assert manifest.engines.keys() == TARGETS.keys()
    for target, engines in manifest.engines.items():
        assert engines.keys() == set(GRAPHS)
        for name, entry in engines.items():
            assert entry.backend == "tensorrt_rtx"
            assert entry.file == f"engines/{target}/{name}.plan"
            assert gpu_bundle.path(entry.file).stat().st_size > 100_000
        assert engines["dit"].precision == TARGETS[target]
        assert engines["gate"].precision == "fp32"  # its choice of experts must not flip


def test_the_compiled_plans_multiply_in_what_was_asked_for(gpu_bundle: Bundle) -> None:
    counted = gpu_bundle.manifest.precision
    for target, kind in TARGETS.items():
        products = counted["products"][target]
        assert {found["source"] for found in products.values()} == {"plan"}
        dtype = {"int8": "int8", "fp8": "float8_e4m3fn"}[kind]
        asked = counted["routed_weights"][f"{kind}-bf16"][dtype]
        taken = products["dit"]["linear"][f"{kind} x {kind}"]
        # products that share an input may be joined into one
        assert asked / 2 < taken <= asked
        assert products["dit"]["attention"]["bf16 x bf16"] == 3


def test_large_matrices_are_inputs_that_the_shared_file_feeds(gpu_bundle: Bundle) -> None:
    shared = places(gpu_bundle.folder / "graphs/shared.safetensors")
    for name, variant in (
        ("dit", "int8-bf16"),
        ("modulation", "bf16"),
        ("text_encoder", "bf16"),
        ("image_encoder", "bf16"),
    ):
        graph = gpu_bundle.manifest.graphs[name][variant]
        large = {part.name: part for part in graph.parameters}
        if name == "dit":  # the rest is routed, or the modulation's
            embedders = ("x_embedder", "context_embedder", "proj_out")
            assert large.keys() == {f"transformer.{part}.weight" for part in embedders}
        else:
            assert len(large) > 3
        fed = gpu_bundle.parameters(graph.parameters)
        for key, part in large.items():
            assert shared[key].bytes == part.nbytes == fed[key].nbytes >= 1024
    assert not gpu_bundle.manifest.graphs["gate"]["fp32"].parameters  # CPUs' engines share it


def test_targets_with_equal_types_share_graphs_and_weights(gpu_bundle: Bundle) -> None:
    manifest = gpu_bundle.manifest
    assert set(manifest.graphs["dit"]) == set(manifest.weight_sets) == {"int8-bf16", "fp8-bf16"}
    assert set(manifest.graphs["gate"]) == {"fp32"}
    assert {engines["dit"].variant for engines in manifest.engines.values()} == set(
        manifest.weight_sets
    )
    for target, figures in manifest.verification.items():
        assert figures["runner"] == "onnxruntime, the same graphs"
        layers = figures["layers"]
        assert len(layers) == manifest.precision["routed_linears"]
        assert 1e-3 < layers[0]["own"] < 0.3
        assert set(figures["routes"]) == set(manifest.routes)
        for name, figure in figures["routes"].items():
            # the types really cost something, and not too much
            assert 1e-3 < figure["relative_error"] <= figure["tolerance"], (target, name)
    same = [manifest.verification[target]["routes"] for target in ("sm80", "sm86")]
    assert same[0] == same[1]


def test_every_routed_linear_finds_the_kernels_that_merge_it(gpu_bundle: Bundle) -> None:
    manifest = gpu_bundle.manifest
    assert manifest.merge
    stored = places(gpu_bundle.path(manifest.merge.file))
    assert manifest.merge_kernels.keys() == TARGETS.keys()
    for target, kernels in manifest.merge_kernels.items():
        variant = manifest.engines[target]["dit"].variant
        assert Merging(gpu_bundle, variant, target).gpu_bytes  # as the runtime sees it
        graph = manifest.graphs["dit"][variant]
        taken = {weight.name: weight.dtype for weight in graph.weights}
        made = {(it.phase, it.weight, it.scale, it.base, it.factors, it.smooth) for it in kernels}
        used = set()
        for name in manifest.merge.blocks:
            weight, scale = taken[f"{name}.weight"], taken.get(f"{name}.scale", "")
            parts = (stored[f"{name}.{part}"].dtype for part in ("weight", "A"))
            smooth = weight == "int8" and f"{name}.smooth" in stored
            phases = ("one_pass", "maxima", "levels") if scale else ("cast",)
            of_parts = (weight, scale, *parts, smooth)
            used |= {(phase, *of_parts) for phase in phases}
        assert made == used
        files = {kernel.file for kernel in kernels}
        assert len(files) == len(kernels)
        assert all(name.endswith(".cubin") for name in files)
        assert {name.rpartition("/")[0] for name in files} == {f"engines/{target}"}
    assert manifest.tools["triton"]
    shown = CliRunner().invoke(main, ["inspect", str(gpu_bundle.folder)]).output
    for kind in ("int8", "float8_e4m3fn"):
        assert re.search(rf"merged by    the GPU, \d kernels: .*float16 to {kind}\b", shown)


def test_plans_and_kernels_repeat(gpu_bundle: Bundle, gpu_settings: BuildSettings) -> None:
    """Compiled again, each in a process of its own, they are the same bytes."""
    before = gpu_bundle.manifest.bundle_hash
    for pattern in ("engine-sm80-*", "merge-kernels-*"):
        for step in gpu_settings.cache.glob(pattern):
            shutil.rmtree(step)
    with tiny_is_large():
        assert build(gpu_settings, Silent()) == before


def test_a_flipped_byte_in_a_plan_is_refused(gpu_bundle: Bundle, tmp_path: Path) -> None:
    copy = shutil.copytree(gpu_bundle.folder, tmp_path / "copy")
    path = copy / "engines/sm89/dit.plan"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"sm89/dit\.plan' does not match its hash"):
        open_bundle(copy)


def test_without_its_gpu_it_says_what_it_is_for(gpu_bundle: Bundle) -> None:
    with pytest.raises(TargetError, match=r"no engines for the device 'cpu'; .* sm80, sm86, sm89"):
        EnginePool(gpu_bundle)
    with pytest.raises(TargetError, match="'openvino' does not run on the device 'cuda'"):
        EnginePool(gpu_bundle, "cuda", "openvino")
    with pytest.raises(TargetError, match="'tensorrt_rtx' does not run on the device 'cpu'"):
        EnginePool(gpu_bundle, "cpu", "tensorrt_rtx")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": "sm80", "precision": "fp8"}, TargetError, "sm80 .* has no fp8 .* int8"),
        ({"target": "sm75", "precision": "bf16"}, TargetError, "sm75 .* has no bf16 .* fp32"),
        ({"target": "sm90"}, TargetError, "tensorrt"),
        ({"target": "sm90", "backend": "tensorrt_rtx"}, TargetError, "cannot build for sm90"),
        ({"target": "cpu", "backend": "tensorrt"}, TargetError, "cannot build for cpu .* openvino"),
        ({"target": "cpu", "precision": "fp8"}, TargetError, "has no fp8"),
        ({"target": "sm70"}, TargetError, "sm70 is unknown; known are cpu, sm75"),
        ({"preset": "small", "precision": "int8"}, RequestError, "give one of them"),
    ],
)
def test_what_a_target_lacks_is_refused_before_anything_is_built(
    tiny_settings: Settings,
    tmp_path: Path,
    options: dict[str, str],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        build(tiny_settings(tmp_path / "out", **{"precision": "auto", **options}), Silent())
    assert not list(tmp_path.iterdir())


def test_what_merges_on_a_gpu_reads_the_base_that_the_bundle_carries(
    bundle: Path, tiny_settings: Settings, tmp_path: Path
) -> None:
    options = {"routes": 1, "precision": "auto", "target": "sm80", "merge_base": "int8"}
    settings = tiny_settings(tmp_path / "tiny", **options)
    shutil.copytree(tiny_settings(bundle).cache, settings.cache)
    with tiny_is_large():
        build(settings, Silent())
    manifest = open_bundle(settings.out).manifest
    about = manifest.precision["merge_base"]
    assert len(about["eight"]) == manifest.precision["routed_linears"]
    assert {kernel.base for kernel in manifest.merge_kernels["sm80"]} == {"int8"}
    (merged,) = manifest.verification["sm80"]["merged"].values()
    assert merged["relative_error"] <= merged["tolerance"]
