"""Classical fills against closed forms, and on Gaussian fields of known covariance."""

import numpy as np
import pytest
from scipy import spatial

from gaussian_fields import CLASSICAL, VARIANCE, blob, draws, fields, hole, large_draw
from lacunar.errors import LacunarError
from lacunar.interpolate.classical import FILL_NAMES, fill
from lacunar.interpolate.kriging import Covariance, fit_covariance, krige

# --- every fill ---


@pytest.mark.parametrize("name", FILL_NAMES)
def test_known_pixels_and_the_input_are_untouched(name: str):
    field, known = fields(), hole()
    before = field.copy()
    filled = fill(name, field, known)
    assert filled.dtype == np.float64
    np.testing.assert_array_equal(filled[known], field[known])
    np.testing.assert_array_equal(field, before)
    assert np.isfinite(filled).all()
    assert np.all(filled[~known] != field[~known])


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("name", FILL_NAMES)
def test_what_stands_in_the_gap_is_never_read(name: str, junk: float):
    field, known = fields(), hole()
    filled = fill(name, np.where(known, field, junk), known)
    np.testing.assert_array_equal(filled, fill(name, np.where(known, field, 0.0), known))


@pytest.mark.parametrize("name", FILL_NAMES)
@pytest.mark.parametrize("kept", ["one pixel", "two corners", "one row"])
def test_few_known_pixels_are_enough(name: str, kept: str):
    known = np.zeros((12, 15), bool)
    if kept == "one row":
        known[4] = True
    else:
        known[[0], [0]] = True
        known[-1, -1] = kept == "two corners"
    field = np.linspace(290, 310, known.size).reshape(known.shape)
    filled = fill(name, field, known)
    low, high = field[known].min(), field[known].max()
    assert low - 1e-6 <= filled.min() <= filled.max() <= high + 1e-6


@pytest.mark.parametrize("name", FILL_NAMES)
def test_a_constant_stays_constant(name: str):
    np.testing.assert_allclose(fill(name, np.full((30, 34), 287.25), hole()), 287.25, rtol=1e-12)


