"""The shared file: streamed, and the same bytes as safetensors' own writer makes at once."""

import copy
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from a2edit.export.weights import (
    TensorFile,
    array_of,
    dtype_name,
    parameter_specs,
    places,
    save_shared,
    shared_parameters,
    tensor_header,
)
from a2edit.model.checkpoint import FOLDERS, Checkpoint
from a2edit.model.part_files import PartFiles
from a2edit.model.weightless import FLUX_FILL, fake_checkpoint, outline, without_weights
from a2edit.runtime.engines.base import TensorSpec


def test_the_bytes_are_those_of_safetensors(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path: Path
) -> None:
    save_shared(outline(checkpoint_folder), checkpoint_folder, tmp_path / "streamed")
    # The checkpoint on disk is fp16.
    whole = {key: value.half() for key, value in shared_parameters(checkpoint).items()}
    save_file(whole, tmp_path / "whole")
    assert (tmp_path / "streamed").read_bytes() == (tmp_path / "whole").read_bytes()


def test_every_type_is_laid_out_as_safetensors_does(tmp_path: Path) -> None:
    small = [torch.bool, torch.uint8, torch.int8, torch.float16, torch.bfloat16]
    kinds = [*small, torch.int32, torch.float32, torch.int64]
    whole = {
        f"{name}{place}": torch.full((2, place), place % 2).to(kind)
        for place, kind in enumerate(kinds)
        for name in "ba"
    }
    specs = [TensorSpec(n, dtype_name(t.dtype), tuple(t.shape)) for n, t in whole.items()]
    with TensorFile(tmp_path / "streamed", specs) as file:
        for name, tensor in whole.items():
            file.write(name, array_of(tensor))
    save_file(whole, tmp_path / "whole")
    assert (tmp_path / "streamed").read_bytes() == (tmp_path / "whole").read_bytes()
    found = places(tmp_path / "streamed")
    assert {name: place.dtype for name, place in found.items()} == {
        spec.name: spec.dtype for spec in specs
    }


def test_one_parameter_is_held_at_a_time(
    checkpoint_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Tensor]] = []
    most, read = 0, PartFiles.read

    def watched(self: PartFiles, name: str) -> Tensor:
        nonlocal most
        tensor = read(self, name)
        held.append(weakref.ref(tensor))
        most = max(most, sum(ref() is not None for ref in held))
        return tensor

    monkeypatch.setattr(PartFiles, "read", watched)
    save_shared(outline(checkpoint_folder), checkpoint_folder, tmp_path / "streamed")
    assert (len(held) > 100, most) == (True, 1)


def test_shards_make_the_same_file(
    checkpoint: Checkpoint, checkpoint_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sharded"
    for part, path in FOLDERS.items():
        module: Any = checkpoint.modules()[part]
        (folder / path).mkdir(parents=True)
        if part == "gate":  # ours, one file always
            stored = load_file(checkpoint_folder / path / "gate.safetensors")
            save_file(stored, folder / path / "gate.safetensors")
        else:
            half = torch.nn.Module.to(copy.deepcopy(module), torch.float16)
            half.save_pretrained(folder / path, max_shard_size="10KB")
    assert len(list(folder.rglob("*.index.json"))) >= 3
    for name, source in (("sharded", folder), ("whole", checkpoint_folder)):
        save_shared(outline(checkpoint_folder), source, tmp_path / f"{name}.safetensors")
    sharded, whole = (tmp_path / f"{name}.safetensors" for name in ("sharded", "whole"))
    assert sharded.read_bytes() == whole.read_bytes()


def test_the_header_of_the_full_size(tmp_path: Path) -> None:
    with without_weights():
        full = fake_checkpoint(FLUX_FILL, torch.float32)
    shared = shared_parameters(full)
    specs = parameter_specs(shared, dict.fromkeys(shared, torch.bfloat16))
    (tmp_path / "header").write_bytes(header := tensor_header(specs))
    assert len(header) % 8 == 0
    entries = json.loads(header[8:])
    found = places(tmp_path / "header")
    assert list(found) == list(entries) == sorted(shared)
    end = len(header)
    for name, place in found.items():
        assert (place.offset, place.bytes) == (end, 2 * shared[name].numel()), name
        end += place.bytes
    # All that the routes do not replace (SPEC §2).
    transformer = sum(p.numel() for name, p in shared.items() if name.startswith("transformer."))
    routed = sum(linear.in_features * linear.out_features for linear in full.linears)
    assert transformer + routed == 11_902_391_360
