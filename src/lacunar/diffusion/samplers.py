"""Every way to sample, in two tables: `SAMPLERS` and the `PRESETS` built on them. Neither loads torch or numpy.

To add a sampler, write its function in `solvers` or `inverse` and add its row to `SAMPLERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lacunar.errors import LacunarError, ModelError
from lacunar.limits import SAMPLES, check_limit

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from lacunar.diffusion.operators import Measurement
    from lacunar.diffusion.process import Prediction
    from lacunar.diffusion.schedule import NoiseSchedule, Spacing
    from lacunar.diffusion.solvers import Callback, Denoiser

MOST_RESAMPLINGS = 10  # jump_n_sample of the RePaint paper
JUMPS_PER_SCHEDULE = 25  # its 250 steps over its jump_length of 10
REFINED_SHARE = 0.3  # of the schedule's time, from clean, that a refinement goes through
FEW_STEPS = 10  # with fewer, too few of a fill's steps lie in that share


@dataclass(frozen=True)
class Sampler:
    """One row of the table."""

    label: str  # what figures and reports call it
    function: str  # module of this room and function, imported when first used
    # whether the network is told what is known and samples what is missing directly; opposite noise then gives opposite
    # residuals. Otherwise the network is an unconditional prior, which the sampler holds to the known pixels.
    conditional: bool

    def load(self) -> Callable[..., Tensor]:
        """The function itself."""
        module, name = self.function.split(".")
        found: Callable[..., Tensor] = getattr(import_module(f"lacunar.diffusion.{module}"), name)
        return found


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "ddim": Sampler("DDIM", "solvers.ddim_sample", conditional=True),
        "adams": Sampler("Adams-Bashforth 2", "solvers.adams_sample", conditional=True),
        "dpm-solver++": Sampler("DPM-Solver++(2M)", "solvers.dpm_solver_pp_2m_sample", conditional=True),
        "repaint": Sampler("RePaint", "inverse.repaint_sample", conditional=False),
        "ddrm": Sampler("DDRM", "inverse.ddrm_sample", conditional=False),
        "ddnm": Sampler("DDNM", "inverse.ddnm_sample", conditional=False),
        "diffpir": Sampler("DiffPIR", "inverse.diffpir_sample", conditional=False),
    }
)


def _check_sampler(name: str) -> None:
    if name not in SAMPLERS:
        raise LacunarError(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLERS)}")


@dataclass(frozen=True)
class Preset:
    """How samples are drawn.

    Raises `LacunarError`: an unknown sampler, jumps without RePaint or RePaint without jumps, or more than one step
    where only the mean is wanted.
    """

    steps: int  # steps that the schedule is thinned out to
    # jump_length, jump_n_sample: RePaint's jumps; None for every other sampler
    jump_length: int | None = None
    jump_n_sample: int | None = None
    name: str = ""  # what it is called: the calibration in a model's card goes by it
    sampler: str = "ddim"  # one of `SAMPLERS`
    spacing: Spacing = "linspace"  # how the steps lie, see `NoiseSchedule.respaced`
    mean_only: bool = False  # one evaluation at the noisiest step gives the posterior mean, and no sample

    def __post_init__(self) -> None:
        _check_sampler(self.sampler)
        repaints = self.sampler == "repaint"
        if (self.jump_length is None) == repaints or (self.jump_n_sample is None) == repaints:
            raise LacunarError(
                f"sampler {self.sampler} with jumps {self.jump_length} and {self.jump_n_sample}: wanted a jump_length "
                "and a jump_n_sample for repaint, and for no other"
            )
        if self.mean_only and (self.sampler, self.steps) != ("ddim", 1):
            raise LacunarError(f"{self.steps} steps of {self.sampler} for the mean alone: wanted 1 step of ddim")

    @property
    def conditional(self) -> bool:
        """Whether the network is told what is known."""
        return SAMPLERS[self.sampler].conditional

    @property
    def times(self) -> list[int] | None:
        """The steps that RePaint visits; None for every other sampler."""
        if self.jump_length is None or self.jump_n_sample is None:
            return None
        return jump_timetable(self.steps, self.jump_length, self.jump_n_sample)

    @property
    def evaluations(self) -> int:
        """Network evaluations for each sample of each tile."""
        times = self.times
        return self.steps if times is None else sum(after < before for before, after in pairwise(times))

    @property
    def usual_samples(self) -> int:
        """Samples drawn where no number is given: enough for a mean and a standard deviation."""
        return 1 if self.mean_only else 8

    def thinned(self, schedule: NoiseSchedule) -> NoiseSchedule:
        """The steps of a training schedule that are gone through."""
        return schedule.respaced(self.steps, spacing=self.spacing)

    def describe(self, samples: int) -> str:
        """The sampler, and of how many samples the mean is taken, in words."""
        if self.mean_only:
            return "the mean alone"
        return f"{SAMPLERS[self.sampler].label}, {f'mean of {samples}' if samples > 1 else 'one sample'}"

    def check_samples(self, samples: int) -> None:
        """Refuse too many samples, with a ``LacunarError``; where there is the mean alone, several."""
        check_limit(samples, SAMPLES, "samples", "8 are usual")
        if self.mean_only and samples != 1:
            raise LacunarError(f"{samples} samples: preset {self.name} gives the mean alone, 1; fast draws several")

    def draw(
        self,
        denoiser: Denoiser,
        x_T: Tensor,
        schedule: NoiseSchedule,
        *,
        measurement: Measurement | None = None,
        prediction: Prediction = "epsilon",
        clip_x_0: tuple[float, float] | None = None,
        generator: torch.Generator | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Draw samples x_0 (B, C, H, W) from the noise ``x_T``.

        The schedule is usually `thinned` from the training schedule. The unconditional samplers hold the image to the
        ``measurement``, without which they are a `LacunarError`; the conditional ones ignore it. ``callback`` is called
        after each network evaluation with (evaluations done, evaluations in all).
        """
        from lacunar.diffusion.solvers import with_progress

        denoiser = with_progress(denoiser, self.evaluations, callback)
        sampler, options = SAMPLERS[self.sampler], {"prediction": prediction, "clip_x_0": clip_x_0}
        if sampler.conditional:
            return sampler.load()(denoiser, x_T, schedule, **options)
        if measurement is None:
            raise LacunarError(f"sampler {self.sampler} without a measurement: wanted an image and its known pixels")
        jumps: dict[str, Any] = {} if self.times is None else {"times": self.times}
        return sampler.load()(denoiser, measurement, x_T, schedule, generator=generator, **options, **jumps)


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "fast": Preset(steps=10, name="fast"),
        "balanced": Preset(steps=25, name="balanced"),
        "paper": Preset(steps=250, jump_length=10, jump_n_sample=10, name="paper", sampler="repaint"),
        "instant": Preset(steps=1, name="instant", mean_only=True),
    }
)


