"""The C++ host against the Python runtime: twenty edits with the model that ships."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2edit import Editor, EditRequest
from a2edit.bench.heldout.cases import Case, drawn_cases
from a2edit.bench.host_library import HostEditor, HostError
from a2edit.runtime.boxes import tight_box
from a2edit.runtime.errors import RequestError
from a2edit.runtime.images import Pixels

pytestmark = pytest.mark.slow
STEPS = 4
SCALES = (0.4, 1.0, 2.5)  # of the drawn scenes, which are some 500 pixels wide
PROMPTS = ("", "a red chair", "Ein Stuhl, größer als „vorher“ 椅子 🪑", "chair " * 60)


def _scaled(case: Case, scale: float) -> tuple[Image.Image, Pixels]:
    size = round(case.scene.width * scale), round(case.scene.height * scale)
    mask = Image.fromarray(case.mask).resize(size, Image.Resampling.BILINEAR)
    return case.scene.resize(size, Image.Resampling.BICUBIC), np.array(mask)


def _translucent(picture: Image.Image) -> Image.Image:
    """With an alpha that falls from left to right."""
    ramp = np.tile(np.linspace(255, 90, picture.width), (picture.height, 1)).astype(np.uint8)
    made = picture.convert("RGBA")
    made.putalpha(Image.fromarray(ramp))
    return made


def _cut_out(mask: Pixels) -> Image.Image:
    """The mask as transparency: what other editors write."""
    return Image.fromarray(np.dstack([np.zeros((*mask.shape, 3), np.uint8), 255 - mask]))


def _request(place: int, case: Case) -> EditRequest:
    scene, mask = _scaled(case, SCALES[place % 3])
    request = EditRequest(
        image=_translucent(scene) if place % 5 == 1 else scene,
        mask=_cut_out(mask) if place % 5 == 2 else mask,
        reference=case.reference,
        prompt=PROMPTS[place % 4],
        seed=place * 2**59,
        steps=STEPS,
    )
    if place % 5 == 3:  # the region by a box alone
        return replace(request, mask=None, boxes=[tight_box(mask)])
    if place % 5 == 4:  # and by both
        box = tight_box(mask)
        return replace(request, boxes=[(box.x0 // 2, box.y0 // 2, box.x1, (box.y0 + box.y1) // 2)])
    return request


def _requests(folder: Path) -> Iterator[tuple[str, EditRequest]]:
    cases = drawn_cases()
    for place, case in enumerate(cases):
        yield f"{place} {case.name}", _request(place, case)
    first = cases[0]
    scene, mask = _scaled(first, 1.0)
    known = EditRequest(image=scene, mask=mask, reference=first.reference, steps=STEPS)
    scene.save(folder / "scene.jpg", quality=90)
    Image.fromarray(mask).save(folder / "mask.png")
    yield "files", replace(known, image=folder / "scene.jpg", mask=folder / "mask.png")
    half = np.array(Image.fromarray(mask).resize((mask.shape[1] // 2, mask.shape[0] // 2)))
    yield "a mask of another size", replace(known, mask=half, resize_mask=True)
    opaque = first.thing.getchannel("A")
    shown = first.thing.convert("RGB")
    yield "a reference with a mask", replace(known, reference=shown, reference_mask=opaque)
    square = scene.resize((256, 256))
    hole = np.zeros((256, 256), np.uint8)
    hole[60:200, 40:210] = 255
    yield "a square of the working size", replace(known, image=square, mask=hole)


def _psnr(found: Pixels, expected: Pixels) -> float:
    error = np.square(found.astype(np.float64) - expected).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_both_hosts_give_the_same_edit(bundle: Path, cpp_build: Path, tmp_path: Path) -> None:
    count = 0
    with Editor.open(bundle) as python, HostEditor(cpp_build / "liba2edit.so", bundle) as cpp:
        for name, request in _requests(tmp_path):
            expected, found = python.edit(request), cpp.edit(request)
            assert (found.route, found.supply) == (expected.route, expected.supply), name
            assert found.predicted_error == pytest.approx(expected.predicted_error, rel=1e-9), name
            np.testing.assert_array_equal(found.gate_weights, expected.gate_weights)
            assert found.window == expected.window, name
            assert found.warnings == expected.warnings, name
            picture = np.asarray(expected.image)
            assert found.image.shape == picture.shape, name
            assert _psnr(found.image, picture) >= 45, name
            if expected.supply == "static" or "square" in name:
                np.testing.assert_array_equal(found.image, picture, name)
            count += 1
    assert count == 20


def test_both_refuse_in_the_same_words(bundle: Path, cpp_build: Path) -> None:
    scene = np.zeros((90, 120, 3), np.uint8)
    mask = np.full((90, 120), 255, np.uint8)
    known = EditRequest(image=scene, mask=mask, reference=scene)
    wrong = {
        "another size": replace(known, mask=mask[:50]),
        "an empty mask": replace(known, mask=mask * 0),
        "a box outside": replace(known, boxes=[(0, 0, 500, 20)]),
        "no such size": replace(known, size=48),
        "no such file": replace(known, image="nowhere.png"),
    }
    with Editor.open(bundle) as python, HostEditor(cpp_build / "liba2edit.so", bundle) as cpp:
        for name, request in wrong.items():
            with pytest.raises(RequestError) as said:
                python.edit(request)
            with pytest.raises(HostError) as heard:
                cpp.edit(request)
            assert str(heard.value) == str(said.value), name


def test_many_edits_in_any_order_repeat(bundle: Path, cpp_build: Path) -> None:
    """Weight sets come and go within a budget, and what they give stays the same."""
    requests = [_request(place, case) for place, case in enumerate(drawn_cases()[:4])]
    with HostEditor(cpp_build / "liba2edit.so", bundle) as cpp:
        first = [cpp.edit(request).image for request in requests]
        order = [*random.Random(0).sample(range(4), 4), 0, 3]
        for place in order:
            np.testing.assert_array_equal(cpp.edit(requests[place]).image, first[place])
