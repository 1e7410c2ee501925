"""Built ahead or merged on demand, a route's weights are the same bytes (SPEC §11.1)."""

import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from safetensors.torch import save_file as save_torch

from a2edit.calibration.routes import Route
from a2edit.export.source import Source
from a2edit.export.steps.merge import (
    MERGE_FILE,
    read_merge_entry,
    save_merge_source,
    save_weight_set,
)
from a2edit.export.weights import TensorFile
from a2edit.kernels.reference import quantise_rows
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import merged_state
from a2edit.model.part_files import PartFiles
from a2edit.model.peft_files import ExpertFiles
from a2edit.runtime.engines.base import TensorSpec


def test_merged_on_demand_is_built_ahead(
    bundle: Path, merges_to_the_built_bytes: Callable[[Path], None]
) -> None:
    merges_to_the_built_bytes(bundle)


def test_what_is_merged_from_is_stored_as_the_checkpoint_is(
    bundle: Path, checkpoint: Checkpoint
) -> None:
    # The checkpoint on disk is fp16, so its values are held by half the bytes of what is computed.
    with safe_open(bundle / "weights/merge.safetensors", "np") as stored:
        names = set(stored.keys())
        assert {stored.get_slice(name).get_dtype() for name in names} == {"F16"}
        for linear in checkpoint.linears:
            pair = checkpoint.experts.pair(linear.name)
            weight = checkpoint.transformer.get_parameter(f"{linear.name}.weight")
            for part, tensor in (("weight", weight), ("A", pair.A), ("B", pair.B)):
                found = stored.get_tensor(f"{linear.name}.{part}")
                assert np.array_equal(found.astype(np.float32), tensor.detach().numpy())
                names.remove(f"{linear.name}.{part}")
    assert not names


def test_int8_sets_are_the_merge_quantised_last(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    source = Source(checkpoint_folder)
    save_merge_source(tmp_path / "source", source)
    table = np.full((checkpoint.blocks, 8), 0.3, np.float32)
    route = Route("even", table, 1, 0.0)
    taken = {linear.name for linear in checkpoint.linears[1:]}
    full, small = [], []
    for linear in checkpoint.linears:
        shape = (linear.out_features, linear.in_features)
        full.append(TensorSpec(f"{linear.name}.weight", "float32", shape))
        dtype = "int8" if linear.name in taken else "float32"
        small.append(TensorSpec(f"{linear.name}.weight", dtype, shape))
        if linear.name in taken:
            small.append(TensorSpec(f"{linear.name}.scale", "float32", shape[:1]))
    found: list[dict[str, np.ndarray]] = []
    for kind in (full, small, small):
        folder = tmp_path / f"{len(found)}"
        folder.mkdir()
        save_weight_set(folder, tmp_path / "source", kind, route)
        found.append(load_file(folder / "even.safetensors"))
    plain, quantised, _ = found
    truth = merged_state(checkpoint.transformer, checkpoint.experts, torch.from_numpy(table))
    for name, tensor in truth.items():
        np.testing.assert_allclose(plain[name], tensor.numpy(), rtol=0, atol=1e-6)
        linear_name = name.removesuffix(".weight")
        if linear_name in taken:
            levels, scales = quantise_rows(plain[name])
            np.testing.assert_array_equal(quantised[name], levels)
            np.testing.assert_array_equal(quantised[f"{linear_name}.scale"], scales)
        else:
            np.testing.assert_array_equal(quantised[name], plain[name])
            assert f"{linear_name}.scale" not in quantised
    first, second = ((tmp_path / f"{place}/even.safetensors").read_bytes() for place in (1, 2))
    assert first == second


def test_the_entry_says_which_row_of_a_table_a_linear_reads(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path: Path
) -> None:
    save_merge_source(tmp_path, Source(checkpoint_folder))
    entry = read_merge_entry(tmp_path, MERGE_FILE)
    assert entry.scale == checkpoint.experts.scale
    assert entry.blocks == {linear.name: linear.block for linear in checkpoint.linears}


def test_the_source_is_read_a_linear_at_a_time(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    most, write = 0, TensorFile.write

    def watched(self: TensorFile, name: str, array: np.ndarray) -> None:
        nonlocal most
        most = max(most, sum(ref() is not None for ref in held))
        write(self, name, array)

    def noted(read: Callable[..., Any]) -> Callable[..., Any]:
        def reading(*arguments: Any) -> Any:
            found = read(*arguments)
            held.extend(map(weakref.ref, found if isinstance(found, tuple) else (found,)))
            return found

        return reading

    monkeypatch.setattr(TensorFile, "write", watched)
    for files in (PartFiles, ExpertFiles):
        monkeypatch.setattr(files, "read", noted(files.read))
    monkeypatch.delattr(Checkpoint, "load")
    save_merge_source(tmp_path, Source(checkpoint_folder))
    assert len(held) == 3 * len(checkpoint.linears)
    assert most == 3


def test_mixed_types_are_stored_in_one_that_holds_both(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(checkpoint_folder, folder)
    path = folder / "experts/expert_02/adapter_model.safetensors"
    name = checkpoint.linears[0].name
    mine = {f"base_model.model.{name}.lora_{letter}.weight" for letter in "AB"}
    save_torch({k: v.bfloat16() if k in mine else v for k, v in load_torch(path).items()}, path)
    save_merge_source(tmp_path, Source(folder))
    loaded = Checkpoint.load(folder)
    with safe_open(tmp_path / MERGE_FILE, "np") as stored:
        for linear in checkpoint.linears:
            pair = loaded.experts.pair(linear.name)
            for part, tensor in (("A", pair.A), ("B", pair.B)):
                found = stored.get_tensor(f"{linear.name}.{part}")
                assert found.dtype == ("float32" if linear.name == name else "float16")
                assert np.array_equal(found.astype(np.float32), tensor.numpy())
