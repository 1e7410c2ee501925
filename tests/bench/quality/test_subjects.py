"""The subjects keep their promises: kinds of mask on the same object, truths that are no paste."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from a2edit.bench.heldout.objects import OBJECTS
from a2edit.bench.quality.baselines import carried_on, mean_colour, pasted
from a2edit.bench.quality.catalogue import Choice, chosen
from a2edit.bench.quality.cutouts import CUTOUTS, cut_along, cut_out, photograph
from a2edit.bench.quality.dataset import subject_of_sample
from a2edit.bench.quality.drawn import drawn_subjects
from a2edit.bench.quality.measure import Rivals, score
from a2edit.bench.quality.photographs import FEW, photograph_subjects, real_pair
from a2edit.bench.quality.pose import NEAR, RANGES, Pose, posed, put
from a2edit.bench.quality.sides import Painted
from a2edit.bench.quality.subject import COMPARED, MASK_KINDS, Subject, Task, task, tasks
from a2edit.runtime.boxes import tight_box
from a2edit.runtime.errors import RequestError
from a2edit.training.datasets.write import make_sample, write_samples
from a2edit.training.scenes import draw_sample

Paint = Callable[[Task], Painted]

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def drawn() -> list[Subject]:
    return drawn_subjects(1)


@pytest.fixture(scope="module")
def photographs() -> list[Subject]:
    return photograph_subjects(FEW)


def test_every_object_is_drawn_in_three_scenes_and_poses_take_turns(drawn: list[Subject]) -> None:
    everything = drawn_subjects()
    assert len(everything) == 3 * len(OBJECTS)
    assert len({subject.name for subject in everything}) == len(everything)
    assert {subject.thing for subject in drawn} == set(OBJECTS)
    assert {subject.name for subject in drawn} < {subject.name for subject in everything}


def test_subjects_are_the_same_twice(drawn: list[Subject]) -> None:
    again = drawn_subjects(1)[3]
    assert again.truth.tobytes() == drawn[3].truth.tobytes()
    assert again.shape.tobytes() == drawn[3].shape.tobytes()


def test_photographs_are_scenes_and_references(photographs: list[Subject]) -> None:
    assert len(photographs) == FEW
    assert {subject.thing for subject in photographs} > set(CUTOUTS)
    assert {subject.scene.mode for subject in photographs} == {"RGB"}


@pytest.mark.parametrize("name", CUTOUTS)
def test_outlines_lie_inside_their_photograph(name: str) -> None:
    cutout = CUTOUTS[name]
    width, height = photograph(cutout.photograph).size
    assert all(0 <= x <= width and 0 <= y <= height for x, y in cutout.outline)
    thing = np.asarray(cut_out(name))
    assert thing.shape[2] == 4
    assert 0.4 < (thing[..., 3] > 128).mean() < 0.98
    assert (thing[[0, -1], :, 3] > 0).any()


def test_a_missing_photograph_says_what_to_install() -> None:
    with pytest.raises(RequestError, match="--groups drawn"):
        photograph("no_such.png")


def test_masks_mark_the_same_object_more_and_more_loosely(
    drawn: list[Subject], photographs: list[Subject]
) -> None:
    for subject in [*drawn[:4], *photographs[:4]]:
        marked = {kind: task(subject, kind).region >= 128 for kind in COMPARED}
        shape = subject.shape >= 128
        # the runtime means an outline's inside, so small holes are filled
        assert marked["fine"][shape].all()
        assert marked["fine"].sum() < 1.1 * shape.sum()
        assert (marked["rough"] & shape).sum() == shape.sum()
        assert (marked["box"] & shape).sum() == shape.sum()
        assert (marked["scribble"] & shape).sum() > 0.9 * shape.sum()
        assert shape.sum() < marked["rough"].sum() < marked["box"].sum() * 1.5


def test_rough_is_twenty_pixels_at_1024() -> None:
    shape = np.zeros((512, 512), np.uint8)
    shape[200:300, 200:300] = 255
    picture = Image.new("RGB", (512, 512))
    subject = Subject(
        name="square",
        thing="square",
        group="drawn",
        category="furniture",
        scene=picture,
        truth=picture,
        reference=picture,
        reference_mask=shape,
        shape=shape,
        prompt="",
        masks_seed=0,
    )
    box = tight_box(task(subject, "rough").mask)
    assert (box.x0, box.y0, box.x1, box.y1) == (190, 190, 310, 310)


def test_requests_differ_in_their_mask_alone(drawn: list[Subject]) -> None:
    made = list(tasks(drawn[:1], MASK_KINDS))
    assert [one.kind for one in made] == list(MASK_KINDS)
    requests = [one.request(steps=2, seed=5) for one in made]
    assert {(request.prompt, request.steps, request.seed) for request in requests} == {
        (drawn[0].prompt, 2, 5)
    }
    assert [request.mask is None for request in requests] == [kind == "box" for kind in MASK_KINDS]
    with pytest.raises(RequestError, match="fine, rough"):
        task(drawn[0], "round")  # type: ignore[arg-type]  # what a user may write


def test_no_truth_is_its_reference_pasted(
    drawn: list[Subject], photographs: list[Subject], truth: Paint
) -> None:
    """Pasting must have something to lose, in every pose and with the finest mask."""
    rivals = Rivals([*drawn, *photographs])
    for subject in [*drawn[:6], *photographs[:4]]:
        fine = task(subject, "fine")
        paste, right = score("paste", pasted(fine), rivals), score("truth", truth(fine), rivals)
        assert paste.values["psnr_object"] < 26, subject.name
        assert right.values["psnr_object"] == 100
        assert right.values["closer"] == 100
        assert right.values["edges"] > 0.9


def test_poses_turn_and_light(drawn: list[Subject]) -> None:
    thing = Image.new("RGBA", (60, 40), (100, 120, 140, 255))
    plain = np.asarray(posed(thing, Pose()))
    assert plain.shape == (40, 60, 4)
    assert (plain[..., :3] == (100, 120, 140)).all()
    lit = np.asarray(posed(thing, Pose(turn=90, light=(1.1, 1.0, 0.5))))
    assert lit.shape == (60, 40, 4)
    assert (lit[5:-5, 5:-5, :3] == (110, 120, 70)).all()
    rng = np.random.default_rng(0)
    turns = [NEAR.draw(rng).turn for _ in range(20)]
    assert all(2 <= abs(turn) <= 5 for turn in turns)
    assert min(turns) < 0 < max(turns)
    assert len(RANGES) == 3
    assert drawn


def test_an_object_stays_in_the_picture() -> None:
    scene, thing = Image.new("RGB", (100, 80)), Image.new("RGBA", (200, 50), (255, 0, 0, 255))
    picture, shape = put(scene, thing, (0.99, 0.01), 0.9)
    box = tight_box(shape)
    assert box.inside(100, 80)
    assert box.width == 80  # no more than most of the picture
    assert (np.asarray(picture)[shape == 255] == (255, 0, 0)).all()


def test_baselines_change_nothing_outside_and_do_not_look_inside(drawn: list[Subject]) -> None:
    subject = drawn[0]
    scene = np.asarray(subject.scene)
    scribbled = scene.copy()
    region = task(subject, "box").region >= 128
    scribbled[region] = np.random.default_rng(0).integers(0, 256, (int(region.sum()), 3))
    other = replace(subject, scene=Image.fromarray(scribbled))
    for paint in (mean_colour, pasted):
        first, second = paint(task(subject, "box")).picture, paint(task(other, "box")).picture
        assert (first[~region] == scene[~region]).all()
        assert (first[region] == second[region]).all()


def test_ground_is_carried_on() -> None:
    scene = np.zeros((40, 60, 3), np.uint8)
    scene[:, 30:] = 200
    region = np.zeros((40, 60), np.uint8)
    region[10:30, 5:20] = 255
    assert (carried_on(scene, region)[region >= 128] < 20).all()
    region[:] = 255
    assert (carried_on(scene, region) == 128).all()


def test_the_same_object_is_no_rival() -> None:
    """The stereo pair's motorcycle is not held against the other camera's."""
    pair = real_pair()
    other = replace(pair, thing="other", reference=cut_out("cat"))
    rivals = Rivals([pair, replace(pair, name="again"), other])
    assert rivals.verdicts(pair, np.asarray(pair.truth)).tolist() == [True]


def test_choices() -> None:
    few = chosen(Choice(groups=("drawn",), limit=3))
    assert len(few) == 3
    plants = chosen(Choice(groups=("drawn",), categories=("plants",), everything=True))
    assert len(plants) == 6
    assert {subject.category for subject in plants} == {"plants"}
    with pytest.raises(RequestError, match="animals"):
        chosen(Choice(groups=("drawn",), categories=("minerals",)))
    with pytest.raises(RequestError, match="drawn, photographs, scenes"):
        chosen(Choice(groups=("painted",)))


def test_trainings_samples_are_subjects() -> None:
    sample = draw_sample(7, 128, split="held_out", category="vehicles")
    subject = subject_of_sample(sample, "one")
    assert subject.category == "vehicles"
    assert subject.truth.tobytes() == subject.scene.tobytes()
    region = task(subject, "rough").region >= 128
    assert region[sample.scene_mask >= 128].all()
    colours = subject.colours()
    assert colours.shape[1] == 3
    assert len(colours) > 50


def test_a_uniedit_folder_is_scored_in_its_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    mask = np.zeros((90, 120), np.uint8)
    mask[30:60, 40:90] = 255
    made = [
        make_sample(
            id=f"{category}-{number}",
            split="test",
            category=category,
            prompt=f"a thing of {category}",
            pictures={
                "src": rng.integers(0, 256, (90, 120, 3)).astype(np.uint8),
                "src_mask": mask,
                "ref": rng.integers(0, 256, (70, 50, 3)).astype(np.uint8),
                "ref_mask": np.pad(np.full((30, 20), 255, np.uint8), ((20, 20), (15, 15))),
            },
        )
        for category in ("plants", "vehicles")
        for number in range(4)
    ]
    write_samples(tmp_path / "set", made)
    few = chosen(Choice(data=tmp_path / "set"))
    assert [subject.category for subject in few] == ["plants", "vehicles"] * 3
    assert few[0].scene.size == (120, 90)
    assert few[0].truth is few[0].scene
    assert few[0].prompt == "a thing of plants"
    everything = chosen(Choice(data=tmp_path / "set", everything=True, categories=("vehicles",)))
    assert [subject.name for subject in everything] == [f"vehicles-{n}" for n in range(4)]
    assert (task(few[0], "fine").region == mask).all()
    assert len(few[0].colours()) == 16 * 10  # the middle half of 30 x 20, rounded up
    with pytest.raises(RequestError, match="minerals"):
        chosen(Choice(data=tmp_path / "set", categories=("minerals",)))


def test_cutting_softens_the_edge() -> None:
    picture = Image.new("RGB", (50, 50), (10, 200, 30))
    thing = np.asarray(cut_along(picture, ((10, 10), (40, 10), (40, 40), (10, 40)), curved=False))
    levels = np.unique(thing[..., 3])
    assert levels[0] < 128
    assert levels[-1] == 255
    assert len(levels) > 4
