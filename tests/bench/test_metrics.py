"""The measures move the way they should, and can fail."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from a2edit.bench.metrics import (
    colour_histogram,
    histogram_distance,
    identical_outside,
    middle,
    middle_colours,
    own_is_closer,
    psnr,
)
from a2edit.export.pixels import PSNR_MOST, Pixels
from a2edit.runtime.boxes import Box

RED, GREEN, BLUE = (200, 30, 30), (30, 180, 60), (40, 60, 210)


def speckled(colour: tuple[int, int, int], seed: int, spread: float = 20.0) -> Pixels:
    """400 pixels around a colour: u8 [400,3]."""
    noise = np.random.default_rng(seed).normal(0, spread, (400, 3))
    return np.clip(np.asarray(colour) + noise, 0, 255).astype(np.uint8)


def test_a_histogram_sums_to_one_and_knows_itself() -> None:
    histogram = colour_histogram(speckled(RED, 0))
    assert histogram.sum() == pytest.approx(1)
    assert histogram_distance(histogram, histogram) == pytest.approx(0, abs=1e-7)


def test_distance_is_one_for_colours_apart() -> None:
    black, white = np.zeros((4, 3), np.uint8), np.full((4, 3), 255, np.uint8)
    distance = histogram_distance(colour_histogram(black), colour_histogram(white))
    assert distance == pytest.approx(1)


@given(st.integers(0, 254), st.integers(0, 2))
def test_one_grey_level_is_a_small_step_wherever_it_falls(level: int, channel: int) -> None:
    """No bin edge makes two neighbouring shades strangers."""
    first = np.full((1, 3), 100, np.uint8)
    second = first.copy()
    first[0, channel], second[0, channel] = level, level + 1
    distance = histogram_distance(colour_histogram(first), colour_histogram(second))
    assert distance < 0.2


def test_own_reference_is_closer_and_swapped_references_are_not() -> None:
    references = [speckled(colour, seed) for seed, colour in enumerate((RED, GREEN, BLUE))]
    edits = [speckled(colour, 9 + seed) for seed, colour in enumerate((RED, GREEN, BLUE))]
    assert np.concatenate(own_is_closer(edits, references)).all()
    swapped = own_is_closer(edits, [references[1], references[0], references[2]])
    assert not swapped[0].all()
    assert not swapped[1].all()
    assert swapped[2].all()


def test_edits_that_ignore_their_reference_win_half_of_the_comparisons() -> None:
    references = [speckled(colour, seed) for seed, colour in enumerate((RED, GREEN, BLUE))]
    grey = [speckled((120, 120, 120), 5)] * 3
    assert np.concatenate(own_is_closer(grey, references)).mean() == pytest.approx(0.5)


def test_the_same_object_again_is_no_comparison() -> None:
    red, blue = speckled(RED, 0), speckled(BLUE, 1)
    verdicts = own_is_closer([red, red, blue], [red, red, blue])
    assert [len(verdict) for verdict in verdicts] == [1, 1, 2]


def test_one_case_alone_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="two or more"):
        own_is_closer([speckled(RED, 0)], [speckled(RED, 0)])


def test_the_middle_leaves_the_rough_rim_out() -> None:
    assert middle(Box(10, 20, 50, 40)) == Box(20, 25, 40, 35)
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[:] = GREEN
    picture[15:25, 15:25] = RED
    region = np.zeros((40, 40), np.uint8)
    region[10:30, 10:30] = 255
    assert (middle_colours(picture, region) == RED).all()


def test_a_ring_gives_its_own_pixels() -> None:
    region = np.full((40, 40), 255, np.uint8)
    region[5:35, 5:35] = 0
    assert len(middle_colours(np.zeros((40, 40, 3), np.uint8), region)) == 40 * 40 - 30 * 30


def test_one_changed_pixel_outside_is_seen_and_one_inside_is_not() -> None:
    source = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    region = np.zeros((60, 80), np.uint8)
    region[20:40, 30:50] = 255
    edited = source.copy()
    edited[30, 40] ^= 255
    edited[15, 40] ^= 1  # inside the seam
    assert identical_outside(source, edited, region, reach=6) == 1
    edited[5, 5, 2] ^= 1
    outside = 60 * 80 - 32 * 32
    assert identical_outside(source, edited, region, reach=6) == pytest.approx(1 - 1 / outside)


def test_identical_outside_refuses_what_it_cannot_judge() -> None:
    source = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(ValueError, match="nothing is outside"):
        identical_outside(source, source, np.full((20, 20), 255, np.uint8))
    with pytest.raises(ValueError, match="its source"):
        identical_outside(source, source[1:], np.zeros((20, 20), np.uint8))


def test_psnr_is_textbook_and_counts_the_region_only() -> None:
    first = np.zeros((10, 10, 3), np.uint8)
    second = first.copy()
    second[:5] = 10
    region = np.zeros((10, 10), np.uint8)
    region[:5] = 255
    assert psnr(first, second, region) == pytest.approx(20 * np.log10(255 / 10))
    assert psnr(first, second, 255 - region) == PSNR_MOST
