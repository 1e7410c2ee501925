"""The facts about a model that a host needs: sizes and layout, from the bundle's manifest."""

from dataclasses import dataclass
from typing import Literal

from a2edit.runtime.errors import BundleError

LAYOUTS = ("diptych", "redux")
PLACEMENTS = ("aligned", "centred")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Geometry of one model (SPEC §2); every graph of its bundle has these shapes."""

    layout: Literal["diptych", "redux"]
    reference_placement: Literal["aligned", "centred"]
    size: int  # side of the square target in pixels
    latent_channels: int  # per packed token
    conditioning_channels: int  # per packed token: masked image and mask
    image_tokens: int  # of the whole canvas
    text_length: int  # prompt tokens
    pooled_length: int  # prompt tokens of the pooled encoder
    reference_size: int  # side of the image encoder's square in pixels
    blocks: int  # L
    experts: int  # N
    checkpoint_hash: str = ""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise BundleError(f"model.layout is {self.layout!r}; known are {', '.join(LAYOUTS)}")
        if self.reference_placement not in PLACEMENTS:
            raise BundleError(
                f"model.reference_placement is {self.reference_placement!r}; "
                f"known are {', '.join(PLACEMENTS)}"
            )
        for name in (
            "size",
            "latent_channels",
            "conditioning_channels",
            "image_tokens",
            "text_length",
            "pooled_length",
            "reference_size",
            "blocks",
            "experts",
        ):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise BundleError(f"model.{name} is {getattr(self, name)!r}: must be 1 or more")

    @property
    def canvas(self) -> tuple[int, int]:
        """(width, height) of what the autoencoder sees."""
        return (2 * self.size if self.layout == "diptych" else self.size), self.size
