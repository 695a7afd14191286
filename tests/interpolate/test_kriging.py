"""Kriging against dense linear algebra, and its covariance against the fields that it was drawn from."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from gaussian_fields import (
    CLASSICAL,
    MEAN,
    NOISY,
    SIDE,
    SMOOTH,
    VARIANCE,
    blob,
    covariances,
    draws,
    fields,
    gaussian_process,
    hole,
    large_draw,
    universal_kriging,
)
from lacunar.errors import LacunarError
from lacunar.interpolate.kriging import (
    AVERAGED,
    DRIFT_VARIANCE,
    LENGTHS,
    NUGGETS,
    SMOOTHINGS,
    TEMPERATURE,
    Covariance,
    fit_covariance,
    krige,
    krige_with_drift,
)

SCATTERED = np.ones((SIDE, SIDE), bool)
SCATTERED[1::3] = SCATTERED[:, 2::3] = False  # every known pixel touches the gap, so that all enter the system


# --- kriging against the dense solution ---


@pytest.mark.parametrize("c", CLASSICAL + NOISY + SMOOTH, ids=str)
def test_krige_is_the_gaussian_process_where_all_known_pixels_border_the_gap(c: Covariance):
    field, known = draws(c, 1)[0], SCATTERED
    mean, std = krige(field, known, covariance=c)
    wanted, deviation = gaussian_process(c, field, known)
    # What is left: the finite variance given to the mean, and the float32 of the largest step.
    np.testing.assert_allclose(mean[~known], wanted, rtol=0, atol=2e-3 * np.sqrt(VARIANCE))
    np.testing.assert_allclose(std[~known] ** 2, deviation**2, rtol=0, atol=1e-3 * VARIANCE)


@pytest.mark.parametrize(
    ("chosen", "typical", "largest", "wider"),
    [(CLASSICAL, 0.1, 0.5, 1.03), (NOISY, 0.15, 1.0, 1.1), (SMOOTH, 0.5, 3.0, 1.6)],
    ids=["classical", "noisy", "smooth"],
)
def test_the_pixels_that_krige_leaves_out_change_little(
    chosen: list[Covariance], typical: float, largest: float, wider: float
):
    """Tolerances in units of the standard deviation: screening is sharp for the classical covariance alone.

    A smooth field has a slope at the border of the gap, which one row of pixels cannot tell.
    """
    for c in chosen:
        off, ratio = [], []
        for seed, field in enumerate(draws(c, 6, seed=3)):
            known = blob((0.15, 0.22, 0.5)[seed % 3], seed)
            mean, std = krige(field, known, covariance=c)
            wanted, deviation = gaussian_process(c, field, known)
            off.append((mean[~known] - wanted) / deviation)
            ratio.append(std[~known] / deviation)
        off, ratio = np.concatenate(off), np.concatenate(ratio)
        assert np.sqrt(np.mean(off**2)) < typical
        assert np.abs(off).max() < largest
        # Fewer pixels never know more; below 1 is float32 and the finite variance of the mean.
        assert 0.98 < ratio.min() <= ratio.max() < wider


@pytest.mark.parametrize("c", CLASSICAL + NOISY, ids=str)
def test_a_lone_gap_is_filled_from_far_pixels_too(c: Covariance):
    field, known = draws(c, 1)[0], np.ones((SIDE, SIDE), bool)
    known[2, 2] = False
    mean, wanted, deviation = krige(field, known, covariance=c)[0], *gaussian_process(c, field, known)
    assert abs(mean[2, 2] - wanted[0]) < 0.04 * deviation[0]


@pytest.mark.parametrize("c", CLASSICAL + NOISY + SMOOTH, ids=str)
def test_the_standard_deviation_of_krige_is_calibrated(c: Covariance):
    z = []
    for seed, field in enumerate(draws(c, 40, seed=11)):
        known = blob((0.15, 0.22, 0.5)[seed % 3], seed)
        mean, std = krige(field, known, covariance=c)
        z.append(((field - mean) / np.where(known, 1.0, std))[~known])
    z = np.concatenate(z)
    assert abs(z.mean()) < 0.15
    assert 0.9 < z.var() < 1.1
    assert 0.64 < (np.abs(z) < 1).mean() < 0.72  # 0.683 of a Gaussian
    assert 0.93 < (np.abs(z) < 1.96).mean() < 0.97


def test_krige_keeps_known_pixels_and_takes_targets():
    field, known = fields(), hole()
    mean, std = krige(field, known)
    np.testing.assert_array_equal(mean[known], field[known])
    assert np.all(std[known] == 0)
    assert np.all(std[~known] > 0)
    same = krige(field, known, targets=np.ones_like(known))
    np.testing.assert_array_equal(same, (mean, std))
    targets = np.zeros_like(known)
    targets[:16] = True
    some_mean, some_std = krige(field, known, targets=targets)
    np.testing.assert_array_equal(some_mean[known], field[known])
    assert np.all(some_std[targets & ~known] > 0)
    left_out = ~targets & ~known
    assert left_out.any()
    assert np.all(some_mean[left_out] == 0)
    assert np.all(some_std[left_out] == 0)


def test_krige_scales_with_the_values_and_follows_their_offset():
    field, known = draws(CLASSICAL[1], 1)[0], blob()
    mean, std = krige(field, known)
    moved_mean, moved_std = krige(100 - 3 * field, known)
    np.testing.assert_allclose(moved_mean, 100 - 3 * mean, rtol=0, atol=1e-3)
    np.testing.assert_allclose(moved_std, 3 * std, rtol=1e-6)


# --- the covariance by likelihood ---


@pytest.mark.parametrize("length", [4.0, 8.0, 16.0])
def test_fit_covariance_finds_the_length_of_drawn_fields(length: float):
    truth = Covariance(length, 0.0, VARIANCE, 1e-3)
    known = blob(0.2, 1, (96, 96))
    found = [fit_covariance(large_draw(truth, 96, seed), known, smoothings=(0.0,)) for seed in range(9)]
    octaves = np.log2([c.length / length for c in found])
    assert abs(np.median(octaves)) <= 1
    assert np.mean(np.abs(octaves) <= 1) >= 0.75
    assert {c.smoothing for c in found} == {0.0}
    # Sill over length is what a small window can tell of an exponential covariance: the slope at its origin.
    slopes = np.array([c.variance / c.length for c in found]) / (VARIANCE / length)
    assert 0.6 < np.median(slopes) < 1.6


def test_fit_covariance_tells_smooth_fields_from_rough_ones():
    known = blob(0.2, 1, (64, 64))
    smooth = [fit_covariance(large_draw(Covariance(16.0, 4.0, VARIANCE, 1e-3), 64, s), known) for s in range(5)]
    rough = [fit_covariance(large_draw(Covariance(8.0, 0.0, VARIANCE, 1e-4), 64, s), known) for s in range(5)]
    assert [c.smoothing for c in smooth] == [4.0] * 5
    assert np.median([c.smoothing for c in rough]) == 0.0
    noise = fit_covariance(fields(shape=(64, 64)), known)
    assert (noise.length, noise.nugget) == (4.0, 2e-2)  # nothing in the grid is shorter or noisier
    assert noise.variance > 20  # 25 were drawn; more is found, as no length below 4 pixels is offered


def profiled(c: Covariance, field: np.ndarray, known: np.ndarray, terms: np.ndarray) -> tuple[float, Covariance]:
    """Greatest Gaussian log-likelihood over the variance on clusters of pixels, up to a constant, and that variance."""
    rows, cols = np.indices(known.shape)
    points = np.argwhere(known & (rows % 9 < 3) & (cols % 9 < 3))
    observed, given = field[tuple(points.T)] - field[tuple(points.T)].mean(), terms[:, *points.T]
    # 10 sills: the unknown mean, and each unknown coefficient
    matrix = covariances(c, points, points) + 10.0 + 10.0 * given.T @ given
    variance = observed @ np.linalg.solve(matrix, observed) / len(observed)
    likelihood = -0.5 * (np.linalg.slogdet(matrix)[1] + len(observed) * np.log(variance))
    return float(likelihood), replace(c, variance=float(variance))


def grid_of(field: np.ndarray, known: np.ndarray, terms: np.ndarray) -> list[tuple[float, Covariance]]:
    """Every candidate with its own best variance, the likeliest first."""
    candidates = [Covariance(*chosen[:2], 1.0, chosen[2]) for chosen in product(LENGTHS, SMOOTHINGS, NUGGETS)]
    return sorted((profiled(c, field, known, terms) for c in candidates), key=lambda pair: -pair[0])


@pytest.mark.parametrize("count", [0, 2], ids=["no terms", "two terms"])
@pytest.mark.parametrize("seed", [5, 6, 7])
def test_fit_covariance_has_the_greatest_likelihood_of_its_grid(count: int, seed: int):
    known, terms = blob(0.3, 2), patterns(2)[:count]
    field = draws(CLASSICAL[0], 1, seed=seed)[0] + 4 * terms.sum(axis=0)
    best, wanted = fit_covariance(field, known, terms=terms if count else None), grid_of(field, known, terms)[0][1]
    assert (best.length, best.smoothing, best.nugget) == (wanted.length, wanted.smoothing, wanted.nugget)
    assert best.variance == pytest.approx(wanted.variance, rel=1e-6)


@pytest.mark.parametrize("count", [0, 2], ids=["no terms", "two terms"])
def test_without_a_covariance_the_likeliest_are_averaged(count: int):
    """The mixture's mean and variance, by tempered likelihoods: means weighed, variances within and between added."""
    known, terms = blob(0.3, 2, (64, 64)), patterns(2, 64)[:count]
    field = large_draw(SMOOTH[0], 64, 5) + 4 * terms.sum(axis=0)
    likeliest = grid_of(field, known, terms)[:AVERAGED]
    weights = np.array([np.exp((likelihood - likeliest[0][0]) / TEMPERATURE) for likelihood, _ in likeliest])
    weights = (weights / weights.sum())[:, None, None]
    parts = [krige_with_drift(field, known, terms, covariance=c) for _, c in likeliest]
    means, variances = (np.array([getattr(part, name) for part in parts]) for name in ("mean", "std"))
    mean = (weights * means).sum(axis=0)
    variance = (weights * (variances**2 + (means - mean) ** 2)).sum(axis=0)
    averaged = krige_with_drift(field, known, terms)
    np.testing.assert_allclose(averaged.mean[~known], mean[~known], rtol=0, atol=1e-6)
    np.testing.assert_allclose(averaged.std[~known] ** 2, variance[~known], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(averaged.mean[known], field[known])
    assert not averaged.std[known].any()
    coefficients = sum(w * part.coefficients for w, part in zip(weights[:, 0, 0], parts, strict=True))
    np.testing.assert_allclose(averaged.coefficients, coefficients, rtol=0, atol=1e-6)
    assert np.ptp(means, axis=0).max() > 1e-3  # they do differ


@pytest.mark.parametrize("helped", [False, True], ids=["alone", "with drift"])
def test_with_a_covariance_from_the_pixels_the_standard_deviation_stays_calibrated(helped: bool):
    z = []
    for seed in range(6):
        known, terms = blob(0.3, seed, (64, 64)), patterns(3, 64)[: 3 * helped]
        truth = large_draw(Covariance(16.0, 1.0, VARIANCE, 1e-3), 64, seed) + 2 * terms.sum(axis=0)
        kriged = krige_with_drift(truth, known, terms)
        z.append((truth - kriged.mean)[~known] / kriged.std[~known])
    assert 0.85 < np.concatenate(z).std() < 1.2


def test_fit_covariance_of_a_constant_or_too_few_pixels_falls_back():
    flat = fit_covariance(np.full((SIDE, SIDE), MEAN), blob())
    assert (flat.length, flat.smoothing) == (4.0, 0.0)
    assert 0 < flat.variance < 1e-9
    known = np.zeros((SIDE, SIDE), bool)
    known[10, [3, 9]] = True
    few = fit_covariance(np.where(np.arange(SIDE) == 3, 302.0, 300.0) * np.ones((SIDE, 1)), known)
    assert few.variance == pytest.approx(1.0)


# --- drift ---


def patterns(count: int, side: int = SIDE) -> np.ndarray:
    """Known fields (count, side, side) of about unit size, of another covariance than the fields that they help."""
    fields = [large_draw(Covariance(8.0, 2.0, 1.0, 1e-4), side, 40 + i) - MEAN for i in range(count)]
    return np.array(fields).reshape(count, side, side)


@pytest.mark.parametrize("c", CLASSICAL + NOISY + SMOOTH, ids=str)
def test_krige_with_drift_is_the_gaussian_process_with_a_linear_mean(c: Covariance):
    known = SCATTERED
    terms = patterns(3) * np.array([1.0, 0.03, 1.0])[:, None, None]  # of the second the prior knows more than the data
    field = draws(c, 1)[0] + np.tensordot([3.0, -8.0, 0.5], terms, axes=1)
    kriged = krige_with_drift(field, known, terms, covariance=c)
    mean, deviation, coefficients, doubt = universal_kriging(c, field, known, terms, DRIFT_VARIANCE)
    np.testing.assert_allclose(kriged.mean[~known], mean, rtol=0, atol=3e-3 * np.sqrt(VARIANCE))
    np.testing.assert_allclose(kriged.std[~known] ** 2, deviation**2, rtol=0, atol=1e-3 * VARIANCE)
    assert np.abs((kriged.coefficients - coefficients) / doubt).max() < 0.02
    np.testing.assert_array_equal(kriged.mean[known], field[known])
    assert not kriged.std[known].any()


@pytest.mark.parametrize(
    ("known", "largest"), [(SCATTERED, 1.15), (blob(0.3, 1), 2.4)], ids=["every pixel enters", "rim and grid"]
)
@pytest.mark.parametrize("c", [CLASSICAL[1], NOISY[0], SMOOTH[1]], ids=str)
def test_the_coefficients_are_those_of_the_drift(c: Covariance, known: np.ndarray, largest: float):
    """Their error in units of the doubt that all known pixels leave; those that do not enter tell of the drift too."""
    terms, rng, z = patterns(3), np.random.default_rng(0), []
    doubt = universal_kriging(c, draws(c, 1)[0], known, terms, DRIFT_VARIANCE)[3]  # the same for every field
    for field in draws(c, 40, seed=31):
        truth = rng.normal(0, np.sqrt(DRIFT_VARIANCE * VARIANCE), 3)
        field = field + np.tensordot(truth, terms, axes=1)
        found = krige_with_drift(field, known, terms, covariance=c).coefficients
        z.append((found - truth) / doubt)
    assert np.abs(np.mean(z, axis=0)).max() < 0.4  # 1 / sqrt(40) = 0.16
    assert 0.85 < np.sqrt(np.mean(np.square(z))) < largest


@pytest.mark.parametrize("pixels", [8, 400])
@pytest.mark.parametrize("c", [CLASSICAL[0], NOISY[1]], ids=str)
def test_the_standard_deviation_counts_the_doubt_about_the_coefficients(c: Covariance, pixels: int):
    rng, terms, z = np.random.default_rng(5), patterns(3), []
    for field in draws(c, 60, seed=17):
        field = field + np.tensordot(rng.normal(0, np.sqrt(DRIFT_VARIANCE * VARIANCE), 3), terms, axes=1)
        known = np.zeros((SIDE, SIDE), bool)
        known.flat[rng.choice(known.size, pixels, replace=False)] = True
        kriged = krige_with_drift(field, known, terms, covariance=c)
        z.append((field - kriged.mean)[~known] / kriged.std[~known])
    assert 0.9 < np.concatenate(z).std() < 1.1


def test_without_terms_it_is_ordinary_kriging_bit_by_bit():
    field, known = draws(CLASSICAL[1], 1)[0], blob()
    mean, std = krige(field, known)
    for terms in (None, np.zeros((0, SIDE, SIDE))):
        kriged = krige_with_drift(field, known, terms)
        np.testing.assert_array_equal(kriged.mean, mean)
        np.testing.assert_array_equal(kriged.std, std)
        assert kriged.coefficients.shape == (0,)
    silent = krige_with_drift(field, known, np.zeros((2, SIDE, SIDE)))
    np.testing.assert_allclose([silent.mean, silent.std], [mean, std], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(silent.coefficients, [0.0, 0.0])


def test_a_drift_is_followed_where_kriging_knows_nothing():
    field, terms, known = draws(CLASSICAL[0], 1)[0], patterns(1), np.ones((SIDE, SIDE), bool)
    known[:, 10:] = False
    truth = field - 10 * terms[0]
    helped, alone = krige_with_drift(truth, known, terms), krige(truth, known)
    assert helped.coefficients == pytest.approx([-10], abs=1.5)
    rmse = [np.sqrt(np.mean((mean - truth)[:, 14:] ** 2)) for mean in (helped.mean, alone[0])]
    assert rmse[0] < 0.6 * rmse[1]
    assert helped.std[:, 14:].mean() < 0.8 * alone[1][:, 14:].mean()


def test_coefficients_are_there_without_a_gap_and_targets_are_kept_to():
    field, terms, whole = draws(CLASSICAL[0], 1)[0], patterns(2), np.ones((SIDE, SIDE), bool)
    truth = field + np.tensordot([4.0, -6.0], terms, axes=1)
    kriged = krige_with_drift(truth, whole, terms, covariance=CLASSICAL[0])
    np.testing.assert_array_equal(kriged.mean, truth)
    assert not kriged.std.any()
    assert kriged.coefficients == pytest.approx([4, -6], abs=1.5)
    known, targets = blob(), np.zeros_like(whole)
    targets[:12] = True
    some = krige_with_drift(truth, known, terms, targets=targets)
    assert (some.std[targets & ~known] > 0).all()
    assert not some.mean[~targets & ~known].any()
    assert not some.std[~targets & ~known].any()


def test_the_likelihood_with_terms_finds_the_length_of_the_residual():
    known, smooth = blob(0.2, 1, (96, 96)), large_draw(Covariance(64.0, 4.0, 1.0, 1e-4), 96, 50) - MEAN
    for seed in range(4):
        field = large_draw(Covariance(4.0, 0.0, VARIANCE, 1e-3), 96, seed) + 12 * smooth
        alone, helped = (fit_covariance(field, known, smoothings=(0.0,), terms=t) for t in (None, smooth[None]))
        assert helped.length <= 8
        assert alone.length >= 4 * helped.length
        assert 0.5 < helped.variance / helped.length / (VARIANCE / 4) < 2


# --- what is read, and refusals ---


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, 1e30])
def test_what_stands_in_the_gap_is_never_read(junk: float):
    field, known = fields(), hole()
    hidden, clean = np.where(known, field, junk), np.where(known, field, 0.0)
    np.testing.assert_array_equal(krige(hidden, known), krige(clean, known))
    assert fit_covariance(hidden, known) == fit_covariance(clean, known)


def test_without_a_gap_the_values_come_back():
    mean, std = krige(fields(), np.ones((30, 34), bool))
    np.testing.assert_array_equal(mean, fields())
    assert not std.any()


def test_no_known_pixel():
    with pytest.raises(LacunarError, match="no pixel is known: at least one is wanted"):
        krige(np.zeros((5, 6)), np.zeros((5, 6), bool))


@pytest.mark.parametrize("shape", [(6, 5), (1, 5, 6), (30,)])
def test_shapes_that_differ_or_are_no_picture(shape: tuple[int, ...]):
    with pytest.raises(LacunarError, match=r"values \(.*\) and known \(.*\) must be one \(H, W\) shape"):
        krige(np.zeros(shape), np.ones((5, 6), bool))
    if len(shape) != 2:
        with pytest.raises(LacunarError, match=r"must be one \(H, W\) shape"):
            krige(np.zeros(shape), np.ones(shape, bool))


def test_a_known_that_is_not_boolean():
    with pytest.raises(LacunarError, match="known is uint8, wanted bool, True = measured"):
        krige(np.zeros((5, 6)), np.ones((5, 6), np.uint8))
