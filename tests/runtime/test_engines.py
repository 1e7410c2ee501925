"""One protocol, every backend: the same graph, the same answers, the same refusals."""

import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.engines.base import (
    Array,
    CheckedEngine,
    DeviceTensor,
    GraphSpec,
    TensorSpec,
    WeightSet,
)
from a2edit.runtime.engines.pool import EnginePool
from a2edit.runtime.engines.recording import RecordingEngine
from a2edit.runtime.errors import EngineError, TargetError


@pytest.fixture(params=["openvino", "onnxruntime"])
def dit(request: pytest.FixtureRequest, bundle: Path) -> Iterator[CheckedEngine]:
    pytest.importorskip(request.param)
    pool = EnginePool(open_bundle(bundle), backend=request.param)
    engine = pool.get("dit")
    assert isinstance(engine, CheckedEngine)
    yield engine
    pool.close()


def inputs(engine: CheckedEngine) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {s.name: rng.standard_normal(s.shape).astype(np.float32) for s in engine.spec.inputs}


def velocity(given: Mapping[str, Array], weight: Array) -> Array:
    means = given["text_tokens"].mean() + given["reference_tokens"].mean()
    wanted = given["conditioning"][..., :64] @ weight.T + means + given["modulation"][0, 0]
    result: Array = given["latents"] + given["delta"] * (given["latents"] - wanted)
    return result


def random_weights(seed: int) -> WeightSet:
    weight = np.random.default_rng(seed).standard_normal((64, 64)).astype(np.float32)
    return WeightSet(f"w{seed}", {"proj.weight": weight})


def test_a_run_is_the_closed_form_and_follows_the_bound_weights(dit: CheckedEngine) -> None:
    given, one, two = inputs(dit), random_weights(1), random_weights(2)
    results = []
    for weights in (one, two, one):
        dit.bind(weights)
        assert dit.bound == weights.name
        results.append(dit.run(given)["next_latents"])
        expected = velocity(given, weights.tensors["proj.weight"])
        np.testing.assert_allclose(results[-1], expected, atol=1e-4)
    np.testing.assert_array_equal(results[0], results[2])
    assert np.abs(results[0] - results[1]).max() > 1


def test_weights_on_a_gpu_are_refused(dit: CheckedEngine) -> None:
    tensor = DeviceTensor(1 << 20, "float32", (64, 64), None)
    with pytest.raises(EngineError, match="'dit' runs on the processor, and weights merged on"):
        dit.bind(WeightSet("far", {}, placed={"proj.weight": tensor}))
    assert dit.bound is None


def test_results_are_not_overwritten_by_the_next_run(dit: CheckedEngine) -> None:
    dit.bind(random_weights(1))
    first = dit.run(inputs(dit))["next_latents"]
    before = first.copy()
    dit.run({name: array + 1 for name, array in inputs(dit).items()})
    np.testing.assert_array_equal(first, before)


def test_read_only_and_strided_inputs_are_taken(dit: CheckedEngine) -> None:
    dit.bind(random_weights(1))
    given = inputs(dit)
    expected = dit.run(given)["next_latents"]
    given["latents"].flags.writeable = False
    given["conditioning"] = np.repeat(given["conditioning"], 2, axis=3)[..., ::2]
    np.testing.assert_array_equal(dit.run(given)["next_latents"], expected)


def test_refusals(dit: CheckedEngine) -> None:
    given = inputs(dit)
    with pytest.raises(EngineError, match="bind a set first"):
        dit.run(given)
    with pytest.raises(EngineError, match=r"w: proj\.weight float32\[64, 64\] is missing"):
        dit.bind(WeightSet("w", {"other": np.zeros(3, np.float32)}))
    with pytest.raises(EngineError, match=r"expected proj\.weight .* got float16\[64, 64\]"):
        dit.bind(WeightSet("w", {"proj.weight": np.zeros((64, 64), np.float16)}))
    dit.bind(random_weights(1))
    with pytest.raises(EngineError, match="has no input deltas; it has conditioning"):
        dit.run(given | {"deltas": given["delta"]})
    with pytest.raises(EngineError, match=r"expected delta float32\[1\], got float32\[2\]"):
        dit.run(given | {"delta": np.zeros(2, np.float32)})
    dit.close()
    dit.close()
    with pytest.raises(EngineError, match="the engine is closed"):
        dit.run(given)


