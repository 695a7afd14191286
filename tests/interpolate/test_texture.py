"""The texture of a field, told from its variogram."""

import numpy as np
import pytest
from scipy import fft

from lacunar.interpolate.texture import texture_of


def drawn(reach, smoothness, *, side=256, seed=0):
    """A draw of the unit field, of a raster that has no missing pixel."""
    rows = 2 - 2 * np.cos(np.pi * np.arange(side) / side)
    eigenvalues = rows[:, None] + rows
    noise = fft.dctn(np.random.default_rng(seed).standard_normal((side, side)), norm="ortho")
    return fft.idctn(noise / np.sqrt((reach**-2 + eigenvalues) * (1 + smoothness * eigenvalues)), norm="ortho")


@pytest.mark.parametrize(("reach", "smoothness"), [(8.0, 0.0), (16.0, 4.0), (32.0, 64.0)])
def test_the_texture_of_a_draw_is_found_again(reach, smoothness):
    found = texture_of([300.0 + 2.0 * drawn(reach, smoothness)])
    assert found is not None
    assert reach / 2 <= found.correlation_range <= 2 * reach  # the next candidate at most
    assert smoothness / 2 <= found.smoothness <= max(0.3, 2 * smoothness)
    assert found.scale == pytest.approx(2.0, rel=0.35)


def test_too_few_pixels_or_none_that_differ_have_no_texture():
    assert texture_of([]) is None
    assert texture_of([np.zeros((64, 64))]) is None
    assert texture_of([np.where(np.arange(400).reshape(20, 20) < 30, 1.0, np.nan)]) is None
