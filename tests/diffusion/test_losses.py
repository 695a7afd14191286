import json
import math
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from lacunar.diffusion.losses import (
    discretised_log_likelihood,
    l_hybrid,
    l_simple,
    l_vlb,
    normal_kl,
    normal_log_density,
)
from lacunar.diffusion.process import Prediction, p_mean_variance, q_posterior, q_sample, training_target
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError
from oracles import ExactReverseDenoiser

SCHEDULE = NoiseSchedule.linear(1000).respaced(100)
LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1  # the 8-bit values on [-1, 1]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("case", [0, 1], ids=["linear", "cosine"])
def test_golden_bits_per_dimension(shared: Path, case: int):
    golden = json.loads((shared / "golden" / "gaussian_diffusion.json").read_text())[case]
    schedule = NoiseSchedule.named(golden["schedule"], golden["T"]).respaced(golden["spaced"])
    x_0, x_t, output, t = (torch.tensor(golden[name]) for name in ("x_0", "x_t", "model_output", "t"))
    bits = l_vlb(output, x_0, x_t, t, schedule)
    expected = torch.tensor(golden["vlb_bits_per_dim"])
    torch.testing.assert_close(bits[1], expected[1], rtol=1e-5, atol=0)
    # t = 0: the golden file approximates the Gaussian CDF by a tanh, ours is exact. With that tanh our mean and
    # variance give the golden number; with the exact CDF it moves by less than 2e-4 bits.
    p = p_mean_variance(output, x_t, t, schedule)
    edges = [(x_0 - p.mean + side / 255) * torch.exp(-0.5 * p.log_variance) for side in (1, -1)]
    upper, lower = (0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) for z in edges)
    torch.testing.assert_close(-torch.log2(upper - lower)[0].mean(), expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(bits[0], expected[0], rtol=0, atol=2e-4)


def test_kl_and_density_agree_with_torch_distributions():
    mean_1, mean_2, x = normal(50, seed=0), normal(50, seed=1), normal(50, seed=2)
    log_variance_1, log_variance_2 = 3 * normal(50, seed=3), 3 * normal(50, seed=4)
    one, two = Normal(mean_1, (log_variance_1 / 2).exp()), Normal(mean_2, (log_variance_2 / 2).exp())
    torch.testing.assert_close(normal_kl(mean_1, log_variance_1, mean_2, log_variance_2), kl_divergence(one, two))
    torch.testing.assert_close(normal_log_density(x, mean_1, log_variance_1), one.log_prob(x))


def test_l_vlb_is_the_kl_of_the_two_reverse_steps():
    x_0, eps, output = normal(3, 1, 4, 4, seed=5), normal(3, 1, 4, 4, seed=6), normal(3, 2, 4, 4, seed=7)
    t = torch.tensor([1, 40, 99])
    x_t = q_sample(x_0, t, eps, SCHEDULE)
    q_mean, q_variance, _ = q_posterior(x_0, x_t, t, SCHEDULE)
    p = p_mean_variance(output, x_t, t, SCHEDULE)
    nats = kl_divergence(Normal(q_mean, q_variance.sqrt()), Normal(p.mean, p.variance.sqrt())).flatten(1).mean(1)
    torch.testing.assert_close(l_vlb(output, x_0, x_t, t, SCHEDULE), nats / math.log(2))


def test_float_rasters_use_the_density_at_the_last_step():
    x_0, eps, output = normal(2, 1, 4, 4, seed=8), normal(2, 1, 4, 4, seed=9), normal(2, 2, 4, 4, seed=10)
    t = torch.tensor([0, 0])
    x_t = q_sample(x_0, t, eps, SCHEDULE)
    p = p_mean_variance(output, x_t, t, SCHEDULE)
    bits = -Normal(p.mean, p.variance.sqrt()).log_prob(x_0).flatten(1).mean(1) / math.log(2)
    torch.testing.assert_close(l_vlb(output, x_0, x_t, t, SCHEDULE, discretised=False), bits)


def test_whole_bound_of_the_exact_model_is_the_entropy_of_the_data():
    # With q(x_{t-1} | x_t) itself as p, the bound is tight: it sums to -E[log2 p(x_0)], the entropy of N(0.3, 0.5^2).
    variance, n = 0.25, 20_000
    schedule = NoiseSchedule.linear(1000).respaced(20)
    denoiser = ExactReverseDenoiser(0.3, variance, schedule)
    x_0 = 0.3 + variance**0.5 * normal(n, 1, 1, 1, seed=11)
    total = 0.0
    for i in range(20):
        t = torch.full((n,), i)
        x_t = q_sample(x_0, t, normal(n, 1, 1, 1, seed=100 + i), schedule)
        output = denoiser(x_t, torch.as_tensor(schedule.timesteps.copy())[t])
        total += l_vlb(output, x_0, x_t, t, schedule, discretised=False).mean().item()
    entropy = 0.5 * math.log2(2 * math.pi * math.e * variance)
    # The prior's term is below 1e-4 bits here; the Monte Carlo error of 20,000 draws is about 0.01.
    assert total == pytest.approx(entropy, abs=0.03)


def test_discretised_likelihood_is_a_probability_over_the_256_levels():
    for mean, log_variance in ((0.0, -2.0), (-0.99, -9.0), (1.7, -4.0), (0.2, -12.0)):
        log_p = discretised_log_likelihood(LEVELS, torch.full_like(LEVELS, mean), torch.full_like(LEVELS, log_variance))
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)
        assert log_p.max() <= 0


