"""A model that stays in its files gives what the loaded one gives, bit by bit, and stays there."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from a2edit.model.checkpoint import Checkpoint, find_checkpoint
from a2edit.model.experts import merged_state, unmerged
from a2edit.model.graphs import make_graphs
from a2edit.model.mapped import map_checkpoint
from a2edit.runtime.errors import CheckpointError

MAPS = Path("/proc/self/maps")
TYPES = torch.float16, torch.bfloat16, torch.float32


@torch.no_grad()
def outputs(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    """Of every graph, of the denoiser with its experts unmerged, and with them merged."""
    graphs = make_graphs(checkpoint)
    for name, graph in graphs.items():
        yield name, graph(*graph.example_inputs())
    dit = graphs["dit"]
    table = torch.linspace(0, 1, checkpoint.blocks * checkpoint.experts.experts)
    table = table.view(1, checkpoint.blocks, -1)
    with unmerged(checkpoint.transformer, checkpoint.experts, table):
        yield "unmerged", dit(*dit.example_inputs())
    merged = {}
    for linear in checkpoint.linears:
        base = checkpoint.transformer.get_parameter(f"{linear.name}.weight").float()
        weight = checkpoint.experts.merged_weight(linear.name, base, table[0])
        merged[f"transformer.{linear.name}.weight"] = weight
    yield "merged", torch.func.functional_call(dit, merged, dit.example_inputs())


def assert_same(mapped: Checkpoint, loaded: Checkpoint) -> None:
    for (name, found), (_, truth) in zip(outputs(mapped), outputs(loaded), strict=True):
        assert found.dtype == truth.dtype, name
        assert torch.equal(found, truth), name


def parameters(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """All but the gate's, which is in memory."""
    return {
        f"{part}.{name}": parameter
        for part, module in checkpoint.modules().items()
        if part != "gate"
        for name, parameter in module.named_parameters(remove_duplicate=False)
    }


@pytest.fixture(params=TYPES, ids=str)
def stored(request: pytest.FixtureRequest, tiny: Checkpoint, tmp_path: Path) -> Path:
    tiny.save(tmp_path / "tiny", request.param)
    return tmp_path / "tiny"


def test_it_gives_what_the_loaded_one_gives(stored: Path) -> None:
    assert_same(map_checkpoint(stored), Checkpoint.load(stored))


def test_the_embedded_model_does() -> None:
    mapped = map_checkpoint("a2edit-mini")
    assert {it.dtype for it in parameters(mapped).values()} == {torch.float16}
    assert_same(mapped, Checkpoint.load("a2edit-mini"))


def test_types_may_differ_from_one_parameter_to_the_next(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "mixed")
    for path in folder.rglob("*.safetensors"):
        tensors = load_file(path)
        for place, (name, tensor) in enumerate(sorted(tensors.items())):
            tensors[name] = tensor.to(TYPES[place % 3])
        save_file(tensors, path)
    config = folder / "mot_config.json"
    hashed = Checkpoint.load(tiny_folder).config.base_hash
    config.write_text(config.read_text().replace(hashed, ""))
    assert_same(map_checkpoint(folder), Checkpoint.load(folder))


@pytest.mark.skipif(not MAPS.is_file(), reason="only Linux says what is mapped where")
def test_its_parameters_are_its_files_before_and_after(stored: Path) -> None:
    mapped = map_checkpoint(stored)
    before = parameters(mapped)
    addresses = [tensor.data_ptr() for tensor in before.values()]
    files = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in MAPS.read_text(encoding="utf-8").splitlines()
        if line.split(maxsplit=5)[-1].startswith(str(stored))
    ]
    for name, tensor in before.items():
        assert any(start <= tensor.data_ptr() < end for start, end in files), name
    for _ in outputs(mapped):
        pass
    after = parameters(mapped)
    assert all(after[name] is tensor for name, tensor in before.items())
    assert [tensor.data_ptr() for tensor in after.values()] == addresses
    assert (
        before["text_encoder.shared.weight"] is before["text_encoder.encoder.embed_tokens.weight"]
    )


def test_a_forward_that_fails_leaves_nothing_wide(tiny: Checkpoint, tmp_path: Path) -> None:
    tiny.save(tmp_path / "tiny", torch.bfloat16)
    mapped = map_checkpoint(tmp_path / "tiny")
    with pytest.raises(RuntimeError):
        mapped.transformer.proj_out(torch.zeros(1, 7))
    assert {it.dtype for it in parameters(mapped).values()} == {torch.bfloat16}


def test_a_hook_that_comes_later_sees_fp32(tiny: Checkpoint, tmp_path: Path) -> None:
    tiny.save(tmp_path / "tiny", torch.bfloat16)
    linear, seen = map_checkpoint(tmp_path / "tiny").transformer.proj_out, []
    linear.register_forward_pre_hook(lambda module, _: seen.append(module.weight.dtype))
    with torch.no_grad():
        linear(torch.zeros(1, linear.in_features))
    assert seen == [torch.float32]
    assert linear.weight.dtype == torch.bfloat16


def test_a_base_that_was_changed_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "changed")
    (folder / "base/note.txt").write_text("anything")
    with pytest.raises(CheckpointError, match="is not the base that the experts were trained on"):
        map_checkpoint(folder)


def test_merged_state_is_cast_to_what_is_stored() -> None:
    """Who reads parameters by name widens them: a half's merge is a half."""
    mapped = map_checkpoint(find_checkpoint("a2edit-mini"))
    state = merged_state(
        mapped.transformer, mapped.experts, torch.zeros(mapped.blocks, mapped.experts.experts)
    )
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
