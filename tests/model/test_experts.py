"""Experts: unmerged = merged = PEFT; files keep what they hold; unmergeable ones are refused."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from a2edit.model.architectures import TINY, new_checkpoint, randomise_experts
from a2edit.model.checkpoint import Checkpoint
from a2edit.model.experts import merged_state, routed_linears, unmerged
from a2edit.model.graphs import DitGraph
from a2edit.model.peft_files import load_experts, save_experts
from a2edit.runtime.errors import CheckpointError
from a2edit.runtime.sampler import ENCODED


def _table(checkpoint: Checkpoint, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    table = torch.rand(checkpoint.blocks, 8, generator=generator)
    return table * (torch.rand(table.shape, generator=generator) > 0.5)


def _relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return ((got - expected).norm() / expected.norm()).item()


def _velocity(graph: DitGraph) -> torch.Tensor:
    given = graph.shapes.random(("latents", *ENCODED), 1, None)
    level = {"sigma": torch.tensor([0.75]), "guidance": torch.tensor([30.0])}
    with torch.no_grad():
        return graph.velocity(*given, **level)


def test_merged_equals_unmerged(tiny: Checkpoint) -> None:
    graph, table = DitGraph(tiny), _table(tiny)
    base = _velocity(graph)
    with unmerged(tiny.transformer, tiny.experts, table[None]):
        expected = _velocity(graph)
    original = {name: value.clone() for name, value in tiny.transformer.state_dict().items()}
    tiny.transformer.load_state_dict(merged_state(tiny.transformer, tiny.experts, table), False)
    got = _velocity(graph)
    tiny.transformer.load_state_dict(original)
    assert _relative(got, expected) < 1e-5
    assert _relative(base, expected) > 1e-2, (
        "the experts must matter for this test to mean anything"
    )
    assert torch.equal(_velocity(graph), base), "ejecting and restoring leaves the base pristine"


def test_every_sample_has_its_own_weights(tiny: Checkpoint) -> None:
    graph = DitGraph(tiny)
    inputs = graph.example_inputs(2)
    tables = torch.stack([_table(tiny, 1), _table(tiny, 2)])
    with torch.no_grad():
        with unmerged(tiny.transformer, tiny.experts, tables):
            both = graph(*inputs)
        for row in range(2):
            with unmerged(tiny.transformer, tiny.experts, tables[row : row + 1]):
                alone = graph(*(value[row : row + 1] for value in inputs))
            torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-5, atol=1e-5)


def test_peft_reads_the_files_and_agrees(tiny: Checkpoint, tiny_folder: Path) -> None:
    """PEFT itself, with each adapter's scale set to the gate's weight, is the same function."""
    transformer = FluxTransformer2DModel.from_pretrained(tiny_folder / "base/transformer").eval()
    linears = {linear.name: linear.block for linear in routed_linears(transformer)}
    peft = PeftModel.from_pretrained(transformer, tiny_folder / "experts/expert_00", "0")
    for expert in range(1, 8):
        peft.load_adapter(tiny_folder / f"experts/expert_{expert:02d}", str(expert))
    peft.base_model.set_adapter([str(expert) for expert in range(8)])
    table, wrapped = _table(tiny), 0
    for name, module in transformer.named_modules():
        if isinstance(module, LoraLayer):
            for expert in range(8):
                module.set_scale(str(expert), table[linears[name], expert].item())
            wrapped += 1
    assert wrapped == len(linears)
    graph = DitGraph(tiny)
    with unmerged(tiny.transformer, tiny.experts, table[None]):
        expected = _velocity(graph)
    graph.transformer = transformer
    assert _relative(_velocity(graph), expected) < 1e-5


def _write_adapter(transformer: FluxTransformer2DModel, folder: Path) -> None:
    transformer.save_lora_adapter(folder, "default")


def _write_pipeline(transformer: FluxTransformer2DModel, folder: Path) -> None:
    FluxPipeline.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata=transformer.peft_config["default"].to_dict(),
    )


@pytest.mark.parametrize("write", [_write_adapter, _write_pipeline])
def test_files_that_diffusers_writes(
    tiny: Checkpoint,
    tiny_folder: Path,
    tmp_path: Path,
    write: Callable[[FluxTransformer2DModel, Path], None],
) -> None:
    """Its α is in the metadata alone, and its ranks differ by module."""
    transformer = FluxTransformer2DModel.from_pretrained(tiny_folder / "base/transformer")
    transformer.add_adapter(
        LoraConfig(
            r=2,
            lora_alpha=6,
            target_modules=["to_q", "ff.net.2"],
            rank_pattern={"to_q": 1},
            init_lora_weights=False,
        )
    )
    write(transformer, tmp_path / "expert_00")
    bank = load_experts(tmp_path, tiny.linears, 1, 2, 4.0)
    covered = {n for n, module in transformer.named_modules() if isinstance(module, LoraLayer)}
    assert len(covered) == 4
    table = torch.ones(bank.blocks, 1)
    for linear in tiny.linears:
        got = bank.merged_weight(
            linear.name, torch.zeros(linear.out_features, linear.in_features), table
        )
        if linear.name in covered:
            theirs = transformer.get_submodule(linear.name).get_delta_weight("default")
            assert _relative(got, theirs) < 1e-6
        else:
            assert not got.any()


def test_round_trip(tiny: Checkpoint, tmp_path: Path) -> None:
    save_experts(tiny.experts, tmp_path)
    again = load_experts(tmp_path, tiny.linears, 8, 2, 4.0)
    for name in tiny.experts.linears:
        assert torch.equal(again.pair(name).A, tiny.experts.pair(name).A)
        assert torch.equal(again.pair(name).B, tiny.experts.pair(name).B)


@pytest.mark.parametrize("prefix", ["", "transformer.", "base_model.model.transformer."])
def test_prefixes(tiny: Checkpoint, tmp_path: Path, prefix: str) -> None:
    save_experts(tiny.experts, tmp_path)
    path = tmp_path / "expert_03/adapter_model.safetensors"
    tensors = load_file(path)
    renamed = {prefix + key.removeprefix("base_model.model."): v for key, v in tensors.items()}
    save_file(renamed, path)
    again = load_experts(tmp_path, tiny.linears, 8, 2, 4.0)
    name = next(iter(tiny.experts.linears))
    assert torch.equal(again.pair(name).A[3], tiny.experts.pair(name).A[3])


def _set(key: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "expert_01/adapter_config.json"
        config = json.loads(path.read_text())
        config[key] = value
        path.write_text(json.dumps(config))

    return change


def _drop_pair(folder: Path) -> None:
    path = folder / "expert_01/adapter_model.safetensors"
    tensors = load_file(path)
    name = min(tensors).rpartition(".lora_")[0]
    save_file({k: v for k, v in tensors.items() if not k.startswith(f"{name}.lora_")}, path)


def _drop_half(folder: Path) -> None:
    path = folder / "expert_01/adapter_model.safetensors"
    tensors = load_file(path)
    tensors.pop(min(tensors))
    save_file(tensors, path)


def _lower_rank(folder: Path) -> None:
    path = folder / "expert_01/adapter_model.safetensors"
    save_file(
        {k: v[:1] if "lora_A" in k else v[:, :1].clone() for k, v in load_file(path).items()}, path
    )


def _stray_tensor(folder: Path) -> None:
    path = folder / "expert_01/adapter_model.safetensors"
    tensors = load_file(path)
    tensors["base_model.model.transformer_blocks.7.attn.to_q.lora_A.weight"] = torch.zeros(2, 4)
    save_file(tensors, path)


def _truncate(folder: Path) -> None:
    path = folder / "expert_01/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (_set("use_dora", True), "use_dora is True"),
        (_set("use_rslora", True), "use_rslora is True"),
        (_set("bias", "all"), "bias is 'all'"),
        (_set("peft_type", "LOKR"), "only LORA"),
        (_set("r", 4), "r is 4"),
        (_drop_pair, "is missing; every expert must cover it"),
        (_drop_half, "lacks its A"),
        (_lower_rank, r"lora_A.weight has shape \(1, \d+\), expected \(2, \d+\) \(rank 2\)"),
        (_stray_tensor, "matches no linear that carries experts"),
        (_truncate, "cannot be read as safetensors"),
    ],
)
def test_refusals(
    tiny: Checkpoint, tmp_path: Path, damage: Callable[[Path], None], text: str
) -> None:
    save_experts(tiny.experts, tmp_path)
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=text):
        load_experts(tmp_path, tiny.linears, 8, 2, 4.0)


def test_training_reaches_experts_and_gate_only(tmp_path: Path) -> None:
    checkpoint = new_checkpoint(TINY, tmp_path)
    randomise_experts(checkpoint)
    checkpoint.experts.requires_grad_(True)
    table = torch.rand(1, checkpoint.blocks, 8, requires_grad=True)
    graph = DitGraph(checkpoint)
    with unmerged(checkpoint.transformer, checkpoint.experts, table):
        graph(*graph.example_inputs()).square().mean().backward()
    assert table.grad is not None
    assert table.grad.abs().sum() > 0
    assert all(pair.A.grad is not None for pair in checkpoint.experts.pairs)
    assert all(p.grad is None for p in checkpoint.transformer.parameters())


def test_full_size_counts() -> None:
    """SPEC §2 and §4, on the meta device."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(in_channels=384, out_channels=64, guidance_embeds=True)
    linears = routed_linears(transformer)
    assert sum(p.numel() for p in transformer.parameters()) == 11_902_391_360
    assert len(linears) == 418
    assert sum(32 * (lin.in_features + lin.out_features) for lin in linears) == 130_744_320
    assert max(lin.block for lin in linears) == 56
    assert "proj_out" not in {lin.name for lin in linears}
