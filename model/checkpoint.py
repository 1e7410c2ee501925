"""The checkpoint folder of SPEC §4: base/, redux/, experts/, gate/, mot_config.json."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextModel, SiglipVisionModel, T5EncoderModel

from a2edit.model.autoencoder import PatchAutoencoder
from a2edit.model.config import CONFIG_NAME, MoTConfig
from a2edit.model.experts import ExpertBank, RoutedLinear, routed_linears
from a2edit.model.gate import ConditioningGate
from a2edit.model.peft_files import load_experts, save_experts
from a2edit.runtime.errors import CheckpointError
from a2edit.runtime.tokenizer import PromptTokenizer

PRETRAINED = Path(__file__).parent / "pretrained"

# Where the pieces of a FLUX.1-Fill folder and of a Redux folder lie, as diffusers names them.
_PIECES: dict[str, tuple[str, Any]] = {
    "transformer": ("base/transformer", FluxTransformer2DModel),
    "pooled_encoder": ("base/text_encoder", CLIPTextModel),
    "text_encoder": ("base/text_encoder_2", T5EncoderModel),
    "image_encoder": ("redux/image_encoder", SiglipVisionModel),
    "redux": ("redux/image_embedder", ReduxImageEncoder),
}
# Of every part but the experts, whose files PEFT names.
FOLDERS = {part: path for part, (path, _) in _PIECES.items()} | {"vae": "base/vae", "gate": "gate"}
TOKENIZERS = {"pooled": "base/tokenizer", "text": "base/tokenizer_2"}


def tokenizer_folders(folder: Path) -> dict[str, Path]:
    """Folders of "text" and "pooled" tokenizers; raises CheckpointError where one is missing."""
    found = {key: folder / path for key, path in TOKENIZERS.items()}
    for path in found.values():
        if not (path / "tokenizer.json").is_file():
            raise CheckpointError(f"{path / 'tokenizer.json'} is missing")
    return found


def find_checkpoint(name_or_folder: str | Path) -> Path:
    """The folder of a checkpoint given by path, or by the name of an embedded one."""
    folder = Path(name_or_folder)
    if (folder / CONFIG_NAME).is_file():
        return folder
    embedded = PRETRAINED / str(name_or_folder)
    if (embedded / CONFIG_NAME).is_file():
        return embedded
    names = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG_NAME}")))
    what = f"it has no {CONFIG_NAME}" if folder.is_dir() else "there is no such folder"
    raise CheckpointError(
        f"{name_or_folder} is no A²-Edit checkpoint: {what}. Give a checkpoint folder, "
        f"or the name of an embedded model: {names or 'none is installed'}"
    )


@dataclass(slots=True)
class Checkpoint:
    """Every part of a model in memory, on the CPU, in eval mode.

    `transformer` holds the base weights W⁰; experts are beside it, never folded in.
    """

    config: MoTConfig
    transformer: FluxTransformer2DModel
    vae: AutoencoderKL | PatchAutoencoder
    text_encoder: T5EncoderModel
    pooled_encoder: CLIPTextModel
    image_encoder: SiglipVisionModel
    redux: ReduxImageEncoder
    gate: ConditioningGate
    experts: ExpertBank
    tokenizers: dict[str, Path]  # "text", "pooled" → a folder with tokenizer.json

    @property
    def linears(self) -> list[RoutedLinear]:
        return list(self.experts.linears.values())

    @property
    def blocks(self) -> int:
        """L, rows of a gate table."""
        return self.experts.blocks

    @property
    def reference_size(self) -> int:
        """Side in pixels of the image encoder's input."""
        return int(self.image_encoder.config.image_size)

    def prompt_tokenizers(self) -> dict[str, PromptTokenizer]:
        """Tokenizers "text" and "pooled" at the config's lengths, padding as trained."""
        config = self.config
        settings = {
            "text": (config.text_length, self.text_encoder.config.pad_token_id),
            "pooled": (config.pooled_length, self.pooled_encoder.config.pad_token_id),
        }
        return {
            kind: PromptTokenizer(self.tokenizers[kind] / "tokenizer.json", length, pad or 0)
            for kind, (length, pad) in settings.items()
        }

    def modules(self) -> dict[str, nn.Module]:
        """Every module by its name here, for moving, freezing and counting."""
        names = (*_PIECES, "vae", "gate", "experts")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def load(cls, name_or_folder: str | Path, dtype: torch.dtype = torch.float32) -> Checkpoint:
        """Read a checkpoint.

        Args:
            name_or_folder: as `find_checkpoint` takes it.
            dtype: of transformer and encoders; autoencoder, gate and experts are fp32 always.

        Raises:
            CheckpointError: a part is missing, cannot be read, or contradicts mot_config.json.
        """
        folder = find_checkpoint(name_or_folder)
        config = MoTConfig.load(folder)
        transformer_config(folder)
        parts = {
            key: _load_part(kind, folder / path, dtype) for key, (path, kind) in _PIECES.items()
        }
        vae_folder = folder / FOLDERS["vae"]
        vae = _load_part(vae_class(read_config(vae_folder)), vae_folder)
        linears = routed_linears(parts["transformer"])
        experts = load_experts(
            folder / "experts", linears, config.num_experts, config.rank, config.alpha
        )
        gate = load_gate(folder / "gate", experts.blocks, config.num_experts)
        tokenizers = tokenizer_folders(folder)
        check_base(folder, config)
        checkpoint = cls(
            config=config,
            vae=vae,
            gate=gate,
            experts=experts,
            tokenizers=tokenizers,
            **parts,
        )
        for module in checkpoint.modules().values():
            module.eval().requires_grad_(False)
        return checkpoint

    def save(
        self,
        folder: Path,
        dtype: torch.dtype = torch.float16,
        parts_from: Path | None = None,
    ) -> None:
        """Write the checkpoint; the folder appears whole or not at all.

        Args:
            folder: where; one that is there is replaced.
            dtype: of the weights.
            parts_from: a checkpoint folder with the same base/ and redux/: they are linked, not
                written again.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            if parts_from is None:
                self._write_parts(work, dtype)
            else:
                for name in ("base", "redux"):
                    link_tree(parts_from / name, work / name)
            self._write_specialists(work, dtype, linked=parts_from is not None)
            old = work.with_name(work.name + "-old")
            work.chmod(0o755)
            if folder.exists():
                folder.rename(old)
            try:
                work.rename(folder)
            except OSError:
                if old.exists():
                    old.rename(folder)
                raise
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _write_parts(self, folder: Path, dtype: torch.dtype) -> None:
        for key, (path, _) in _PIECES.items():
            _save_part(getattr(self, key), folder / path, dtype)
        _save_part(self.vae, folder / "base/vae", dtype)
        # Here, because without torchvision its import alone prints a warning.
        from transformers import SiglipImageProcessor

        side = self.reference_size
        processor = SiglipImageProcessor(size={"height": side, "width": side})
        processor.save_pretrained(folder / "redux/feature_extractor")
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
        scheduler.save_pretrained(folder / "base/scheduler")
        for key, path in TOKENIZERS.items():
            shutil.copytree(self.tokenizers[key], folder / path)
        _write_json(folder / "base/model_index.json", _model_index(self))

    def _write_specialists(self, folder: Path, dtype: torch.dtype, *, linked: bool) -> None:
        save_experts(self.experts, folder / "experts", dtype)
        save_gate(self.gate, folder / "gate", dtype)
        config = self.config
        if not linked:
            config = replace(config, base_hash=folder_hash(folder / "base"))
        _write_json(folder / CONFIG_NAME, config.to_dict())


def link_tree(source: Path, target: Path) -> None:
    """The files of a folder in another, sharing their bytes: hard links, or else symbolic ones."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            link = target / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path.resolve(), link)
            except OSError:  # another file system
                link.symlink_to(path.resolve())