def test_binding_moves_no_bytes(bundle: Path) -> None:
    """OpenVINO reads the caller's memory: a change there shows in the next run."""
    with EnginePool(open_bundle(bundle)).get("dit") as engine:
        weights, given = random_weights(1), inputs(engine)  # type: ignore[arg-type]
        engine.bind(weights)
        engine.run(given)
        weights.tensors["proj.weight"][:] = 0
        result = engine.run(given)["next_latents"]
        expected = velocity(given, np.zeros((64, 64), np.float32))
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_unbinding_frees_the_weights(dit: CheckedEngine) -> None:
    given, weights = inputs(dit), random_weights(1)
    dit.bind(weights)
    expected = dit.run(given)["next_latents"]
    array = weakref.ref(weights.tensors["proj.weight"])
    del weights
    assert array() is not None
    dit.unbind()
    assert array() is None
    assert dit.bound is None
    with pytest.raises(EngineError, match="bind a set first"):
        dit.run(given)
    dit.unbind()
    dit.bind(random_weights(1))
    np.testing.assert_array_equal(dit.run(given)["next_latents"], expected)


def test_another_set_frees_the_one_before(dit: CheckedEngine) -> None:
    weights = random_weights(1)
    array = weakref.ref(weights.tensors["proj.weight"])
    dit.bind(weights)
    dit.run(inputs(dit))
    del weights
    dit.bind(random_weights(2))
    assert array() is None


class RefusingEngine(RecordingEngine):
    """Refuses its second set, when the first half of it is in place."""

    def _bind(self, tensors: Mapping[str, Array]) -> None:
        super()._bind(tensors)
        if tensors["w"][0] == 2:
            raise EngineError("refused")


def test_a_set_that_is_refused_leaves_none_bound() -> None:
    weights = (TensorSpec("w", "float32", (1,)),)
    engine = RefusingEngine(GraphSpec("g", (), (), weights), lambda *_: {})
    engine.bind(WeightSet("one", {"w": np.ones(1, np.float32)}))
    with pytest.raises(EngineError, match="refused"):
        engine.bind(WeightSet("two", {"w": np.full(1, 2, np.float32)}))
    assert engine.bound is None
    with pytest.raises(EngineError, match="bind a set first"):
        engine.run({})


def test_a_broken_graph_names_its_file(own_bundle: Path) -> None:
    opened = open_bundle(own_bundle)
    for backend, graph in (
        ("openvino", "engines/cpu/gate.blob"),
        ("onnxruntime", "graphs/gate.onnx"),
    ):
        pytest.importorskip(backend)
        (own_bundle / graph).write_bytes(b"nonsense")
        with pytest.raises(EngineError, match=graph):
            EnginePool(opened, backend=backend).get("gate")


def test_onnxruntime_has_no_bf16() -> None:
    from a2edit.runtime.engines import onnxruntime

    with pytest.raises(TargetError, match="no bf16"):
        onnxruntime.engine_from_onnx(GraphSpec("g", (), ()), Path("g.onnx"), "bf16")


def test_the_recording_engine_remembers() -> None:
    spec = GraphSpec(
        "add",
        (TensorSpec("x", "float32", (2,)),),
        (TensorSpec("y", "float32", (2,)),),
        (TensorSpec("w", "float32", (2,)),),
    )
    engine = RecordingEngine(spec, lambda given, weights: {"y": given["x"] + weights["w"]})
    engine.bind(WeightSet("one", {"w": np.ones(2, np.float32)}))
    x = np.zeros(2, np.float32)
    assert engine.run({"x": x})["y"].tolist() == [1, 1]
    x += 5
    assert engine.runs[0]["x"].tolist() == [0, 0]
    assert engine.binds == ["one"]
