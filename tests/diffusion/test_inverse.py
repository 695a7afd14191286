"""RePaint, DDRM, DDNM and DiffPIR against the exact conditional of a Gaussian; each is an approximation of it."""

import pytest
import torch
from torch import Tensor

from lacunar.diffusion.inverse import ddnm_sample, ddrm_sample, diffpir_sample, repaint_sample
from lacunar.diffusion.operators import (
    BoxDownsample,
    Clipping,
    Convolution,
    Mask,
    Measurement,
    Operator,
    Product,
    Separable,
    gaussian_matrix,
)
from lacunar.diffusion.samplers import jump_timetable
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError
from oracles import GaussianDenoiser

COSINE = NoiseSchedule.cosine(1000)
TWO_PIXELS = GaussianDenoiser(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]), COSINE)
SIX_PIXELS = GaussianDenoiser(torch.zeros(6), torch.eye(6) * 0.5 + 0.5, COSINE)
SAMPLERS = (repaint_sample, ddrm_sample, ddnm_sample, diffpir_sample)
all_samplers = pytest.mark.parametrize("sample", SAMPLERS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def measured(image: Tensor, known: Tensor) -> Measurement:
    return Mask(known).measure(image)


def fill_second_pixel(sample, steps: int, n: int, **options) -> Tensor:
    """Samples of x_2 | x_1 = 1.5, which is N(0.8 * 1.5, 1 - 0.8^2)."""
    image = torch.tensor([1.5, float("nan")], dtype=torch.float64).expand(n, 1, 1, 2)
    measurement, x_T = measured(image, torch.tensor([[True, False]])), normal(n, 1, 1, 2)
    return sample(TWO_PIXELS, measurement, x_T, COSINE.respaced(steps), generator=generator(), **options)[..., 1]


# Measured biases: at 100 steps RePaint's mean is 4 % low and its variance 10 % low; the mean of the others is 5 to 6 %
# low and nears the exact one with more steps, their variance stays too small. 1500 draws add 0.015 (a standard error).
@pytest.mark.parametrize(
    ("sample", "mean", "variance"),
    [(repaint_sample, 1.16, 0.33), (ddrm_sample, 1.13, 0.28), (ddnm_sample, 1.14, 0.28), (diffpir_sample, 1.12, 0.19)],
)
def test_they_come_near_the_exact_conditional_gaussian(sample, mean: float, variance: float):
    x = fill_second_pixel(sample, 100, 1500)
    assert x.mean().item() == pytest.approx(mean, abs=0.05)
    assert x.var().item() == pytest.approx(variance, abs=0.045)
    assert abs(x.mean().item() - 1.2) < 0.1


def test_resampling_is_what_brings_repaint_there():
    biases = []
    for jump_n_sample in (1, 3, 10):
        x = fill_second_pixel(repaint_sample, 50, 2500, times=jump_timetable(50, 10, jump_n_sample))
        biases.append(abs(x.mean().item() - 1.2))
    assert biases[0] > 0.3
    assert biases[0] > 1.5 * biases[1]
    assert biases[1] > 1.5 * biases[2]
    assert biases[2] < 0.13


def test_more_steps_mend_the_bias_of_ddnm():
    bias = [abs(fill_second_pixel(ddnm_sample, steps, 1500).mean().item() - 1.2) for steps in (5, 20, 80)]
    assert bias[0] > 2 * bias[1] > 4 * bias[2]
    assert bias[2] < 0.1


def test_known_pixels_follow_the_forward_process_at_every_step_and_after_every_jump():
    # Drawn at x_{t-1} or noised up again, a known pixel must be N(sqrt(abar_t) x_0, 1 - abar_t) whenever the network
    # sees it. An off-by-one in t and a missing root, the faults of public code, both break this.
    schedule, n = COSINE.respaced(8), 40_000
    seen: list[tuple[int, float, float]] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        index = schedule.timesteps.tolist().index(int(t[0]))
        seen.append((index, x_t[..., 0].mean().item(), x_t[..., 0].var().item()))
        return torch.zeros_like(x_t)

    repaint_sample(
        denoiser,
        measured(torch.full((n, 1, 1, 2), 2.0, dtype=torch.float64), torch.tensor([True, False])),
        normal(n, 1, 1, 2),
        schedule,
        times=jump_timetable(8, jump_length=2, jump_n_sample=3),
        generator=generator(),
    )
    assert len(seen) == 20
    for index, mean, variance in seen:
        abar = schedule.alphas_cumprod[index]
        # four standard errors of n draws
        assert mean == pytest.approx(2 * abar**0.5, abs=4 * ((1 - abar) / n) ** 0.5), index
        assert variance == pytest.approx(1 - abar, rel=4 * (2 / n) ** 0.5), index


def test_repaint_asks_the_network_at_the_start_of_each_step_down():
    steps: list[int] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        steps.append(int(t[0]))
        return torch.zeros_like(x_t)

    schedule, image = COSINE.respaced(5), torch.zeros(1, 1, 2, 2)
    repaint_sample(
        denoiser, measured(image, torch.zeros(2, 2, dtype=torch.bool)), image, schedule, times=jump_timetable(5, 2, 2)
    )
    # timetable 4 3 2 | 3 4 | 3 2 1 0 | 1 2 | 1 0 -1
    assert steps == [int(schedule.timesteps[i]) for i in (4, 3, 4, 3, 2, 1, 2, 1, 0)]


@pytest.mark.parametrize("sample", SAMPLERS[1:])
def test_the_others_ask_the_network_once_for_each_step(sample):
    steps: list[int] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        steps.append(int(t[0]))
        return 0.5 * x_t

    image, known = torch.zeros(1, 1, 2, 2), torch.zeros(2, 2, dtype=torch.bool)
    sample(denoiser, measured(image, known), image, COSINE.respaced(4))
    assert steps == [999, 666, 333, 0]


def test_without_noise_of_their_own_they_are_deterministic():
    for sample, name in ((ddnm_sample, "eta"), (diffpir_sample, "zeta")):
        measurement = measured(normal(2, 1, 2, 3, seed=4), torch.tensor([[True, False, True]]))
        one, two = (
            sample(
                SIX_PIXELS, measurement, normal(2, 1, 2, 3), COSINE.respaced(4), generator=generator(s), **{name: 0.0}
            )
            for s in (0, 1)
        )
        assert torch.equal(one, two)


@all_samplers
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_known_pixels_come_back_bit_for_bit_and_missing_ones_are_never_read(sample, dtype: torch.dtype):
    known = torch.tensor([[True, False, True], [False, True, True]])
    image, results = normal(4, 1, 2, 3, seed=2, dtype=dtype), []
    for hidden in (float("nan"), 1e6):
        given = torch.where(known, image, torch.tensor(hidden, dtype=dtype))
        x_T = normal(4, 1, 2, 3, dtype=dtype)
        x = sample(SIX_PIXELS, measured(given, known), x_T, COSINE.respaced(12), generator=generator())
        assert x.dtype == dtype
        assert not x.requires_grad
        assert torch.equal(x[..., known], image[..., known])
        assert torch.isfinite(x).all()
        results.append(x)
    assert torch.equal(*results)


@all_samplers
def test_nothing_missing_returns_the_image(sample):
    image, known = normal(1, 1, 2, 3, seed=3), torch.ones(1, 1, 2, 3, dtype=torch.bool)
    x = sample(SIX_PIXELS, measured(image, known), normal(1, 1, 2, 3), COSINE.respaced(5))
    assert torch.equal(x, image)


@all_samplers
def test_nothing_known_samples_the_prior(sample):
    # Of DDNM and DiffPIR only the mean is exact: DDIM keeps it, and new noise at every step shrinks the deviation.
    n, repaints = (10_000, True) if sample is repaint_sample else (1500, False)

    def with_large_variance(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.cat(
            [TWO_PIXELS(x_t, t), torch.ones_like(x_t)], dim=1
        )  # beta_t: exact where pixels have variance 1

    x = sample(
        with_large_variance if repaints else TWO_PIXELS,
        measured(torch.full((n, 1, 1, 2), float("nan"), dtype=torch.float64), torch.tensor(False)),
        normal(n, 1, 1, 2),
        COSINE.respaced(100 if repaints else 40),
        generator=generator(),
        **({"times": jump_timetable(100, 5, 2)} if repaints else {}),
    ).flatten(1)
    torch.testing.assert_close(x.mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=4 / n**0.5)
    if repaints:
        torch.testing.assert_close(torch.cov(x.T), TWO_PIXELS.covariance.double(), rtol=0, atol=0.06)
    assert torch.corrcoef(x.T)[0, 1] > 0.7


@all_samplers
def test_clipping_bounds_the_predicted_image(sample):
    x = sample(
        SIX_PIXELS, measured(torch.zeros(2, 1, 2, 3).double(), torch.tensor([[True, False, False]])),
        3 * normal(2, 1, 2, 3), COSINE.respaced(5), clip_x_0=(-0.2, 0.1), generator=generator(),
    )  # fmt: skip
    assert x.min() >= -0.2 - 1e-12
    assert x.max() <= 0.1 + 1e-12


@all_samplers
def test_randomness_comes_from_the_generator_alone(sample):
    measurement = measured(normal(1, 1, 2, 3, seed=4), torch.tensor([[True, False, True]]))
    before = torch.random.get_rng_state()
    one, same, other = (
        sample(SIX_PIXELS, measurement, normal(1, 1, 2, 3), COSINE.respaced(6), generator=generator(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@all_samplers
def test_bad_input(sample):
    image, schedule = torch.zeros(1, 1, 2, 3), COSINE.respaced(3)
    measurement = measured(image, torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ModelError, match=r"got x_T of shape \(1, 1, 2, 2\) .* wanted \(1, 1, 2, 3\)"):
        sample(SIX_PIXELS, measurement, image[..., :2], schedule)
    with pytest.raises(ModelError, match=r"got x_T of .*torch.float64, wanted .*torch.float32"):
        sample(SIX_PIXELS, measurement, image.double(), schedule)
    with pytest.raises(ModelError, match="wanted 1 or 2 channels"):
        sample(lambda x_t, t: x_t.repeat(1, 3, 1, 1), measurement, image, schedule)
    if sample is not repaint_sample:
        name = "zeta" if sample is diffpir_sample else "eta"
        for value in (-0.1, 1.1, float("nan")):
            with pytest.raises(ModelError, match=f"got {name} {value}, wanted 0"):
                sample(SIX_PIXELS, measurement, image, schedule, **{name: value})


# --- other operators: a Gaussian field of 4 x 4 pixels, whose posterior is known ---

FIELD_PLACES = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
COVARIANCE = 0.5 * torch.exp(-torch.cdist(FIELD_PLACES, FIELD_PLACES) / 2.5) + 0.01 * torch.eye(16)
FIELD = GaussianDenoiser(
    torch.full((16,), 0.3),
    COVARIANCE,
    COSINE,
)
KERNEL = torch.tensor([[0.0, 0.1, 0.0], [0.3, 0.3, 0.2], [0.0, 0.1, 0.0]])
BLUR = gaussian_matrix(16, 1.0)[:4, :4]  # no border: any matrix serves
OPERATORS: dict[str, Operator] = {
    "denoise": Mask(torch.ones(4, 4, dtype=torch.bool)),
    "box": BoxDownsample(2),
    "separable": Separable(BLUR, BLUR),
    "blur": Convolution(KERNEL, (4, 4)),
}


def dense(operator: Operator) -> Tensor:
    """The matrix of an operator on 4 x 4 pixels."""
    units = torch.eye(16, dtype=torch.float64).reshape(16, 1, 4, 4)
    return operator.forward(units).flatten(1).T


def posterior(operator: Operator, y: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x given y = A x + noise, x ~ N(m, S): the textbook formula."""
    a, s, m = dense(operator), FIELD.covariance.double(), FIELD.mean.double()
    gain = s @ a.T @ torch.linalg.pinv(a @ s @ a.T + sigma**2 * torch.eye(len(a)), rtol=1e-9)
    return m + gain @ (y.flatten() - a @ m), s - gain @ a @ s


def restored(sample, name: str, sigma: float, *, steps: int = 100, n: int = 600) -> tuple[Tensor, Tensor, Tensor]:
    """Samples (n, 16), and the exact mean and covariance."""
    operator = OPERATORS[name]
    field = FIELD.mean + torch.linalg.cholesky(FIELD.covariance.double()) @ normal(16, seed=7)
    y = operator.forward(field.reshape(1, 1, 4, 4))
    y = y + sigma * normal(*y.shape, seed=8)
    given = Measurement(operator, y.expand(n, -1, -1, -1), sigma)
    x = sample(FIELD, given, normal(n, 1, 4, 4), COSINE.respaced(steps), generator=generator())
    return x.flatten(1), *posterior(operator, y, sigma)


# Measured at 100 steps, in standard deviations of the prior: error of the mean (RMS), and spread over the exact one.
# Without noise all are near. With noise (0.3) DDRM, and DDNM+ which is the same, hear little of components that are
# noisier than their singular value lets through, and lean to the prior; DiffPIR's mean stays near, its spread is 2/3.
BIASES = {
    (ddrm_sample, 0.0): {"denoise": 0.0, "box": 0.02, "separable": 0.0, "blur": 0.014},
    (ddnm_sample, 0.0): {"denoise": 0.0, "box": 0.02, "separable": 0.0, "blur": 0.007},
    (diffpir_sample, 0.0): {"denoise": 0.0, "box": 0.014, "separable": 0.0, "blur": 0.008},
    (ddrm_sample, 0.3): {"denoise": 0.072, "box": 0.075, "separable": 0.468, "blur": 0.303},
    (diffpir_sample, 0.3): {"denoise": 0.018, "box": 0.017, "separable": 0.023, "blur": 0.031},
}
SPREADS = {ddrm_sample: (0.45, 0.9), ddnm_sample: (0.45, 0.9), diffpir_sample: (0.62, 0.74)}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize(("sample", "sigma"), BIASES)
def test_other_operators_come_near_the_exact_posterior(sample, sigma: float, name: str):
    x, mean, covariance = restored(sample, name, sigma)
    error = (x.mean(0) - mean).square().mean().sqrt() / FIELD.covariance.diag().mean().sqrt()
    assert error.item() == pytest.approx(BIASES[sample, sigma][name], abs=0.03)  # 600 draws: 0.02
    if covariance.diag().mean() > 1e-3:
        low, high = SPREADS[sample]
        assert low < (x.var(0).mean() / covariance.diag().mean()).sqrt() < high


@pytest.mark.parametrize("name", ["box", "blur"])
def test_without_noise_ddrm_is_ddnm_at_20_evaluations(name: str):
    one, other = (restored(sample, name, 0.0, steps=20, n=4)[0] for sample in (ddrm_sample, ddnm_sample))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_what_was_measured_keeps_a_share_of_its_noise(monkeypatch, sigma: float):
    # 0.08 at 20 evaluations; 0.146 if that noise is all new at every step, as the paper draws it.
    monkeypatch.setitem(OPERATORS, "mask", Mask(torch.arange(16).reshape(4, 4) % 3 > 0))
    x, mean, _ = restored(ddrm_sample, "mask", sigma, steps=20)
    error = (x.mean(0) - mean).square().mean().sqrt() / FIELD.covariance.diag().mean().sqrt()
    assert error < 0.11


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("sample", SAMPLERS)
def test_without_noise_they_agree_with_the_measurement(sample, name: str):
    operator, n = OPERATORS[name], 3
    y = operator.forward(normal(n, 1, 4, 4, seed=5))
    x = sample(FIELD, Measurement(operator, y), normal(n, 1, 4, 4), COSINE.respaced(8), generator=generator())
    torch.testing.assert_close(operator.forward(x), y, rtol=0, atol=2e-3)


def test_a_product_without_an_svd_is_for_diffpir():
    known = Mask(torch.tensor([[True, True, False, False]]).expand(4, 4))
    operator = Product(known, OPERATORS["blur"])
    y = operator.forward(normal(1, 1, 4, 4, seed=5))
    given = Measurement(operator, y.expand(300, -1, -1, -1), 0.1)
    x = diffpir_sample(FIELD, given, normal(300, 1, 4, 4), COSINE.respaced(60), generator=generator())
    mean, _ = posterior(operator, y, 0.1)
    assert (x.flatten(1).mean(0) - mean).square().mean().sqrt() < 0.12
    for sample in (ddrm_sample, ddnm_sample):
        with pytest.raises(ModelError, match="want an operator whose singular values are known, got Product"):
            sample(FIELD, given, normal(300, 1, 4, 4), COSINE.respaced(2))
    with pytest.raises(ModelError, match="repaint takes linear measurements without noise alone"):
        repaint_sample(FIELD, given, normal(300, 1, 4, 4), COSINE.respaced(2))


@pytest.mark.parametrize("sample", [ddnm_sample, diffpir_sample])
def test_what_is_saturated_is_at_least_white_and_the_rest_as_measured(sample):
    image = normal(5, 1, 4, 4, seed=5)
    clipping = Clipping(0.4)
    y = clipping.forward(image)
    x = sample(FIELD, Measurement(clipping, y), normal(5, 1, 4, 4), COSINE.respaced(8), generator=generator())
    assert torch.equal(x[y < 0.4], image[y < 0.4])
    assert x[y == 0.4].min() >= 0.4
    assert x[y == 0.4].mean() > 0.43  # held at the bound too often: a truncated Gaussian would lie at 0.9