def folder_hash(folder: Path) -> str:
    """sha256 over the names and bytes of a folder's files, in sorted order."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def check_base(folder: Path, config: MoTConfig) -> None:
    """Experts are differences to one base; on another they are noise.

    Raises:
        CheckpointError: base/ has other bytes than mot_config.json says.
    """
    if config.base_hash and (found := folder_hash(folder / "base")) != config.base_hash:
        raise CheckpointError(
            f"{folder / 'base'} is not the base that the experts were trained on: its files hash "
            f"to {found[:16]}…, {CONFIG_NAME} says {config.base_hash[:16]}…. Restore the folder; "
            'if the difference is meant (added files, say), set base_hash to ""'
        )


def _load_part(kind: Any, path: Path, dtype: torch.dtype = torch.float32) -> Any:
    read_config(path)
    option = {"dtype" if kind.__module__.startswith("transformers") else "torch_dtype": dtype}
    try:
        return kind.from_pretrained(path, local_files_only=True, **option)
    # Both libraries raise many types for a damaged folder; each means the same to the caller.
    except (OSError, ValueError, RuntimeError, SafetensorError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be loaded as {kind.__name__}: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a part.

    Raises:
        CheckpointError: it is missing, or no JSON object.
    """
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: the checkpoint is not complete") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold one JSON object")
    return values


