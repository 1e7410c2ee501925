"""A part's parameters read one at a time, so that models larger than memory pass through."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from a2edit.model.adapter_files import stored_dtype
from a2edit.runtime.errors import CheckpointError

# What diffusers, transformers and we call the file, or the index of its shards.
_STEMS = ("diffusion_pytorch_model", "model", "gate")
# What transformers before 5 puts before the keys of CLIP and SigLIP, as published folders have it.
_PREFIXES = ("", "text_model.", "vision_model.")


@dataclass(frozen=True, slots=True)
class PartFiles:
    """The safetensors files of one folder, sharded or not.

    Attributes:
        folder: of the part.
        files: key → the file that holds it.
        module: what the keys belong to; its parameters give names and shapes, never values.
    """

    folder: Path
    files: Mapping[str, Path]
    module: nn.Module

    @classmethod
    def of(cls, folder: Path, module: nn.Module) -> PartFiles:
        """Find the files of a part.

        Raises:
            CheckpointError: there are none, one is missing or damaged.
        """
        for stem in _STEMS:
            index, single = folder / f"{stem}.safetensors.index.json", f"{stem}.safetensors"
            if index.is_file():
                return cls(folder, _read_index(index), module)
            if (folder / single).is_file():
                keys = _keys(folder / single)
                return cls(folder, dict.fromkeys(keys, folder / single), module)
        raise CheckpointError(
            f"{folder} has no safetensors file; allowed: "
            f"{', '.join(f'{stem}.safetensors' for stem in _STEMS)}, or shards with their index"
        )

    def read(self, name: str) -> Tensor:
        """The parameter `name` of the module, as it is stored.

        Raises:
            CheckpointError: the files do not have it, it has another shape, or a file is damaged.
        """
        key = self._key(name)
        with self._opened(key) as file:
            return file.get_tensor(key).to(self._described(file, key, name))

    def mapped(self) -> Iterator[tuple[str, Tensor]]:
        """Every parameter as it is stored, lying in its file, of which each is mapped once.

        Raises:
            CheckpointError: as `read` does.
        """
        keys = {name: self._key(name) for name, _ in self.module.named_parameters()}
        for path in sorted({self.files[key] for key in keys.values()}):
            own = {name: key for name, key in keys.items() if self.files[key] == path}
            with self._opened(next(iter(own.values()))) as file:
                for name, key in own.items():
                    yield name, file.get_tensor(key).to(self._described(file, key, name))

    def dtype(self, name: str) -> torch.dtype:
        """What `read` gives it as: fp16, bf16, or fp32; known without reading it.

        Raises:
            CheckpointError: as `read` does.
        """
        key = self._key(name)
        with self._opened(key) as file:
            return self._described(file, key, name)

    def check(self) -> None:
        """Look for every parameter, reading heads alone.

        Raises:
            CheckpointError: as `read` would.
        """
        for name, _ in self.module.named_parameters():
            self.dtype(name)

    def _described(self, file: Any, key: str, name: str) -> torch.dtype:
        found, shape = file.get_slice(key), [*self.module.get_parameter(name).shape]
        if found.get_shape() != shape:
            raise CheckpointError(
                f"{self.files[key]}: {key} is {found.get_shape()}; by its config.json it is {shape}"
            )
        return stored_dtype(found.get_dtype())

    @contextmanager
    def _opened(self, key: str) -> Iterator[Any]:
        """The file of a key: once a parameter, since what is mapped stays in memory till then."""
        path = self.files[key]
        try:
            with safe_open(path, "pt") as file:
                yield file
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: {key} cannot be read: {error}") from error

    def _key(self, name: str) -> str:
        """What the files call a parameter, which may be by another name of a tied one."""
        if name in self.files:
            return name
        wanted = self.module.get_parameter(name)
        every = self.module.named_parameters(remove_duplicate=False)
        names = [other for other, parameter in every if parameter is wanted]
        for key in (f"{prefix}{each}" for prefix in _PREFIXES for each in names):
            if key in self.files:
                return key
        raise CheckpointError(f"{self.folder}: none of its safetensors files has {name}")


def _keys(path: Path) -> list[str]:
    try:
        with safe_open(path, "pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error


def _read_index(path: Path) -> dict[str, Path]:
    """Key → shard; every shard is there and whole."""
    try:
        found: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        shards = {file: path.parent / file for file in sorted(set(found.values()))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is no index of safetensors shards: {error}") from error
    for file, shard in shards.items():
        if not shard.is_file():
            raise CheckpointError(f"{shard} is missing; {path.name} lists it")
        missing = sorted({key for key, value in found.items() if value == file} - set(_keys(shard)))
        if missing:
            raise CheckpointError(f"{shard} lacks {missing[0]}, which {path.name} says it has")
    return {key: shards[file] for key, file in found.items()}
