from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lacunar.diffusion.sampling import ddim_sample, ddpm_sample, ddpm_step, noise_like
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError
from oracles import ExactReverseDenoiser, GaussianDenoiser, exact_flow

LINEAR, COSINE = NoiseSchedule.linear(1000), NoiseSchedule.cosine(1000)
both_schedules = pytest.mark.parametrize("training", [LINEAR, COSINE], ids=["linear", "cosine"])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def one_pixel(training: NoiseSchedule, prediction: str = "epsilon") -> GaussianDenoiser:
    return GaussianDenoiser(torch.tensor([0.5]), torch.tensor([[0.25]]), training, prediction)


@both_schedules
@pytest.mark.parametrize("steps", [4, 20])
def test_ddpm_with_the_exact_variance_is_unbiased_at_any_number_of_steps(training: NoiseSchedule, steps: int):
    schedule, n = training.respaced(steps), 40_000
    x = ddpm_sample(ExactReverseDenoiser(0.5, 0.25, schedule), normal(n, 1, 1, 1), schedule, generator=generator())
    # Standard errors of 40,000 draws: 0.0025 of the mean, 0.0018 of the variance; four of each allowed.
    assert x.mean().item() == pytest.approx(0.5, abs=0.010)
    assert x.var().item() == pytest.approx(0.25, abs=0.007)


@both_schedules
@pytest.mark.parametrize("prediction", ["epsilon", "v", "x_0"])
def test_ddpm_reaches_mean_and_variance_with_many_steps(training: NoiseSchedule, prediction: str):
    x = ddpm_sample(
        one_pixel(training, prediction),
        normal(20_000, 1, 1, 1),
        training.respaced(250),
        prediction=prediction,
        generator=generator(),
    )
    # Fixed small variance is too small by about 5 % at 250 steps, and sampling adds 1 % (one standard error).
    assert x.mean().item() == pytest.approx(0.5, abs=0.015)
    assert x.var().item() == pytest.approx(0.25, rel=0.08)


def test_small_and_large_variance_bracket_the_truth():
    schedule = LINEAR.respaced(50)
    small, large = (
        ddpm_sample(one_pixel(LINEAR), normal(20_000, 1, 1, 1), schedule, fixed_variance=v, generator=generator())
        for v in ("small", "large")
    )
    assert small.var() < 0.24
    assert large.var() > 0.255


def test_ddpm_reaches_the_covariance_of_neighbouring_pixels():
    mean, covariance = torch.tensor([0.5, -1.0]), torch.tensor([[0.6, -0.3], [-0.3, 0.4]])
    denoiser = GaussianDenoiser(mean, covariance, COSINE)
    x = ddpm_sample(denoiser, normal(10_000, 1, 1, 2), COSINE.respaced(250), generator=generator()).flatten(1)
    torch.testing.assert_close(x.mean(0), mean.double(), rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(x.T), covariance.double(), rtol=0, atol=0.04)


@both_schedules
@pytest.mark.parametrize("prediction", ["epsilon", "v", "x_0"])
def test_ddim_converges_to_the_exact_flow_at_order_one(training: NoiseSchedule, prediction: str):
    x_T = normal(64, 1, 1, 1)
    exact = exact_flow(x_T, 0.5, 0.25, float(training.alphas_cumprod[-1]))
    errors = [
        (ddim_sample(one_pixel(training, prediction), x_T, training.respaced(n), prediction=prediction) - exact)
        .abs()
        .mean()
        .item()
        for n in (20, 40, 80, 160)
    ]
    ratios = [coarse / fine for coarse, fine in pairwise(errors)]
    assert errors[-1] < 0.01
    assert all(1.9 < ratio < 2.1 for ratio in ratios), ratios


def test_ddim_agrees_with_diffusers():
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    schedule, x_T = NoiseSchedule.linear(50), normal(3, 1, 2, 2)
    denoiser = GaussianDenoiser(torch.linspace(-1, 1, 4), torch.eye(4) * 0.3 + 0.1, schedule)
    theirs = DDIMScheduler(50, trained_betas=schedule.betas, clip_sample=False, set_alpha_to_one=True)
    theirs.set_timesteps(50)
    x = x_T
    for t in theirs.timesteps:
        x = theirs.step(denoiser(x, t.repeat(3)), t, x).prev_sample
    torch.testing.assert_close(ddim_sample(denoiser, x_T, schedule), x, rtol=1e-4, atol=1e-5)  # theirs holds float32