def test_discretised_likelihood_of_an_inner_bin_is_the_difference_of_cdfs():
    x = LEVELS[1:-1]
    mean, log_variance = torch.full_like(x, 0.1), torch.full_like(x, -3.0)
    gaussian = Normal(mean, (log_variance / 2).exp())
    mass = gaussian.cdf(x + 1 / 255) - gaussian.cdf(x - 1 / 255)
    torch.testing.assert_close(discretised_log_likelihood(x, mean, log_variance).exp(), mass, rtol=1e-9, atol=1e-14)


def test_discretised_likelihood_keeps_its_digits_far_out():
    # 1.5 units are 135 sigmas here: a difference of CDFs would be 0 - 0, with a gradient of 0 or NaN.
    results = []
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=dtype)
        log_variance = torch.full_like(x, -9.0, requires_grad=True)
        log_p = discretised_log_likelihood(x, torch.full_like(x, 1.5), log_variance)
        log_p.sum().backward()
        assert log_variance.grad is not None
        results.append((log_p.double(), log_variance.grad.double()))
    (value, gradient), (wanted_value, wanted_gradient) = results
    torch.testing.assert_close(value, wanted_value, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, wanted_gradient, rtol=0.02, atol=0)


def test_a_diverged_prediction_does_not_make_the_loss_nan():
    x = torch.zeros(3)
    for mean in (30.0, 3000.0, 1e6):
        log_variance = torch.zeros(3, requires_grad=True)
        log_p = discretised_log_likelihood(x, torch.full_like(x, mean), log_variance)
        log_p.sum().backward()
        assert torch.isfinite(log_p).all()
        assert log_variance.grad is not None
        assert torch.isfinite(log_variance.grad).all()


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_l_simple_is_zero_for_the_target_and_its_squared_distance_else(prediction: Prediction):
    x_0, eps, t = normal(3, 1, 4, 4, seed=12), normal(3, 1, 4, 4, seed=13), torch.tensor([0, 50, 99])
    target = training_target(x_0, t, eps, SCHEDULE, prediction=prediction)
    assert not l_simple(target, x_0, eps, t, SCHEDULE, prediction=prediction).any()
    off = target + torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    loss = l_simple(off, x_0, eps, t, SCHEDULE, prediction=prediction)
    torch.testing.assert_close(loss, torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64))


