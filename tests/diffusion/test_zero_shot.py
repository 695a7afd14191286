"""Zero-shot samplers against the exact conditional mean of a Gaussian."""

import pytest
import torch
from torch import Tensor

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.zero_shot import ddnm_sample, diffpir_sample, pigdm_sample
from lacunar.errors import ModelError
from oracles import GaussianDenoiser

COSINE = NoiseSchedule.cosine(1000)
TWO_PIXELS = GaussianDenoiser(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]), COSINE)
SIX_PIXELS = GaussianDenoiser(torch.zeros(6), torch.eye(6) * 0.5 + 0.5, COSINE)
SAMPLERS = (ddnm_sample, diffpir_sample, pigdm_sample)
all_samplers = pytest.mark.parametrize("sample", SAMPLERS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def fill_second_pixel(sample, steps: int, n: int = 1500, **options) -> Tensor:
    """Samples of x_2 | x_1 = 1.5, which is N(1.2, 0.36)."""
    image = torch.tensor([1.5, float("nan")], dtype=torch.float64).expand(n, 1, 1, 2)
    known, x_T = torch.tensor([[True, False]]), normal(n, 1, 1, 2)
    return sample(TWO_PIXELS, image, known, x_T, COSINE.respaced(steps), generator=generator(), **options)[..., 1]


# The samplers are approximations, and these are their measured biases: DDNM's and DiffPIR's mean is 5 to 6 % low at 100
# steps and nears the exact one with more, their spread stays too small; PiGDM's mean is 5 % low at any number of steps,
# for it takes the pixels as independent. 1500 draws add 0.015 (one standard error).
@pytest.mark.parametrize(
    ("sample", "steps", "mean", "variance"),
    [
        (ddnm_sample, 100, 1.14, 0.28),
        (diffpir_sample, 100, 1.12, 0.19),
        (pigdm_sample, 10, 1.14, 0.24),
        (pigdm_sample, 100, 1.145, 0.36),
    ],
)
def test_they_come_near_the_exact_conditional_gaussian(sample, steps: int, mean: float, variance: float):
    x = fill_second_pixel(sample, steps)
    assert x.mean().item() == pytest.approx(mean, abs=0.045)
    assert x.var().item() == pytest.approx(variance, abs=0.045)
    assert abs(x.mean().item() - 1.2) < 0.1


def test_guidance_is_the_exact_posterior_mean_where_its_assumption_holds():
    # One step from noise: x_0 + g / sqrt(abar) is E[x_0 | x_t, y] where the data have unit variance and r_t is exact.
    x_T, image = normal(50, 1, 1, 2), torch.tensor([1.5, 0.0], dtype=torch.float64).expand(50, 1, 1, 2)
    x = pigdm_sample(TWO_PIXELS, image, torch.tensor([[True, False]]), x_T, COSINE.respaced(1))[..., 1]
    # At the noisiest step x_t says nothing: what is left is the regression on the known pixel.
    torch.testing.assert_close(x, torch.full_like(x, 0.8 * 1.5), rtol=0, atol=1e-3)


def test_more_steps_mend_the_bias_of_ddnm():
    bias = [abs(fill_second_pixel(ddnm_sample, steps).mean().item() - 1.2) for steps in (5, 20, 80)]
    assert bias[0] > 2 * bias[1] > 4 * bias[2]
    assert bias[2] < 0.1


def test_without_noise_of_their_own_they_are_deterministic():
    for sample, name in ((ddnm_sample, "eta"), (diffpir_sample, "zeta"), (pigdm_sample, "eta")):
        image, known = normal(2, 1, 2, 3, seed=4), torch.tensor([[True, False, True]])
        one, two = (
            sample(
                SIX_PIXELS, image, known, normal(2, 1, 2, 3), COSINE.respaced(4), generator=generator(s), **{name: 0.0}
            )
            for s in (0, 1)
        )
        assert torch.equal(one, two)


@all_samplers
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_known_pixels_come_back_bit_for_bit_and_the_gap_is_never_read(sample, dtype: torch.dtype):
    known = torch.tensor([[True, False, True], [False, True, True]])
    image, results = normal(4, 1, 2, 3, seed=2, dtype=dtype), []
    for hidden in (float("nan"), 1e6):
        given = torch.where(known, image, torch.tensor(hidden, dtype=dtype))
        x_T = normal(4, 1, 2, 3, dtype=dtype)
        x = sample(SIX_PIXELS, given, known, x_T, COSINE.respaced(12), generator=generator())
        assert x.dtype == dtype
        assert not x.requires_grad
        assert torch.equal(x[..., known], image[..., known])
        assert torch.isfinite(x).all()
        results.append(x)
    assert torch.equal(*results)


@all_samplers
def test_nothing_known_samples_the_prior(sample):
    # DDIM of unit variance keeps the mean; new noise at every step is what shrinks the deviation.
    x = sample(
        TWO_PIXELS,
        torch.full((1500, 1, 1, 2), float("nan"), dtype=torch.float64),
        torch.tensor(False),
        normal(1500, 1, 1, 2),
        COSINE.respaced(40),
        generator=generator(),
    ).flatten(1)
    torch.testing.assert_close(x.mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=0.1)
    assert torch.corrcoef(x.T)[0, 1] > 0.7


@all_samplers
def test_callback_and_network_see_every_evaluation(sample):
    calls: list[tuple[int, int]] = []
    steps: list[int] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        steps.append(int(t[0]))
        return 0.5 * x_t

    image, known = torch.zeros(1, 1, 2, 2), torch.zeros(2, 2, dtype=torch.bool)
    sample(denoiser, image, known, image, COSINE.respaced(4), callback=lambda *c: calls.append(c))
    assert steps == [999, 666, 333, 0]
    assert calls == [(done, 4) for done in range(1, 5)]


@all_samplers
def test_a_warm_start_begins_from_the_noised_guess(sample):
    schedule, guess, x_T = COSINE.respaced(10), torch.full((2, 1, 2, 2), 0.7).double(), normal(2, 1, 2, 2)
    seen: list[Tensor] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(x_t.detach())
        return 0.5 * x_t

    known = torch.tensor([[True, False], [True, False]])
    sample(denoiser, torch.zeros_like(guess), known, x_T, schedule, start=guess, strength=0.4, generator=generator())
    assert len(seen) == 4
    abar = float(schedule.alphas_cumprod[3])
    torch.testing.assert_close(seen[0], abar**0.5 * guess + (1 - abar) ** 0.5 * x_T)


@all_samplers
def test_clipping_bounds_the_predicted_image(sample):
    known = torch.tensor([[True, False, False]])
    x = sample(
        SIX_PIXELS, torch.zeros(2, 1, 2, 3).double(), known, 3 * normal(2, 1, 2, 3), COSINE.respaced(5),
        clip_x_0=(-0.2, 0.1), generator=generator(),
    )  # fmt: skip
    assert x.min() >= -0.2 - 1e-12
    assert x.max() <= 0.1 + 1e-12


def test_guidance_flows_under_no_grad_and_inference_mode():
    image, known = normal(2, 1, 2, 3, seed=4), torch.tensor([[True, False, True]])
    x_T, schedule = normal(2, 1, 2, 3), COSINE.respaced(4)
    plain = pigdm_sample(SIX_PIXELS, image, known, x_T, schedule, generator=generator())
    with torch.no_grad():
        assert torch.equal(pigdm_sample(SIX_PIXELS, image, known, x_T, schedule, generator=generator()), plain)
    with torch.inference_mode():
        assert torch.equal(pigdm_sample(SIX_PIXELS, image, known, x_T, schedule, generator=generator()), plain)


def test_randomness_comes_from_the_generator_alone():
    image, known = normal(1, 1, 2, 3, seed=4), torch.tensor([[True, False, True]])
    before = torch.random.get_rng_state()
    for sample in SAMPLERS:
        one, same, other = (
            sample(SIX_PIXELS, image, known, normal(1, 1, 2, 3), COSINE.respaced(6), generator=generator(seed))
            for seed in (0, 0, 1)
        )
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@all_samplers
def test_bad_input(sample):
    image, schedule = torch.zeros(1, 1, 2, 3), COSINE.respaced(3)
    known, name = torch.ones(2, 3, dtype=torch.bool), "zeta" if sample is diffpir_sample else "eta"
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ModelError, match=f"got {name} {value}, wanted 0"):
            sample(SIX_PIXELS, image, known, image, schedule, **{name: value})
    with pytest.raises(ModelError, match=r"got known of dtype torch.uint8, wanted torch.bool with True = measured"):
        sample(SIX_PIXELS, image, known.byte(), image, schedule)
    with pytest.raises(ModelError, match=r"got x_T of shape \(1, 1, 2, 2\) .* wanted \(1, 1, 2, 3\)"):
        sample(SIX_PIXELS, image, known, image[..., :2], schedule)
    with_nan = image.masked_fill(torch.arange(6).reshape(2, 3) == 4, float("nan"))
    with pytest.raises(ModelError, match="got 1 known pixels that are NaN or infinite"):
        sample(SIX_PIXELS, with_nan, known, image, schedule)
    with pytest.raises(ModelError, match="wanted 1 or 2 channels"):
        sample(lambda x_t, t: x_t.repeat(1, 3, 1, 1), image, known, image, schedule)


def test_a_denoiser_without_a_gradient_is_refused():
    image, known = torch.zeros(1, 1, 2, 3), torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ModelError, match="no gradient flows through the denoiser, which pigdm wants: choose diffpir"):
        pigdm_sample(lambda x_t, t: x_t.detach(), image, known, image, COSINE.respaced(3))


def test_a_gradient_that_is_wrong_never_throws_the_image_out():
    # The answer is off by 0.01, its slope by 1: times 1 / sqrt(abar) at the noisiest step that alone would be 20,000.
    def rough(x_t: Tensor, t: Tensor) -> Tensor:
        return SIX_PIXELS(x_t, t) + 0.01 * torch.sin(100 * x_t)

    image, known = normal(20, 1, 2, 3, seed=2), torch.tensor([[True, False, True], [False, True, True]])
    x = pigdm_sample(rough, image, known, normal(20, 1, 2, 3), COSINE.respaced(20), generator=generator())
    assert x.abs().max() < 50
