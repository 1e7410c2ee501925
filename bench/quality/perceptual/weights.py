"""Reading weights: safetensors, or a pickle of tensors and nothing else."""

from pathlib import Path

import torch
from torch import Tensor

from a2edit.runtime.errors import RequestError


def load_weights(path: Path, role: str) -> dict[str, Tensor]:
    """A state dict by name; raises RequestError that begins with `role` for what is none."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RequestError(f"{role} {path}: there is no such file") from None
    except Exception as error:  # noqa: BLE001 - torch, pickle and safetensors share no base class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(
            f"{role} {path} cannot be read: {reason[:200]}: "
            "give a .safetensors file, or a .pth that holds tensors alone"
        ) from None
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise RequestError(f"{role} {path} holds no weights by name: give a state dict")
    return loaded
