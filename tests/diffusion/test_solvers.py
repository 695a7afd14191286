"""Samplers and solvers against closed forms of Gaussian data, and against diffusers' own."""

import warnings
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import (
    adams_sample,
    ddim_sample,
    ddpm_sample,
    ddpm_step,
    dpm_solver_pp_2m_sample,
    noise_like,
    with_progress,
)
from lacunar.errors import ModelError
from oracles import ExactReverseDenoiser, GaussianDenoiser, exact_flow

LINEAR, COSINE = NoiseSchedule.linear(1000), NoiseSchedule.cosine(1000)
SECOND_ORDER = (dpm_solver_pp_2m_sample, adams_sample)
DETERMINISTIC = (ddim_sample, *SECOND_ORDER)
ALL = (ddpm_sample, *DETERMINISTIC)
both_schedules = pytest.mark.parametrize("training", [LINEAR, COSINE], ids=["linear", "cosine"])
all_solvers = pytest.mark.parametrize("sample", ALL)
MEAN, VARIANCE = 0.5, 0.25


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def one_pixel(training: NoiseSchedule, prediction: str = "epsilon", variance: float = VARIANCE) -> GaussianDenoiser:
    return GaussianDenoiser(torch.tensor([MEAN]), torch.tensor([[variance]]), training, prediction)


def limit(x_T: Tensor, training: NoiseSchedule) -> Tensor:
    """Where a solver tends to with many steps: the exact flow down to step 0, then E[x_0 | x_t] there, as no network
    knows a noise of 0. The two differ from the exact flow to the clean image by less than 1e-4.
    """
    last, first = (float(training.alphas_cumprod[index]) for index in (-1, 0))
    deviations = (x_T - last**0.5 * MEAN) / (last * VARIANCE + 1 - last) ** 0.5
    spread = (first * VARIANCE + 1 - first) ** 0.5
    answer = MEAN + first**0.5 * VARIANCE / spread * deviations
    torch.testing.assert_close(answer, exact_flow(x_T, MEAN, VARIANCE, last), rtol=0, atol=5e-4)
    return answer


def share_of_the_deviation(sample, x_T: Tensor, variance: float, schedule: NoiseSchedule) -> float:
    """What is left of the data's deviation where x_T is carried to the data, 1 in the exact flow."""
    x = sample(one_pixel(COSINE, variance=variance), x_T, schedule)
    exact = exact_flow(x_T, MEAN, variance, float(COSINE.alphas_cumprod[-1]))
    return ((x - MEAN) * (exact - MEAN)).sum().item() / ((exact - MEAN) ** 2).sum().item()


@both_schedules
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
@pytest.mark.parametrize("sample", SECOND_ORDER)
def test_the_solvers_converge_to_the_exact_flow_at_order_two(sample, training: NoiseSchedule, prediction: str):
    x_T = normal(64, 1, 1, 1)
    exact, denoiser = limit(x_T, training), one_pixel(training, prediction)
    if sample is adams_sample:  # its last step extrapolates to the clean image
        exact = exact_flow(x_T, MEAN, VARIANCE, float(training.alphas_cumprod[-1]))
    errors = [
        (sample(denoiser, x_T, training.respaced(n), prediction=prediction) - exact).abs().mean().item()
        for n in (40, 80, 160)
    ]
    # Halving the steps of order 2 divides the error by 4.
    ratios = [coarse / fine for coarse, fine in pairwise(errors)]
    assert errors[-1] < 3e-3
    assert all(3.6 < ratio < 5 for ratio in ratios), ratios


def test_at_the_same_cost_the_angle_keeps_the_spread_of_a_gaussian():
    # Share of the true deviation that 10 evaluations keep: DDIM .84 and .87, DPM-Solver++(2M) 1.29 and 1.11.
    x_T = normal(64, 1, 1, 1)
    for variance, low, high in ((VARIANCE, 0.84, 0.85), (1.0, 0.87, 0.88)):
        gains = {
            sample: share_of_the_deviation(sample, x_T, variance, COSINE.respaced(steps))
            for sample, steps in (
                (ddim_sample, 10),
                (dpm_solver_pp_2m_sample, 10),
                (adams_sample, 10),
            )
        }
        assert low < gains[ddim_sample] < high
        assert gains[dpm_solver_pp_2m_sample] > 1.1
        assert abs(gains[adams_sample] - 1) < 0.035


def test_few_steps_do_more_where_none_is_spent_next_to_the_clean_image():
    x_T = normal(64, 1, 1, 1)
    for steps, even, trailing in ((2, 0.0, 0.5), (5, 0.73, 0.78), (10, 0.87, 0.88)):
        found = [COSINE.respaced(steps, spacing=spacing) for spacing in ("linspace", "trailing")]
        shares = [share_of_the_deviation(ddim_sample, x_T, 1.0, schedule) for schedule in found]
        assert shares == pytest.approx([even, trailing], abs=0.01)
    two = COSINE.respaced(2, spacing="trailing")
    assert share_of_the_deviation(adams_sample, x_T, 1.0, two) == pytest.approx(1.0, abs=0.01)
    assert 0.85 < share_of_the_deviation(adams_sample, x_T, VARIANCE, COSINE.respaced(5, spacing="trailing")) < 0.95


