"""A checkpoint folder to train experts in, made of whatever part of one a user has."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from transformers import AutoTokenizer

from a2edit.model.checkpoint import TOKENIZERS, find_checkpoint, folder_hash, link_tree, save_gate
from a2edit.model.config import A2EDIT_FULL, CONFIG_NAME, MoTConfig
from a2edit.model.experts import ExpertBank, routed_linears
from a2edit.model.gate import GATE_WIDTH, ConditioningGate
from a2edit.model.peft_files import save_experts
from a2edit.runtime.errors import CheckpointError, RequestError

# Of a FLUX.1-Fill repository, what runs: it holds the weights a second time in another format.
_BASE = (
    "transformer",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "tokenizer",
    "tokenizer_2",
    "scheduler",
)
_REDUX = ("image_encoder", "feature_extractor", "image_embedder")
_OF_NEW_EXPERTS = {"num_experts", "rank"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a user says of the model; None: as its mot_config.json, else A2EDIT_FULL, has it.

    Attributes:
        size, layout, text_length: as in `MoTConfig`; of a model without that file only.
        num_experts, rank: of new experts; α/r stays what it is.
    """

    size: int | None = None
    layout: str | None = None
    text_length: int | None = None
    num_experts: int | None = None
    rank: int | None = None

    def given(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def changed(self, config: MoTConfig) -> MoTConfig:
        """The settings with what was given."""
        rank = self.rank or config.rank
        return replace(config, **self.given(), alpha=config.alpha / config.rank * rank)


def start_folder(
    model: str,
    folder: Path,
    *,
    redux: Path | None = None,
    wanted: Wanted | None = None,
    new_experts: bool = False,
    seed: int = 0,
) -> tuple[Path, bool]:
    """The checkpoint to start from, and whether its experts and gate are new.

    Args:
        model: a checkpoint (a folder, or an embedded one's name), one without experts and gate,
            or a diffusers FLUX.1-Fill folder.
        folder: where a checkpoint with new experts is put together, of links; one that is there
            is taken as it is.
        redux: folder of the Redux pipeline, for a model that has none.
        wanted: settings of a model that has none.
        new_experts: leave the model's experts and gate aside.
        seed: of the new experts and gate.

    Raises:
        CheckpointError: a part is missing, or cannot be read.
        RequestError: settings are given for a model that has its own.
    """
    wanted = wanted or Wanted()
    source = Path(model)
    if not source.is_dir():
        source = find_checkpoint(model)
    configured = (source / CONFIG_NAME).is_file()
    complete = configured and all((source / part).is_dir() for part in ("experts", "gate"))
    old = complete and not new_experts
    fixed = set(wanted.given()) - (set() if old else _OF_NEW_EXPERTS)
    if configured and fixed:
        raise RequestError(
            f"{model} has a {CONFIG_NAME}, which says {', '.join(sorted(fixed))}: leave "
            "these options out, or edit a copy of that file"
            + (" (experts and rank can be chosen with --new-experts)" if old else "")
        )
    if old:
        return source, False
    if not (folder / CONFIG_NAME).is_file():
        _put_together(source, folder, redux, wanted, seed)
    return folder, True


def _put_together(
    source: Path, folder: Path, redux: Path | None, wanted: Wanted, seed: int
) -> None:
    base, redux = _parts(source, redux)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for name in _BASE:
            link_tree(base / name, work / "base" / name)
        if (base / "model_index.json").is_file():
            shutil.copy(base / "model_index.json", work / "base")
        for name in _REDUX:
            link_tree(redux / name, work / "redux" / name)
        for path in TOKENIZERS.values():
            _complete_tokenizer(work / path)
        config = _config(source, work, wanted)
        _write_new_experts(work, config, _gate_width(source), seed)
        text = json.dumps(config.to_dict(), indent=2, sort_keys=True)
        (work / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
        work.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _parts(source: Path, redux: Path | None) -> tuple[Path, Path]:
    """Folders of the FLUX.1-Fill and of the Redux pipeline."""
    base = source / "base" if (source / "base").is_dir() else source
    redux = redux or source / "redux"
    for folder, names, what in ((base, _BASE, "FLUX.1-Fill"), (redux, _REDUX, "Redux")):
        missing = [name for name in names if not (folder / name).is_dir()]
        if missing and not set(missing) <= {"scheduler", "feature_extractor"}:
            raise CheckpointError(
                f"{folder} is no diffusers {what} folder: it lacks {', '.join(missing)}. Give a "
                "checkpoint folder with base/ and redux/, or a FLUX.1-Fill folder with --redux"
            )
    return base, redux


def _complete_tokenizer(folder: Path) -> None:
    """FLUX's CLIP tokenizer comes as vocabulary and merges; what runs here reads tokenizer.json."""
    if (folder / "tokenizer.json").is_file():
        return
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
        tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    # transformers raises many types for a damaged folder; each means the same here.
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
        raise CheckpointError(f"{folder} holds no tokenizer that can be read: {error}") from error


def _config(source: Path, work: Path, wanted: Wanted) -> MoTConfig:
    if (source / CONFIG_NAME).is_file():
        config = MoTConfig.load(source)
    else:
        clip = json.loads((work / "base/text_encoder/config.json").read_text(encoding="utf-8"))
        positions = int(clip.get("max_position_embeddings", A2EDIT_FULL.pooled_length))
        length = min(A2EDIT_FULL.pooled_length, positions)
        config = replace(A2EDIT_FULL, pooled_length=length)
    if wanted.num_experts is not None and config.anchor >= wanted.num_experts:
        raise RequestError(
            f"--experts is {wanted.num_experts}, but the anchor is expert {config.anchor}: "
            f"give at least {config.anchor + 1}"
        )
    return replace(wanted.changed(config), base_hash=folder_hash(work / "base"))


def _gate_width(source: Path) -> int:
    """Of the gate that the new one replaces, else the full size's."""
    path = source / "gate" / "config.json"
    if not path.is_file():
        return GATE_WIDTH
    return int(ConditioningGate.load_config(path.parent)["width"])


def _write_new_experts(work: Path, config: MoTConfig, gate_width: int, seed: int) -> None:
    values = FluxTransformer2DModel.load_config(work / "base/transformer", local_files_only=True)
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(values)
    shape = transformer.config
    torch.manual_seed(seed)
    linears = routed_linears(transformer)
    bank = ExpertBank(linears, config.num_experts, config.rank, config.alpha)
    save_experts(bank, work / "experts")
    gate = ConditioningGate(
        blocks=bank.blocks,
        experts=config.num_experts,
        conditioning_channels=int(shape.in_channels) - int(shape.out_channels),
        context_channels=int(shape.joint_attention_dim),
        width=gate_width,
    )
    gate.start_even()
    save_gate(gate, work / "gate")
