"""Programs compiled for the processor at hand, and a bundle of them, from build to edit."""

import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from a2edit import Editor, EditRequest
from a2edit.calibration.policy import BYTES_TOLERANCE, TOLERANCE
from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.compile.inductor import engine_from_program
from a2edit.export.compile.layers import read_layer_types
from a2edit.export.held_out import BUNDLED_SAMPLES, read_held_out
from a2edit.export.program import Parameter, Program
from a2edit.export.settings import BuildSettings
from a2edit.runtime.bundle import Bundle, open_bundle
from a2edit.runtime.engines import inductor
from a2edit.runtime.engines.base import GraphSpec, TensorSpec, WeightSet
from a2edit.runtime.engines.cuda import capability
from a2edit.runtime.engines.inductor import engine_from_blob
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.errors import BundleError, EngineError, TargetError
from a2edit.runtime.sampler import CONTEXT
from a2edit.runtime.targets import TARGETS, target_of

Settings = Callable[..., BuildSettings]
CPU = TARGETS["cpu"]


class Eight(nn.Module):
    """An int8 product and a parameter that is added, over any number of rows."""

    def forward(self, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        levels = (x / 0.1).round().clamp(-127, 127).to(torch.int8)
        sums = torch._int_mm(levels, weight.t())
        return sums.float() * (0.1 * scale) + bias


def eight(out: int = 4, inner: int = 8) -> Program:
    """Small enough to be compiled in seconds, and of every kind of input."""
    specs = (
        TensorSpec("x", "float32", (-1, inner)),
        TensorSpec("l.weight", "int8", (out, inner)),
        TensorSpec("l.scale", "float32", (out,)),
    )
    inputs = (
        torch.zeros(18, inner),
        torch.zeros(out, inner, dtype=torch.int8),
        torch.zeros(out),
        torch.zeros(out),
    )
    rows = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        Eight(), inputs, dynamic_shapes={"x": {0: rows}, "weight": {}, "scale": {}, "bias": {}}
    )
    result = TensorSpec("y", "float32", (-1, out))
    spec = GraphSpec("g", specs[:1], (result,), specs[1:])
    bias = Parameter(TensorSpec("l.bias", "float16", (out,)), "float32")
    return Program(program, spec, (bias,))


def compiled_in(folder: Path) -> Path:
    folder.mkdir()
    engine_from_program(eight(), folder / "g.pt2", CPU)
    return folder / "g.pt2"


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_in(tmp_path_factory.mktemp("engines") / "a")


def weights(name: str, spec: GraphSpec, seed: int) -> WeightSet:
    rng, (levels, scale) = np.random.default_rng(seed), spec.weights
    drawn = rng.integers(-127, 128, levels.shape).astype(np.int8)
    return WeightSet(
        name, {levels.name: drawn, scale.name: rng.random(scale.shape).astype(np.float32)}
    )


def repeats_numpy(spec: GraphSpec, package: Path, rows: int) -> None:
    """With each of two routes bound and bound again; and at the third run, which replays on a GPU
    what the second recorded."""
    _, inner = spec.inputs[0].shape
    bias = np.linspace(-2, 1, spec.outputs[0].shape[1]).astype(np.float16)
    routes = weights("first", spec, 0), weights("second", spec, 1)
    with engine_from_blob(spec, package, "int8") as engine:
        engine.feed({"l.bias": bias})
        for route in (*routes, routes[0]):
            engine.bind(route)
            for seed in range(3):
                x = np.random.default_rng(seed).uniform(-20, 20, (rows, inner)).astype(np.float32)
                levels = np.clip(np.rint(x / np.float32(0.1)), -127, 127)
                sums = levels @ route.tensors["l.weight"].astype(np.float32).T
                wanted = sums * (np.float32(0.1) * route.tensors["l.scale"]) + bias
                np.testing.assert_allclose(engine.run({"x": x})["y"], wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 3, 17])
