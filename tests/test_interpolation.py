"""Classical fills against closed forms, dense linear algebra written here, and Gaussian fields of known covariance."""

import numpy as np
import pytest
from scipy import spatial

from lacunar.errors import LacunarError
from lacunar.interpolation import FILL_NAMES, Covariance, fill, fit_covariance, krige
from lacunar.masks import gap_pattern

SIDE = 24
PIXELS = np.argwhere(np.ones((SIDE, SIDE), bool))
VARIANCE = 4.0
MEAN = 300.0

CLASSICAL = [Covariance(4.0, 0.0, VARIANCE, 1e-4), Covariance(16.0, 0.0, VARIANCE, 1e-3)]
NOISY = [Covariance(64.0, 0.0, VARIANCE, 2e-2), Covariance(16.0, 2.0, VARIANCE, 2e-2)]
SMOOTH = [Covariance(16.0, 1.0, VARIANCE, 1e-3), Covariance(4.0, 2.0, VARIANCE, 1e-3)]


def covariances(c: Covariance, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The covariance of the docstring between two lists of points, in units of the sill."""
    d = spatial.distance.cdist(a, b)
    return (1 - c.nugget) * np.exp((c.smoothing - np.sqrt(d**2 + c.smoothing**2)) / c.length) + c.nugget * (d == 0)


def gaussian_process(c: Covariance, values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation in the gap from ALL known pixels, with an unknown mean: the ordinary kriging system.

    Cressie 1993, eqs. 3.2.12 to 3.2.16: covariances bordered by the Lagrange multiplier of unbiasedness.
    """
    sources, targets = np.argwhere(known), np.argwhere(~known)
    n = len(sources)
    system = np.ones((n + 1, n + 1))
    system[:n, :n], system[n, n] = covariances(c, sources, sources), 0.0
    right = np.vstack([covariances(c, sources, targets), np.ones(len(targets))])
    solution = np.linalg.solve(system, right)
    mean = solution[:n].T @ values[known]
    return mean, np.sqrt(c.variance * (1 - (solution * right).sum(axis=0)))


def draws(c: Covariance, count: int, seed: int = 0) -> np.ndarray:
    """Fields (count, SIDE, SIDE) of this covariance around MEAN."""
    factor = np.linalg.cholesky(covariances(c, PIXELS, PIXELS))
    white = np.random.default_rng(seed).standard_normal((len(PIXELS), count))
    return MEAN + np.sqrt(c.variance) * (factor @ white).T.reshape(count, SIDE, SIDE)


def large_draw(c: Covariance, side: int, seed: int, *, torus: int = 512) -> np.ndarray:
    """A field too large for a dense factor: a crop of one on a torus, by the Fourier transform of its covariance."""
    lag = np.minimum(np.arange(torus), torus - np.arange(torus)).astype(float)
    d = np.hypot(lag[:, None], lag[None, :])
    table = (1 - c.nugget) * np.exp((c.smoothing - np.sqrt(d**2 + c.smoothing**2)) / c.length) + c.nugget * (d == 0)
    power = np.maximum(np.fft.fft2(table).real, 0)
    white = np.random.default_rng(seed).standard_normal((torus, torus))
    field = np.fft.ifft2(np.sqrt(power) * np.fft.fft2(white)).real
    return MEAN + np.sqrt(c.variance) * field[:side, :side]


def blob(rate: float = 0.3, seed: int = 0, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Known pixels around blobs."""
    return ~gap_pattern("blobs", shape, rate, rng=np.random.default_rng(seed))


def hole(shape: tuple[int, int] = (30, 34)) -> np.ndarray:
    """Known pixels around one gap that is not convex and keeps four pixels from the border."""
    known = np.ones(shape, bool)
    known[6:20, 5:12] = known[14:24, 5:28] = False
    return known


def fields(count: int = 1, shape: tuple[int, int] = (30, 34)) -> np.ndarray:
    """Rough fields in kelvin."""
    return np.random.default_rng(7).normal(300, 5, size=(count, *shape)).squeeze()


# --- kriging against the dense solution ---


@pytest.mark.parametrize("c", CLASSICAL + NOISY + SMOOTH, ids=str)
def test_krige_is_the_gaussian_process_where_all_known_pixels_border_the_gap(c: Covariance):
    known = np.ones((SIDE, SIDE), bool)
    known[1::3] = known[:, 2::3] = False  # every known pixel touches the gap, so that all enter the system
    field = draws(c, 1)[0]
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


def test_fit_covariance_has_the_greatest_likelihood_of_its_grid():
    """Against the Gaussian density of the same pixels, computed here with the variance that was found."""
    known = blob(0.3, 2)
    field = draws(CLASSICAL[0], 1, seed=5)[0]
    best = fit_covariance(field, known)
    rows, cols = np.indices(known.shape)
    points = np.argwhere(known & (rows % 16 < 3) & (cols % 16 < 3))
    observed = field[tuple(points.T)] - field[tuple(points.T)].mean()

    def likelihood(c: Covariance) -> float:
        matrix = c.variance * (covariances(c, points, points) + 10.0)  # 10 sills: the unknown mean
        return -0.5 * (np.linalg.slogdet(matrix)[1] + observed @ np.linalg.solve(matrix, observed))

    others = [
        Covariance(length, smoothing, best.variance * factor, nugget)
        for length in (4.0, 8.0, 16.0, 64.0)
        for smoothing in (0.0, 1.0, 4.0)
        for nugget in (1e-4, 1e-3, 2e-2)
        for factor in (0.8, 1.0, 1.25)
    ]
    assert likelihood(best) >= max(likelihood(other) for other in others) - 1e-6


def test_fit_covariance_of_a_constant_or_too_few_pixels_falls_back():
    flat = fit_covariance(np.full((SIDE, SIDE), MEAN), blob())
    assert (flat.length, flat.smoothing) == (4.0, 0.0)
    assert 0 < flat.variance < 1e-9
    known = np.zeros((SIDE, SIDE), bool)
    known[10, [3, 9]] = True
    few = fit_covariance(np.where(np.arange(SIDE) == 3, 302.0, 300.0) * np.ones((SIDE, 1)), known)
    assert few.variance == pytest.approx(1.0)


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
@pytest.mark.parametrize("name", [*FILL_NAMES, "krige", "fit_covariance"])
def test_what_stands_in_the_gap_is_never_read(name: str, junk: float):
    def result(values: np.ndarray) -> np.ndarray:
        if name == "krige":
            return np.array(krige(values, known))
        if name == "fit_covariance":
            c = fit_covariance(values, known)
            return np.array([c.length, c.smoothing, c.variance, c.nugget])
        return fill(name, values, known)

    field, known = fields(), hole()
    np.testing.assert_array_equal(result(np.where(known, field, junk)), result(np.where(known, field, 0.0)))


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
    mean, std = krige(fields(), np.ones((30, 34), bool))
    np.testing.assert_array_equal(mean, fields())
    assert not std.any()


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


@pytest.mark.parametrize("name", [*FILL_NAMES, "krige"])
def test_no_known_pixel(name: str):
    with pytest.raises(LacunarError, match="every pixel is a gap: at least one known pixel is wanted"):
        call(name, np.zeros((5, 6)), np.zeros((5, 6), bool))


@pytest.mark.parametrize("name", ["laplace", "krige"])
@pytest.mark.parametrize("shape", [(6, 5), (1, 5, 6), (30,)])
def test_shapes_that_differ_or_are_no_picture(name: str, shape: tuple[int, ...]):
    with pytest.raises(LacunarError, match=r"values \(.*\) and known \(.*\) must be one \(H, W\) shape"):
        call(name, np.zeros(shape), np.ones((5, 6), bool))
    if len(shape) != 2:
        with pytest.raises(LacunarError, match=r"must be one \(H, W\) shape"):
            call(name, np.zeros(shape), np.ones(shape, bool))


@pytest.mark.parametrize("name", ["laplace", "krige"])
def test_a_known_that_is_not_boolean(name: str):
    with pytest.raises(LacunarError, match="known is uint8, wanted bool, True = measured"):
        call(name, np.zeros((5, 6)), np.ones((5, 6), np.uint8))


def call(name: str, values: np.ndarray, known: np.ndarray) -> None:
    krige(values, known) if name == "krige" else fill(name, values, known)
