"""Samples in the frame of a Gaussian prior: refined from what it guesses, against networks whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest

from lacunar.diffusion.samplers import PRESETS, plan
from lacunar.interpolate.membrane import RESIDUAL_SIGMA
from lacunar.interpolate.pca_prior import GaussianPrior
from lacunar.pictures.fill import Drawing, fill_window
from lacunar.pictures.sampler import frame_evaluations
from picture_models import GaussianPicture, picture_model

SIDE = 64
FEW = Drawing(PRESETS["fast"], 2)
MEAN = (0.4, -0.2, 0.1)
ROWS, COLS = np.indices((SIDE, SIDE)) / SIDE
WAVES = np.stack([np.cos(np.pi * ROWS), np.sin(np.pi * COLS), np.cos(2 * np.pi * ROWS * COLS)])
PICTURE = np.dstack([0.3 * WAVES[0], 0.2 * WAVES[1], 0 * WAVES[0]]).astype(np.float32)[None]
GAP = np.zeros((SIDE, SIDE), bool)
GAP[20:44, 16:52] = True


@pytest.fixture
def model():
    flat = np.repeat(WAVES[..., None], 3, axis=3).reshape(len(WAVES), -1)
    components = np.linalg.qr(flat.T)[0].T.astype(np.float32)
    prior = GaussianPrior(np.zeros((SIDE, SIDE, 3), np.float32), components, np.array([900, 400, 100]), 0.4)
    return replace(picture_model(GaussianPicture(mean=MEAN)), prior=prior)


@pytest.mark.parametrize(("preset", "evaluations"), [("fast", 4), ("balanced", 9), ("instant", 1)])
def test_a_sample_takes_one_evaluation_to_guess_and_few_to_refine(model, preset, evaluations):
    fill_window(PICTURE, GAP, model, Drawing(PRESETS[preset], 1), halvings=0)
    assert len(model.network.seen) == frame_evaluations(model, PRESETS[preset]) == evaluations


@pytest.mark.parametrize("evaluations", range(1, 12))
def test_no_more_evaluations_than_were_asked_for(model, evaluations):
    assert frame_evaluations(model, plan("ddim", evaluations)) <= evaluations


def test_without_a_prior_every_step_is_taken():
    assert frame_evaluations(picture_model(GaussianPicture()), PRESETS["fast"]) == PRESETS["fast"].evaluations


def test_a_pair_deviates_to_opposite_sides_of_what_the_network_expects(model):
    samples = fill_window(PICTURE, GAP, model, Drawing(PRESETS["fast"], 4, 1), halvings=0)
    np.testing.assert_array_equal(samples[:, ~GAP], np.repeat(PICTURE[:, ~GAP], 4, axis=0))
    expected = model.prior.filled(PICTURE[0], GAP) + RESIDUAL_SIGMA * np.array(MEAN)
    for pair in (samples[:2], samples[2:]):
        np.testing.assert_allclose(pair.mean(axis=0)[GAP], expected[GAP], atol=0.03)
    assert np.abs(samples[0] - samples[2])[GAP].mean() > 0.02


def test_a_sample_is_the_same_whatever_its_company(model):
    alone = fill_window(PICTURE, GAP, model, Drawing(PRESETS["fast"], 1, 5), halvings=0)
    among = fill_window(PICTURE, GAP, model, Drawing(PRESETS["fast"], 4, 5), halvings=0)
    other = fill_window(PICTURE, GAP, model, Drawing(PRESETS["fast"], 1, 6), halvings=0)
    np.testing.assert_allclose(alone[0], among[0], atol=1e-5)
    assert np.abs(alone - other)[:, GAP].mean() > 0.02
