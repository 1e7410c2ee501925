"""merge_quantize in CUDA C++: its steps on a CPU, compiled by nvcc, and on a GPU if there is one.

The header's steps are the same code on both; what a CPU cannot show is the tensor cores' own
arithmetic and the GPU's memory order.
"""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from a2edit.kernels.reference import LEVELS, merge_weight, narrowed, quantise_rows, widened

HEADERS = Path(__file__).parents[2] / "kernels" / "cuda"
SOURCES = Path(__file__).with_name("cuda")
CAPABILITIES = (80, 89, 90, 120)
LEVEL_TYPES, SCALE_TYPES = list(LEVELS), ["float32", "bfloat16"]  # in the order of the enums
Array = NDArray[Any]


class Merge(ctypes.Structure):
    """`Merge` of merge_tile.cuh."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("base", "A", "B", "weights", "smooth")),
        ("levels", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        *((name, ctypes.c_int) for name in ("out", "in", "experts", "rank")),
        ("scale", ctypes.c_float),
        ("level_type", ctypes.c_int),
        ("scale_type", ctypes.c_int),
    )


class Problem:
    """A linear, its experts and buffers for the result, in host memory."""

    def __init__(
        self,
        sizes: tuple[int, int, int],
        level_type: str,
        scale_type: str,
        whole: bool,
        smooth: bool = False,
    ) -> None:
        """`sizes`: out, in and rank; `whole` numbers are small, their sums exact in any order."""
        rng = np.random.default_rng(sum(sizes))
        out, inner, rank = sizes
        parts = [rng.standard_normal(s) for s in ((out, inner), (3, rank, inner), (3, out, rank))]
        if whole:
            parts = [np.rint(part * 2) for part in parts]
            parts[0][out // 2] = parts[2][:, out // 2] = 0  # a row of zeros gets scale 1
        parts[1][1] = np.inf  # takes no part
        with np.errstate(over="ignore"):
            stored = [narrowed(part.astype(np.float32), "bfloat16") for part in parts]
        self.base, self.A, self.B = stored
        self.weights = np.array([2, 0, -0.5] if whole else [0.7, 0, -0.4], np.float32)
        powers = 2.0 ** rng.integers(-2, 3, inner)
        self.smooth = powers.astype(np.float32) if smooth else None
        self.types = level_type, scale_type
        self.levels = np.full((out, inner), 85, np.int8 if level_type == "int8" else np.uint8)
        self.scales = np.zeros(out, np.float32 if scale_type == "float32" else np.uint16)

    def inputs(self) -> dict[str, Array]:
        arrays = {name: getattr(self, name) for name in ("base", "A", "B", "weights", "smooth")}
        return {name: array for name, array in arrays.items() if array is not None}

    def struct(self, addresses: dict[str, int]) -> Merge:
        experts, rank, inner = self.A.shape
        return Merge(
            **addresses,
            **{"in": inner},
            out=len(self.base),
            experts=experts,
            rank=rank,
            scale=0.5,
            level_type=LEVEL_TYPES.index(self.types[0]),
            scale_type=SCALE_TYPES.index(self.types[1]),
        )

    def check_bytes(self) -> None:
        """Against the reference: for whole numbers."""
        weight = merge_weight(self.base, self.A, self.B, self.weights, 0.5, "float32")
        levels, scales = quantise_rows(weight, self.smooth, *self.types)
        np.testing.assert_array_equal(self.scales, scales)
        np.testing.assert_array_equal(self.levels, levels)

    def check_float64(self) -> None:
        truth = widened(self.base).astype(np.float64)
        for expert in np.flatnonzero(self.weights):
            factor = float(self.weights[expert]) * 0.5
            truth += factor * (widened(self.B[expert]).astype(np.float64) @ widened(self.A[expert]))
        scales = np.abs(truth).max(axis=1) / LEVELS[self.types[0]]
        # a rounding for every rank and expert, none larger than the row's sum of magnitudes
        roundings = 3 * self.A.shape[1] + 4
        np.testing.assert_allclose(widened(self.scales), scales, rtol=roundings * 2**-23)
        exact = truth / scales[:, None]
        found = widened(self.levels) if self.types[0] != "int8" else self.levels
        # half a step: of one, of 2^-3 of the value, or of 2^-9 near zero
        half = 0.5 if self.types[0] == "int8" else np.maximum(np.abs(exact) * 2**-4, 2**-10)
        gap = np.abs(found - exact) - half * 1.001
        worst = np.unravel_index(gap.argmax(), gap.shape)
        assert gap[worst] <= 1e-3, f"{worst}: {found[worst]} for {exact[worst]}"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The emulation; every warning of the compiler is an error."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    library = tmp_path_factory.mktemp("cuda") / "emulated.so"
    command = [
        *(compiler, "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined"),
        *("-shared", "-fPIC", "-pthread", "-I", str(HEADERS), "-o", str(library)),
        str(SOURCES / "emulated.cpp"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = ctypes.CDLL(str(library))
    found.workspace_words.restype = ctypes.c_uint64
    return found


@pytest.fixture(autouse=True)
def nothing_undefined(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """What the sanitiser finds it writes, and goes on: reads that a GPU would refuse, too."""
    yield
    assert "runtime error" not in capfd.readouterr().err


def encoded(host: ctypes.CDLL, values: Array) -> tuple[Array, Array, Array]:
    results = tuple(np.zeros(len(values), kind) for kind in (np.uint8, np.int8, np.uint16))
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (values, *results)]
    host.encode(pointers[0], len(values), *pointers[1:])
    return results[0], results[1], results[2]


def test_every_bfloat16_is_encoded_as_by_the_reference(host: ctypes.CDLL) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    values = widened(bits)
    e4m3, int8, back = encoded(host, values)
    np.testing.assert_array_equal(e4m3, narrowed(values, "float8_e4m3fn"))
    number = ~np.isnan(values)
    np.testing.assert_array_equal(int8[number], np.clip(np.rint(values[number]), -127, 127))
    np.testing.assert_array_equal(back[number], bits[number])


def test_a_million_other_floats_are_encoded_as_by_the_reference(host: ctypes.CDLL) -> None:
    """Any bits; many exponents at which E4M3 is subnormal; and ties with what lies beside them."""
    rng = np.random.default_rng(0)
    anything = rng.integers(0, 2**32, 2**19, np.uint32).view(np.float32)
    near = np.float32(2) ** rng.uniform(-12, 10, 2**19).astype(np.float32)
    levels = widened(np.arange(0x7F, dtype=np.uint8))
    middles = ((levels[1:] + levels[:-1]) / 2).astype(np.float32)
    ties = [np.nextafter(middles, np.float32(side)) for side in (0, np.inf)]
    values = np.concatenate([anything, near, -near, middles, -middles, *ties]).astype(np.float32)
    e4m3, _, half = encoded(host, values)
    np.testing.assert_array_equal(e4m3, narrowed(values, "float8_e4m3fn"))
    np.testing.assert_array_equal(half, narrowed(values, "bfloat16"))


def emulate(host: ctypes.CDLL, problem: Problem, resident: int) -> None:
    inputs = problem.inputs() | {"levels": problem.levels, "scales": problem.scales}
    before = problem.base.tobytes()
    workspace = np.full(host.workspace_words(len(problem.base)), 7, np.uint32)
    struct = problem.struct({name: array.ctypes.data for name, array in inputs.items()})
    host.merge(ctypes.byref(struct), ctypes.c_void_p(workspace.ctypes.data), resident)
    assert problem.base.tobytes() == before


# Full tiles; edges in every direction, unaligned rows, ranks that fill no chunk; one of each.
SIZES = [(128, 256, 48), (70, 301, 5), (65, 132, 24), (1, 1, 1)]
types = pytest.mark.parametrize("level_type", LEVEL_TYPES)


@types
@pytest.mark.parametrize("scale_type", SCALE_TYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_exact_sums_give_the_references_bytes(
    host: ctypes.CDLL, sizes: tuple[int, int, int], level_type: str, scale_type: str
) -> None:
    problem = Problem(sizes, level_type, scale_type, whole=True, smooth=sizes[0] > 65)
    emulate(host, problem, 3)
    problem.check_bytes()


@types
@pytest.mark.parametrize("sizes", SIZES[:3])
def test_a_merged_route_is_float64s(
    host: ctypes.CDLL, sizes: tuple[int, int, int], level_type: str
) -> None:
    problem = Problem(sizes, level_type, "float32", whole=False)
    emulate(host, problem, 3)
    problem.check_float64()


@pytest.mark.parametrize("resident", [5, 6, 11])
def test_blocks_that_wait_for_each_other_all_get_their_turn(
    host: ctypes.CDLL, resident: int
) -> None:
    """A row's 5 tiles among 20 blocks, with just enough room, one more, and two bands' worth."""
    problem = Problem((256, 640, 4), "float8_e4m3fn", "float32", whole=True)
    emulate(host, problem, resident)
    problem.check_bytes()


@pytest.fixture(scope="module")
def nvcc() -> str:
    """The CUDA compiler; tests that need it are skipped where there is none."""
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("nvcc is not installed: CUDA C++ is compiled where it is")
    return found


def built(nvcc: str, capabilities: tuple[int, ...], *flags: str) -> str:
    """What the compiler says; every warning is an error."""
    codes = [f"arch=compute_{number},code=sm_{number}" for number in capabilities]
    command = [
        *(
            nvcc,
            "-std=c++17",
            "-O3",
            "--Werror",
            "all-warnings",
            "-Xcompiler",
            "-Wall,-Wextra,-fPIC",
        ),
        *("--threads", "2", "-I", str(HEADERS), *(f"-gencode={code}" for code in codes)),
        *(*flags, str(SOURCES / "launch.cu")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_nvcc_compiles_it_for_every_gpu_without_spilling(nvcc: str, tmp_path: Path) -> None:
    said = built(nvcc, CAPABILITIES, "-Xptxas", "-v", "-c", "-o", str(tmp_path / "launch.o"))
    for capability in CAPABILITIES:
        # bfloat16 and half
        assert said.count(f"for 'sm_{capability}'") == 2, said
    assert said.count("0 bytes spill stores, 0 bytes spill loads") == 2 * len(CAPABILITIES), said
    registers, shared = zip(
        *re.findall(r"Used (\d+) registers.* (\d+) bytes smem", said), strict=True
    )
    # two blocks of 256 threads to a multiprocessor, of which the smallest has 100 KiB
    assert max(map(int, registers)) * 256 * 2 <= 65536
    assert (max(map(int, shared)) + 1024) * 2 <= 100 * 1024


@pytest.fixture(scope="module")
def device(nvcc: str, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    from a2edit.runtime.engines.cuda import capability

    major, minor = capability()
    library = tmp_path_factory.mktemp("cuda") / "launch.so"
    built(nvcc, (10 * major + minor,), "-shared", "-o", str(library))
    found = ctypes.CDLL(str(library))
    found.workspace_words.restype = ctypes.c_uint64
    return found


def run_on_device(library: ctypes.CDLL, problem: Problem, repeats: int = 1) -> list[float]:
    """Milliseconds of each run; the result of the last is in `problem`."""
    from cuda.bindings import runtime

    from a2edit.runtime.engines.cuda import DeviceBuffer, Stream

    stream = Stream()
    arrays = problem.inputs() | {"levels": problem.levels, "scales": problem.scales}
    buffers = {name: DeviceBuffer(array.nbytes) for name, array in arrays.items()}
    for name, array in arrays.items():
        stream.upload(np.ascontiguousarray(array), buffers[name])
    workspace = DeviceBuffer(4 * library.workspace_words(len(problem.base)))
    struct = problem.struct({name: buffer.address for name, buffer in buffers.items()})
    events = [runtime.cudaEventCreate()[1] for _ in range(repeats + 1)]
    runtime.cudaEventRecord(events[0], stream.handle)
    for event in events[1:]:
        pointers = ctypes.c_void_p(workspace.address), ctypes.c_void_p(stream.handle)
        assert library.merge(ctypes.byref(struct), *pointers) == 0
        runtime.cudaEventRecord(event, stream.handle)
    for name in ("levels", "scales"):
        stream.download(buffers[name], arrays[name])
    stream.wait()
    return [runtime.cudaEventElapsedTime(*pair)[1] for pair in pairwise(events)]


@pytest.mark.gpu
@types
@pytest.mark.parametrize("sizes", [*SIZES, (3072, 15360, 32)])
def test_a_gpu_merges_as_the_reference_does(
    device: ctypes.CDLL, sizes: tuple[int, int, int], level_type: str
) -> None:
    for scale_type in SCALE_TYPES:
        problem = Problem(sizes, level_type, scale_type, whole=True, smooth=True)
        run_on_device(device, problem)
        problem.check_bytes()
    problem = Problem(sizes, level_type, "float32", whole=False)
    run_on_device(device, problem)
    problem.check_float64()


@pytest.mark.gpu
def test_a_full_size_merge_runs_at_seven_tenths_of_a_copy(
    device: ctypes.CDLL, record_property: Callable[[str, object], None]
) -> None:
    from cuda.bindings import runtime

    from a2edit.runtime.engines.cuda import DeviceBuffer, Stream

    problem = Problem((12288, 3072, 32), "float8_e4m3fn", "bfloat16", whole=False)
    sizes = [array.nbytes for array in (problem.base, problem.levels, problem.scales)]
    seconds = np.median(run_on_device(device, problem, 50)[10:]) / 1e3
    speed = sum(sizes) / seconds
    stream, nbytes = Stream(), 2**28
    source, target = DeviceBuffer(nbytes), DeviceBuffer(nbytes)
    events = [runtime.cudaEventCreate()[1] for _ in range(2)]
    kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
    for event in (events[0], events[1]):
        runtime.cudaMemcpyAsync(target.address, source.address, nbytes, kind, stream.handle)
        runtime.cudaEventRecord(event, stream.handle)
    stream.wait()
    copy = 2 * nbytes / (runtime.cudaEventElapsedTime(*events)[1] / 1e3)
    record_property("bytes per second, of a copy too", (speed, copy))
    assert speed >= 0.7 * copy
