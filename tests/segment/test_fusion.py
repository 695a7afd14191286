"""Fusion of samples: mean and spread, STAPLE against other software and by hand, blocks that change nothing."""

import itertools
import math

import numpy as np
import pytest

from lacunar.errors import LacunarError, RasterError
from lacunar.geo.windows import blocks_over
from lacunar.segment.fusion import (
    MOST_RATERS,
    SampledBlock,
    check_fusion,
    decision_patterns,
    fit_staple,
    fuse_blocks,
    mean_and_disagreement,
)


def raters(seed, shape, sensitivity, specificity, share):
    """A hidden truth, and what raters of known quality say of it."""
    rng = np.random.default_rng(seed)
    truth = rng.random(shape) < share
    luck = rng.random((len(sensitivity), *shape))
    says = np.where(truth, luck < np.reshape(sensitivity, (-1, 1, 1)), luck > np.reshape(specificity, (-1, 1, 1)))
    return truth, says.astype(np.float32)


def counts_of(samples):
    patterns = decision_patterns(samples)
    return np.bincount(patterns[patterns < 2 ** len(samples)], minlength=2 ** len(samples))


def as_blocks(samples, side):
    return [
        SampledBlock(window=block.core, samples=samples[:, *block.core.slices])
        for block in blocks_over(samples.shape[1:], block=side, halo=0)
    ]


def fused(samples, room, *, side=16, **options):
    """The fused map put together, and its blocks."""
    parts = list(fuse_blocks(as_blocks(samples, side), folder=room, **options))
    whole = {name: np.zeros(samples.shape[1:]) for name in ("water", "probability", "disagreement")}
    for part in parts:
        for name, values in whole.items():
            values[part.window.slices] = getattr(part, name)
    return whole


# --- STAPLE ---

# SimpleITK 2.5.7, STAPLEImageFilter, on the same decisions; its own stopping rule leaves it some 1e-6 from the end.
SIMPLEITK = [
    (
        (0, (40, 50), (0.9, 0.7, 0.95, 0.8), (0.85, 0.95, 0.9, 0.7), 0.3),
        (0.9018161409554082, 0.6699312309700798, 0.9269172194576579, 0.7956344983847692),
        (0.8664693106190656, 0.9618253416387345, 0.8880501138184226, 0.6982672088201965),
        {
            0: 0.0005217275812815743,
            3: 0.614047051077828,
            9: 0.2189340466104149,
            12: 0.32119076230075385,
            15: 0.99930707,
        },
    ),
    (
        (1, (64, 64), (0.99, 0.6, 0.8), (0.97, 0.9, 0.99), 0.1),
        (0.9690998906620283, 0.5988371783140222, 0.7895246786857463),
        (0.9728611719239052, 0.9012168249446016, 0.9944063527894617),
        {0: 0.00041370929189450103, 1: 0.31755100511293843, 3: 0.8637028780015937, 6: 0.7898605066007893},
    ),
]


@pytest.mark.parametrize(("case", "sensitivity", "specificity", "probability"), SIMPLEITK)
def test_staple_is_that_of_simpleitk(case, sensitivity, specificity, probability):
    found = fit_staple(counts_of(raters(*case)[1]))
    np.testing.assert_allclose(found.sensitivity, sensitivity, atol=2e-6)
    np.testing.assert_allclose(found.specificity, specificity, atol=2e-6)
    for pattern, value in probability.items():
        assert found.probability[pattern] == pytest.approx(value, abs=4e-6)


def log_likelihood(counts, prior, sensitivity, specificity):
    """Of the counts of all patterns, written out from the model: a mixture of water and land."""
    total = 0.0
    for says in itertools.product((0, 1), repeat=len(sensitivity)):
        index = sum(bit << k for k, bit in enumerate(says))
        water = prior * math.prod(p if d else 1 - p for p, d in zip(sensitivity, says, strict=True))
        land = (1 - prior) * math.prod(1 - q if d else q for q, d in zip(specificity, says, strict=True))
        total += counts[index] * math.log(water + land)
    return total


def test_the_estimate_is_a_maximum_of_the_likelihood():
    counts = counts_of(raters(5, (50, 60), (0.9, 0.75, 0.85), (0.9, 0.95, 0.8), 0.4)[1])
    found = fit_staple(counts)
    best = log_likelihood(counts, found.prior, found.sensitivity, found.specificity)
    for rater, step in itertools.product(range(3), (-1e-3, 1e-3)):
        moved = np.eye(3)[rater] * step
        assert log_likelihood(counts, found.prior, found.sensitivity + moved, found.specificity) < best
        assert log_likelihood(counts, found.prior, found.sensitivity, found.specificity + moved) < best


