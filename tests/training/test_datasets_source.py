"""Drawn scenes as a source: the same sample for an index, and splits that never meet."""

import numpy as np

from a2edit.training.datasets import DrawnScenes, SampleSource
from a2edit.training.scenes import CATEGORIES, draw_sample


def test_drawn_scenes_are_the_scenes_of_their_seeds() -> None:
    source: SampleSource = DrawnScenes()
    assert source.categories == CATEGORIES
    first = source.sample(5, 64, category="plants")
    np.testing.assert_array_equal(first.scene, draw_sample(5, 64, category="plants").scene)
    assert first.scene.shape == (64, 64, 3)
    assert first.category == "plants"


def test_a_held_out_index_is_another_seed() -> None:
    source = DrawnScenes()
    seen, kept = source.sample(3, 64), source.sample(3, 64, "held_out")
    assert seen.seed != kept.seed