def test_the_first_and_the_last_step_of_the_multistep_solvers_are_those_of_ddim():
    x_T, schedule = normal(3, 1, 2, 2), COSINE.respaced(2)
    denoiser = GaussianDenoiser(torch.linspace(-1, 1, 4), torch.eye(4) * 0.3 + 0.1, COSINE)
    expected = ddim_sample(denoiser, x_T, schedule)
    torch.testing.assert_close(dpm_solver_pp_2m_sample(denoiser, x_T, schedule), expected)


def test_dpm_solver_agrees_with_diffusers():
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

    schedule, x_T = LINEAR.respaced(12), normal(3, 1, 2, 2)
    denoiser = GaussianDenoiser(torch.linspace(-1, 1, 4), torch.eye(4) * 0.3 + 0.1, LINEAR, "x_0")
    theirs = DPMSolverMultistepScheduler(
        12, trained_betas=schedule.betas, prediction_type="sample", lower_order_final=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs.set_timesteps(12)
    theirs.sigmas = torch.tensor([*((1 / schedule.alphas_cumprod - 1) ** 0.5)[::-1], 0.0])
    theirs.timesteps = torch.arange(11, -1, -1)
    x = x_T
    for t in theirs.timesteps:
        x = theirs.step(denoiser(x, torch.full((3,), int(schedule.timesteps[t]))), t, x).prev_sample
    torch.testing.assert_close(dpm_solver_pp_2m_sample(denoiser, x_T, schedule, prediction="x_0"), x)


@all_solvers
def test_one_step_gives_the_predicted_image(sample):
    x_T = normal(2, 1, 1, 1)
    denoiser = one_pixel(LINEAR, "x_0")
    x = sample(denoiser, x_T, LINEAR.respaced(1), prediction="x_0")
    torch.testing.assert_close(x, denoiser(x_T, torch.tensor([999, 999])))


@all_solvers
def test_each_evaluation_is_counted_and_the_network_is_given_training_timesteps(sample):
    calls: list[tuple[int, int]] = []
    seen: list[int] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(int(t[0]))
        return torch.zeros_like(x_t)

    reported = with_progress(denoiser, 4, lambda *call: calls.append(call))
    sample(reported, normal(1, 1, 2, 2), COSINE.respaced(4))
    assert seen == [999, 666, 333, 0]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


@all_solvers
def test_no_gradient_is_recorded_dtype_is_kept_and_clipping_bounds_the_image(sample):
    weight = torch.ones(1, requires_grad=True)
    x_T = normal(1, 1, 2, 2, dtype=torch.float32)
    x = sample(lambda x_t, t: weight * x_t, x_T, COSINE.respaced(5), clip_x_0=(-0.2, 0.1))
    assert not x.requires_grad
    assert x.dtype == torch.float32
    assert x.min() >= -0.2 - 1e-6
    assert x.max() <= 0.1 + 1e-6


@pytest.mark.parametrize("sample", DETERMINISTIC)
def test_equal_noise_gives_the_equal_image_and_opposite_noise_the_mirrored_one(sample):
    x_T, schedule = normal(2, 1, 1, 1), COSINE.respaced(6)
    denoiser = GaussianDenoiser(torch.zeros(1), torch.tensor([[0.3]]), COSINE)
    x = sample(denoiser, x_T, schedule)
    assert torch.equal(sample(denoiser, x_T, schedule), x)
    torch.testing.assert_close(sample(denoiser, -x_T, schedule), -x)


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


def test_noise_is_standard_normal_in_the_dtype_asked():
    noise = noise_like(torch.zeros(1, 1, 200, 200, dtype=torch.float32), generator())
    assert noise.dtype == torch.float32
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)


@all_solvers
def test_bad_input(sample):
    x_T, schedule = normal(2, 1, 2, 2), COSINE.respaced(5)
    with pytest.raises(ModelError, match="wanted 1 or 2 channels for x_t"):
        sample(lambda x_t, t: x_t.repeat(1, 3, 1, 1), x_T, schedule)
    with pytest.raises(ModelError, match="got prediction 'noise', wanted one of epsilon, v, x_0"):
        sample(lambda x_t, t: x_t, x_T, schedule, prediction="noise")
    if sample is ddim_sample:
        for eta in (-0.1, 1.1, float("nan")):
            with pytest.raises(ModelError, match=f"got eta {eta}, wanted 0"):
                sample(lambda x_t, t: x_t, x_T, schedule, eta=eta)


def test_a_step_outside_the_schedule_is_refused():
    for t in (-1, 5):
        with pytest.raises(ModelError, match=rf"got step {t}, wanted 0\.\.4"):
            ddpm_step(lambda x_t, t: x_t, normal(2, 1, 2, 2), t, COSINE.respaced(5))