def test_region_limits_the_loss_to_the_gap():
    x_0, t = torch.zeros(3, 2, 4, 4), torch.tensor([0, 50, 99])
    output, gap = torch.full_like(x_0, 3.0), torch.zeros(3, 1, 4, 4, dtype=torch.bool)
    output[:, :, 0] = 1.0
    gap[0, :, 0] = True  # only where the error is 1
    gap[1, :, :2] = True  # half 1, half 9
    loss = l_simple(output, x_0, torch.zeros_like(x_0), t, SCHEDULE, region=gap)
    assert loss.tolist() == [1.0, 5.0, 0.0]  # the third gap is empty
    weighted = l_simple(output, x_0, torch.zeros_like(x_0), t, SCHEDULE, region=0.25 * gap.float())
    torch.testing.assert_close(weighted, loss)


def test_region_of_l_vlb_leaves_the_rest_out():
    x_0, eps, output = normal(2, 1, 4, 4, seed=14), normal(2, 1, 4, 4, seed=15), normal(2, 2, 4, 4, seed=16)
    t, top = torch.tensor([0, 50]), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    top[:, :, :2] = True
    x_t = q_sample(x_0, t, eps, SCHEDULE)
    cropped = l_vlb(output[:, :, :2], x_0[:, :, :2], x_t[:, :, :2], t, SCHEDULE)
    torch.testing.assert_close(l_vlb(output, x_0, x_t, t, SCHEDULE, region=top), cropped)


def test_l_hybrid_adds_the_bound_with_lambda_times_t():
    x_0, eps, output = normal(2, 1, 4, 4, seed=17), normal(2, 1, 4, 4, seed=18), normal(2, 2, 4, 4, seed=19)
    t = torch.tensor([0, 50])
    x_t = q_sample(x_0, t, eps, SCHEDULE)
    simple, vlb = l_simple(output, x_0, eps, t, SCHEDULE), l_vlb(output, x_0, x_t, t, SCHEDULE)
    torch.testing.assert_close(l_hybrid(output, x_0, eps, t, SCHEDULE), simple + 0.1 * vlb)  # 0.001 * 100 steps


def test_l_hybrid_teaches_the_mean_by_l_simple_alone_and_the_variance_by_the_bound_alone():
    x_0, eps, t = normal(2, 1, 4, 4, seed=20), normal(2, 1, 4, 4, seed=21), torch.tensor([3, 50])
    output = normal(2, 2, 4, 4, seed=22).requires_grad_()
    (hybrid,) = torch.autograd.grad(l_hybrid(output, x_0, eps, t, SCHEDULE).sum(), output)
    (simple,) = torch.autograd.grad(l_simple(output, x_0, eps, t, SCHEDULE).sum(), output)
    torch.testing.assert_close(hybrid[:, :1], simple[:, :1])
    assert not simple[:, 1:].any()
    assert hybrid[:, 1:].all()


def test_bad_input():
    x_0, t = torch.zeros(2, 1, 4, 4), torch.tensor([0, 50])
    with pytest.raises(ModelError, match="got denoiser output of 1 channels, wanted 2: L_hybrid needs"):
        l_hybrid(x_0, x_0, x_0, t, SCHEDULE)
    with pytest.raises(ModelError, match="wanted 1 or 2 channels"):
        l_simple(torch.zeros(2, 3, 4, 4), x_0, x_0, t, SCHEDULE)
    with pytest.raises(ModelError, match=r"got eps of shape \(2, 1, 4, 1\), wanted \(2, 1, 4, 4\)"):
        l_simple(x_0, x_0, x_0[..., :1], t, SCHEDULE)
    with pytest.raises(ModelError, match=r"got region of shape \(3, 3\), wanted one that broadcasts to \(2, 1, 4, 4\)"):
        l_simple(x_0, x_0, x_0, t, SCHEDULE, region=torch.ones(3, 3))
    with pytest.raises(ModelError, match=r"got t spanning 0\.\.100, wanted 0\.\.99"):
        l_vlb(x_0, x_0, x_0, torch.tensor([0, 100]), SCHEDULE)