def preset_named(name: str) -> Preset:
    """Return a preset; an unknown name is a ``LacunarError`` that lists the known ones."""
    if name not in PRESETS:
        raise LacunarError(f"unknown preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def chosen_preset(name: str, sampler: str | None = None, evaluations: int | None = None) -> Preset:
    """Return the preset, or the plan that replaces it where another sampler or number of evaluations is asked for.

    ``evaluations`` are those of each sample, by default the preset's steps. An unknown name, no evaluation, or a
    sampler for ``instant``, which is one evaluation, is a ``LacunarError``.
    """
    preset = preset_named(name)
    if evaluations is None and sampler in (None, preset.sampler):
        return preset
    if preset.mean_only:
        raise LacunarError(f"preset {name} is one evaluation and no sampler: leave --sampler and --evaluations out")
    return plan(sampler or preset.sampler, preset.steps if evaluations is None else evaluations)


def plan(sampler: str, evaluations: int) -> Preset:
    """The preset of a sampler that takes at most so many evaluations; it is called ``SAMPLER:EVALUATIONS``.

    The steps lie ``trailing``, where few steps do more. RePaint's lie as in its paper; it resamples √evaluations times,
    10 at most, and keeps the paper's 25 jumps to a schedule. An unknown sampler or no evaluation is a ``LacunarError``.

    >>> plan("adams", 10).evaluations, plan("repaint", 100).steps, plan("repaint", 2500).evaluations
    (10, 10, 2410)
    """
    _check_sampler(sampler)
    if evaluations < 1:
        raise LacunarError(f"got {evaluations} evaluations, wanted 1 or more")
    name = f"{sampler}:{evaluations}"
    if sampler == "repaint":
        again = min(MOST_RESAMPLINGS, math.isqrt(evaluations))
        steps = evaluations // again
        return Preset(steps, max(1, steps // JUMPS_PER_SCHEDULE), again, name=name, sampler=sampler)
    return Preset(evaluations, name=name, sampler=sampler, spacing="trailing")


def plan_named(text: str) -> Preset:
    """The plan that ``SAMPLER:EVALUATIONS`` names; another form is a ``LacunarError``."""
    name, _, count = text.partition(":")
    if not count.isdecimal():
        raise LacunarError(f"got the sampler {text!r}; wanted a name and evaluations such as dpm-solver++:10")
    return plan(name, int(count))


def runs_of(
    presets: Sequence[str], steps: Sequence[int], samplers: Sequence[str], *, samples: int
) -> list[tuple[Preset, int]]:
    """Every way to run a network that is named, and how many samples it draws.

    A preset is ``NAME``, or ``NAME:K`` for K samples; ``steps`` are those of conditional DDIM; a sampler is ``NAME:N``
    for N evaluations. Where no number is named, ``samples`` are drawn, or one where the mean alone is given. An unknown
    name, another form, or samples of a preset that gives the mean alone is a `LacunarError`.
    """
    runs = []
    for text in presets:
        name, _, count = text.partition(":")
        if count and not (count.isdecimal() and int(count)):
            raise LacunarError(f"got the preset {text!r}; wanted a name, or a name and samples such as paper:1")
        preset = preset_named(name)
        if count:
            preset.check_samples(int(count))
        runs.append((preset, int(count) if count else 1 if preset.mean_only else samples))
    runs += [(Preset(steps=number, name=f"{number} steps"), samples) for number in steps]
    return runs + [(plan_named(text), samples) for text in samplers]


def refiner(preset: Preset, *, prior: bool = False) -> Preset:
    """How a coarser fill is refined: by the fill's own sampler, or as ``balanced`` where that is unconditional.

    A refinement starts late in the schedule, from the enlarged coarser fill (Meng et al. 2022, SDEdit, arXiv
    2108.01073). A network that is a ``prior`` alone knows no mask: it keeps its unconditional sampler.
    """
    own = preset if preset.conditional or prior else PRESETS["balanced"]
    return replace(own, steps=math.ceil(REFINED_SHARE * own.steps))


def refining_schedule(schedule: NoiseSchedule, preset: Preset, *, prior: bool = False) -> NoiseSchedule:
    """The steps of one refinement of a fill by ``preset``, of the training schedule's first `REFINED_SHARE`.

    They are the fill's own steps there; where these are few, as many are spread over that share anew.
    """
    own = preset if preset.conditional or prior else PRESETS["balanced"]
    steps = refiner(preset, prior=prior).steps
    if own.steps >= FEW_STEPS:
        return own.thinned(schedule).beginning(steps)
    return schedule.beginning(round(REFINED_SHARE * schedule.num_timesteps)).respaced(steps, spacing=own.spacing)


def sampler_help() -> str:
    """The samplers by kind, for the command line."""
    conditional = [name for name, sampler in SAMPLERS.items() if sampler.conditional]
    others = [name for name in SAMPLERS if name not in conditional]
    return f"{_listed(conditional)}; with the network as an unconditional prior {_listed(others)}"


def preset_help() -> str:
    """The presets with their evaluations, for the command line."""
    told = []
    for name, preset in PRESETS.items():
        sampler = "" if preset.conditional else f"{SAMPLERS[preset.sampler].label}, "
        told.append(f"{name} ({sampler}{preset.evaluations} evaluation{'s' if preset.evaluations > 1 else ''})")
    return _listed(told)


def jump_timetable(t_T: int, jump_length: int = 10, jump_n_sample: int = 10) -> list[int]:
    """List the steps that RePaint visits, from ``t_T`` - 1 down to -1, the clean image; neighbours differ by one.

    Wherever t is a multiple of ``jump_length`` and there is room above (t + ``jump_length`` < ``t_T``), the walk goes
    up ``jump_length`` steps and back, ``jump_n_sample`` - 1 times. A pair (t, t - 1) is one network evaluation at t, a
    pair (t, t + 1) adds noise. A value below 1 is a ModelError. Reference: Lugmayr et al. 2022, arXiv 2201.09865,
    section 4.2 and the appendix on the jump schedule.

    Examples
    --------
    >>> jump_timetable(5, jump_length=2, jump_n_sample=2)
    [4, 3, 2, 3, 4, 3, 2, 1, 0, 1, 2, 1, 0, -1]
    >>> from itertools import pairwise
    >>> times = jump_timetable(250, 10, 10)
    >>> len(times) - 1, sum(after < before for before, after in pairwise(times))
    (4570, 2410)
    """
    for name, value in (("t_T", t_T), ("jump_length", jump_length), ("jump_n_sample", jump_n_sample)):
        if value < 1:
            raise ModelError(f"got {name} = {value}, wanted at least 1; the paper uses 250, 10 and 10")
    times: list[int] = []
    for t in reversed(range(t_T)):
        times.append(t)
        if t % jump_length == 0 and t + jump_length < t_T:
            up_and_down = [*range(t + 1, t + jump_length), *range(t + jump_length, t - 1, -1)]
            times += up_and_down * (jump_n_sample - 1)
    return [*times, -1]


def _listed(names: Sequence[str]) -> str:
    """Names as an English list: a, b or c."""
    return f"{', '.join(names[:-1])} or {names[-1]}"