def test_ddim_at_eta_one_is_ddpm_with_small_variance():
    schedule, x_T = COSINE.respaced(30), normal(4, 1, 3, 3)
    denoiser = GaussianDenoiser(torch.zeros(9), torch.eye(9) * 0.5, COSINE)
    ddim = ddim_sample(denoiser, x_T, schedule, eta=1.0, generator=generator(5))
    torch.testing.assert_close(ddim, ddpm_sample(denoiser, x_T, schedule, generator=generator(5)))


def test_the_network_is_given_training_timesteps_downwards():
    schedule, seen = LINEAR.respaced(4), []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        assert t.dtype == torch.int64
        assert t.shape == (2,)
        seen.append(t.tolist())
        return torch.zeros_like(x_t)

    for sample in (ddpm_sample, ddim_sample):
        seen.clear()
        sample(denoiser, normal(2, 1, 2, 2), schedule)
        assert seen == [[999, 999], [666, 666], [333, 333], [0, 0]]


@pytest.mark.parametrize("sample", [ddpm_sample, ddim_sample])
def test_callback_counts_evaluations(sample):
    calls: list[tuple[int, int]] = []
    sample(one_pixel(COSINE), normal(1, 1, 1, 1), COSINE.respaced(3), callback=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("eta", [None, 0.5])
def test_randomness_comes_from_the_generator_alone(eta: float | None):
    def sample(seed: int) -> Tensor:
        x_T, schedule = normal(2, 1, 1, 1), COSINE.respaced(5)
        if eta is None:
            return ddpm_sample(one_pixel(COSINE), x_T, schedule, generator=generator(seed))
        return ddim_sample(one_pixel(COSINE), x_T, schedule, eta=eta, generator=generator(seed))

    before = torch.random.get_rng_state()
    assert torch.equal(sample(0), sample(0))
    assert not torch.equal(sample(0), sample(1))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_last_step_adds_no_noise_and_clipping_bounds_it():
    schedule, x_t = COSINE.respaced(10), normal(2, 1, 3, 3)
    denoiser = GaussianDenoiser(torch.zeros(9), torch.eye(9), COSINE)
    one, two = (ddpm_step(denoiser, x_t, 0, schedule, generator=generator(s)) for s in (0, 1))
    assert torch.equal(one, two)
    for sample in (ddpm_sample, ddim_sample):
        x = sample(denoiser, 3 * x_t, schedule, clip_x_0=(-0.2, 0.1), generator=generator())
        assert x.min() >= -0.2 - 1e-12
        assert x.max() <= 0.1 + 1e-12


@pytest.mark.parametrize("sample", [ddpm_sample, ddim_sample])
def test_one_step_gives_the_predicted_image(sample):
    x_T = normal(2, 1, 1, 1)
    x = sample(one_pixel(LINEAR, "x_0"), x_T, LINEAR.respaced(1), prediction="x_0")
    torch.testing.assert_close(x, one_pixel(LINEAR, "x_0")(x_T, torch.tensor([999, 999])))


def test_no_gradient_is_recorded_and_dtype_is_kept():
    weight = torch.ones(1, requires_grad=True)
    for sample in (ddpm_sample, ddim_sample):
        x = sample(lambda x_t, t: weight * x_t, normal(1, 1, 2, 2, dtype=torch.float32), COSINE.respaced(3))
        assert not x.requires_grad
        assert x.dtype == torch.float32


def test_noise_is_standard_normal_in_the_dtype_asked():
    noise = noise_like(torch.zeros(1, 1, 200, 200, dtype=torch.float32), generator())
    assert noise.dtype == torch.float32
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


def test_bad_input():
    x_T, schedule = normal(2, 1, 2, 2), COSINE.respaced(5)
    with pytest.raises(ModelError, match="wanted 1 or 2 channels for x_t"):
        ddpm_sample(lambda x_t, t: x_t.repeat(1, 3, 1, 1), x_T, schedule)
    with pytest.raises(ModelError, match="wanted 1 or 2 channels for x_t"):
        ddim_sample(lambda x_t, t: x_t.repeat(1, 3, 1, 1), x_T, schedule)
    for eta in (-0.1, 1.1, float("nan")):
        with pytest.raises(ModelError, match=f"got eta {eta}, wanted 0"):
            ddim_sample(lambda x_t, t: x_t, x_T, schedule, eta=eta)
    for t in (-1, 5):
        with pytest.raises(ModelError, match=rf"got step {t}, wanted 0\.\.4"):
            ddpm_step(lambda x_t, t: x_t, x_T, t, schedule)
    with pytest.raises(ModelError, match="got prediction 'noise', wanted one of epsilon, v, x_0"):
        ddim_sample(lambda x_t, t: x_t, x_T, schedule, prediction="noise")  # type: ignore[arg-type]
