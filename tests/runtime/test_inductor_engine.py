"""Packages of AOTInductor as the runtime opens them, and the engine over a run that records."""

import json
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.engines import inductor
from a2edit.runtime.engines.base import DeviceTensor, GraphSpec, TensorSpec, WeightSet
from a2edit.runtime.engines.inductor import InductorEngine, Package, engine_from_blob, instructions
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.errors import EngineError, TargetError

torch = pytest.importorskip("torch")

X, W, P = (TensorSpec(name, "float32", (2, 3)) for name in ("x", "a.weight", "p"))
Y = TensorSpec("y", "float32", (2, 3))
SPEC = GraphSpec("dit", (X,), (Y,), weights=(W,))
# stored narrower than it is taken
STORED = TensorSpec("p", "bfloat16", (2, 3))
PACKAGE = Package("cpu", (), (X, W, P), (Y,), (STORED,))


class Recorded:
    """x · w + p, and what it was given."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def __call__(self, tensors: list[Any]) -> list[Any]:
        self.given = list(tensors)
        x, w, p = tensors
        return [x * w + p]


def weights(name: str, value: float) -> WeightSet:
    return WeightSet(name, {"a.weight": np.full((2, 3), value, np.float32)})


def written(path: Path, package: Package, name: str = "g/data/graph.wrapper_metadata.json") -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, json.dumps({"a2edit": json.dumps(asdict(package))}))
    return path


@pytest.fixture
def run() -> Recorded:
    return Recorded()


@pytest.fixture
def engine(run: Recorded) -> InductorEngine:
    return InductorEngine(SPEC, PACKAGE, run)


def test_a_run_reads_the_callers_arrays_where_they_lie(
    engine: InductorEngine, run: Recorded
) -> None:
    halves = np.full((2, 3), 0x3F00, np.uint16)  # bfloat16's bits of 0.5
    engine.feed({"p": halves})
    route, x = weights("route", 3.0), np.arange(6, dtype=np.float32).reshape(2, 3)
    engine.bind(route)
    np.testing.assert_array_equal(engine.run({"x": x})["y"], 3 * x + 0.5)
    assert run.given[0].data_ptr() == x.ctypes.data
    assert run.given[1].data_ptr() == route.tensors["a.weight"].ctypes.data
    assert run.given[2].dtype == torch.float32  # converted when it was fed


def test_weights_on_a_gpu_are_taken_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU's package; what torch makes of an address is a tensor of the processor here."""
    wide = TensorSpec("a.weight", "bfloat16", (2, 3))
    package = Package("cuda", (), (X, wide), (Y,), ())
    given: list[Any] = []

    def run(tensors: list[Any]) -> list[Any]:
        given.extend(tensors)
        return [tensors[0] * tensors[1].float()]

    bits = np.full((2, 3), 0x4000, np.uint16)  # 2
    placed = DeviceTensor(bits.ctypes.data, "bfloat16", (2, 3), bits)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    made = []

    def as_tensor(found: DeviceTensor, device: str) -> Any:
        interface = found.__cuda_array_interface__
        made.append((interface["data"][0], interface["typestr"], device))
        return torch.from_numpy(bits)

    engine = InductorEngine(replace(SPEC, weights=(wide,)), package, run)
    monkeypatch.setattr(torch, "as_tensor", as_tensor)
    engine.bind(WeightSet("route", {}, placed={"a.weight": placed}))
    assert made == [(bits.ctypes.data, "<u2", "cuda")]
    x = np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(engine.run({"x": x})["y"], 2 * x)
    assert given[1].dtype == torch.bfloat16
    assert given[1].data_ptr() == bits.ctypes.data
    engine.unbind()
    with pytest.raises(EngineError, match="bind a set first"):
        engine.run({"x": x})
    onto_cpu = InductorEngine(SPEC, PACKAGE, Recorded())
    with pytest.raises(EngineError, match="runs on the processor"):
        onto_cpu.bind(
            WeightSet("far", {}, placed={"a.weight": DeviceTensor(1, "float32", (2, 3), None)})
        )


