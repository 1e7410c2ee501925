"""Random bf16 weights of full-size models, written tensor by tensor, as fast as the disk.

A block of random numbers is laid out again and again; its length is a prime, so that no two rows of
a matrix are alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from functools import cache
from math import inf, prod
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxTransformer2DModel

from a2edit.export.files import write_json
from a2edit.export.steps.merge import MERGE_FILE
from a2edit.export.weights import TensorFile, places
from a2edit.kernels.reference import narrowed
from a2edit.model.checkpoint import FOLDERS, TOKENIZERS, find_checkpoint
from a2edit.model.experts import RoutedLinear, routed_linears
from a2edit.model.weightless import Shapes, fake_checkpoint, without_memory
from a2edit.runtime.engines.base import Array, TensorSpec

PERIOD = 4_194_301
SHARD = 4 * 2**30  # bytes, about
PREFIX = "base_model.model."


@cache
def _block() -> Array:
    rng = np.random.default_rng(0)
    return narrowed(rng.standard_normal(PERIOD, np.float32) * np.float32(0.02), "bfloat16")


def random_bfloat16(shape: tuple[int, ...], seed: int) -> Array:
    """Normal, σ = 0.02, as bits."""
    return np.resize(np.roll(_block(), seed % PERIOD), prod(shape)).reshape(shape)


def write_random(path: Path, specs: Iterable[TensorSpec]) -> None:
    """A safetensors file of bf16 tensors."""
    specs = list(specs)
    with TensorFile(path, specs) as file:
        for seed, spec in enumerate(specs):
            file.write(spec.name, random_bfloat16(spec.shape, 7919 * seed))


def fill(path: Path, limit: float = inf) -> None:
    """Random bytes behind the head of a file of bf16 tensors that has no more than it.

    Tensors of `limit` bytes and above, which nobody is going to read, stay a hole in the file.
    """
    with path.open("r+b") as stream:
        for seed, place in enumerate(places(path).values()):
            if place.bytes < limit:
                stream.seek(place.offset)
                stream.write(random_bfloat16((place.bytes // 2,), 7919 * seed).data)
        stream.truncate(max(place.offset + place.bytes for place in places(path).values()))


def merge_specs(shapes: Shapes) -> list[TensorSpec]:
    """What merge.safetensors holds."""
    mot, specs = shapes.mot, []
    for linear in linears_of(shapes):
        out, inner = linear.out_features, linear.in_features
        for part, shape in (
            ("weight", (out, inner)),
            ("A", (mot.num_experts, mot.rank, inner)),
            ("B", (mot.num_experts, out, mot.rank)),
        ):
            specs.append(TensorSpec(f"{linear.name}.{part}", "bfloat16", shape))
    return specs


def random_merge_source(shapes: Shapes, folder: Path) -> None:
    """merge.safetensors and merge.json as `save_merge_source` writes them."""
    write_random(folder / MERGE_FILE, merge_specs(shapes))
    blocks = {linear.name: linear.block for linear in linears_of(shapes)}
    write_json(
        folder / "merge.json", {"scale": shapes.mot.alpha / shapes.mot.rank, "blocks": blocks}
    )


def checkpoint_bytes(shapes: Shapes) -> int:
    """Size of `random_checkpoint`."""
    with without_memory():
        fake = fake_checkpoint(shapes, torch.bfloat16)
    parameters = [it for module in fake.modules().values() for it in module.parameters()]
    return sum(2 * parameter.numel() for parameter in parameters)


def random_checkpoint(shapes: Shapes, folder: Path) -> None:
    """A whole checkpoint of these shapes: every part in shards, bf16, and experts as PEFT has them.

    Its tokenizers are the embedded model's: no text is going to be read.
    """
    with without_memory():
        fake = fake_checkpoint(shapes, torch.bfloat16)
    for part, where in FOLDERS.items():
        (folder / where).mkdir(parents=True)
        parameters = fake.modules()[part].named_parameters()
        specs = [TensorSpec(name, "bfloat16", tuple(it.shape)) for name, it in parameters]
        if part == "gate":
            config = {key: value for key, value in fake.gate.config.items() if key[0] != "_"}
            write_random(folder / where / "gate.safetensors", specs)
        else:
            config = getattr(shapes, part)
            _write_shards(folder / where, specs)
        write_json(folder / where / "config.json", config)
    for where in TOKENIZERS.values():
        shutil.copytree(find_checkpoint("a2edit-mini") / where, folder / where)
    mot = shapes.mot
    write_json(folder / "mot_config.json", {**mot.to_dict(), "base_hash": ""})
    for expert in range(mot.num_experts):
        adapter = folder / f"experts/expert_{expert:02d}"
        adapter.mkdir(parents=True)
        config = {"peft_type": "LORA", "r": mot.rank, "lora_alpha": mot.alpha}
        write_json(adapter / "adapter_config.json", config)
        specs = []
        for linear in fake.linears:
            name, inner, out = f"{PREFIX}{linear.name}", linear.in_features, linear.out_features
            specs.append(TensorSpec(f"{name}.lora_A.weight", "bfloat16", (mot.rank, inner)))
            specs.append(TensorSpec(f"{name}.lora_B.weight", "bfloat16", (out, mot.rank)))
        write_random(adapter / "adapter_model.safetensors", specs)


def _write_shards(folder: Path, specs: Sequence[TensorSpec]) -> None:
    shards: list[list[TensorSpec]] = [[]]
    for spec in specs:
        if sum(before.nbytes for before in shards[-1]) > SHARD:
            shards.append([])
        shards[-1].append(spec)
    found: dict[str, str] = {}
    for place, shard in enumerate(shards, 1):
        file = f"model-{place:05}-of-{len(shards):05}.safetensors"
        write_random(folder / file, shard)
        found |= {spec.name: file for spec in shard}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": found})


def linears_of(shapes: Shapes) -> list[RoutedLinear]:
    with without_memory(), torch.no_grad():
        return routed_linears(FluxTransformer2DModel.from_config(shapes.transformer))
