"""The C++ host, configured and built once a session, and its insides by ctypes."""

import ctypes
import importlib.util
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers

from a2edit.export.locks import only_one
from a2edit.runtime.errors import (
    A2EditError,
    BundleError,
    DeviceMemoryError,
    EngineError,
    RequestError,
    TargetError,
)
from a2edit.runtime.images import load_picture
from a2edit.runtime.manifest import canonical_hash, file_bytes

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "runtime" / "cpp"
BUILD = ROOT / "build" / "cpp"
# In the order of ErrorKind, src/core/error.hpp.
KINDS = (
    RequestError,
    BundleError,
    TargetError,
    EngineError,
    DeviceMemoryError,
    AssertionError,  # a bug of ours
    AssertionError,  # cancelled, which no call of Python is
)


def _neighbour(path: Path) -> Any:
    """Another folder's fixtures: of the tiny bundle, which the Python runtime is tested on."""
    spec = importlib.util.spec_from_file_location("runtime_fixtures", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_runtime = _neighbour(ROOT / "tests" / "runtime" / "conftest.py")
bundle, own_bundle = _runtime.bundle, _runtime.own_bundle
baked_bundle, routes_only_bundle = _runtime.baked_bundle, _runtime.routes_only_bundle
cached_bundle, pictures = _runtime.cached_bundle, _runtime.pictures


class Probe:
    """Functions of tests/probe_*.cpp: 0 is success, 1 + ErrorKind a failure with a message."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.library.probe_message.restype = ctypes.c_char_p

    def message(self) -> str:
        """What the last function left: an error's text, or its answer where that is a text."""
        text: bytes = self.library.probe_message()
        return text.decode()

    def made(self, index: int = 0) -> NDArray[np.uint8]:
        """What the last function made: u8 [H, W], or [H, W, C] of several channels."""
        shape = np.zeros(3, np.int64)
        self("made_shape", index, shape)
        pixels = np.zeros(shape, np.uint8)
        self("made_copy", index, pixels)
        return pixels[..., 0] if shape[2] == 1 else pixels

    def __call__(self, function: str, *given: Any) -> None:
        """Call `probe_<function>`; raises what Python's own function would raise.

        Texts and paths go as bytes with an end, arrays as pointers, ints as int64, floats as
        double.
        """
        status = getattr(self.library, f"probe_{function}")(*map(_argument, given))
        if status:
            raise KINDS[status - 1](self.message())

    def answer(self, function: str, *given: Any) -> Any:
        """The same of a function that answers in JSON."""
        self(function, *given)
        return json.loads(self.message())


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        assert value.flags["C_CONTIGUOUS"]
        return value.ctypes.data_as(ctypes.c_void_p)
    if isinstance(value, str | Path):
        return ctypes.c_char_p(str(value).encode(errors="surrogateescape"))
    if isinstance(value, bytes):
        return ctypes.c_char_p(value)
    if isinstance(value, bool | int | np.integer):
        return ctypes.c_uint64(int(value)) if value > 2**63 - 1 else ctypes.c_int64(int(value))
    return ctypes.c_double(value) if isinstance(value, float) else value


@pytest.fixture(scope="session")
def cpp_build() -> Path:
    """The folder that the host was built in: minutes at first, a second where nothing changed."""
    for tool in ("cmake", "ninja"):
        assert shutil.which(tool), f"{tool} is not installed: run `make cpp-setup`"
    python = f"-DA2EDIT_PYTHON={sys.executable}"
    BUILD.mkdir(parents=True, exist_ok=True)
    with only_one(BUILD.with_name("cpp.lock"), lambda: None):  # tests run in several processes
        _command("cmake", "--preset", "default", "-B", str(BUILD), python, cwd=SOURCE)
        _command("cmake", "--build", str(BUILD), cwd=SOURCE)
    return BUILD


def _command(*words: str, cwd: Path) -> None:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}:\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def probe(cpp_build: Path) -> Probe:
    return Probe(cpp_build / "tests" / "liba2edit_probe.so")


@pytest.fixture(scope="session")
def same_refusal() -> Callable[[Callable[[], object], Callable[[], object]], str]:
    """Of two calls: both refuse, by the same kind of error and text, which is returned."""

    def compare(python: Callable[[], object], cpp: Callable[[], object]) -> str:
        with pytest.raises(A2EditError) as expected:
            python()
        with pytest.raises(A2EditError) as found:
            cpp()
        assert str(found.value) == str(expected.value)
        assert found.type is expected.type
        return str(found.value)

    return compare


@pytest.fixture(scope="session")
def same_picture(probe: Probe, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes], str]:
    """Of a file's bytes: Python and C++ see one picture ("ok"), or refuse it in the same words.

    Where Python has further formats to offer, C++ says which two it reads.
    """
    path = tmp_path_factory.mktemp("files") / "picture"

    def compare(file: bytes) -> str:
        path.write_bytes(file)
        try:
            with warnings.catch_warnings(action="ignore"):  # Pillow's, of what it passes over
                expected = load_picture(path, "image")
        except RequestError as error:
            with pytest.raises(RequestError) as found:
                probe("load_picture", path, "image")
            text = str(error).replace("can be read (", "can be read here (")
            text = text.replace("PNG, JPEG, WebP, TIFF or BMP", "PNG or JPEG")
            assert str(found.value) == text
            return text
        probe("load_picture", path, "image")
        assert probe.message() == expected.name
        np.testing.assert_array_equal(probe.made(0), expected.rgb)
        alpha = expected.alpha if expected.alpha is not None else np.zeros((0, 0, 0), np.uint8)
        np.testing.assert_array_equal(probe.made(1), alpha)
        assert probe.made(2).tobytes() == (expected.icc or b"")
        return "ok"

    return compare


@pytest.fixture(scope="session")
def byte_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with a byte-level tokenizer, such as published models bring."""
    folder = tmp_path_factory.mktemp("bytes") / "bundle"
    shutil.copytree(bundle, folder)
    vocabulary = {"[PAD]": 0, "a": 1, "r": 2, "e": 3, "d": 4, "\u0120": 5, "ed": 6}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("e", "d")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    content = json.loads((folder / "manifest.json").read_bytes())
    for name in ("tokenizer/text.json", "tokenizer/pooled.json"):
        tokenizer.save(str(folder / name))
        data = (folder / name).read_bytes()
        content["files"][name] = {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    content["bundle_hash"] = canonical_hash(content)
    (folder / "manifest.json").write_bytes(file_bytes(content))
    return folder


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