@pytest.mark.parametrize("name", FILL_NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_other_number_types_are_taken(name: str, dtype: type):
    values = fields().astype(dtype)
    np.testing.assert_allclose(fill(name, values, hole()), fill(name, values.astype(float), hole()), rtol=1e-12)


@pytest.mark.parametrize("name", FILL_NAMES)
def test_without_a_gap_the_values_come_back(name: str):
    np.testing.assert_array_equal(fill(name, fields(), np.ones((30, 34), bool)), fields())


@pytest.mark.parametrize("name", ["linear", "laplace", "biharmonic"])
def test_a_linear_field_is_reproduced(name: str):
    rows, cols = np.indices((30, 34))
    plane = 290 + 0.3 * rows - 0.7 * cols
    np.testing.assert_allclose(fill(name, np.where(hole(), plane, np.nan), hole()), plane, rtol=0, atol=1e-8)


def test_nearest_takes_a_pixel_at_the_least_distance():
    field, known = fields(), hole()
    filled = fill("nearest", field, known)
    distance = spatial.distance.cdist(np.argwhere(~known), np.argwhere(known))
    for value, row in zip(filled[~known], distance, strict=True):
        assert value in field[known][row <= row.min() + 1e-9]


def test_linear_fills_from_the_nearest_pixel_outside_the_hull():
    known = np.zeros((9, 9), bool)
    known[2:7, 2:7] = True
    field = np.arange(81.0).reshape(9, 9)
    filled = fill("linear", field, known)
    assert filled[0, 0] == field[2, 2]
    assert filled[8, 5] == field[6, 5]


def test_idw_is_shepards_formula():
    """Over all known pixels, as long as there are no more than 24 (Shepard 1968, power 2)."""
    known = np.zeros((12, 13), bool)
    known[tuple(np.random.default_rng(3).integers(0, 12, size=(2, 20)))] = True
    assert known.sum() <= 24
    field = fields(shape=(12, 13))
    weight = 1 / spatial.distance.cdist(np.argwhere(~known), np.argwhere(known), "sqeuclidean")
    np.testing.assert_allclose(fill("idw", field, known)[~known], weight @ field[known] / weight.sum(axis=1))


@pytest.mark.parametrize("seed", range(3))
def test_laplace_is_the_mean_of_its_neighbours(seed: int):
    """The discrete mean property at every gap pixel, at the border over the neighbours that exist: one solution."""
    known = blob(0.6, seed, (20, 26))
    field = fields(shape=(20, 26))
    filled = fill("laplace", field, known)
    padded = np.pad(filled, 1, constant_values=np.nan)
    around = np.stack([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    np.testing.assert_allclose(filled[~known], np.nanmean(around, axis=0)[~known], rtol=0, atol=1e-9)
    assert field[known].min() <= filled.min() <= filled.max() <= field[known].max()


def test_biharmonic_reproduces_a_cubic():
    rows, cols = (np.indices((30, 34)) - 15.0) / 10
    cubic = rows**3 + 2 * rows**2 * cols - cols**2 + 3 * cols
    np.testing.assert_allclose(fill("biharmonic", cubic, hole()), cubic, rtol=0, atol=1e-8)


def test_kriging_is_krige_with_the_classical_covariance():
    field, known = large_draw(Covariance(16.0, 4.0, VARIANCE, 1e-3), 40, 0), blob(0.3, 0, (40, 40))
    classical = krige(field, known, covariance=fit_covariance(field, known, smoothings=(0.0,)))[0]
    np.testing.assert_array_equal(fill("kriging", field, known), classical)
    assert np.abs(krige(field, known)[0] - classical).max() > 0.01  # the smoothed one differs on such a field


def test_kriging_beats_the_other_fills_on_a_field_of_its_own_covariance():
    squared = dict.fromkeys(FILL_NAMES, 0.0)
    for seed, field in enumerate(draws(CLASSICAL[1], 12, seed=21)):
        known = blob(0.3, seed)
        for name in FILL_NAMES:
            squared[name] += float(np.sum((fill(name, field, known) - field) ** 2))
    assert min(squared, key=squared.__getitem__) == "kriging"
    assert squared["mean"] > 1.5 * squared["kriging"]
    assert np.all(fill("mean", field, known)[~known] == field[known].mean())


# --- refusals ---


@pytest.mark.parametrize("known", [np.ones((4, 4), bool), hole((30, 34))], ids=["all known", "a gap"])
def test_unknown_fill(known: np.ndarray):
    names = "mean, nearest, linear, idw, laplace, biharmonic, kriging"
    with pytest.raises(LacunarError, match=f"unknown fill 'spline': choose one of {names}"):
        fill("spline", np.zeros(known.shape), known)


@pytest.mark.parametrize("name", FILL_NAMES)
def test_no_known_pixel(name: str):
    with pytest.raises(LacunarError, match="no pixel is known: at least one is wanted"):
        fill(name, np.zeros((5, 6)), np.zeros((5, 6), bool))


@pytest.mark.parametrize("name", ["laplace", "kriging"])
@pytest.mark.parametrize("shape", [(6, 5), (1, 5, 6), (30,)])
def test_shapes_that_differ_or_are_no_picture(name: str, shape: tuple[int, ...]):
    with pytest.raises(LacunarError, match=r"values \(.*\) and known \(.*\) must be one \(H, W\) shape"):
        fill(name, np.zeros(shape), np.ones((5, 6), bool))
    if len(shape) != 2:
        with pytest.raises(LacunarError, match=r"must be one \(H, W\) shape"):
            fill(name, np.zeros(shape), np.ones(shape, bool))


@pytest.mark.parametrize("name", ["laplace", "kriging"])
def test_a_known_that_is_not_boolean(name: str):
    with pytest.raises(LacunarError, match="known is uint8, wanted bool, True = measured"):
        fill(name, np.zeros((5, 6)), np.ones((5, 6), np.uint8))
