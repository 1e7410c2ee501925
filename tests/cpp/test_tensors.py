"""Safetensors files: the same tensors, and the same refusals."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from a2edit.runtime.errors import BundleError
from a2edit.runtime.tensors import DTYPES, map_tensors


def written(path: Path, header: Any, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_tensors_of_every_type(probe: Any, tmp_path: Path) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for place, (dtype, (_, kind)) in enumerate(DTYPES.items()):
        array = np.arange(6).astype(kind).reshape(2, 3)
        header[f"t{place}"] = {
            "dtype": dtype,
            "shape": [2, 3],
            "data_offsets": [len(data), len(data) + array.nbytes],
        }
        data += array.tobytes() + b"\0" * place  # so that some are not aligned
    header["scalar"] = {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}
    header["nothing"] = {"dtype": "I64", "shape": [0, 4], "data_offsets": [8, 8]}
    path = written(tmp_path / "x.safetensors", header, data)
    expected = {
        name: [tensor.dtype, list(tensor.array.shape), digest(tensor.array.tobytes())]
        for name, tensor in map_tensors(path).tensors.items()
    }
    assert probe.answer("map_tensors", path) == expected


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tensor(**changes: Any) -> dict[str, Any]:
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]} | changes
    return {"a.weight": {key: value for key, value in entry.items() if value is not None}}


@pytest.mark.parametrize(
    "header",
    [
        tensor(dtype="F64"),
        tensor(dtype=None),
        tensor(shape=None),
        tensor(data_offsets=None),
        tensor(shape=[2, -2]),
        tensor(shape=[2.5]),
        tensor(shape=["2"]),
        tensor(shape=[2, 3]),
        tensor(shape=4),
        tensor(shape=[4], data_offsets=[0, 12]),
        tensor(shape=[2**40, 2**40]),
        tensor(shape=[2**62, 0]),
        tensor(data_offsets=[8, 24]),
        tensor(data_offsets=[16, 0]),
        tensor(data_offsets=[-16, 0]),
        tensor(data_offsets=[0]),
        tensor(data_offsets=[0, 8, 16]),
        tensor(data_offsets=7),
        [],
        "text",
        {"a.weight": []},
        {"a.weight": 3},
    ],
    ids=str,
)
def test_headers_that_make_no_sense(
    probe: Any, tmp_path: Path, same_refusal: Any, header: Any
) -> None:
    path = written(tmp_path / "x.safetensors", header, bytes(16))
    same_refusal(lambda: map_tensors(path), lambda: probe("map_tensors", path))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ['"__metadata__":{"step":%s}', '"a":{"shape":[%s]}'])
def test_numbers_that_are_none(
    probe: Any, tmp_path: Path, same_refusal: Any, number: str, place: str
) -> None:
    path = written(tmp_path / "x.safetensors", f"{{{place % number}}}".encode(), b"")
    said = same_refusal(lambda: map_tensors(path), lambda: probe("map_tensors", path))
    assert ("is no number in JSON" in said) == (number != "1e999")


@pytest.mark.parametrize(
    "header",
    ['{"__metadata__":{"é":"1"}}'.encode("latin-1"), '{"a":1}'.encode("utf-16"),
     b'{"__metadata__":{"a":"\\ud800"}}', b'{"__metadata__":{"a":"\xed\xa0\x80"}}'],
    ids=["latin-1", "utf-16", "half a pair", "half a pair in bytes"],
)  # fmt: skip
def test_headers_that_are_no_utf8(probe: Any, tmp_path: Path, header: bytes) -> None:
    path = written(tmp_path / "x.safetensors", header, b"")
    for read in (lambda: map_tensors(path), lambda: probe("map_tensors", path)):
        with pytest.raises(BundleError, match="is no sound safetensors file"):
            read()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1\2",
        struct.pack("<Q", 2**64 - 1) + b"{}",
        struct.pack("<Q", 2**64 - 8) + b"{}",
        struct.pack("<Q", 5) + b"{}",
        struct.pack("<Q", 101 * 2**20) + b"{}",
    ],
    ids=["empty", "short", "most", "wraps", "past the end", "too long"],
)
def test_files_that_are_none(probe: Any, tmp_path: Path, same_refusal: Any, data: bytes) -> None:
    path = tmp_path / "it's.safetensors"
    path.write_bytes(data)
    same_refusal(lambda: map_tensors(path), lambda: probe("map_tensors", path))


def test_files_that_cannot_be_read(probe: Any, tmp_path: Path, same_refusal: Any) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        same_refusal(lambda p=path: map_tensors(p), lambda p=path: probe("map_tensors", p))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(seed=st.integers(0, 2**32 - 1))
def test_damaged_files_are_refused_as_in_python(probe: Any, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    header = tensor() | {"b": {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}}
    path = written(tmp_path / "x.safetensors", header, bytes(16))
    data = bytearray(path.read_bytes())
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(len(data)))
        if rng.random() < 0.7:
            data[place] = int(rng.integers(256))
        else:
            del data[place : place + int(rng.integers(1, 8))]
    path.write_bytes(data)
    try:
        tensors = map_tensors(path).tensors
        expected = {name: list(tensor.array.shape) for name, tensor in tensors.items()}
    except BundleError:
        with pytest.raises(BundleError, match=r"x\.safetensors"):
            probe("map_tensors", path)
        return
    shapes = {name: entry[1] for name, entry in probe.answer("map_tensors", path).items()}
    assert shapes == expected
