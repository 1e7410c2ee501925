"""Answers that need no model. Each knows what a model knows: the reference, and the scene beyond
the mask; what is inside of the mask is hidden from it.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from a2edit.bench.quality.sides import Painted
from a2edit.bench.quality.subject import Task
from a2edit.export.pixels import Pixels
from a2edit.runtime.boxes import tight_box
from a2edit.runtime.layout import contain

SMOOTH = 6.0  # pixels: the ground that is carried on under a pasted object


def mean_colour(task: Task) -> Painted:
    """The region filled with the reference's mean colour."""
    picture = np.asarray(task.subject.scene).copy()
    picture[task.region >= 128] = task.subject.colours().mean(axis=0).round()
    return Painted(task, picture)


def pasted(task: Task) -> Painted:
    """The reference's object, cut out, fitted into the mask's box with its sides' ratio kept.

    Around it the ground outside of the mask is carried on inwards.
    """
    region = task.region >= 128
    rgb, alpha = task.subject.object_pixels()
    place, box = tight_box(alpha), tight_box(task.region)
    thing = contain(np.dstack([rgb, alpha])[place.slices], box.width, box.height)
    layer = Image.new("RGBA", task.subject.scene.size)
    left = box.x0 + (box.width - thing.shape[1]) // 2
    top = box.y0 + (box.height - thing.shape[0]) // 2
    layer.paste(Image.fromarray(thing, "RGBA"), (left, top))
    ground = Image.fromarray(carried_on(np.asarray(task.subject.scene), task.region))
    ground.paste(layer, (0, 0), layer)
    picture = np.asarray(task.subject.scene).copy()
    picture[region] = np.asarray(ground)[region]
    return Painted(task, picture)


def carried_on(scene: Pixels, region: Pixels) -> Pixels:
    """The scene with its region filled by the nearest pixels outside, smoothed: u8 [H,W,3]."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    inside = region >= 128
    if inside.all():
        return np.full_like(scene, 128)
    rows, columns = distance_transform_edt(inside, return_distances=False, return_indices=True)
    filled = scene[rows, columns].astype(np.float32)
    smooth = gaussian_filter(filled, (SMOOTH, SMOOTH, 0))
    answer = scene.copy()
    answer[inside] = np.clip(smooth[inside].round(), 0, 255).astype(np.uint8)
    return answer


PASTING = "pasting"
BASELINES: dict[str, Callable[[Task], Painted]] = {
    "mean colour": mean_colour,
    PASTING: pasted,
}
