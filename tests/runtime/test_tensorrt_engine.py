"""TensorRT's engine: what it refuses here, and how it handles memory, on a CUDA of host memory.

Where no GPU is, the calls of CUDA and of an execution context are played by plain memory
(`host_cuda.py`).
"""

import copy
import ctypes
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from a2edit.runtime.engines import cuda, tensorrt
from a2edit.runtime.engines.base import Array, DeviceTensor, GraphSpec, TensorSpec, WeightSet
from a2edit.runtime.errors import DeviceMemoryError, EngineError, TargetError
from tests.runtime.host_cuda import STREAM, HostCuda

SPEC = GraphSpec(
    "scale",
    (TensorSpec("x", "float32", (4,)),),
    (TensorSpec("y", "float32", (4,)),),
    (TensorSpec("w", "float32", (4,)),),
)
X = np.arange(4, dtype=np.float32)


class Plan:
    """An engine and its context: y = x · w, read and written at the addresses that were set."""

    def __init__(self, host: HostCuda) -> None:
        self.host = host
        self.addresses: dict[str, int] = {}
        self.capturable = True
        self.num_io_tensors = 3
        self.device_memory_size_v2 = 4096
        self.shape: tuple[int, ...] = (4,)
        self.profiles: list[tuple[int, int]] = []
        self.profile = 0

    def get_tensor_name(self, place: int) -> str:
        return "xyw"[place]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.profiles)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int]]:
        low, high = self.profiles[profile]
        return [(low,), (low,), (high,)]

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        return stream == STREAM

    def create_execution_context(self) -> "Plan":
        return self

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return shape == (4,)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == STREAM
        if self.profiles:
            assert self.profiles[self.profile][0] <= 4 <= self.profiles[self.profile][1]
        if self.host.capture is not None and not self.capturable:
            return False
        x, w, y = (at(self.addresses[name]) for name in "xwy")
        self.host.enqueue(lambda: np.multiply(x, w, out=y))
        return True


def at(address: int, count: int = 4) -> Array:
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))


def weight_set(value: float) -> WeightSet:
    return WeightSet(f"w{value}", {"w": np.full(4, value, np.float32)})


@pytest.fixture
def engine(host: HostCuda) -> Iterator[tensorrt.TensorRtEngine]:
    messages = SimpleNamespace(reason=lambda: "not now")
    with tensorrt.TensorRtEngine(SPEC, Plan(host), messages) as engine:
        yield engine


def test_every_run_follows_the_bound_set_captured_or_not(
    host: HostCuda, engine: tensorrt.TensorRtEngine
) -> None:
    one, two = weight_set(1), weight_set(2)
    for value, weights in ((1, one), (2, two), (1, one)):
        engine.bind(weights)
        for times in (1, 2, 3):
            result = engine.run({"x": X * times})["y"]
            np.testing.assert_array_equal(result, X * times * value)
    # the second and third run of every bind are replays
    assert host.launches == 6
    assert len(host.graphs) == 3
    assert host.uploads == 2 + 9


def test_an_input_that_is_as_it_was_is_not_copied_again(
    host: HostCuda, engine: tensorrt.TensorRtEngine
) -> None:
    engine.bind(weight_set(2))
    nothing = np.full(4, np.nan, np.float32)  # not looked at
    engine.run({"x": X}, unchanged=["x"])  # the first run has none before it
    for _ in range(3):
        np.testing.assert_array_equal(engine.run({"x": nothing}, unchanged=["x"])["y"], 2 * X)
    assert host.uploads == 1 + 1
    engine.bind(weight_set(3))
    np.testing.assert_array_equal(engine.run({"x": nothing}, unchanged=["x"])["y"], 3 * X)
    np.testing.assert_array_equal(engine.run({"x": X + 1})["y"], 3 * (X + 1))
    assert host.uploads == 2 + 2


def placed_set(value: float) -> WeightSet:
    block = cuda.DeviceBuffer(16)
    at(block.address)[:] = value
    tensor = DeviceTensor(block.address, "float32", (4,), block)
    return WeightSet(f"placed{value}", {}, placed={"w": tensor})


