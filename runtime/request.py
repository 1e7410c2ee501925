"""What is asked for, and what comes back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from a2edit.runtime.boxes import Box
from a2edit.runtime.errors import RequestError
from a2edit.runtime.images import ImageSource
from a2edit.runtime.sampler import check_seed, check_steps

if TYPE_CHECKING:
    from a2edit.runtime.prepare import Prepared


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditRequest:
    """Paint the object of `reference` into the masked region of `image`.

    Pictures are paths, PIL images or arrays (uint8 or floats in 0..1; [H,W], [H,W,3], [H,W,4]).
    The region is `mask`, `boxes`, or both together. Files are read when the edit is prepared,
    so a bad path is refused there; bad numbers are refused here.
    """

    image: ImageSource
    reference: ImageSource
    mask: ImageSource | None = None
    reference_mask: ImageSource | None = (
        None  # white = the object; default: alpha, or a plain border
    )
    # x0,y0,x1,y1 in pixels of the image, half open; any number of them
    boxes: Sequence[Box | str | Sequence[int]] = ()
    prompt: str = ""
    steps: int | None = None  # default: the bundle's
    # side in pixels at which the region is repainted, one of the bundle's; default: its own
    size: int | None = None
    seed: int = 0
    resize_mask: bool = False  # scale masks of another size instead of refusing them

    def __post_init__(self) -> None:
        boxes = [self.boxes] if isinstance(self.boxes, Box | str) else list(self.boxes)
        if self.mask is None and not boxes:
            raise RequestError(
                "nothing to edit: give a mask or at least one box "
                "(a picture whose own transparency marks the region can be its mask too)"
            )
        if not isinstance(self.prompt, str):
            raise RequestError(f"prompt must be text, got {self.prompt!r}")
        if any("\ud800" <= character <= "\udfff" for character in self.prompt):
            raise RequestError(f"prompt is not valid Unicode: {self.prompt!r}; give it as UTF-8")
        object.__setattr__(self, "boxes", tuple(Box.of(box) for box in boxes))
        if self.steps is not None:
            check_steps(self.steps)
        check_seed(self.seed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EditResult:
    """The edited picture and how it came about."""

    image: Image.Image  # the size of the request's image; RGB, or RGBA if that had transparency
    route: str
    predicted_error: float  # of the route against the gate's wish (SPEC §5)
    seed: int
    steps: int
    timings: Mapping[str, float]  # seconds a stage: prepare, encode, gate, route, denoise, …
    gate_weights: NDArray[np.float32]  # [L, N]
    bundle_hash: str
    window: Box  # the part of the image that the model saw, in its pixels
    # [L, N], what ran for them; empty where nothing was routed
    route_table: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    supply: str = ""  # of the route's weights: "static", built ahead, or "merged" from the experts
    warnings: tuple[str, ...] = ()
    prepared: "Prepared | None" = None  # what the model saw, for contact sheets
    skipped_steps: int = 0  # of `steps`, those that a step cache ran without the denoiser's tail

    def text(self) -> dict[str, str]:
        """What goes into a PNG's text chunks."""
        skipped = {"a2edit:skipped_steps": str(self.skipped_steps)} if self.skipped_steps else {}
        return skipped | {
            "Software": "a2edit",
            "a2edit:route": self.route,
            "a2edit:supply": self.supply,
            "a2edit:predicted_error": f"{self.predicted_error:.6f}",
            "a2edit:seed": str(self.seed),
            "a2edit:steps": str(self.steps),
            "a2edit:bundle": self.bundle_hash,
        }
