"""CLIP-I and DINO-I: the cosine of two pictures' embeddings, × 100.

CLIP: the projected image embedding (CLIPVisionModelWithProjection). DINO: the class token after
the last norm, of DINO's ViT, DINOv2 or DINOv3 (AutoModel), as DreamBooth introduced it.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from a2edit.runtime.errors import RequestError

Kind = Literal["clip", "dino"]
EXAMPLES = {"clip": "openai/clip-vit-large-patch14", "dino": "facebook/dinov2-base"}


class Embedder:
    """A vision network and its preprocessing, from a folder or a hub's id."""

    def __init__(self, kind: Kind, source: str, device: str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModel, CLIPVisionModelWithProjection

        self.kind, self.device = kind, device
        network: Any = CLIPVisionModelWithProjection if kind == "clip" else AutoModel
        try:
            self.processor = AutoImageProcessor.from_pretrained(source)
            loaded, report = network.from_pretrained(
                source, output_loading_info=True, ignore_mismatched_sizes=True
            )
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RequestError(
                f"--{kind} {source}: {reason[:200]}: give a folder in transformers' layout "
                f"(config.json, preprocessor_config.json, weights) or a hub's id such as "
                f"{EXAMPLES[kind]}"
            ) from None

        # what does not fit is filled with random numbers; DINO's ViT has no pooler to load
        lacking = [name for name in report["missing_keys"] if not name.startswith("pooler.")]
        lacking += [str(entry[0]) for entry in report["mismatched_keys"]]
        if lacking:
            raise RequestError(
                f"--{kind} {source}: its weights do not fit its config.json: {min(lacking)} is "
                f"missing or of another shape: give a whole checkpoint, such as {EXAMPLES[kind]}"
            )
        self.network = loaded.eval().to(device)

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures to embeddings of length 1, f32 [n,d]."""
        inputs = self.processor(images=list(pictures), return_tensors="pt").to(self.device)
        outputs = self.network(**inputs)
        embeddings = (
            outputs.image_embeds if self.kind == "clip" else outputs.last_hidden_state[:, 0]
        )
        return F.normalize(embeddings.float(), dim=-1).cpu()


def likeness(first: Tensor, second: Tensor) -> float:
    """Cosine × 100 of two embeddings of length 1, f32 [d]."""
    return 100 * float(first @ second)