def test_a_package_computes_its_program_for_whatever_is_bound(compiled: Path, rows: int) -> None:
    repeats_numpy(eight().spec, compiled, rows)


@pytest.mark.gpu
@pytest.mark.slow
def test_a_gpus_package_computes_its_program_for_whatever_is_bound(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("this torch was built without CUDA")
    program = eight(16, 32)
    engine_from_program(program, tmp_path / "g.pt2", target_of(capability()))
    repeats_numpy(program.spec, tmp_path / "g.pt2", 40)


@pytest.mark.slow
def test_a_package_holds_no_paths_no_sources_and_repeats(compiled: Path) -> None:
    again = compiled_in(compiled.parents[1] / "b").read_bytes()
    assert again == compiled.read_bytes()
    assert str(compiled.parent).encode() not in again
    assert f"{tempfile.gettempdir()}/{tempfile.gettempprefix()}".encode() not in again
    with zipfile.ZipFile(compiled) as file:
        assert {Path(name).suffix for name in file.namelist()} <= {".so", ".json", ""}
    assert read_layer_types(compiled.with_name("g.layers.json")).linear == {"int8 x int8": 1}


@pytest.fixture(scope="module")
def settings(tiny_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> BuildSettings:
    out = tmp_path_factory.mktemp("inductor") / "tiny"
    chosen = {"backend": "inductor", "precision": "int8", "accept_quality": True, "jobs": 2}
    return tiny_settings(out, routes=2, **chosen)


@pytest.fixture(scope="module")
def packed(settings: BuildSettings) -> Bundle:
    build(settings, Silent())
    return open_bundle(settings.out)


@pytest.mark.slow
def test_every_graph_of_a_bundle_repeats_torch(packed: Bundle) -> None:
    figures = packed.manifest.verification["cpu"]
    assert figures["runner"] == "inductor"
    for name, entry in packed.manifest.engines["cpu"].items():
        assert (entry.backend, entry.version) == ("inductor", torch.__version__)
        assert entry.file == f"engines/cpu/{name}.pt2"
        if name != "dit":
            allowed = (BYTES_TOLERANCE if name == "vae_decoder" else TOLERANCE)["fp32"]
            assert figures["graphs"][name]["relative_error"] <= allowed
    for figure in figures["routes"].values():
        # 8 bits really cost something
        assert 1e-4 < figure["relative_error"] <= 2 * TOLERANCE["int8"]


@pytest.mark.slow
def test_the_int8_denoiser_computes_what_its_onnx_graph_does(packed: Bundle) -> None:
    """On every route, each bound to the one engine.

    Sums in another order move a value that lies near a tie to the next level, here and there: far
    less than 8 bits cost, and than routes differ by.
    """
    manifest = packed.manifest
    graph = manifest.graphs["dit"]["int8"]
    assert sum(part.dtype == "int8" for part in graph.weights) > 3
    counted = manifest.precision["products"]["cpu"]["dit"]
    assert counted["linear"]["int8 x int8"] == sum(part.dtype == "int8" for part in graph.weights)
    pools = EnginePool(packed, "cpu"), EnginePool(packed, "cpu", "onnxruntime")
    (held, *_) = read_held_out(packed.path(BUNDLED_SAMPLES))
    latents = next(part for part in graph.inputs if part.name == "latents")
    feeds = {name: held.feeds[name] for name in CONTEXT}
    feeds["latents"] = np.random.default_rng(0).standard_normal(latents.shape, np.float32)
    level = {"sigma": np.full(1, 0.75, np.float32)}
    level |= {name: held.feeds[name] for name in ("pooled", "guidance")}
    feeds |= pools[1].get("modulation").run(level) | {"delta": np.full(1, -1, np.float32)}
    results = []
    for route in manifest.routes:
        steps = []
        for pool in pools:
            engine = pool.get("dit")
            engine.bind(packed.weight_set(route, "int8"))
            steps.append(engine.run(feeds)["next_latents"] - feeds["latents"])
        ours, onnx = steps
        assert np.linalg.norm(ours - onnx) <= 1e-3 * np.linalg.norm(onnx)
        results.append(ours)
    assert np.linalg.norm(results[0] - results[1]) > 3e-3 * np.linalg.norm(results[0])
    for pool in pools:
        pool.close()


@pytest.mark.slow
def test_an_edit_is_the_one_that_other_engines_make(
    packed: Bundle, picture: np.ndarray, region: np.ndarray
) -> None:
    request = EditRequest(image=picture, mask=region, reference=picture[:40, :40], steps=2)
    edits = []
    for engine in ("inductor", "onnxruntime"):
        with Editor.open(packed.folder, engine=engine) as editor:
            edits.append(editor.edit(request))
    ours, onnx = (np.asarray(edit.image).astype(int) for edit in edits)
    assert edits[0].route == edits[1].route
    assert np.abs(ours - onnx).max() <= 1
    assert np.abs(ours - picture).max() > 8


@pytest.mark.slow
def test_no_byte_of_the_model_is_in_an_engine(packed: Bundle) -> None:
    """Parameters are read from the file that all graphs share."""
    for name in packed.manifest.engines["cpu"]:
        with EnginePool(packed, "cpu").get(name) as engine:
            assert engine.spec.parameters
            fed = packed.parameters(engine.spec.parameters)
        data = packed.path(f"engines/cpu/{name}.pt2").read_bytes()
        for array in fed.values():  # stored in fp16, taken in fp32
            for values in (array, array.astype(np.float32)):
                start = values.tobytes()[:256]
                assert len(set(start)) < 16 or start not in data


@pytest.mark.slow
def test_a_flipped_byte_is_refused_by_its_hash(packed: Bundle, tmp_path: Path) -> None:
    copy = shutil.copytree(packed.folder, tmp_path / "copy")
    path = copy / "engines/cpu/dit.pt2"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"dit\.pt2' does not match its hash"):
        open_bundle(copy)


@pytest.mark.slow
def test_engines_of_another_torch_are_refused(
    packed: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inductor, "backend_version", lambda: "1.13.0")
    message = rf"compiled by inductor {torch.__version__}, here is 1\.13\.0: install that version"
    with pytest.raises(TargetError, match=message.replace("+", r"\+")):
        EnginePool(packed, "cpu").get("gate")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"materialise": "baked"}, "--materialise baked is nothing for --backend inductor"),
        ({"precision": "bf16"}, "in fp32 or int8 on a cpu, not in bf16.*--backend openvino"),
        ({"precision": "fp8"}, "cpu .* has no fp8"),
        ({"fused_kernels": True}, "--fused-kernels is for GPUs' engines .* cpu's is by inductor"),
        ({"target": "sm75"}, "inductor cannot build for sm75"),
        ({"target": "sm90"}, "inductor builds for the GPU at hand, and torch .* finds none"),
    ],
)
def test_what_it_cannot_build_is_refused_before_anything_is_built(
    tiny_settings: Settings, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    if torch.cuda.is_available() and "target" in options:
        pytest.skip("there is a GPU")
    chosen = {"precision": "auto", "backend": "inductor", **options}
    with pytest.raises(TargetError, match=message):
        build(tiny_settings(tmp_path / "out", **chosen), Silent())
    assert not list(tmp_path.iterdir())


def test_a_missing_compiler_is_told_before_anything_is_built(
    tiny_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(TargetError, match="there is no no-such-compiler: install g"):
        build(tiny_settings(tmp_path / "out", backend="inductor"), Silent())


def test_what_cannot_be_compiled_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineError, match="graph g: inductor cannot compile it: its process ended"):
        engine_from_program(eight(), tmp_path / "g.pt2", CPU)
    assert not (tmp_path / "g.pt2").exists()