def transformer_config(folder: Path) -> dict[str, Any]:
    """config.json of a checkpoint's transformer.

    Raises:
        CheckpointError: it cannot be read, or is of no Fill model: latents, the masked image's and
            a mask of 16 × 16 pixels are a token's channels (SPEC §2).
    """
    path = folder / FOLDERS["transformer"]
    config = read_config(path)
    given = config.get("in_channels")
    latent = config.get("out_channels") or 64  # as FLUX.1's; where it is null, it is in_channels
    if given != (wanted := 2 * latent + 256):
        raise CheckpointError(
            f"{path / 'config.json'}: in_channels is {given}; a Fill model's transformer takes "
            f"{wanted} ({latent} of latents, {latent} of the masked image, 256 of the mask). "
            "Give FLUX.1-Fill as base, or a model trained from it"
        )
    return config


def vae_class(config: Mapping[str, Any]) -> Any:
    """The class of an autoencoder's config.

    Raises:
        CheckpointError: it is none that the graphs can be made of.
    """
    classes = {"AutoencoderKL": AutoencoderKL, "PatchAutoencoder": PatchAutoencoder}
    if (name := config.get("_class_name")) not in classes:
        raise CheckpointError(
            f"{FOLDERS['vae']}/config.json: _class_name is {name!r}; allowed: {', '.join(classes)}"
        )
    return classes[name]


def save_gate(gate: ConditioningGate, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write gate.safetensors, and config.json with its sizes."""
    folder.mkdir()
    state = {key: value.detach().to(dtype) for key, value in gate.state_dict().items()}
    save_file(state, folder / "gate.safetensors")
    values = {key: value for key, value in gate.config.items() if key[0] != "_"}
    _write_json(folder / "config.json", values)


def load_gate(folder: Path, blocks: int, experts: int) -> ConditioningGate:
    """What `save_gate` wrote, in fp32; raises CheckpointError where it is damaged, or of others."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        gate = ConditioningGate(**values)
        gate.load_state_dict(load_file(folder / "gate.safetensors"))
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: the gate cannot be loaded: {error}") from error
    if (gate.blocks, gate.experts) != (blocks, experts):
        raise CheckpointError(
            f"{folder}: the gate serves {gate.blocks} blocks of {gate.experts} experts; "
            f"the transformer has {blocks} blocks and mot_config.json {experts} experts"
        )
    return gate


def _save_part(module: Any, path: Path, dtype: torch.dtype) -> None:
    # A copy, because a round trip through fp16 would change the weights of a model in training;
    # the plain `to`, because diffusers' own one warns of what we mean to do.
    nn.Module.to(copy.deepcopy(module), dtype).save_pretrained(path)
    # Diffusers notes where it loaded from: a path of this machine, which would also make the
    # same weights hash differently elsewhere.
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    _write_json(path / "config.json", config)


def _model_index(checkpoint: Checkpoint) -> dict[str, Any]:
    """`model_index.json` as diffusers' FluxFillPipeline reads it."""
    vae = checkpoint.vae
    library = "diffusers" if isinstance(vae, AutoencoderKL) else "a2edit.model.autoencoder"
    return {
        "_class_name": "FluxFillPipeline",
        "_diffusers_version": diffusers.__version__,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "tokenizer_2": ["transformers", "PreTrainedTokenizerFast"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": [library, type(vae).__name__],
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
