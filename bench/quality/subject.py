"""What is asked of an editor: a subject is an object to paint, a task marks its place one way.

Every subject is asked for with several kinds of mask and nothing else changed, so that kinds can
be compared pair by pair.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from a2edit.bench.heldout.rough import Kind, Mask
from a2edit.bench.heldout.rough import rough_mask as drawn_mask
from a2edit.bench.metrics import middle
from a2edit.export.pixels import Pixels
from a2edit.runtime.boxes import Box, tight_box
from a2edit.runtime.errors import RequestError
from a2edit.runtime.masks import binarise, boxes_mask, fill_outline
from a2edit.runtime.request import EditRequest
from a2edit.training.masks import dilate

MaskKind = Literal["fine", "rough"] | Kind
MASK_KINDS: tuple[MaskKind, ...] = ("fine", "rough", *get_args(Kind))
# The four that are compared: the outline itself, the papers' dilation of it, a box, a scribble.
COMPARED: tuple[MaskKind, ...] = ("fine", "rough", "box", "scribble")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """An object, the picture that it goes into, and what a right edit looks like.

    `shape` is the object's place in the truth, u8 [H,W]; `masks_seed` draws its rough masks.
    """

    name: str
    thing: str  # the object; subjects of the same one are no rivals
    group: str  # which subjects' references an edit is held against
    category: str
    scene: Image.Image  # RGB, as the user has it
    truth: Image.Image  # RGB
    reference: Image.Image  # RGB, or RGBA where transparency marks the object
    reference_mask: Mask | None  # u8, where a picture without transparency has one
    shape: Mask
    prompt: str
    masks_seed: int

    def colours(self) -> Pixels:
        """Colours in the middle of the reference's object: u8 [n,3]."""
        picture, mask = self.object_pixels()
        return middle_of(picture, mask)

    def object_pixels(self) -> tuple[Pixels, Pixels]:
        """The reference's colours u8 [h,w,3] and where its object is u8 [h,w]."""
        if self.reference_mask is not None:
            return np.asarray(self.reference.convert("RGB")), self.reference_mask
        if self.reference.mode == "RGBA":
            pixels = np.asarray(self.reference)
            return pixels[..., :3], pixels[..., 3]
        picture = np.asarray(self.reference.convert("RGB"))
        return picture, np.where((picture < 250).any(axis=2), np.uint8(255), np.uint8(0))


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One edit: a subject with its place marked as `kind`; the mask is as a user gives it."""

    subject: Subject
    kind: MaskKind
    mask: Mask

    def request(self, steps: int | None = None, seed: int = 0) -> EditRequest:
        boxed = self.kind == "box"
        return EditRequest(
            image=self.subject.scene,
            reference=self.subject.reference,
            reference_mask=self.subject.reference_mask,
            mask=None if boxed else self.mask,
            boxes=[tight_box(self.mask)] if boxed else [],
            prompt=self.subject.prompt,
            steps=steps,
            seed=seed,
        )

    @property
    def region(self) -> Mask:
        """What the runtime repaints: an outline's inside, a box as it is; u8 [H,W]."""
        if self.kind == "box":
            height, width = self.mask.shape
            return boxes_mask([tight_box(self.mask)], width, height)
        return fill_outline(self.mask)


def task(subject: Subject, kind: MaskKind) -> Task:
    """Mark a subject's place; raises RequestError for an unknown kind."""
    if kind not in MASK_KINDS:
        raise RequestError(f"mask kind {kind!r} is unknown: use any of {', '.join(MASK_KINDS)}")
    shape = binarise(subject.shape)
    if kind == "fine":
        return Task(subject, kind, shape)
    if kind == "rough":
        return Task(subject, kind, dilate(shape))
    return Task(subject, kind, drawn_mask(subject.shape, kind, subject.masks_seed))


def tasks(subjects: Sequence[Subject], kinds: Sequence[MaskKind]) -> Iterator[Task]:
    """Every subject with every kind, a subject's kinds one after the other."""
    return (task(subject, kind) for subject in subjects for kind in kinds)


def middle_of(picture: Pixels, mask: Pixels) -> Pixels:
    """Colours of u8 [H,W,3] under a mask u8 [H,W], in the middle half of its box: u8 [n,3].

    An object with nothing in its middle, such as a ring, gives all of its pixels.
    """
    window: Box = middle(tight_box(mask))
    inside = picture[window.slices][mask[window.slices] >= 128]
    return inside if inside.size else picture[mask >= 128]
