import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lacunar.diffusion.repaint import jump_timetable, repaint_sample
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError
from oracles import GaussianDenoiser

COSINE = NoiseSchedule.cosine(1000)
TWO_PIXELS = GaussianDenoiser(torch.zeros(2), torch.tensor([[1.0, 0.8], [0.8, 1.0]]), COSINE)
SIX_PIXELS = GaussianDenoiser(torch.zeros(6), torch.eye(6) * 0.5 + 0.5, COSINE)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_golden_timetables(shared: Path, case: int):
    golden = json.loads((shared / "golden" / "repaint_timetables.json").read_text())[case]
    times = jump_timetable(golden["t_T"], golden["jump_length"], golden["jump_n_sample"])
    assert times == golden["times"]
    assert len(times) - 1 == golden["transitions"]
    assert sum(b < a for a, b in pairwise(times)) == golden["network_evaluations"]
    assert sum(b > a for a, b in pairwise(times)) == golden["renoisings"]


@pytest.mark.parametrize(("t_T", "jump_length", "jump_n_sample"), [(1, 1, 1), (1, 3, 4), (7, 3, 2), (11, 10, 3)])
def test_a_timetable_walks_by_ones_and_denoises_each_stretch_as_often_as_asked(t_T, jump_length, jump_n_sample):
    times = jump_timetable(t_T, jump_length, jump_n_sample)
    assert times[0] == t_T - 1
    assert times[-2:] == [0, -1]
    assert max(times) == t_T - 1
    assert all(abs(a - b) == 1 for a, b in pairwise(times))
    assert times.count(-1) == 1
    downs = [a for a, b in pairwise(times) if b < a]
    for t in range(1, t_T):
        within_a_jump = (t - 1) // jump_length * jump_length + jump_length < t_T
        assert downs.count(t) == (jump_n_sample if within_a_jump else 1)


def fill_second_pixel(first: float, steps: int, jump_length: int, jump_n_sample: int, n: int = 2500) -> Tensor:
    image = torch.tensor([first, float("nan")], dtype=torch.float64).expand(n, 1, 1, 2)
    return repaint_sample(
        TWO_PIXELS,
        image,
        torch.tensor([[True, False]]),
        normal(n, 1, 1, 2),
        COSINE.respaced(steps),
        jump_length=jump_length,
        jump_n_sample=jump_n_sample,
        generator=generator(),
    )[..., 1]


def test_repaint_comes_near_the_exact_conditional_gaussian():
    # x_2 | x_1 = 1.5 is N(0.8 * 1.5, 1 - 0.8^2). RePaint is an approximation: at 100 steps its mean is 4 % low and
    # its variance 10 % low; 2500 draws add 0.011 and 0.009 (one standard error).
    x = fill_second_pixel(1.5, 100, 10, 10)
    assert x.mean().item() == pytest.approx(1.2, abs=0.08)
    assert x.var().item() == pytest.approx(0.36, abs=0.06)


def test_resampling_is_what_brings_it_there():
    bias = [abs(fill_second_pixel(1.5, 50, 10, n).mean().item() - 1.2) for n in (1, 3, 10)]
    assert bias[0] > 0.3
    assert bias[0] > 1.5 * bias[1]
    assert bias[1] > 1.5 * bias[2]
    assert bias[2] < 0.13


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
        torch.full((n, 1, 1, 2), 2.0, dtype=torch.float64),
        torch.tensor([True, False]),
        normal(n, 1, 1, 2),
        schedule,
        jump_length=2,
        jump_n_sample=3,
        generator=generator(),
    )
    assert len(seen) == 20
    for index, mean, variance in seen:
        abar = schedule.alphas_cumprod[index]
        # four standard errors of n draws
        assert mean == pytest.approx(2 * abar**0.5, abs=4 * ((1 - abar) / n) ** 0.5), index
        assert variance == pytest.approx(1 - abar, rel=4 * (2 / n) ** 0.5), index


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_known_pixels_come_back_bit_for_bit_and_the_gap_is_never_read(dtype: torch.dtype):
    known = torch.tensor([[True, False, True], [False, True, True]])
    image = normal(4, 1, 2, 3, seed=2, dtype=dtype)
    results = []
    for hidden in (float("nan"), 1e6):
        given = torch.where(known, image, torch.tensor(hidden, dtype=dtype))
        x = repaint_sample(
            SIX_PIXELS, given, known, normal(4, 1, 2, 3, dtype=dtype), COSINE.respaced(12), jump_length=3,
            jump_n_sample=2, generator=generator(),
        )  # fmt: skip
        assert x.dtype == dtype
        assert torch.equal(x[..., known], image[..., known])
        assert torch.isfinite(x).all()
        results.append(x)
    assert torch.equal(*results)