def test_a_set_that_was_merged_on_the_gpu_is_read_where_it_lies(
    host: HostCuda, engine: tensorrt.TensorRtEngine
) -> None:
    room = host.room
    for value in (3, 4):
        weights = placed_set(value)
        engine.bind(weights)
        for times in (1, 2, 3):
            np.testing.assert_array_equal(engine.run({"x": X * times})["y"], X * times * value)
    assert host.uploads == 6
    assert room - host.room == 16  # the first is gone
    engine.bind(weight_set(5))
    np.testing.assert_array_equal(engine.run({"x": X})["y"], X * 5)
    del weights
    assert room - host.room == 16
    engine.bind(placed_set(6))  # nobody else keeps it
    np.testing.assert_array_equal(engine.run({"x": X})["y"], X * 6)
    engine.unbind()
    assert room == host.room


def test_a_set_on_the_gpu_that_does_not_fit_is_refused(engine: tensorrt.TensorRtEngine) -> None:
    block = cuda.DeviceBuffer(16)
    for dtype, shape in (("float16", (4,)), ("float32", (2, 2))):
        tensor = DeviceTensor(block.address, dtype, shape, block)
        with pytest.raises(EngineError, match=rf"expected w float32\[4\], got {dtype}"):
            engine.bind(WeightSet("odd", {}, placed={"w": tensor}))
    with pytest.raises(EngineError, match=r"odd: w float32\[4\] is missing; there are v"):
        engine.bind(WeightSet("odd", {}, placed={"v": tensor}))


def test_what_is_taken_of_the_gpu_can_be_asked(
    host: HostCuda, engine: tensorrt.TensorRtEngine
) -> None:
    assert cuda.gpu_name() == "host memory, CUDA 13.2"
    assert engine.workspace == 4096
    before = cuda.bytes_in_use()
    engine.bind(weight_set(1))
    assert cuda.bytes_in_use() == before + 16 == 10**6 - host.room


def test_results_are_not_overwritten_by_the_next_run(engine: tensorrt.TensorRtEngine) -> None:
    engine.bind(weight_set(1))
    first = engine.run({"x": X})["y"]
    engine.run({"x": X + 1})
    np.testing.assert_array_equal(first, X)


def test_a_set_that_is_gone_gives_its_memory_back(
    host: HostCuda, engine: tensorrt.TensorRtEngine
) -> None:
    room = host.room
    weights = weight_set(3)
    engine.bind(weights)
    assert host.room == room - 16
    engine.run({"x": X})
    engine.run({"x": X})
    del weights
    assert host.room == room - 16  # bound: the engine keeps it
    engine.bind(weight_set(4))
    assert host.room == room - 16
    engine.unbind()
    assert host.room == room
    with pytest.raises(EngineError, match="bind a set first"):
        engine.run({"x": X})
    engine.close()
    assert not host.blocks


def test_a_full_gpu_makes_room_and_then_refuses(
    host: HostCuda, engine: tensorrt.TensorRtEngine
) -> None:
    one, two = weight_set(1), weight_set(2)
    host.room = 20
    engine.bind(one)
    engine.bind(two)
    np.testing.assert_array_equal(engine.run({"x": X})["y"], X * 2)
    engine.unbind()
    del two
    host.room = 8
    with pytest.raises(DeviceMemoryError, match=r"the GPU's memory is full; .*--preset small"):
        engine.bind(weight_set(5))
    assert engine.bound is None


