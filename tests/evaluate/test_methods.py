"""What fillers are given and what they give; the machine and seams."""

import numpy as np
import pytest

from gap_models import GaussianResidual, gap_model
from known_errors import SIDE, case, constant, off_by, scored
from lacunar.diffusion.samplers import PRESETS, Preset
from lacunar.errors import LacunarError
from lacunar.evaluate.measure import Fill
from lacunar.evaluate.methods import (
    SMOOTHED,
    classical_fillers,
    evaluate,
    model_filler,
    reference_fillers,
)
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.interpolate.classical import FILL_NAMES, fill
from lacunar.interpolate.external_drift import REFERENCE_FILL_NAMES, fill_from_reference
from lacunar.interpolate.kriging import krige

# --- what a filler is given ---


def test_a_filler_never_sees_the_truth_and_gets_a_seed_of_its_own():
    cases, seen = [case(name, seed=i) for i, name in enumerate("abc")], []

    def spy(values, known, seed, references):
        seen.append((values.copy(), known.copy(), seed))
        return Fill(np.full(values.shape, 300.0))

    evaluate(cases, {"kriging": spy}, seed=7)
    for truth, (values, known, _) in zip(cases, seen, strict=True):
        assert np.isnan(values[truth.gap]).all()
        np.testing.assert_array_equal(values[known], truth.values[~truth.gap])
        np.testing.assert_array_equal(known, ~truth.gap)
    assert len({seed for *_, seed in seen}) == 3
    evaluate(cases[2:], {"kriging": spy}, seed=7)
    assert seen[3][2] == seen[2][2]  # the same noise in a smaller set
    evaluate(cases[2:], {"kriging": spy}, seed=8)
    assert seen[4][2] != seen[2][2]


def test_a_filler_gets_the_references_of_its_case_and_is_watched():
    other, seen = np.full((SIDE, SIDE), 290.0), []
    cases = [case("a"), case("b", seed=1, references=(other,), reference="c")]

    def spy(values, known, seed, references):
        seen.append(references)
        return Fill(np.full(values.shape, 300.0))

    watched = []
    evaluate(
        cases, {"kriging": spy}, watch=lambda truth, name, fill: watched.append((truth.name, name, fill.mean[0, 0]))
    )
    assert seen[0] == ()
    assert seen[1][0] is other
    assert watched == [("a+0+0@0.25", "kriging", 300.0), ("b+0+0@0.25~c", "kriging", 300.0)]


def test_progress_counts_every_fill():
    calls, cases = [], [case("a"), case("b", seed=1)]
    fillers = {"kriging": off_by(cases, constant(1.0)), "other": off_by(cases, constant(1.0))}
    evaluate(cases, fillers, callback=lambda *counts: calls.append(counts))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_bad_input_is_refused():
    cases = [case("a")]
    with pytest.raises(LacunarError, match="got 0 cases and 1 fillers"):
        evaluate([], {"kriging": off_by(cases, constant(1.0))})
    with pytest.raises(LacunarError, match="got 1 cases and 0 fillers"):
        evaluate(cases, {})
    with pytest.raises(LacunarError, match="NaN or infinite"):
        evaluate(cases, {"kriging": off_by(cases, constant(np.nan))})


# --- our fillers ---


def test_the_classical_fillers_are_those_of_the_library():
    truth = case("a", seed=3)
    hidden, known = np.where(truth.gap, np.nan, truth.values), ~truth.gap
    fillers = classical_fillers()
    assert set(fillers) == {*FILL_NAMES, SMOOTHED}
    for name in FILL_NAMES:
        np.testing.assert_allclose(fillers[name](hidden, known, 0).mean, fill(name, hidden, known))
    mean, std = krige(hidden, known)
    smoothed = fillers[SMOOTHED](hidden, known, 0)
    np.testing.assert_array_equal(smoothed.mean, mean)
    np.testing.assert_array_equal(smoothed.sigma, std)
    assert fillers["kriging"](hidden, known, 0).sigma is not None
    assert fillers["idw"](hidden, known, 0).sigma is None


def test_a_model_gives_mean_sigma_and_one_of_its_samples():
    truth, model = case("a", seed=3), gap_model(GaussianResidual())
    hidden, known = np.where(truth.gap, np.nan, truth.values), ~truth.gap
    made = model_filler(model, preset=Preset(steps=5), samples=4)(hidden, known, 11)
    filled = fill_array(hidden, known, truth.gap, model, FillOptions(preset=Preset(steps=5), samples=4, seed=11))
    np.testing.assert_array_equal(made.mean, filled.mean)
    np.testing.assert_array_equal(made.sigma, filled.sigma)
    np.testing.assert_array_equal(made.sample, filled.samples[0])
    np.testing.assert_array_equal(made.samples, filled.samples)
    assert (made.antithetic, made.evaluations, made.sample_evaluations) == (True, 20, 5)
    one = model_filler(model, preset=PRESETS["fast"], samples=1)(hidden, known, 11)
    assert one.sigma is None
    assert one.sample is None
    assert one.evaluations == 10
    bare = model_filler(model, preset=PRESETS["fast"], samples=2, with_sigma=False)(hidden, known, 11)
    assert bare.sigma is None
    assert bare.samples is None
    assert bare.sample is not None


def test_reference_fills_are_those_of_the_library_and_a_model_uses_references_on_request():
    truth, model = case("a", seed=3, side=64), gap_model(GaussianResidual())
    hidden, known = np.where(truth.gap, np.nan, truth.values), ~truth.gap
    other = truth.values - 7.0
    fillers = reference_fillers()
    assert set(fillers) == set(REFERENCE_FILL_NAMES)
    for name, filler in fillers.items():
        mean, _ = fill_from_reference(name, hidden, known, [other])
        np.testing.assert_array_equal(filler(hidden, known, 0, (other,)).mean, mean)
    plain, beside = (
        model_filler(model, preset=Preset(steps=2), samples=2, with_references=use)(hidden, known, 1, (other,)).mean
        for use in (False, True)
    )
    errors = [np.abs(mean - truth.values)[truth.gap].mean() for mean in (plain, beside)]
    assert errors[1] < 0.2 * errors[0]  # the other date is the truth, but for a constant


def test_the_mean_of_an_exact_model_scores_as_kriging_and_a_sample_worse():
    cases = [case(f"s{i}", seed=i, side=64) for i in range(3)]
    model = model_filler(gap_model(GaussianResidual()), preset=PRESETS["fast"], samples=4)
    mine = {score.filler: score for score in scored(cases, classical_fillers() | {"model": model})}
    assert mine["model"].rmse == pytest.approx(mine[SMOOTHED].rmse, abs=2e-3)
    assert mine["model, one sample"].rmse > 1.2 * mine[SMOOTHED].rmse