def test_nothing_to_fill_returns_the_image():
    image = normal(1, 1, 2, 3, seed=3)
    known = torch.ones(1, 1, 2, 3, dtype=torch.bool)
    assert torch.equal(repaint_sample(SIX_PIXELS, image, known, normal(1, 1, 2, 3), COSINE.respaced(5)), image)


def test_nothing_known_samples_the_prior():
    x = repaint_sample(
        TWO_PIXELS,
        torch.full((10_000, 1, 1, 2), float("nan"), dtype=torch.float64),
        torch.tensor(False),
        normal(10_000, 1, 1, 2),
        COSINE.respaced(100),
        jump_length=5,
        jump_n_sample=2,
        fixed_variance="large",  # exact for pixels of unit variance
        generator=generator(),
    ).flatten(1)
    torch.testing.assert_close(x.mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=0.04)
    torch.testing.assert_close(torch.cov(x.T), TWO_PIXELS.covariance.double(), rtol=0, atol=0.06)


def test_callback_and_network_see_the_evaluations_of_the_timetable():
    calls: list[tuple[int, int]] = []
    steps: list[int] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        steps.append(int(t[0]))
        return torch.zeros_like(x_t)

    schedule = COSINE.respaced(5)
    image, known = torch.zeros(1, 1, 2, 2), torch.zeros(2, 2, dtype=torch.bool)
    repaint_sample(
        denoiser, image, known, image, schedule, jump_length=2, jump_n_sample=2, callback=lambda *c: calls.append(c)
    )
    # timetable 4 3 2 | 3 4 | 3 2 1 0 | 1 2 | 1 0 -1: the network is asked at the start of each step down
    assert steps == [int(schedule.timesteps[i]) for i in (4, 3, 4, 3, 2, 1, 2, 1, 0)]
    assert calls == [(i, 9) for i in range(1, 10)]


def test_randomness_comes_from_the_generator_alone():
    image, known = normal(1, 1, 2, 3, seed=4), torch.tensor([[True, False, True]])
    before = torch.random.get_rng_state()
    one, same, other = (
        repaint_sample(SIX_PIXELS, image, known, normal(1, 1, 2, 3), COSINE.respaced(6), generator=generator(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("values", [(0, 1, 1), (10, 0, 1), (10, 1, 0)])
def test_timetable_out_of_range(values: tuple[int, int, int]):
    with pytest.raises(ModelError, match=r"got (t_T|jump_length|jump_n_sample) = 0, wanted at least 1"):
        jump_timetable(*values)


def test_bad_input():
    image, schedule = torch.zeros(1, 1, 2, 3), COSINE.respaced(3)
    known = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ModelError, match=r"got known of dtype torch.uint8, wanted torch.bool with True = measured"):
        repaint_sample(SIX_PIXELS, image, known.byte(), image, schedule)
    with pytest.raises(ModelError, match=r"got known of shape \(3, 2\), wanted one that broadcasts to \(1, 1, 2, 3\)"):
        repaint_sample(SIX_PIXELS, image, known.T, image, schedule)
    with pytest.raises(ModelError, match=r"got x_T of shape \(1, 1, 2, 2\) .* wanted \(1, 1, 2, 3\)"):
        repaint_sample(SIX_PIXELS, image, known, image[..., :2], schedule)
    with pytest.raises(ModelError, match=r"got x_T of .*torch.float64, wanted .*torch.float32"):
        repaint_sample(SIX_PIXELS, image, known, image.double(), schedule)
    with_nan = image.masked_fill(torch.arange(6).reshape(2, 3) == 4, float("nan"))
    with pytest.raises(ModelError, match="got 1 known pixels that are NaN or infinite"):
        repaint_sample(SIX_PIXELS, with_nan, known, image, schedule)
    with pytest.raises(ModelError, match="wanted 1 or 2 channels"):
        repaint_sample(lambda x_t, t: x_t.repeat(1, 3, 1, 1), image, known, image, schedule)
