"""A tiny random checkpoint of the real classes, and one bundle built of it, once a session."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from a2edit.export.build import build
from a2edit.export.chain import Silent
from a2edit.export.settings import BuildSettings
from a2edit.model.architectures import TINY, new_checkpoint
from a2edit.model.checkpoint import Checkpoint
from a2edit.runtime.bundle import open_bundle
from a2edit.runtime.merge import RouteMerger


@pytest.fixture(scope="session")
def checkpoint_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On disk, in fp16, with experts that change the output and a gate that has opinions."""
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoint = new_checkpoint(TINY, folder / "tokenizers")
    torch.manual_seed(1)
    for name in checkpoint.experts.linears:
        torch.nn.init.normal_(checkpoint.experts.pair(name).B, std=0.1)
    torch.nn.init.normal_(checkpoint.gate.heads.weight, std=2.0)
    checkpoint.save(folder / "a2edit-tiny")
    return folder / "a2edit-tiny"


@pytest.fixture(scope="session")
def checkpoint(checkpoint_folder: Path) -> Checkpoint:
    return Checkpoint.load(checkpoint_folder)


@pytest.fixture(scope="session")
def tiny_settings(checkpoint_folder: Path) -> Callable[..., BuildSettings]:
    """(out, **options) → settings of a quick build of the tiny checkpoint."""

    def settings(out: Path, **options: Any) -> BuildSettings:
        chosen = {"routes": 3, "samples": 8, "precision": "fp32", **options}
        return BuildSettings(model=str(checkpoint_folder), out=out, **chosen)

    return settings


@pytest.fixture(scope="session")
def bundle(
    tiny_settings: Callable[..., BuildSettings], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Built undisturbed; read only."""
    out = tmp_path_factory.mktemp("bundle") / "tiny"
    build(tiny_settings(out), Silent())
    return out


@pytest.fixture(scope="session")
def merges_to_the_built_bytes() -> Callable[[Path], None]:
    """Every route of a bundle: the runtime's merge of its table against its weight set."""

    def check(folder: Path) -> None:
        bundle = open_bundle(folder)
        manifest = bundle.manifest
        assert manifest.merge is not None
        (variant,) = manifest.weight_sets
        merger = RouteMerger(
            bundle.path(manifest.merge.file),
            manifest.merge,
            manifest.graphs["dit"][variant].weights,
            threads=2,
        )
        for name, entry in manifest.routes.items():
            merged = merger.merge(np.array(entry.table, np.float64), name).tensors
            built = load_file(bundle.path(manifest.weight_sets[variant][name].file))
            assert merged.keys() == built.keys()
            for key, array in built.items():
                assert merged[key].dtype == array.dtype
                assert merged[key].tobytes() == array.tobytes(), (name, key)

    return check


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
