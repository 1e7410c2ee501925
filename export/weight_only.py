"""Weights that are stored in 8 bits and multiplied in the network's type (preset small).

A denoiser's modulations are 27 % of its parameters and a thousandth of its work; T5 runs once a
prompt. Both cost memory, not time (SPEC §11.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from a2edit.export.weights import TensorFile, array_of, shared_parameters
from a2edit.kernels.reference import quantise_rows, widened
from a2edit.model.checkpoint import FOLDERS, Checkpoint
from a2edit.model.part_files import PartFiles
from a2edit.runtime.engines.base import TensorSpec

WEIGHT_ONLY_FILE = "shared-w8.safetensors"
# Never norm_out, embedders, or what attention's norms multiply.
_NAMES = re.compile(
    r"transformer\.(single_)?transformer_blocks\.\d+\.norm\w*\.linear\.weight"
    r"|text_encoder\.encoder\.block\.\d+\.layer\.\d\.(SelfAttention|DenseReluDense)"
    r"\.(q|k|v|o|wi|wi_0|wi_1|wo)\.weight"
)
# A bf16 graph takes scales as they are, an fp32 graph behind a Cast: one file serves both.
_SCALE = "bfloat16"


def is_weight_only(name: str) -> bool:
    """Whether a shared parameter is a weight [out, in] that may be stored in 8 bits."""
    return _NAMES.fullmatch(name) is not None


def save_weight_only(outline: Checkpoint, folder: Path, path: Path) -> None:
    """Write the 8-bit weights of a checkpoint, one at a time.

    "<name>.int8" int8 [out, in] and "<name>.scale" bfloat16 [out] of every weight.

    Args:
        outline: the checkpoint without its weights.
        folder: where its weights are.
        path: of the file to write.

    Raises:
        CheckpointError: a weight is missing, damaged or of another shape.
    """
    found = {name: it for name, it in shared_parameters(outline).items() if is_weight_only(name)}
    modules = outline.modules()
    parts = {name.partition(".")[0] for name in found}
    files = {part: PartFiles.of(folder / FOLDERS[part], modules[part]) for part in sorted(parts)}
    wide = [TensorSpec(name, "float32", tuple(it.shape)) for name, it in found.items()]
    with TensorFile(path, weight_only_specs(wide)) as file:
        for name in sorted(found):
            part, _, own = name.partition(".")
            weight = widened(array_of(files[part].read(own)))
            levels, scales = quantise_rows(weight, scale_dtype=_SCALE)
            file.write(f"{name}.int8", levels)
            file.write(f"{name}.scale", scales)


def weight_only_specs(weights: Iterable[TensorSpec]) -> list[TensorSpec]:
    """What the file holds of weights [out, in] that get 8 bits."""
    specs = []
    for weight in weights:
        specs.append(TensorSpec(f"{weight.name}.int8", "int8", weight.shape))
        specs.append(TensorSpec(f"{weight.name}.scale", _SCALE, weight.shape[:1]))
    return specs
