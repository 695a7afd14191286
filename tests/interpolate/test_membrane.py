"""The smooth fill that a picture's diffusion starts from, against the Laplace equation solved exactly."""

import numpy as np
import pytest

from lacunar.errors import LacunarError
from lacunar.geo.missing_shapes import occlusion
from lacunar.interpolate.classical import fill
from lacunar.interpolate.membrane import membrane_fill

TOLERANCE = 0.04  # of the range: coarse grids blur the border of a wide gap


@pytest.fixture
def picture():
    rows, cols = np.indices((64, 64)) / 64
    return np.stack([np.sin(3 * rows + cols), rows * cols, np.cos(5 * cols)], axis=2)


@pytest.mark.parametrize("name", ["rectangle", "strokes", "half"])
def test_it_is_near_the_exact_membrane(picture, name):
    gap = occlusion(name, (64, 64), 0.3, rng=np.random.default_rng(1))
    hidden = np.where(gap[..., None], np.nan, picture)
    exact = np.stack([fill("laplace", hidden[..., channel], ~gap) for channel in range(3)], axis=2)
    base = membrane_fill(hidden, gap)
    assert np.abs(base - exact)[gap].mean() < TOLERANCE * np.ptp(picture)


def test_known_pixels_are_kept_and_the_gap_stays_between_them(picture):
    gap = occlusion("blobs", (64, 64), 0.5, rng=np.random.default_rng(2))
    base = membrane_fill(np.where(gap[..., None], 99.0, picture), gap)
    known = picture[~gap].astype(np.float32)
    assert (base[~gap] == known).all()
    assert (base >= known.min(axis=0) - 1e-6).all()
    assert (base <= known.max(axis=0) + 1e-6).all()


@pytest.mark.parametrize("shape", [(1, 7), (5, 3), (37, 64)])
def test_any_size_and_any_number_of_channels(shape):
    gap = np.zeros(shape, dtype=bool)
    gap[:, 1:-1] = True
    assert np.allclose(membrane_fill(np.full((*shape, 1), 0.25), gap), 0.25)


def test_without_known_pixels_it_is_zero_and_without_a_gap_the_picture(picture):
    nothing = np.zeros((64, 64), dtype=bool)
    assert not membrane_fill(picture, ~nothing).any()
    assert (membrane_fill(picture, nothing) == picture.astype(np.float32)).all()


def test_shapes_must_fit(picture):
    with pytest.raises(LacunarError, match="wanted"):
        membrane_fill(picture, np.zeros((3, 3), dtype=bool))
