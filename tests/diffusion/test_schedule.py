import json
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from lacunar.diffusion.samplers import jump_timetable
from lacunar.diffusion.schedule import NoiseSchedule, ScheduleName
from lacunar.errors import ModelError


@pytest.mark.parametrize("case", [0, 1], ids=["linear", "cosine"])
def test_golden_values_of_respaced_schedules(shared: Path, case: int):
    golden = json.loads((shared / "golden" / "gaussian_diffusion.json").read_text())[case]
    schedule = NoiseSchedule.named(golden["schedule"], golden["T"]).respaced(golden["spaced"])
    index = golden["index"]
    assert schedule.num_timesteps == golden["spaced"]
    assert schedule.original_num_timesteps == golden["T"]
    assert schedule.timesteps[index].tolist() == golden["timestep_map"]
    for name in ("betas", "alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped"):
        np.testing.assert_allclose(getattr(schedule, name)[index], golden[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(("name", "diffusers_name"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_betas_agree_with_diffusers(name: ScheduleName, diffusers_name: str):
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    theirs = DDPMScheduler(1000, beta_start=1e-4, beta_end=0.02, beta_schedule=diffusers_name)
    ours = NoiseSchedule.named(name, 1000)
    np.testing.assert_allclose(ours.betas, theirs.betas.numpy(), rtol=2e-6)
    np.testing.assert_allclose(ours.alphas_cumprod[:-1], theirs.alphas_cumprod.numpy()[:-1], rtol=1e-4)


def test_linear_betas_scale_with_the_number_of_steps():
    betas = NoiseSchedule.linear(250).betas
    assert betas[0] == pytest.approx(4e-4)
    assert betas[-1] == pytest.approx(0.08)


def test_cosine_alphas_cumprod_is_the_formula_until_the_clip():
    def f(time: np.ndarray) -> np.ndarray:
        return np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2

    schedule = NoiseSchedule.cosine(1000)
    expected = f(np.arange(1, 1001) / 1000) / f(np.array(0.0))
    np.testing.assert_allclose(schedule.alphas_cumprod[:-1], expected[:-1], rtol=1e-9)
    assert schedule.betas[-1] == 0.999


@pytest.mark.parametrize("name", get_args(ScheduleName))
@pytest.mark.parametrize("n", [2, 7, 50, 1000])
def test_posterior_variance_is_the_inverse_of_the_summed_precisions(name: ScheduleName, n: int):
    # Bayes: q(x_{t-1} | x_t, x_0) multiplies a prior of variance 1 - abar_{t-1} with a likelihood of precision a / b.
    s = NoiseSchedule.named(name, 1000).respaced(n)
    precision = 1 / (1 - s.alphas_cumprod_prev[1:]) + s.alphas[1:] / s.betas[1:]
    np.testing.assert_allclose(s.posterior_variance[1:], 1 / precision, rtol=1e-8)
    assert s.posterior_variance[0] == 0
    np.testing.assert_allclose(s.posterior_log_variance_clipped[1:], np.log(s.posterior_variance[1:]))
    assert s.posterior_log_variance_clipped[0] == s.posterior_log_variance_clipped[1]


@pytest.mark.parametrize("name", get_args(ScheduleName))
def test_respaced_keeps_the_alphas_cumprod_of_its_timesteps(name: ScheduleName):
    full = NoiseSchedule.named(name, 1000)
    half_way = full.respaced(250)
    few = half_way.respaced(10)
    np.testing.assert_allclose(few.alphas_cumprod, full.alphas_cumprod[few.timesteps], rtol=1e-9)
    assert few.timesteps[0] == 0
    assert few.timesteps[-1] == 999
    assert few.original_num_timesteps == 1000
    assert np.ptp(np.diff(few.timesteps)) <= 5  # even, up to rounding at 250 and again at 10
    assert full.num_timesteps == 1000  # the schedule itself is as it was


def test_respaced_to_all_steps_changes_nothing():
    full = NoiseSchedule.cosine(100)
    np.testing.assert_allclose(full.respaced(100).betas, full.betas, rtol=1e-10)
    assert full.respaced(100).timesteps.tolist() == list(range(100))


def test_one_step_is_the_noisiest():
    one = NoiseSchedule.linear(1000).respaced(1)
    assert one.timesteps.tolist() == [999]
    assert one.alphas_cumprod[0] == pytest.approx(4.0358e-5, rel=1e-4)
    assert np.isfinite(one.posterior_log_variance_clipped).all()


def test_arrays_are_read_only_float64_copies():
    betas = np.full(4, 0.1)
    schedule = NoiseSchedule(betas, np.arange(4), 4)
    betas[0] = 0.5
    assert schedule.betas[0] == 0.1
    for name in ("betas", "alphas", "alphas_cumprod", "alphas_cumprod_prev", "posterior_variance"):
        array = getattr(schedule, name)
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    assert torch.tensor(schedule.timesteps).dtype == torch.int64


def test_unknown_schedule_names_the_known_ones():
    with pytest.raises(ModelError, match=r"got schedule 'sigmoid', wanted one of linear, cosine"):
        NoiseSchedule.named("sigmoid", 1000)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, -1, 1001])
def test_respaced_out_of_range(n: int):
    with pytest.raises(ModelError, match=rf"got respaced\({n}\), wanted 1\.\.1000"):
        NoiseSchedule.linear(1000).respaced(n)


def test_too_few_steps():
    assert NoiseSchedule.linear(21).betas[-1] < 1
    for n in (20, 0, -3):
        with pytest.raises(ModelError, match=f"linear schedule of {n} steps, wanted at least 21"):
            NoiseSchedule.linear(n)
    with pytest.raises(ModelError, match="cosine schedule of 0 steps, wanted at least 1"):
        NoiseSchedule.cosine(0)


@pytest.mark.parametrize("betas", [[0.1, 1.0], [0.0, 0.1], [float("nan"), 0.1], [], [[0.1, 0.2]]])
def test_betas_outside_the_open_interval(betas: list):
    with pytest.raises(ModelError, match="got betas of shape"):
        NoiseSchedule(np.array(betas, dtype=float), np.arange(2), 2)


@pytest.mark.parametrize("timesteps", [[0, 0], [1, 0], [-1, 0], [0, 10], [0, 1, 2]])
def test_timesteps_that_do_not_rise_in_range(timesteps: list[int]):
    with pytest.raises(ModelError, match=r"got timesteps .* wanted 2 rising indices within 0\.\.9"):
        NoiseSchedule(np.array([0.1, 0.2]), np.array(timesteps), 10)


def test_trailing_steps_end_at_the_clean_image():
    schedule = NoiseSchedule.cosine(1000)
    assert schedule.respaced(3, spacing="trailing").timesteps.tolist() == [332, 666, 999]
    assert schedule.respaced(1, spacing="trailing").timesteps.tolist() == [999]
    np.testing.assert_array_equal(schedule.respaced(1000, spacing="trailing").timesteps, schedule.timesteps)
    for n in (1, 7, 64, 999):
        assert schedule.respaced(n, spacing="trailing").num_timesteps == n
    with pytest.raises(ModelError, match="got spacing 'even', wanted one of linspace, trailing"):
        schedule.respaced(4, spacing="even")


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


@pytest.mark.parametrize("values", [(0, 1, 1), (10, 0, 1), (10, 1, 0)])
def test_timetable_out_of_range(values: tuple[int, int, int]):
    with pytest.raises(ModelError, match=r"got (t_T|jump_length|jump_n_sample) = 0, wanted at least 1"):
        jump_timetable(*values)