def test_a_good_rater_outvotes_two_bad_ones():
    """What no mean of samples can do."""
    truth, samples = raters(2, (200, 200), (0.99, 0.7, 0.7), (0.99, 0.7, 0.7), 0.5)
    staple = fit_staple(counts_of(samples)).probability[decision_patterns(samples)] >= 0.5
    majority = samples.mean(axis=0) >= 0.5
    assert (staple != truth).mean() < 0.5 * (majority != truth).mean()


@pytest.mark.parametrize(("counts", "prior"), [((50, 0, 0, 0), 0.0), ((0, 0, 0, 50), 1.0), ((0, 0, 0, 0), 0.0)])
def test_raters_who_say_the_same_everywhere(counts, prior):
    found = fit_staple(np.array(counts))
    assert (found.prior, found.iterations) == (prior, 0)
    np.testing.assert_array_equal(found.probability, prior)
    assert np.isnan(found.sensitivity).all()


@pytest.mark.parametrize("counts", [np.ones(3, int), np.ones(1, int), np.ones((2, 2), int)])
def test_counts_of_no_raters(counts):
    with pytest.raises(LacunarError, match=r"got counts of shape .*: wanted 2\*\*K of them"):
        fit_staple(counts)


# --- blocks ---


@pytest.fixture
def samples():
    made = np.random.default_rng(7).random((4, 40, 50), dtype=np.float32)
    made[:, 3:9, 30:] = np.nan
    return made


@pytest.mark.parametrize("method", ["mean", "staple"])
def test_how_the_image_is_cut_changes_nothing(samples, method, tmp_path):
    small = fused(samples, tmp_path, side=16, method=method)
    whole = fused(samples, tmp_path, side=64, method=method)
    for name, values in whole.items():
        np.testing.assert_array_equal(small[name], values)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", ["mean", "staple"])
def test_what_is_not_valid_stays_so(samples, method, tmp_path):
    lost = np.isnan(samples[0])
    whole = fused(samples, tmp_path, method=method)
    np.testing.assert_array_equal(whole["water"] == 255, lost)
    for name in ("probability", "disagreement"):
        np.testing.assert_array_equal(np.isnan(whole[name]), lost)


def test_the_mean_and_the_spread_over_samples(samples, tmp_path):
    whole = fused(samples, tmp_path, threshold=0.6)
    np.testing.assert_allclose(whole["probability"], samples.mean(axis=0), rtol=1e-6)
    deviation = np.sqrt(((samples - samples.mean(axis=0)) ** 2).mean(axis=0))
    np.testing.assert_allclose(whole["disagreement"], deviation, atol=1e-6)
    valid = ~np.isnan(samples[0])
    np.testing.assert_array_equal(whole["water"][valid] == 1, samples.mean(axis=0)[valid] >= 0.6)


def test_staple_of_blocks_is_staple_of_the_whole(samples, tmp_path):
    whole = fused(samples, tmp_path, method="staple")
    valid = ~np.isnan(samples[0])
    table = fit_staple(counts_of(samples)).probability
    np.testing.assert_allclose(whole["probability"][valid], table[decision_patterns(samples)[valid]], rtol=1e-6)
    np.testing.assert_array_equal(whole["disagreement"], mean_and_disagreement(samples)[1])


def test_a_folder_that_takes_nothing(samples, tmp_path):
    with pytest.raises(RasterError, match=r"held_0\.npy: cannot be written .*; wanted a folder with free space"):
        fused(samples, tmp_path / "none", method="staple")


@pytest.mark.parametrize(
    ("method", "samples", "threshold", "message"),
    [
        ("vote", 4, 0.5, "fusion 'vote': wanted one of mean, staple"),
        ("staple", 1, 0.5, "1 samples: staple wants 2 to 15; take others or --fusion mean"),
        ("staple", MOST_RATERS + 1, 0.5, "16 samples: staple wants 2 to 15"),
        ("mean", 4, 0.0, r"threshold 0\.0: wanted above 0 and below 1"),
        ("mean", 4, 1.0, r"threshold 1\.0: wanted above 0 and below 1"),
    ],
)
def test_what_cannot_be_fused(method, samples, threshold, message):
    with pytest.raises(LacunarError, match=message):
        check_fusion(method, samples=samples, threshold=threshold)
