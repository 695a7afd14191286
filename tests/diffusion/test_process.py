import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from lacunar.diffusion.process import (
    Prediction,
    eps_from_x_0,
    learned_range_log_variance,
    p_mean_variance,
    pred_x_0_from_eps,
    pred_x_0_from_v,
    predict_x_0,
    q_posterior,
    q_sample,
    split_output,
    training_target,
    v_from_x_0_eps,
)
from lacunar.diffusion.schedule import NoiseSchedule, ScheduleName
from lacunar.errors import ModelError

SCHEDULES = {name: NoiseSchedule.named(name, 1000).respaced(100) for name in get_args(ScheduleName)}


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(params=SCHEDULES)
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    return SCHEDULES[request.param]


@pytest.mark.parametrize("case", [0, 1], ids=["linear", "cosine"])
def test_golden_values(shared: Path, case: int):
    golden = json.loads((shared / "golden" / "gaussian_diffusion.json").read_text())[case]
    schedule = NoiseSchedule.named(golden["schedule"], golden["T"]).respaced(golden["spaced"])
    x_0, eps, output, t = (torch.tensor(golden[name]) for name in ("x_0", "eps", "model_output", "t"))
    x_t = q_sample(x_0, t, eps, schedule)
    torch.testing.assert_close(x_t, torch.tensor(golden["x_t"]), rtol=1e-6, atol=1e-6)
    step = p_mean_variance(output, x_t, t, schedule)
    for name in ("mean", "log_variance", "pred_x_0"):
        torch.testing.assert_close(getattr(step, name), torch.tensor(golden[name]), rtol=1e-6, atol=1e-6, msg=name)
    torch.testing.assert_close(step.variance, torch.tensor(golden["log_variance"]).exp(), rtol=1e-5, atol=0)


def test_posterior_is_bayes_rule(schedule: NoiseSchedule):
    x_0, x_t, t = normal(3, 1, 2, 2, seed=0), normal(3, 1, 2, 2, seed=1), torch.tensor([1, 50, 99])
    mean, variance, log_variance = q_posterior(x_0, x_t, t, schedule)
    for b, i in enumerate(t.tolist()):
        # prior q(x_{t-1} | x_0) times likelihood q(x_t | x_{t-1}), by precisions
        alpha, beta, abar_prev = schedule.alphas[i], schedule.betas[i], schedule.alphas_cumprod_prev[i]
        precision = 1 / (1 - abar_prev) + alpha / beta
        information = np.sqrt(abar_prev) * x_0[b] / (1 - abar_prev) + np.sqrt(alpha) * x_t[b] / beta
        torch.testing.assert_close(mean[b], information / precision)
        torch.testing.assert_close(variance[b], torch.full_like(x_t[b], 1 / precision))
        torch.testing.assert_close(log_variance[b], variance[b].log())


def test_posterior_at_the_last_step_is_the_image(schedule: NoiseSchedule):
    x_0, x_t = normal(2, 1, 2, 2, seed=0), normal(2, 1, 2, 2, seed=1)
    mean, variance, log_variance = q_posterior(x_0, x_t, torch.tensor([0, 0]), schedule)
    torch.testing.assert_close(mean, x_0)
    assert not variance.any()
    assert torch.isfinite(log_variance).all()


def test_one_long_step_equals_many_short_ones(schedule: NoiseSchedule):
    # Noising step by step with Eq. 2 keeps the mean factor and variance that q_sample claims for x_t at once.
    factor, variance = 1.0, 0.0
    for beta in schedule.betas:
        factor, variance = factor * np.sqrt(1 - beta), variance * (1 - beta) + beta
    t, one = torch.tensor([99]), torch.ones(1, 1, 1, 1, dtype=torch.float64)
    assert q_sample(one, t, 0 * one, schedule).item() == pytest.approx(factor)
    assert q_sample(0 * one, t, one, schedule).item() == pytest.approx(np.sqrt(variance))


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_a_perfect_output_gives_x_0_back(schedule: NoiseSchedule, prediction: Prediction):
    x_0, eps, t = normal(4, 2, 3, 3, seed=2), normal(4, 2, 3, 3, seed=3), torch.tensor([0, 1, 50, 99])
    x_t = q_sample(x_0, t, eps, schedule)
    target = training_target(x_0, t, eps, schedule, prediction=prediction)
    torch.testing.assert_close(predict_x_0(target, x_t, t, schedule, prediction=prediction), x_0)
    with_variance = torch.cat([target, torch.full_like(target, 7.0)], dim=1)
    torch.testing.assert_close(predict_x_0(with_variance, x_t, t, schedule, prediction=prediction), x_0)


def test_conversions_are_inverse_to_each_other(schedule: NoiseSchedule):
    x_0, eps, t = normal(4, 1, 3, 3, seed=4), normal(4, 1, 3, 3, seed=5), torch.tensor([0, 3, 60, 99])
    x_t = q_sample(x_0, t, eps, schedule)
    v = v_from_x_0_eps(x_0, t, eps, schedule)
    torch.testing.assert_close(eps_from_x_0(x_t, t, x_0, schedule), eps)
    torch.testing.assert_close(pred_x_0_from_v(x_t, t, v, schedule), x_0)
    torch.testing.assert_close(pred_x_0_from_eps(x_t, t, eps, schedule), x_0)
    # x_t and v are the pair (x_0, eps) turned by an angle, so lengths are kept (Salimans & Ho 2022).
    torch.testing.assert_close(x_t**2 + v**2, x_0**2 + eps**2)


