"""The facts about a model that a host needs: sizes and layout, from the bundle's manifest."""

from dataclasses import dataclass
from typing import Literal

from a2edit.runtime.errors import BundleError, RequestError

LAYOUTS = ("diptych", "redux")
PLACEMENTS = ("aligned", "centred")
PATCH = 16  # pixels of a token's side


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Geometry of one model (SPEC §2), and what the graphs of its bundle leave open of it."""

    layout: Literal["diptych", "redux"]
    reference_placement: Literal["aligned", "centred"]
    size: int  # side of the square target in pixels, unless a request says otherwise
    sizes: tuple[int, ...]  # all sides that the engines take, the smallest first
    batch: int  # most samples in one run of an engine
    latent_channels: int  # per packed token
    conditioning_channels: int  # per packed token: masked image and mask
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
            "batch",
            "latent_channels",
            "conditioning_channels",
            "text_length",
            "pooled_length",
            "reference_size",
            "blocks",
            "experts",
        ):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise BundleError(f"model.{name} is {getattr(self, name)!r}: must be 1 or more")

        sides = self.sizes
        whole = all(type(side) is int and side > 0 and side % PATCH == 0 for side in sides)
        if not whole or list(sides) != sorted(set(sides)) or self.size not in sides:
            raise BundleError(
                f"model.sizes is {list(sides)}: must be multiples of {PATCH} in rising order, and "
                f"hold model.size, {self.size}"
            )

    def grid(self, size: int) -> tuple[int, int]:
        """Rows and columns of image tokens of the whole canvas, for a target of side `size`."""
        rows = size // PATCH
        return rows, 2 * rows if self.layout == "diptych" else rows

    def chosen(self, size: int | None) -> int:
        """The side that a request asks for; raises RequestError where no engine takes it."""
        if size is None:
            return self.size
        if size not in self.sizes:
            raise RequestError(
                f"size {size!r} is none that this bundle was built for; it has "
                f"{', '.join(map(str, self.sizes))}: take one of them, or build with --sizes"
            )
        return size
