"""Solvers of higher order against the closed form of the probability flow, and UniPC against diffusers itself."""

import warnings
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lacunar.diffusion.sampling import ddim_sample, warm_start, warm_steps
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import adams_sample, dpm_solver_pp_2m_sample, heun_sample
from lacunar.diffusion.unipc import unipc_sample
from lacunar.errors import ModelError
from oracles import GaussianDenoiser, exact_flow

LINEAR, COSINE = NoiseSchedule.linear(1000), NoiseSchedule.cosine(1000)
SECOND_ORDER = (dpm_solver_pp_2m_sample, heun_sample, adams_sample, unipc_sample)
ALL = (ddim_sample, *SECOND_ORDER)
all_solvers = pytest.mark.parametrize("sample", ALL)
MEAN, VARIANCE = 0.5, 0.25


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


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


@pytest.mark.parametrize("training", [LINEAR, COSINE], ids=["linear", "cosine"])
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
    # Halving the steps of order 2 divides the error by 4; UniPC's corrector makes it a little more.
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
                (heun_sample, 5),
            )
        }
        assert low < gains[ddim_sample] < high
        assert gains[dpm_solver_pp_2m_sample] > 1.1
        assert abs(gains[adams_sample] - 1) < 0.035
        assert abs(gains[heun_sample] - 1) < 0.045  # 9 evaluations


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
    torch.testing.assert_close(unipc_sample(denoiser, x_T, schedule), expected, rtol=1e-5, atol=1e-5)


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

    sample(denoiser, normal(1, 1, 2, 2), COSINE.respaced(4), callback=lambda *call: calls.append(call))
    expected = [999, 666, 666, 333, 333, 0, 0] if sample is heun_sample else [999, 666, 333, 0]
    assert seen == expected
    assert calls == [(done, len(expected)) for done in range(1, len(expected) + 1)]


@all_solvers
def test_no_gradient_is_recorded_dtype_is_kept_and_clipping_bounds_the_image(sample):
    weight = torch.ones(1, requires_grad=True)
    x_T = normal(1, 1, 2, 2, dtype=torch.float32)
    x = sample(lambda x_t, t: weight * x_t, x_T, COSINE.respaced(5), clip_x_0=(-0.2, 0.1))
    assert not x.requires_grad
    assert x.dtype == torch.float32
    assert x.min() >= -0.2 - 1e-6
    assert x.max() <= 0.1 + 1e-6


@all_solvers
def test_equal_noise_gives_the_equal_image_and_opposite_noise_the_mirrored_one(sample):
    x_T, schedule = normal(2, 1, 1, 1), COSINE.respaced(6)
    denoiser = GaussianDenoiser(torch.zeros(1), torch.tensor([[0.3]]), COSINE)
    x = sample(denoiser, x_T, schedule)
    assert torch.equal(sample(denoiser, x_T, schedule), x)
    torch.testing.assert_close(sample(denoiser, -x_T, schedule), -x)


# --- warm start ---


@all_solvers
def test_a_warm_start_begins_from_the_noised_guess_and_takes_fewer_evaluations(sample):
    schedule, guess, x_T = COSINE.respaced(10), torch.full((2, 1, 2, 2), 0.7).double(), normal(2, 1, 2, 2)
    seen: list[Tensor] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(x_t)
        assert int(t[0]) in schedule.timesteps[:4]
        return torch.zeros_like(x_t)

    sample(denoiser, x_T, schedule, start=guess, strength=0.4)
    assert len(seen) == (7 if sample is heun_sample else 4)
    abar = float(schedule.alphas_cumprod[3])
    torch.testing.assert_close(seen[0], abar**0.5 * guess + (1 - abar) ** 0.5 * x_T)


@all_solvers
def test_a_perfect_guess_is_kept_and_the_deviation_is_that_of_the_data(sample):
    # From x_t ~ q(x_t | x_0) with x_0 drawn from the data, the flow gives draws of the data again, at any strength.
    n = 5000
    x_0 = MEAN + VARIANCE**0.5 * normal(n, 1, 1, 1, seed=3)
    x = sample(one_pixel(COSINE), normal(n, 1, 1, 1), COSINE.respaced(50), start=x_0, strength=0.5)
    assert x.mean().item() == pytest.approx(MEAN, abs=0.03)  # four standard errors
    assert x.std().item() == pytest.approx(VARIANCE**0.5, rel=0.05)
    assert torch.corrcoef(torch.stack([x.flatten(), x_0.flatten()]))[0, 1] > 0.4


def test_bad_warm_starts_are_refused():
    x_T, schedule = torch.zeros(2, 1, 2, 2), COSINE.respaced(5)
    assert warm_start(x_T, schedule) == (x_T, 5)
    for strength in (0.0, -0.5, 1.5, float("nan")):
        with pytest.raises(ModelError, match=f"got strength {strength:g}, wanted a share of the steps above 0"):
            warm_steps(10, strength)
    with pytest.raises(ModelError, match=r"got strength 0\.5 without a start, wanted a first guess"):
        warm_start(x_T, schedule, strength=0.5)
    with pytest.raises(ModelError, match="wanted"):
        warm_start(x_T, schedule, start=torch.zeros(2, 1, 3, 3), strength=0.5)


@all_solvers
def test_bad_input(sample):
    x_T, schedule = normal(2, 1, 2, 2), COSINE.respaced(5)
    with pytest.raises(ModelError, match="wanted 1 or 2 channels for x_t"):
        sample(lambda x_t, t: x_t.repeat(1, 3, 1, 1), x_T, schedule)
    with pytest.raises(ModelError, match="got prediction 'noise', wanted one of epsilon, v, x_0"):
        sample(lambda x_t, t: x_t, x_T, schedule, prediction="noise")
