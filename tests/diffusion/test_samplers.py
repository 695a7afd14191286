"""The table of samplers: each by its name gives what its own function gives, at the cost that its plan states."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lacunar.diffusion.inverse import ddnm_sample, ddrm_sample, diffpir_sample, repaint_sample
from lacunar.diffusion.operators import Mask
from lacunar.diffusion.samplers import (
    PRESETS,
    SAMPLERS,
    Preset,
    chosen_preset,
    jump_timetable,
    plan,
    plan_named,
    preset_help,
    runs_of,
    sampler_help,
)
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import adams_sample, ddim_sample, dpm_solver_pp_2m_sample
from lacunar.errors import LacunarError
from oracles import GaussianDenoiser

COSINE = NoiseSchedule.cosine(1000)
SIX_PIXELS = GaussianDenoiser(torch.zeros(6), torch.eye(6) * 0.5 + 0.5, COSINE)
KNOWN = torch.tensor([[True, False, True], [False, True, True]])
CONDITIONAL = {"ddim": ddim_sample, "adams": adams_sample, "dpm-solver++": dpm_solver_pp_2m_sample}
HELD = {"ddrm": ddrm_sample, "ddnm": ddnm_sample, "diffpir": diffpir_sample, "repaint": repaint_sample}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int = 1) -> Tensor:
    return torch.randn(2, 1, 2, 3, generator=generator(seed), dtype=torch.float64)


def drawn(preset: Preset, **options) -> Tensor:
    options = {"measurement": Mask(KNOWN).measure(normal(2)), "generator": generator()} | options
    return preset.draw(SIX_PIXELS, normal(), preset.thinned(COSINE), **options)


def test_every_row_names_its_function():
    assert {name: sampler.load() for name, sampler in SAMPLERS.items()} == CONDITIONAL | HELD
    assert {name for name, sampler in SAMPLERS.items() if sampler.conditional} == set(CONDITIONAL)


def test_the_help_names_every_row_of_the_tables():
    assert all(name in sampler_help() for name in SAMPLERS)
    assert preset_help() == (
        "fast (10 evaluations), balanced (25 evaluations), paper (RePaint, 2410 evaluations) or instant (1 evaluation)"
    )


@pytest.mark.parametrize("name", CONDITIONAL)
def test_a_name_gives_what_its_solver_gives(name):
    schedule = COSINE.respaced(plan(name, 6).steps, spacing="trailing")
    assert torch.equal(drawn(plan(name, 6)), CONDITIONAL[name](SIX_PIXELS, normal(), schedule))


@pytest.mark.parametrize("name", ["ddrm", "ddnm", "diffpir"])
def test_a_name_gives_what_its_inverse_sampler_gives(name):
    given = (SIX_PIXELS, Mask(KNOWN).measure(normal(2)), normal(), COSINE.respaced(6, spacing="trailing"))
    assert torch.equal(drawn(plan(name, 6)), HELD[name](*given, generator=generator()))


def test_repaint_takes_its_jumps():
    given = (SIX_PIXELS, Mask(KNOWN).measure(normal(2)), normal(), COSINE.respaced(6))
    expected = repaint_sample(*given, times=jump_timetable(6, 2, 3), generator=generator())
    assert torch.equal(drawn(Preset(6, 2, 3, sampler="repaint")), expected)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("evaluations", [1, 2, 5, 10, 25])
def test_a_plan_costs_what_it_says_and_never_more_than_was_asked(name, evaluations):
    asked: list[int] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        asked.append(int(t[0]))
        return 0.5 * x_t

    calls: list[tuple[int, int]] = []
    preset = plan(name, evaluations)
    preset.draw(
        denoiser,
        normal(),
        preset.thinned(COSINE),
        measurement=Mask(KNOWN).measure(normal(2)),
        generator=generator(),
        callback=lambda *counts: calls.append(counts),
    )
    assert len(asked) == preset.evaluations <= evaluations
    assert calls == [(done, preset.evaluations) for done in range(1, preset.evaluations + 1)]
    assert asked[0] == 999  # from pure noise, with one evaluation too
    assert preset.name == f"{name}:{evaluations}"


def test_a_plan_of_repaint_nears_the_papers_own():
    paper = PRESETS["paper"]
    big = plan("repaint", 2500)
    assert (big.steps, big.jump_length, big.jump_n_sample) == (paper.steps, paper.jump_length, paper.jump_n_sample)
    times = jump_timetable(big.steps, 10, 10)
    assert big.evaluations == sum(after < before for before, after in pairwise(times)) == 2410
    assert [plan("repaint", count).evaluations for count in (50, 100)] == [43, 91]


def test_what_is_asked_for_takes_the_place_of_the_presets():
    assert chosen_preset("fast") is PRESETS["fast"]
    assert chosen_preset("paper", "repaint") is PRESETS["paper"]
    assert chosen_preset("fast", "adams") == plan("adams", 10)
    assert chosen_preset("fast", evaluations=5) == plan("ddim", 5)
    assert chosen_preset("paper", "ddnm") == plan("ddnm", 250)
    assert chosen_preset("paper", "ddnm", 100) == plan("ddnm", 100)
    with pytest.raises(LacunarError, match="preset instant is one evaluation and no sampler: leave --sampler"):
        chosen_preset("instant", "adams")


def test_the_runs_of_an_evaluation():
    runs = runs_of(("fast", "paper:1", "instant"), (2,), ("adams:5", "repaint:50"), samples=8)
    assert [(preset.name, samples) for preset, samples in runs] == [
        ("fast", 8), ("paper", 1), ("instant", 1), ("2 steps", 8), ("adams:5", 8), ("repaint:50", 8),
    ]  # fmt: skip
    with pytest.raises(LacunarError, match="got the preset 'fast:x'; wanted a name, or a name and samples"):
        runs_of(("fast:x",), (), (), samples=8)
    with pytest.raises(LacunarError, match="4 samples: preset instant gives the mean alone, 1; fast draws several"):
        runs_of(("instant:4",), (), (), samples=8)


@pytest.mark.parametrize("text", ["adams", "adams:", "adams:x", "adams:-1"])
def test_a_sampler_to_compare_has_a_name_and_evaluations(text):
    with pytest.raises(LacunarError, match=rf"got the sampler '{text}'; wanted a name and evaluations such as dpm-so"):
        plan_named(text)


def test_bad_presets_are_refused():
    for build in (lambda: plan("euler", 5), lambda: Preset(5, sampler="euler")):
        with pytest.raises(LacunarError, match=r"unknown sampler 'euler': choose one of ddim, adams, dpm-solver\+\+"):
            build()
    with pytest.raises(LacunarError, match="got 0 evaluations, wanted 1 or more"):
        plan_named("adams:0")
    for jumps, sampler in (((2, 2), "ddim"), ((None, None), "repaint"), ((2, None), "repaint")):
        with pytest.raises(LacunarError, match=f"sampler {sampler} with jumps .*: wanted a jump_length"):
            Preset(5, *jumps, sampler=sampler)
    with pytest.raises(LacunarError, match="2 steps of ddim for the mean alone: wanted 1 step of ddim"):
        Preset(2, mean_only=True)


def test_the_prior_wants_a_measurement():
    with pytest.raises(LacunarError, match="sampler ddnm without a measurement: wanted an image and its known pixels"):
        drawn(plan("ddnm", 3), measurement=None)
