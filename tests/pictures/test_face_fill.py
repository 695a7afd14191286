"""A face filled in its frame and put back: exact where the model's answer is known, and every refusal."""

from dataclasses import replace

import numpy as np
import pytest

from gap_models import GaussianResidual, gap_model
from lacunar.diffusion.samplers import PRESETS
from lacunar.errors import ModelError, PictureError
from lacunar.geo.picture import Picture
from lacunar.interpolate.membrane import RESIDUAL_SIGMA, membrane_fill
from lacunar.interpolate.pca_prior import GaussianPrior
from lacunar.pictures.face_fill import fill_face
from lacunar.pictures.face_frame import Face
from lacunar.pictures.fill import Drawing, to_model
from lacunar.pictures.missing_regions import MAX_WINDOW
from picture_models import GaussianPicture, picture_model

TWO = Drawing(PRESETS["fast"], 2)
EXACT = picture_model(GaussianPicture(variance=1e-8))
FACE = Face(100.0, 90.0, 128.0, 15.0)


def photograph(shape=(180, 200)):
    rows, cols = np.indices(shape)
    waves = [120 + 40 * np.sin(rows / 30 + k) + 30 * np.cos(cols / 40 - k) for k in range(3)]
    return Picture(np.dstack(waves).astype(np.uint8))


def hidden(rows=slice(80, 110), cols=slice(85, 115), shape=(180, 200)):
    missing = np.zeros(shape, bool)
    missing[rows, cols] = True
    return missing


def laid(picture, regions):
    """The mean of the filled regions in a picture of NaN."""
    whole = np.full((*picture.shape, 3), np.nan)
    for region in regions:
        whole[region.window.slices][region.inside] = region.mean
    return whole


def test_a_model_that_adds_nothing_leaves_a_smooth_fill_of_the_photograph():
    """At full resolution, not the frame's 64 pixels enlarged: this is why there is no seam."""
    given, missing = photograph(), hidden()
    regions = fill_face(given, missing, FACE, picture_model(GaussianPicture(variance=1e-8)), None, TWO)
    base = membrane_fill(to_model(given.colours, 255), missing)
    found = laid(given, regions)
    np.testing.assert_array_equal(np.isfinite(found[..., 0]), missing)
    np.testing.assert_allclose(found[missing], base[missing], atol=0.02)


def test_what_the_model_adds_comes_to_its_place():
    mean = np.array([0.5, -0.5, 0.2])
    given, missing = photograph(), hidden(slice(55, 125), slice(65, 135))
    regions = fill_face(given, missing, FACE, picture_model(GaussianPicture(mean=mean, variance=1e-6)), None, TWO)
    added = laid(given, regions) - membrane_fill(to_model(given.colours, 255), missing)
    # the field keeps the step at the border small, and leaves the middle to the model
    share = added[80:100, 90:110].mean(axis=(0, 1)) / (RESIDUAL_SIGMA * mean)
    assert ((share > 0.5) & (share < 1.05)).all()
    assert np.abs(added[55, 65:135]).mean() < 0.3 * RESIDUAL_SIGMA * np.abs(mean).mean()


def test_outside_the_frame_the_picture_model_goes_on():
    given, missing = photograph(), hidden() | hidden(slice(2, 12), slice(2, 20))
    steps = []
    regions = fill_face(given, missing, FACE, EXACT, EXACT, TWO, callback=lambda *told: steps.append(told))
    assert len(regions) == 2
    np.testing.assert_array_equal(np.isfinite(laid(given, regions)[..., 0]), missing)
    assert steps[-1][0] == steps[-1][1]
    with pytest.raises(PictureError, match="180 pixels of the mask lie outside the face's frame"):
        fill_face(given, missing, FACE, EXACT, None, TWO)


@pytest.mark.parametrize(
    ("face", "missing", "message"),
    [
        (Face(30.0, 30.0, 20.0), hidden(), "the mask does not touch the face"),
        (Face(100.0, 95.0, 20.0), hidden(), "the mask hides all of the face"),
    ],
)
def test_refusals(face, missing, message):
    with pytest.raises(PictureError, match=message):
        fill_face(photograph(), missing, face, picture_model(GaussianPicture()), picture_model(GaussianPicture()), TWO)


def test_a_model_of_temperatures():
    with pytest.raises(ModelError, match="choose a model of faces or pictures"):
        fill_face(photograph(), hidden(), FACE, gap_model(GaussianResidual()), None, TWO)


def test_a_face_too_large_for_the_memory():
    side = int(MAX_WINDOW**0.5) + 1
    picture, missing = Picture(np.zeros((side, side, 1), np.uint8)), hidden(shape=(side, side))
    for face in (Face(100.0, 95.0, 2.0 * side), Face.whole((side, side))):
        with pytest.raises(PictureError, match=f"the face spans {side} x {side} pixels .* at most {MAX_WINDOW:,}"):
            fill_face(picture, missing, face, EXACT, None, TWO)


def test_a_face_model_refines_no_picture():
    prior = GaussianPrior(np.zeros((64, 64, 3), np.float32), np.eye(1, 64 * 64 * 3), np.ones(1), 1.0)
    faces = replace(picture_model(GaussianPicture(), name="faces"), prior=prior)
    with pytest.raises(ModelError, match="model faces knows aligned faces alone, wanted a model of any picture"):
        fill_face(photograph(), hidden(), FACE, EXACT, faces, TWO)


def test_slopes_go_on_from_the_border_where_a_membrane_lies_flat():
    given, missing = photograph(), hidden()
    found = laid(given, fill_face(given, missing, FACE, EXACT, None, TWO))
    truth = to_model(given.colours, 255)
    errors = [np.abs(fill - truth)[missing].mean() for fill in (found, membrane_fill(truth, missing))]
    assert errors[0] < 0.9 * errors[1]
    border = missing & ~hidden(slice(82, 108), slice(87, 113))
    assert np.abs(found - truth)[border].max() < 0.03


def test_the_mean_of_samples_gets_no_detail():
    """It is what the field completes; the preset that gives the mean alone stays as it is."""
    given, missing = photograph(), hidden(slice(55, 125), slice(65, 135))
    (region,) = fill_face(given, missing, FACE, EXACT, None, Drawing(PRESETS["fast"], 2))
    (alone,) = fill_face(given, missing, FACE, EXACT, None, Drawing(PRESETS["instant"], 1))
    assert np.abs(region.samples.mean(axis=0) - region.mean).max() > 1e-3
    np.testing.assert_array_equal(alone.samples[0], alone.mean)
