"""The simulated scene: its statistics, its physics, and where its shadows fall."""

import math

import numpy as np
import pytest
from scipy import ndimage

from lacunar.errors import ProductError
from lacunar.sensors.synthetic_scene import Sun, make_clouds, make_scene, power_law_field

SUN = Sun(azimuth=62.1, elevation=53.2)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def land():
    return make_scene(256, rng(), SUN)


def spectral_slope(field, first, last):
    """Exponent of the radially averaged power spectrum between two wavenumbers."""
    size = field.shape[0]
    window = np.outer(np.hanning(size), np.hanning(size))
    power = np.abs(np.fft.fft2((field - field.mean()) * window)) ** 2
    wavenumber = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size))) * size
    ring = np.round(wavenumber).astype(int).ravel()
    radial = np.bincount(ring, power.ravel()) / np.bincount(ring)
    k = np.arange(first, last)
    return -np.polyfit(np.log(k), np.log(radial[first:last]), 1)[0]


@pytest.mark.parametrize("exponent", [2.0, 3.0, 4.0])
def test_field_has_the_asked_power_law(exponent):
    slopes = [spectral_slope(power_law_field(256, rng(seed), exponent=exponent, outer_scale=1e6), 6, 60)
              for seed in range(4)]  # fmt: skip
    assert np.mean(slopes) == pytest.approx(exponent, abs=0.2)


def test_field_is_standardised_and_seeded():
    field = power_law_field(100, rng(5), exponent=3.0)
    assert field.mean() == pytest.approx(0.0, abs=1e-12)
    assert field.std() == pytest.approx(1.0)
    np.testing.assert_array_equal(field, power_law_field(100, rng(5), exponent=3.0))
    assert np.abs(field - power_law_field(100, rng(6), exponent=3.0)).max() > 0.5


def test_scales_bound_the_power():
    broad = power_law_field(256, rng(1), exponent=3.0)
    smooth = power_law_field(256, rng(1), exponent=3.0, inner_scale=300.0)
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.5 * np.abs(np.diff(broad, axis=0)).mean()


def test_lakes_are_flat_low_and_of_one_temperature(land):
    assert 0.03 < land.water.mean() < 0.12
    assert np.ptp(land.elevation[land.water]) == 0.0
    assert land.elevation[land.water].max() <= land.elevation.min() + 1e-9
    assert land.temperature[land.water].std() < 1.0
    assert land.temperature[~land.water].std() > 3.0
    labels, count = ndimage.label(land.water)
    assert np.bincount(labels.ravel())[1:].min() >= 40
    assert count >= 1


def test_snow_is_high_cold_and_without_leaves(land):
    assert 0 < land.snow.mean() < 0.03
    assert land.elevation[land.snow].min() > np.quantile(land.elevation, 0.9)
    assert abs(land.temperature[land.snow].mean() - 273.0) < 1.0
    assert not land.cover[land.snow | land.water].any()


def test_temperature_falls_with_height_and_leaves_and_rises_with_sun(land):
    ground = ~land.water & ~land.snow
    bare, green = ground & (land.cover < 0.3), ground & (land.cover > 0.8)
    assert land.temperature[bare].mean() > land.temperature[green].mean() + 5.0
    # Multiple regression over the forest: lapse rate near 6.5 K/km, warmer where the slope faces the sun.
    columns = [np.ones(green.sum()), land.elevation[green], land.light[green], land.cover[green]]
    slope = np.linalg.lstsq(np.stack(columns, axis=1), land.temperature[green], rcond=None)[0]
    assert slope[1] == pytest.approx(-0.0065, abs=0.002)
    assert slope[2] > 0.5


def test_light_is_one_on_flat_ground_and_falls_on_slopes_that_face_away(land):
    flat = ndimage.binary_erosion(land.water, iterations=5)
    np.testing.assert_allclose(land.light[flat], 1.0, atol=1e-3)
    # The sun stands in the east-north-east: ground that falls towards the east is lit.
    falls_east = -np.gradient(ndimage.gaussian_filter(land.elevation, 0.7), 30.0, axis=1)
    assert np.corrcoef(falls_east.ravel(), land.light.ravel())[0, 1] > 0.7


def test_borders_between_fields_are_sharp(land):
    # A row of farmland steps from field to field: the biggest steps are many times the median one.
    steps = np.abs(np.diff(land.cover, axis=1))[~land.water[:, 1:]]
    assert np.quantile(steps, 0.99) > 6 * np.median(steps)
    assert land.town.any()


@pytest.mark.parametrize("fraction", [0.05, 0.22, 0.5, 0.9])
def test_clouds_take_the_asked_share(fraction):
    clouds = make_clouds(128, rng(2), SUN, fraction=fraction)
    assert clouds.gap.mean() == pytest.approx(fraction, abs=0.003)
    assert not (clouds.cloud & (clouds.dilated | clouds.shadow)).any()


def test_no_clouds():
    clouds = make_clouds(64, rng(), SUN, fraction=0.0)
    assert not clouds.gap.any()
    assert not clouds.opacity.any()


def test_opacity_stays_under_clouds_and_their_rim():
    clouds = make_clouds(128, rng(2), SUN, fraction=0.3)
    assert not clouds.opacity[~(clouds.cloud | clouds.dilated)].any()
    assert clouds.opacity[clouds.cloud].min() > 0.3 > clouds.opacity[clouds.dilated].mean()
    assert clouds.opacity.max() <= 1.0


@pytest.mark.parametrize("azimuth", [0.0, 62.1, 90.0, 150.0, 270.0])
def test_shadows_fall_away_from_the_sun(azimuth):
    sun = Sun(azimuth=azimuth, elevation=60.0)
    clouds = make_clouds(256, rng(4), sun, fraction=0.2)
    reach = 900.0 / math.tan(math.radians(60.0)) / 30.0
    down, right = reach * math.cos(math.radians(azimuth)), -reach * math.sin(math.radians(azimuth))

    def overlap(rows, columns):
        return (ndimage.shift(clouds.cloud.astype(float), (rows, columns), order=0) * clouds.shadow).sum()

    assert overlap(down, right) > 0.8 * clouds.shadow.sum()
    assert overlap(down, right) > 2.0 * overlap(-down, -right)


@pytest.mark.parametrize("fraction", [-0.1, 0.95])
def test_fraction_out_of_range(fraction):
    with pytest.raises(ProductError, match=rf"cloud fraction {fraction}: wanted 0 to 0.9"):
        make_clouds(64, rng(), SUN, fraction=fraction)
