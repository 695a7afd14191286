"""Detail of samples of a face: sharper inside, the same where known, and from the other half where that fits."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from lacunar.metrics import gradient_energy
from lacunar.pictures.face_detail import axis_of, detailed

SIZE, SCALE = 128, 2.0
CENTRE = SIZE / 2 - 0.5


def face(tilt=0.0):
    """Eyes, nose and mouth as smooth spots with fine stripes in the eyes, alike on both sides."""
    rows, cols = np.indices((SIZE, SIZE)) - CENTRE
    turn = np.deg2rad(tilt)
    down, across = rows * np.cos(turn) - cols * np.sin(turn), cols * np.cos(turn) + rows * np.sin(turn)
    spots = [
        (-12, 18, 7, -0.8),
        (-12, -18, 7, -0.8),
        (10, 0, 6, 0.4),
        (26, 8, 7, -0.5),
        (26, -8, 7, -0.5),
        (2, 0, 40, 0.4),
    ]
    luma = sum(h * np.exp(-((down - y) ** 2 + (across - x) ** 2) / (2 * s**2)) for y, x, s, h in spots)
    eyes = np.exp(-((down + 12) ** 2 + (np.abs(across) - 18) ** 2) / 50)
    return np.repeat((luma + 0.4 * eyes * np.sin(np.abs(across)))[..., None], 3, axis=2).astype(np.float32)


def over_the_left_eye():
    missing = np.zeros((SIZE, SIZE), bool)
    missing[38:66, 30:60] = True
    return missing


def soft(truth, missing):
    return np.where(missing[..., None], gaussian_filter(truth, (2 * SCALE, 2 * SCALE, 0)), truth)


@pytest.mark.parametrize("tilt", [0.0, 4.0])
def test_an_eye_is_taken_from_the_other_half_of_a_face_that_looks_straight_ahead(tilt):
    truth, missing = face(tilt), over_the_left_eye()
    sample = soft(truth, missing)
    axis = axis_of(sample, missing, SCALE)
    assert axis is not None
    assert abs(axis.column - CENTRE) < SCALE
    assert abs(axis.tilt + tilt) < 1.5
    (found,) = detailed(sample[None], sample, missing, SCALE)
    inner = np.zeros_like(missing)
    inner[42:62, 34:56] = True
    assert np.abs(found - truth)[inner].mean() < 0.5 * np.abs(sample - truth)[inner].mean()
    np.testing.assert_array_equal(found[~missing], truth[~missing])


def test_a_face_whose_halves_differ_is_sharpened_alone():
    rng = np.random.default_rng(0)
    truth = gaussian_filter(rng.normal(size=(SIZE, SIZE, 3)), (4, 4, 0)).astype(np.float32) * 4
    missing = over_the_left_eye()
    sample = soft(truth, missing)
    assert axis_of(sample, missing, SCALE) is None
    (found,) = detailed(sample[None], sample, missing, SCALE)
    planes = [np.moveaxis(one, 2, 0) for one in (sample, found)]
    before, after = (gradient_energy(one, region=missing) for one in planes)
    assert 1.1 * before < after < 4 * before
    np.testing.assert_array_equal(found[~missing], truth[~missing])
