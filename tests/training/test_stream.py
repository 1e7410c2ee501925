"""Batches: the same by index, cut over processes, by category."""

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from a2edit.model.architectures import Architecture, new_checkpoint
from a2edit.runtime.errors import RequestError
from a2edit.training.data import Batch, PairFactory, window_around
from a2edit.training.datasets.source import DrawnScenes
from a2edit.training.scenes import CATEGORIES, Sample, Split
from a2edit.training.stages import FINE, ROUGH, Stage
from a2edit.training.stream import CategoryChoice, Choice, Share, batches


@pytest.fixture(scope="module")
def factory(small: Architecture, tmp_path_factory: pytest.TempPathFactory) -> PairFactory:
    return PairFactory(new_checkpoint(small, tmp_path_factory.mktemp("tokenizers")))


def _assert_equal(one: Batch, two: Batch) -> None:
    for name in one.__slots__:
        assert torch.equal(getattr(one, name), getattr(two, name)), name


def test_batches_do_not_depend_on_where_they_start(factory: PairFactory) -> None:
    choice = Choice(FINE, 2)
    stream = batches(factory, choice, workers=0, group=2)
    fifth = [next(stream) for _ in range(4)][3]
    _assert_equal(fifth, next(batches(factory, choice, first=3, workers=0, group=2)))


@pytest.mark.parametrize("sides", [(), (2, 3)])
@pytest.mark.parametrize("apart", [False, True])
def test_shares_make_up_the_whole_batch(
    factory: PairFactory, sides: tuple[int, ...], apart: bool
) -> None:
    choice = Choice(ROUGH, 4, sides, CategoryChoice(by_batch=apart))
    whole = batches(factory, choice, workers=0, group=2)
    shares = [batches(factory, choice, workers=0, group=2, share=Share(r, 2)) for r in range(2)]
    for _ in range(3):
        batch, parts = next(whole), [next(share) for share in shares]
        joined = Batch(*(torch.cat([getattr(p, n) for p in parts]) for n in Batch.__slots__))
        _assert_equal(batch, joined)


def test_a_category_a_batch(factory: PairFactory) -> None:
    choice = Choice(FINE, 4, (2, 3), CategoryChoice(by_batch=True))
    stream = batches(factory, choice, workers=0, group=4)
    shown = [set(next(stream).category.tolist()) for _ in range(12)]
    assert all(len(categories) == 1 for categories in shown)
    assert len(set.union(*shown)) > 3


def test_categories_can_be_left_out(factory: PairFactory) -> None:
    stage = Stage("a", "base", 1, 8, 1e-3, 0, 0.0, FINE, without=CATEGORIES[2:])
    shown = next(batches(factory, Choice.of(stage), workers=0, group=2)).category.tolist()
    assert set(shown) == {0, 1}
    for without, says in ((("hats",), "hats not among"), (CATEGORIES, "keep at least one")):
        with pytest.raises(RequestError, match=says):
            next(batches(factory, Choice.of(replace(stage, without=without)), workers=0))


def test_windows_hold_the_mask(factory: PairFactory) -> None:
    for index in range(20):
        example = factory.example(index, ROUGH, sides=(2, 3))
        mask = torch.from_numpy(example.arrays["mask"])
        cells = (mask.reshape(4, 16, 8, 16).amax((1, 3)) > 0).flatten().nonzero().flatten()
        assert set(cells.tolist()) <= set(example.window.indices(factory.config).tolist())
        target = example.arrays["mask"][:, 64:]
        assert window_around(target, 4, (2, 3)).side >= window_around(target, 4, (1, 2, 3)).side


def test_a_workers_batches_are_the_same(factory: PairFactory) -> None:
    choice = Choice(FINE, 2)
    with_worker = next(iter(batches(factory, choice, workers=1, group=1)))
    _assert_equal(next(batches(factory, choice, workers=0, group=1)), with_worker)


class _Stuck(DrawnScenes):
    """Draws a first batch, and then something very large."""

    def sample(
        self, index: int, size: int, split: Split = "train", category: str | None = None
    ) -> Sample:
        if index >= 2:
            time.sleep(600)
        return super().sample(index, size, split, category)


def test_a_stream_that_is_dropped_leaves_no_process_behind(
    small: Architecture, tmp_path: Path
) -> None:
    """Its worker, in the middle of a sample, hears no plea to end."""
    factory = PairFactory(new_checkpoint(small, tmp_path), _Stuck())
    before = multiprocessing.active_children()
    stream = batches(factory, Choice(FINE, 2), workers=1, group=1)
    next(stream)
    (worker,) = set(multiprocessing.active_children()) - set(before)
    stream.close()
    worker.join(5)
    assert not worker.is_alive()
