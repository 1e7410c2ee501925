"""Likeness by zone is the textbook's, and a change counts where it is."""

import numpy as np
import pytest

from a2edit.export.pixels import BAND, PSNR_MOST, Pixels, Zones, by_zone, ssim_map

HEIGHT, WIDTH = 96, 120


def test_zones_part_the_picture(region: Pixels) -> None:
    zones = Zones.of(region)
    total = zones.mask.astype(int) + zones.band + zones.outside
    assert (total == 1).all()
    assert zones.mask.sum() == 30 * 40
    assert zones.band.sum() == (30 + 2 * BAND) * (40 + 2 * BAND) - 30 * 40


def test_zones_keep_to_what_was_seen(region: Pixels) -> None:
    seen = np.zeros(region.shape, bool)
    seen[:, :60] = True
    zones = Zones.of(region, seen)
    assert ((zones.mask | zones.band | zones.outside) == seen).all()


def test_a_change_is_counted_in_its_own_zone(picture: Pixels, region: Pixels) -> None:
    edited = picture.copy()
    edited[region >= 128] ^= 16
    figures = by_zone(edited, picture, Zones.of(region))
    assert figures["mask"].psnr_db == pytest.approx(20 * np.log10(255 / 16))
    assert figures["mask"].l1 == pytest.approx(16)
    for name in ("band", "outside"):
        assert figures[name].psnr_db == PSNR_MOST
        assert figures[name].l1 == 0
    assert figures["mask"].ssim < figures["band"].ssim <= 1
    assert figures["outside"].ssim == pytest.approx(1)


def test_a_part_has_the_same_figures_as_within_the_whole(picture: Pixels, region: Pixels) -> None:
    """SSIM is taken around the zones that are asked for: that must not be seen."""
    noise = np.random.default_rng(2).integers(0, 30, picture.shape).astype(np.uint8)
    edited = picture // 2 + noise
    zones = Zones.of(region)
    part = by_zone(edited, picture, zones, ("mask",))["mask"]
    assert part.ssim == pytest.approx(float(ssim_map(edited, picture)[zones.mask].mean()))
    assert part.psnr_db == pytest.approx(by_zone(edited, picture, zones)["mask"].psnr_db)


def test_ssim_over_everything_is_scikit_images(picture: Pixels) -> None:
    from skimage.metrics import structural_similarity

    noise = np.random.default_rng(1).integers(-20, 21, picture.shape)
    noisy = np.clip(picture + noise, 0, 255).astype(np.uint8)
    everything = np.full(picture.shape[:2], 255, np.uint8)
    whole = by_zone(noisy, picture, Zones.of(everything))["mask"]
    expected = structural_similarity(noisy, picture, channel_axis=2, full=True)[1].mean()
    assert whole.ssim == pytest.approx(expected)
    assert ssim_map(picture, picture).min() == pytest.approx(1)


def test_an_empty_zone_has_no_figures(picture: Pixels) -> None:
    nothing = np.zeros(picture.shape[:2], bool)
    assert by_zone(picture, picture, Zones(nothing, nothing, nothing)) == {}
    everything = np.full(picture.shape[:2], 255, np.uint8)
    assert set(by_zone(picture, picture, Zones.of(everything))) == {"mask"}
