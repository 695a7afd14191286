"""Other light on examples: what changes, what must not, and that masks follow."""

import numpy as np
import pytest
import torch

from lacunar.train import water_augment
from lacunar.train.water_augment import augmented

SHARES = ("PAINTED", "SHADED", "THIN", "CLOUDED", "BLURRED", "STRETCHED")


def example(bands=3, side=48):
    """Dark water on the left third of bright land."""
    water = torch.zeros(1, side, side)
    water[..., : side // 3] = 1
    return torch.where(water > 0, 0.15, 0.6).expand(bands, -1, -1).clone(), water, torch.ones(1, side, side)


@pytest.fixture
def only(monkeypatch):
    """Switch on these effects, and no other."""

    def switch(*names):
        for share in SHARES:
            monkeypatch.setattr(water_augment, share, 1.0 if share in names else 0.0)
        monkeypatch.setattr(water_augment, "UNCHANGED", 1.0)

    return switch


def drawn(count=20, bands=3, *, rgb=True):
    given = example(bands)
    return [augmented(*given, np.random.default_rng(seed), rgb=rgb) for seed in range(count)]


@pytest.mark.parametrize("bands", [3, 6])
def test_examples_stay_finite_and_in_range_and_follow_the_seed(bands):
    for (image, water), (again, _) in zip(
        drawn(bands=bands, rgb=bands == 3), drawn(bands=bands, rgb=bands == 3), strict=True
    ):
        assert image.shape == (bands, 48, 48)
        assert image.isfinite().all()
        assert image.min() >= 0
        assert image.max() <= 2
        assert set(water.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(image, again)


def test_painting_changes_water_and_leaves_the_mask(only):
    only("PAINTED")
    levels = []
    for image, water in drawn(40):
        assert torch.equal(water, example()[1])
        levels.append(float(image[:, :, 4:12].mean()))
    assert max(levels) > 0.6
    assert np.std(levels) > 0.1
    only()
    assert np.std([float(image[:, :, 4:12].mean()) for image, _ in drawn()]) < 0.01


def test_only_pictures_in_true_colour_are_painted(only):
    only("PAINTED")
    assert all(image[:, :, 4:12].mean() < 0.2 for image, _ in drawn(rgb=False))


def test_opaque_cloud_is_bright_land(only):
    only("CLOUDED")
    hidden = 0
    for image, water in drawn():
        lost = (example()[1] > 0) & (water == 0)
        hidden += int(lost.sum())
        assert (water <= example()[1]).all()
        assert (image.mean(dim=0, keepdim=True)[lost] > 0.4).all()
    assert hidden > 500


def test_shadows_darken_and_change_no_mask(only):
    only("SHADED")
    for image, water in drawn():
        assert torch.equal(water, example()[1])
        assert (image <= example()[0] + 0.2).all()  # noise alone may add
        assert float(image.mean()) < float(example()[0].mean())


def test_ratios_between_many_bands_stay_near(only, monkeypatch):
    only()
    monkeypatch.setattr(water_augment, "UNCHANGED", 0.0)
    given = torch.linspace(0.2, 0.7, 6)[:, None, None].expand(-1, 48, 48).clone()
    mask = torch.zeros(1, 48, 48)
    for seed in range(20):
        image, _ = augmented(given, mask, 1 - mask, np.random.default_rng(seed), rgb=False)
        means = image.mean(dim=(1, 2))
        assert (means.diff() > -0.05).all()