def test_v_is_the_derivative_of_x_t_by_the_angle():
    schedule = SCHEDULES["cosine"]
    x_0, eps, t = normal(1, 1, 2, 2, seed=6), normal(1, 1, 2, 2, seed=7), torch.tensor([40])
    angle = np.arccos(np.sqrt(schedule.alphas_cumprod[40]))
    step = 1e-6
    ahead, behind = (np.cos(a) * x_0 + np.sin(a) * eps for a in (angle + step, angle - step))
    torch.testing.assert_close(v_from_x_0_eps(x_0, t, eps, schedule), (ahead - behind) / (2 * step))


def test_learned_variance_runs_from_posterior_variance_to_beta(schedule: NoiseSchedule):
    t, ones = torch.tensor([1, 50, 99]), torch.ones(3, 1, 1, 1, dtype=torch.float64)
    for o, expected in (
        (-1.0, schedule.posterior_variance[t]),
        (1.0, schedule.betas[t]),
        (0.0, np.sqrt(schedule.betas[t] * schedule.posterior_variance[t])),
    ):
        variance = learned_range_log_variance(o * ones, t, schedule).exp().flatten()
        np.testing.assert_allclose(variance.numpy(), expected, rtol=1e-9)


def test_a_variance_that_is_not_learned_is_that_of_the_posterior(schedule: NoiseSchedule):
    t, x_t = torch.tensor([0, 1, 99]), normal(3, 1, 1, 1, seed=8)
    variance = p_mean_variance(x_t, x_t, t, schedule).variance.flatten()
    np.testing.assert_allclose(variance.numpy(), schedule.posterior_variance[[1, 1, 99]], rtol=1e-9)


def test_clipping_moves_the_mean_as_well(schedule: NoiseSchedule):
    x_t, t = normal(1, 1, 4, 4, seed=9), torch.tensor([60])
    output = 5 * normal(1, 1, 4, 4, seed=10)
    step = p_mean_variance(output, x_t, t, schedule, clip_x_0=(-1.0, 0.5))
    assert step.pred_x_0.min() == -1
    assert step.pred_x_0.max() == 0.5
    torch.testing.assert_close(step.mean, q_posterior(step.pred_x_0, x_t, t, schedule)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype):
    schedule, t = SCHEDULES["linear"], torch.tensor([5, 90])
    x = normal(2, 1, 2, 2, seed=11, dtype=torch.float32).to(dtype)
    assert q_sample(x, t, x, schedule).dtype == dtype
    assert all(value.dtype == dtype for value in p_mean_variance(torch.cat([x, x], 1), x, t, schedule))


def test_a_half_precision_network_does_not_lower_the_precision_of_the_image():
    schedule, t = SCHEDULES["linear"], torch.tensor([5, 90])
    x = normal(2, 1, 2, 2, seed=12, dtype=torch.float32)
    output = torch.cat([x, x], 1).bfloat16()
    step = p_mean_variance(output, x, t, schedule)
    expected = p_mean_variance(output.float(), x, t, schedule)
    for got, wanted in zip(step, expected, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


def test_split_output_without_and_with_learned_variance():
    x_t = normal(2, 3, 2, 2, seed=13)
    prediction, o = split_output(x_t, x_t)
    assert prediction is x_t
    assert o is None
    prediction, o = split_output(torch.cat([x_t, x_t + 1], 1), x_t)
    assert torch.equal(prediction, x_t)
    assert o is not None
    assert torch.equal(o, x_t + 1)


@pytest.mark.parametrize("steps", [[-1, 0], [0, 100], [999, 0]])
def test_t_outside_the_schedule(steps: list[int]):
    x = torch.zeros(2, 1, 2, 2)
    with pytest.raises(ModelError, match=rf"got t spanning {min(steps)}\.\.{max(steps)}, wanted 0\.\.99"):
        q_sample(x, torch.tensor(steps), x, SCHEDULES["linear"])


@pytest.mark.parametrize("t", [torch.tensor([1]), torch.tensor(1), torch.tensor([1.0, 2.0]), torch.tensor([[1], [2]])])
def test_t_of_wrong_shape_or_dtype(t: Tensor):
    x = torch.zeros(2, 1, 2, 2)
    with pytest.raises(ModelError, match=r"got t of dtype .* wanted torch.int64 and \(2,\)"):
        q_sample(x, t, x, SCHEDULES["linear"])


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_wrong_channel_count(channels: int):
    x_t, t = torch.zeros(2, 2, 4, 4), torch.tensor([1, 2])
    with pytest.raises(ModelError, match=r"wanted 2 or 4 channels for x_t of shape \(2, 2, 4, 4\)"):
        p_mean_variance(torch.zeros(2, channels, 4, 4), x_t, t, SCHEDULES["linear"])


def test_shapes_that_would_broadcast_are_refused():
    x, other, t = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 1, 4), torch.tensor([1, 2])
    schedule = SCHEDULES["linear"]
    with pytest.raises(ModelError, match=r"got eps of shape \(2, 1, 1, 4\), wanted \(2, 1, 4, 4\)"):
        q_sample(x, t, other, schedule)
    with pytest.raises(ModelError, match="got x_t of shape"):
        q_posterior(x, other, t, schedule)
    for convert in (pred_x_0_from_eps, pred_x_0_from_v, eps_from_x_0, v_from_x_0_eps):
        with pytest.raises(ModelError, match=r"of shape \(2, 1, 1, 4\), wanted \(2, 1, 4, 4\)"):
            convert(x, t, other, schedule)


def test_unknown_names():
    x, t = torch.zeros(1, 1, 2, 2), torch.tensor([1])
    schedule = SCHEDULES["linear"]
    with pytest.raises(ModelError, match="got prediction 'score', wanted one of epsilon, v, x_0"):
        predict_x_0(x, x, t, schedule, prediction="score")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="got prediction 'score', wanted one of epsilon, v, x_0"):
        training_target(x, t, x, schedule, prediction="score")  # type: ignore[arg-type]