def test_binding_another_route_changes_its_weights_alone(
    engine: InductorEngine, run: Recorded
) -> None:
    engine.feed({"p": np.zeros((2, 3), np.uint16)})
    x = np.ones((2, 3), np.float32)
    first, second = weights("first", 2.0), weights("second", 5.0)
    seen = []
    for route in (first, second, first):
        engine.bind(route)
        seen.append(float(engine.run({"x": x})["y"][0, 0]))
        kept = run.given[2]
    assert seen == [2, 5, 2]
    engine.unbind()
    with pytest.raises(EngineError, match="bind a set first"):
        engine.run({"x": x})
    engine.bind(second)
    assert engine.run({"x": x})["y"][1, 2] == 5
    assert run.given[2].shape == kept.shape  # parameters stay fed


def test_results_are_fresh_arrays(engine: InductorEngine) -> None:
    engine.feed({"p": np.zeros((2, 3), np.uint16)})
    engine.bind(weights("route", 1.0))
    first = engine.run({"x": np.ones((2, 3), np.float32)})["y"]
    engine.run({"x": np.zeros((2, 3), np.float32)})
    np.testing.assert_array_equal(first, np.ones((2, 3)))


def test_a_failing_run_says_which_graph_and_why() -> None:
    def fail(tensors: list[Any]) -> list[Any]:
        raise RuntimeError(text)

    engine = InductorEngine(replace(SPEC, weights=()), replace(PACKAGE, inputs=(X, P)), fail)
    engine.feed({"p": np.zeros((2, 3), np.uint16)})
    text = "run_func_(…) API call failed\nat model.h:140"
    with pytest.raises(EngineError, match=r"'dit' failed to run: run_func_\(…\) API call failed$"):
        engine.run({"x": np.ones((2, 3), np.float32)})
    text = "CUDA out of memory. Tried to allocate 20 GiB"
    with pytest.raises(MemoryError, match="out of memory; close what else uses it"):
        engine.run({"x": np.ones((2, 3), np.float32)})


@pytest.mark.parametrize(
    ("package", "message"),
    [
        (replace(PACKAGE, inputs=(X, P)), r"the engine has p float32.* where .* a\.weight"),
        (replace(PACKAGE, outputs=(replace(Y, dtype="uint8"),)), "has y uint8.* where .* float32"),
        (replace(PACKAGE, outputs=()), "has less where the graph has more"),
        (replace(PACKAGE, parameters=()), "asks for p, and says of  where"),
    ],
)
def test_an_engine_of_another_graph_is_refused(package: Package, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        InductorEngine(SPEC, package, Recorded())


def test_a_package_says_what_it_is(tmp_path: Path) -> None:
    package = replace(PACKAGE, needs=("avx2",))
    assert Package.read(written(tmp_path / "g.pt2", package)) == package


def test_a_damaged_package_is_refused_before_anything_in_it_runs(tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("no archive")
    (tmp_path / "empty.pt2").write_bytes(b"")
    written(tmp_path / "other.pt2", PACKAGE, name="readme.json")
    for name in ("text", "empty", "other", "missing"):
        with pytest.raises(EngineError, match="is no sound AOTInductor package"):
            engine_from_blob(SPEC, tmp_path / f"{name}.pt2", "fp32")
    # what says the right things, and holds no library
    with pytest.raises(EngineError, match="could not be loaded"):
        engine_from_blob(SPEC, written(tmp_path / "hollow.pt2", PACKAGE), "fp32")


def test_instructions_that_this_processor_lacks_are_named(tmp_path: Path) -> None:
    package = replace(PACKAGE, needs=(*instructions(), "avx1024"))
    with pytest.raises(TargetError, match=r"this processor lacks \(avx1024\): build the bundle"):
        engine_from_blob(SPEC, written(tmp_path / "g.pt2", package), "fp32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpus_package_needs_a_gpu(tmp_path: Path) -> None:
    file = written(tmp_path / "g.pt2", replace(PACKAGE, device="cuda"))
    with pytest.raises(TargetError, match=r"computes in fp8 on an NVIDIA GPU, and torch .* finds"):
        engine_from_blob(SPEC, file, "fp8")


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(TargetError, match=r"pip install 'a2edit\[inductor\]'"):
        inductor.backend_version()


def test_it_runs_only_what_was_built_for_it(bundle: Path) -> None:
    pool = EnginePool(open_bundle(bundle), "cpu", "inductor")
    message = "'inductor' runs what was built for it, and .* are openvino's: .* --backend inductor"
    with pytest.raises(TargetError, match=message):
        pool.get("gate")