def test_without_capture_the_step_runs_plainly_and_says_so_once(
    host: HostCuda, engine: tensorrt.TensorRtEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine._engine.capturable = False
    engine.bind(weight_set(2))
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            np.testing.assert_array_equal(engine.run({"x": X})["y"], X * 2)
    assert [record.message for record in caplog.records] == [
        "graph 'scale' runs without a CUDA graph: graph 'scale' failed to run: not now"
    ]
    assert host.launches == 0


def test_a_plan_of_another_graph_is_refused(host: HostCuda) -> None:
    messages = SimpleNamespace(reason=lambda: "")
    other = GraphSpec("scale", SPEC.inputs, SPEC.outputs, (TensorSpec("w", "int8", (4,)),))
    with pytest.raises(EngineError, match=r"has no tensor w int8\[4\]; build the bundle again"):
        tensorrt.TensorRtEngine(other, Plan(host), messages)
    longer = GraphSpec("scale", (TensorSpec("x", "float32", (5,)),), SPEC.outputs, SPEC.weights)
    with pytest.raises(EngineError, match=r"x float32\[5\] has the shape \[4\] in the engine"):
        tensorrt.TensorRtEngine(longer, Plan(host), messages)
    with pytest.raises(EngineError, match="the engine asks for w too"):
        tensorrt.TensorRtEngine(GraphSpec("s", SPEC.inputs, SPEC.outputs), Plan(host), messages)


def test_of_several_profiles_the_one_that_fits_is_taken(host: HostCuda) -> None:
    plan = Plan(host)
    plan.shape, plan.profiles = (-1,), [(1, 2), (3, 8)]
    messages = SimpleNamespace(reason=lambda: "")
    with tensorrt.TensorRtEngine(SPEC, plan, messages) as engine:
        engine.bind(weight_set(2))
        np.testing.assert_array_equal(engine.run({"x": X})["y"], X * 2)
    plan.profiles = [(1, 2), (5, 8)]
    with pytest.raises(EngineError, match=r"none of the engine's 2 profiles takes x float32\[4\]"):
        tensorrt.TensorRtEngine(SPEC, plan, messages)


class OpenPlan(Plan):
    """y = x · w[0] for any number of x; the kernels of a profile know no other sizes."""

    shape = (-1,)

    def __init__(self, host: HostCuda) -> None:
        super().__init__(host)
        self.profiles = [(1, 2), (3, 8)]
        self.count = -1

    def create_execution_context(self) -> Plan:
        return copy.copy(self)  # an engine's own shapes stay open

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name == "w":
            return (4,)
        return (self.count,)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if name == "x":
            self.count = shape[0]
        return True

    def execute_async_v3(self, stream: int) -> bool:
        low, high = self.profiles[self.profile]
        assert low <= self.count <= high
        y, x = (at(self.addresses[name], self.count) for name in "yx")
        self.host.enqueue(lambda: np.multiply(x, at(self.addresses["w"])[0], out=y))
        return True


def test_open_sizes_follow_the_inputs(host: HostCuda) -> None:
    opened = GraphSpec(
        "scale",
        (TensorSpec("x", "float32", (-1,)),),
        (TensorSpec("y", "float32", (-1,)),),
        SPEC.weights,
    )
    messages = SimpleNamespace(reason=lambda: "")
    with tensorrt.TensorRtEngine(opened, OpenPlan(host), messages) as engine:
        engine.bind(weight_set(2))
        for count in (4, 4, 4, 1, 1, 2, 8, 4, 4):
            x = np.arange(count, dtype=np.float32)
            np.testing.assert_array_equal(engine.run({"x": x})["y"], 2 * x)
        assert host.launches == 4  # every run of a size that it has just had
        engine.bind(weight_set(3))
        np.testing.assert_array_equal(engine.run({"x": X})["y"], 3 * X)
        with pytest.raises(EngineError, match=r"2 profiles takes x float32\[9\]; build the bundle"):
            engine.run({"x": np.zeros(9, np.float32)})
        np.testing.assert_array_equal(engine.run({"x": X})["y"], 3 * X)
    assert not host.blocks or all(len(block) == 16 for block in host.blocks.values())
    with pytest.raises(EngineError, match=r"x float32\[-1\] has the shape \[4\] in the engine"):
        tensorrt.TensorRtEngine(opened, Plan(host), messages)


def test_a_backend_that_is_not_there_is_refused() -> None:
    with pytest.raises(TargetError, match=r"'tensorflow' is unknown; of TensorRT there are"):
        tensorrt.tensorrt_module("tensorflow")


def test_without_a_gpu_a_plan_is_refused_by_what_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    pytest.importorskip("cuda.bindings")
    try:
        cuda.capability()
    except TargetError:
        pass
    else:
        pytest.skip("there is a GPU")
    plan = tmp_path / "gate.plan"
    plan.write_bytes(bytes(100))
    with pytest.raises(TargetError, match=r"needs an NVIDIA GPU with its driver.*--device cpu"):
        tensorrt.engine_from_blob(SPEC, plan, "bf16", "tensorrt_rtx")
