"""Other light on examples: what changes, what must not, and that masks follow."""

import numpy as np
import pytest
import torch

from lacunar.sensors.bands import BANDS, RGB
from lacunar.train import water_augment
from lacunar.train.water_augment import CLOUD, SHADOW, SNOW, augmented

SHARES = ("PAINTED", "SNOWY", "SHADED", "THIN", "CLOUDED", "BLURRED", "STRETCHED")


def example(bands=3, side=48):
    """Dark water on the left third of bright land of no known cover."""
    water = torch.zeros(1, side, side)
    water[..., : side // 3] = 1
    return (
        torch.where(water > 0, 0.15, 0.6).expand(bands, -1, -1).clone(),
        torch.cat([water, -torch.ones_like(water)]),
        torch.ones(1, side, side),
    )


@pytest.fixture
def only(monkeypatch):
    """Switch on these effects, and no other."""

    def switch(*names):
        for share in SHARES:
            monkeypatch.setattr(water_augment, share, 1.0 if share in names else 0.0)
        monkeypatch.setattr(water_augment, "UNCHANGED", 1.0)

    return switch


def drawn(count=20, names=RGB):
    """Bands, water and cover of examples in other light."""
    given = example(len(names))
    pairs = [augmented(*given, np.random.default_rng(seed), names=names) for seed in range(count)]
    return [(image, labels[:1], labels[1:]) for image, labels in pairs]


LAND, WATER = example()[0], example()[1][:1]


@pytest.mark.parametrize("names", [RGB, BANDS])
def test_examples_stay_finite_and_in_range_and_follow_the_seed(names):
    for (image, water, cover), (again, *_) in zip(drawn(names=names), drawn(names=names), strict=True):
        assert image.shape == (len(names), 48, 48)
        assert image.isfinite().all()
        assert image.min() >= 0
        assert image.max() <= 2
        assert set(water.unique().tolist()) <= {0.0, 1.0}
        assert set(cover.unique().tolist()) <= {-1.0, CLOUD, SHADOW, SNOW}
        assert torch.equal(image, again)


def test_painting_changes_water_and_leaves_the_mask(only):
    only("PAINTED")
    levels = []
    for image, water, _ in drawn(40):
        assert torch.equal(water, WATER)
        levels.append(float(image[:, :, 4:12].mean()))
    assert max(levels) > 0.6
    assert np.std(levels) > 0.1
    only()
    assert np.std([float(image[:, :, 4:12].mean()) for image, *_ in drawn()]) < 0.01


def test_only_pictures_in_true_colour_are_painted(only):
    only("PAINTED")
    assert all(image[:, :, 4:12].mean() < 0.2 for image, *_ in drawn(names=("nir", "red", "green")))


def test_opaque_cloud_is_bright_and_no_water_and_throws_a_shadow(only):
    only("CLOUDED")
    hidden = shaded = 0
    for image, water, cover in drawn():
        lost = (WATER > 0) & (water == 0)
        hidden += int(lost.sum())
        assert (water <= WATER).all()
        assert (cover[lost] == CLOUD).all()
        assert (image.mean(dim=0, keepdim=True)[lost] > 0.25).all()
        dark = image.mean(dim=0, keepdim=True)[(cover == SHADOW) & (WATER == 0)]
        shaded += dark.numel()
        assert (dark < 0.6).all()
    assert hidden > 500
    assert shaded > 200


def test_clouds_absorb_in_the_short_wave_infrared(only):
    only("CLOUDED")
    ratios = []
    for image, _, cover in drawn(names=BANDS):
        cloud = (cover == CLOUD)[0]
        if cloud.sum() > 50:
            ratios.append(float(image[5, cloud].mean() / image[1, cloud].mean()))
    assert np.mean(ratios) < 0.8
    assert max(ratios) < 1.2


def test_snow_is_bright_but_in_the_short_wave_infrared(only):
    only("SNOWY")
    white = 0
    for image, water, cover in drawn(names=BANDS):
        sure = (cover == SNOW)[0]
        white += int(sure.sum())
        assert (water[0][sure] == 0).all()
        if sure.sum() > 50:
            assert image[:4, sure].mean() > 2 * image[4:, sure].mean()
    assert white > 5000


def test_shadows_darken_land_and_change_no_water(only):
    only("SHADED")
    shaded = 0
    for image, water, cover in drawn():
        assert torch.equal(water, WATER)
        assert (image <= LAND + 0.2).all()  # noise alone may add
        assert float(image.mean()) < float(LAND.mean())
        under = ((cover == SHADOW) & (WATER == 0))[0]
        shaded += int(under.sum())
        assert (image.mean(dim=0)[under] < 0.55).all()
    assert shaded > 2000


def test_ratios_between_many_bands_stay_near(only, monkeypatch):
    only()
    monkeypatch.setattr(water_augment, "UNCHANGED", 0.0)
    given = torch.linspace(0.2, 0.7, 6)[:, None, None].expand(-1, 48, 48).clone()
    labels = torch.zeros(2, 48, 48)
    for seed in range(20):
        image, _ = augmented(given, labels, torch.ones(1, 48, 48), np.random.default_rng(seed), names=BANDS)
        means = image.mean(dim=(1, 2))
        assert (means.diff() > -0.05).all()
