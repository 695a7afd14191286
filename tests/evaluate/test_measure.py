"""What is measured on one case: strata that share out the gap, sums by hand, whole-image scores of scikit-image."""

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from known_errors import SIDE, case, off_by, scored
from lacunar.errors import LacunarError
from lacunar.evaluate.cases import Case
from lacunar.evaluate.measure import DISTANCES, GAP_SIZES, SUMS, Fill, measure, stratum_names
from lacunar.evaluate.probabilistic import crps_ensemble, crps_gaussian
from lacunar.geo.missing_shapes import gap_pattern


def with_gap(gap, seed=0):
    values = np.random.default_rng(seed).normal(300.0, 2.0, gap.shape)
    return Case("kano_a", 0, 0, 0.2, values, gap, 280.0, 320.0)


def column(row, key, name):
    return row.sums[key][SUMS.index(name)]


@pytest.mark.parametrize("pattern", ["blobs", "stripes", "half"])
@pytest.mark.parametrize("kind", ["distance", "gap size"])
def test_the_strata_of_a_kind_share_out_the_gap(pattern, kind):
    truth = with_gap(gap_pattern(pattern, (96, 96), 0.4, rng=np.random.default_rng(2)))
    row = measure(truth, "x", Fill(truth.values + np.random.default_rng(3).normal(size=(96, 96))))
    parts = [key for key in row.sums if key[0] == kind]
    assert len(parts) > (1 if pattern != "half" or kind == "distance" else 0)
    for name in ("pixels", "squares", "absolute", "errors", "crps"):
        assert sum(column(row, key, name) for key in parts) == pytest.approx(column(row, ("all", "all"), name))
    assert max(row.greatest[key] for key in parts) == row.greatest["all", "all"]


def test_distance_is_to_the_nearest_known_pixel_and_size_that_of_the_connected_gap():
    gap = np.zeros((80, 80), bool)
    gap[10:41, 10:41] = True  # 961 pixels; its middle is 16 pixels from the border
    gap[60, 60:64] = True  # 4 pixels
    row = measure(with_gap(gap), "x", Fill(with_gap(gap).values))
    sizes = {stratum: column(row, (kind, stratum), "pixels") for kind, stratum in row.sums if kind == "gap size"}
    assert sizes == {"up to 16 px": 4, "256 to 1024 px": 961}
    rings = {stratum: column(row, (kind, stratum), "pixels") for kind, stratum in row.sums if kind == "distance"}
    side = {1: 31, 2: 29, 4: 27, 8: 23, 16: 15}  # of the square that is left inside each ring
    assert rings == {
        "up to 1 px": 31**2 - 29**2 + 4,
        "1 to 2 px": side[2] ** 2 - side[4] ** 2,
        "2 to 4 px": side[4] ** 2 - side[8] ** 2,
        "4 to 8 px": side[8] ** 2 - side[16] ** 2,
        "8 to 16 px": side[16] ** 2,
    }


def test_distance_is_euclidean():
    gap = np.ones((32, 32), bool)
    gap[0, 0] = False
    row = measure(with_gap(gap), "x", Fill(with_gap(gap).values))
    rows, cols = np.mgrid[:32, :32]
    squares = rows**2 + cols**2
    for stratum, low, high in (("up to 1 px", 0, 1), ("1 to 2 px", 1, 4), ("8 to 16 px", 64, 256)):
        assert column(row, ("distance", stratum), "pixels") == ((squares > low) & (squares <= high)).sum()


def test_names_of_strata_follow_their_edges():
    for edges in (DISTANCES, GAP_SIZES):
        assert len(stratum_names(edges)) == len(edges) + 1
        assert len(set(stratum_names(edges))) == len(edges) + 1


def test_sums_of_a_fill_with_sigma_and_samples():
    truth, draws = case("a"), np.random.default_rng(1)
    error, sigma = draws.normal(size=(SIDE, SIDE)), draws.uniform(0.5, 2.0, (SIDE, SIDE))
    samples = truth.values + draws.normal(size=(4, SIDE, SIDE))
    row = measure(truth, "x", Fill(truth.values + error, sigma, samples=samples, antithetic=True, evaluations=40))
    gap, key = truth.gap, ("all", "all")
    zero = np.zeros(gap.sum())
    assert column(row, key, "pixels") == gap.sum()
    assert column(row, key, "errors") == pytest.approx(error[gap].sum())
    assert column(row, key, "crps") == pytest.approx(crps_gaussian(error[gap], sigma[gap], zero).sum())
    wanted = crps_ensemble(samples[:, gap], truth.values[gap], antithetic=True).sum()
    assert column(row, key, "crps_samples") == pytest.approx(wanted)
    assert column(row, key, "in_68") == (np.abs(error) <= sigma)[gap].sum()
    assert column(row, key, "in_95") == (np.abs(error) <= 1.959964 * sigma)[gap].sum()
    assert column(row, key, "variance") == pytest.approx((sigma[gap] ** 2).sum())
    assert row.pit_counts.sum() == gap.sum()
    assert row.evaluations == 40


def test_without_sigma_there_is_no_coverage_and_too_few_samples_have_no_score():
    truth = case("a")
    row = measure(truth, "x", Fill(truth.values + 1.0, samples=np.repeat(truth.values[None], 2, 0), antithetic=True))
    assert row.central is None
    assert np.isnan(
        [column(row, ("all", "all"), name) for name in ("in_68", "in_95", "variance", "crps_samples")]
    ).all()
    assert column(row, ("all", "all"), "crps") == column(row, ("all", "all"), "absolute")


def test_whole_image_scores_are_those_of_scikit_image():
    truth = case("a", seed=4)
    error = np.random.default_rng(5).normal(0, 1, (SIDE, SIDE))
    (score,) = scored([truth], {"kriging": off_by([truth], lambda _: error)})
    image = np.where(truth.gap, truth.values + error, truth.values)
    assert score.psnr == pytest.approx(peak_signal_noise_ratio(truth.values, image, data_range=40.0))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 40.0}
    assert score.ssim == pytest.approx(structural_similarity(truth.values - 280, image - 280, **options), abs=1e-9)


def test_an_empty_gap_and_nan_are_refused():
    nothing = with_gap(np.zeros((SIDE, SIDE), bool))
    with pytest.raises(LacunarError, match=r"case kano_a\+0\+0@0.2 has an empty gap"):
        measure(nothing, "x", Fill(nothing.values))
    with pytest.raises(LacunarError, match="NaN"):
        measure(case("a"), "x", Fill(np.full((SIDE, SIDE), np.nan)))


def test_the_limits_of_a_fill_take_the_place_of_those_of_a_normal_distribution():
    truth = with_gap(gap_pattern("box", (32, 32), 0.3, rng=np.random.default_rng(0)))
    mean, sigma = truth.values - 2.5, np.ones((32, 32))
    beyond, inside = Fill(mean, sigma), Fill(mean, sigma, limits=(mean - 3, mean + 3))
    one_sided = Fill(mean, sigma, limits=(mean - 3, mean + 2))
    shares = [column(measure(truth, "x", fill), ("all", "all"), "in_95") for fill in (beyond, inside, one_sided)]
    assert shares == [0, truth.gap.sum(), 0]
