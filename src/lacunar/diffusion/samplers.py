"""Every sampler by its name, and one function that draws with any of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import isqrt
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.repaint import jump_timetable, repaint_sample
from lacunar.diffusion.sampling import Callback, Denoiser, ddim_sample, warm_steps
from lacunar.diffusion.schedule import NoiseSchedule, Spacing
from lacunar.diffusion.solvers import adams_sample, dpm_solver_pp_2m_sample, heun_sample
from lacunar.diffusion.unipc import unipc_sample
from lacunar.diffusion.zero_shot import ddnm_sample, diffpir_sample, pigdm_sample
from lacunar.errors import LacunarError

SamplerName = Literal["ddim", "adams", "dpm-solver++", "heun", "unipc", "repaint", "ddnm", "diffpir", "pigdm"]
SAMPLER_NAMES: tuple[SamplerName, ...] = get_args(SamplerName)

MOST_RESAMPLINGS = 10  # jump_n_sample of the RePaint paper
JUMPS_PER_SCHEDULE = 25  # its 250 steps over its jump_length of 10


@dataclass(frozen=True)
class SamplerTraits:
    """What a sampler asks for.

    Parameters
    ----------
    label
        What figures and reports call it.
    conditional
        The network is told what is known: it samples the gap directly, and opposite noise gives opposite residuals.
        Otherwise it is told that all is gap, an unconditional prior, which the sampler holds to the known pixels.
    needs_gradient
        The network runs backward too, at about three times the cost of an evaluation.
    """

    label: str
    conditional: bool
    needs_gradient: bool = False


SAMPLERS: Mapping[SamplerName, SamplerTraits] = MappingProxyType(
    {
        "ddim": SamplerTraits("DDIM", conditional=True),
        "adams": SamplerTraits("Adams-Bashforth 2", conditional=True),
        "dpm-solver++": SamplerTraits("DPM-Solver++(2M)", conditional=True),
        "heun": SamplerTraits("Heun", conditional=True),
        "unipc": SamplerTraits("UniPC-2", conditional=True),
        "repaint": SamplerTraits("RePaint", conditional=False),
        "ddnm": SamplerTraits("DDNM", conditional=False),
        "diffpir": SamplerTraits("DiffPIR", conditional=False),
        "pigdm": SamplerTraits("PiGDM", conditional=False, needs_gradient=True),
    }
)


@dataclass(frozen=True)
class Preset:
    """How samples are drawn.

    Parameters
    ----------
    steps
        Steps that the schedule is thinned out to.
    jump_length, jump_n_sample
        RePaint's jumps; None for every other sampler.
    name
        What it is called: the calibration of a model's card goes by it.
    sampler
        One of `SAMPLERS`.
    spacing
        How the steps lie, see `lacunar.diffusion.schedule.NoiseSchedule.respaced`.
    strength
        Below 1 a warm start: the share of the steps, from the clean end, that a first guess is noised up to. The guess
        is the classical fill that is there already.
    mean_only
        One evaluation at the noisiest step gives the posterior mean, and no sample.

    Raises
    ------
    LacunarError
        An unknown sampler, jumps without RePaint or RePaint without jumps, a warm start of RePaint, a strength out of
        range, or more than one step where only the mean is wanted.
    """

    steps: int
    jump_length: int | None = None
    jump_n_sample: int | None = None
    name: str = ""
    sampler: SamplerName = "ddim"
    spacing: Spacing = "linspace"
    strength: float = 1.0
    mean_only: bool = False

    def __post_init__(self) -> None:
        """Check that the parts fit together."""
        _check_name(self.sampler)
        warm_steps(self.steps, self.strength)
        repaints = self.sampler == "repaint"
        if (self.jump_length is None) == repaints or (self.jump_n_sample is None) == repaints:
            raise LacunarError(
                f"sampler {self.sampler} with jumps {self.jump_length} and {self.jump_n_sample}: wanted a jump_length "
                "and a jump_n_sample for repaint, and for no other"
            )
        if repaints and self.strength < 1:
            raise LacunarError(f"repaint with strength {self.strength:g}: wanted 1, it has no warm start")
        if self.mean_only and (self.sampler, self.steps, self.strength) != ("ddim", 1, 1.0):
            raise LacunarError(f"{self.steps} steps of {self.sampler} for the mean alone: wanted 1 step of ddim")

    @property
    def conditional(self) -> bool:
        """The network is told what is known."""
        return SAMPLERS[self.sampler].conditional

    @property
    def needs_gradient(self) -> bool:
        """The network runs backward too: not under ``torch.inference_mode``."""
        return SAMPLERS[self.sampler].needs_gradient

    def thinned(self, schedule: NoiseSchedule) -> NoiseSchedule:
        """The steps of a training schedule that are gone through, or of which a warm start takes its share."""
        return schedule.respaced(self.steps, spacing=self.spacing)

    @property
    def evaluations(self) -> int:
        """Network evaluations for each sample of each tile."""
        if self.jump_length is not None and self.jump_n_sample is not None:
            times = jump_timetable(self.steps, self.jump_length, self.jump_n_sample)
            return sum(after < before for before, after in pairwise(times))
        steps = warm_steps(self.steps, self.strength)
        return 2 * steps - 1 if self.sampler == "heun" else steps

    @property
    def usual_samples(self) -> int:
        """Samples that are drawn where no number is given: their mean and their spread are wanted."""
        return 1 if self.mean_only else 8

    def way(self, samples: int) -> str:
        """The sampler, and of how many samples the mean is taken, in words."""
        if self.mean_only:
            return "the mean alone"
        return f"{SAMPLERS[self.sampler].label}, {f'mean of {samples}' if samples > 1 else 'one sample'}"

    def check_samples(self, samples: int) -> None:
        """Refuse several samples, with a ``LacunarError``, where there is the mean alone."""
        if self.mean_only and samples != 1:
            raise LacunarError(f"{samples} samples: preset {self.name} gives the mean alone, 1; fast draws several")


def plan(sampler: str, evaluations: int) -> Preset:
    """Give the preset of a sampler that takes at most so many evaluations; it is called ``SAMPLER:EVALUATIONS``.

    The steps lie ``trailing``, where few steps do more. RePaint's lie as in its paper; it resamples √evaluations times,
    10 at most, and keeps the paper's 25 jumps to a schedule.

    Raises
    ------
    LacunarError
        An unknown sampler, or no evaluation.

    Examples
    --------
    >>> plan("heun", 10).evaluations, plan("repaint", 100).steps, plan("repaint", 2500).evaluations
    (9, 10, 2410)
    """
    known = _check_name(sampler)
    if evaluations < 1:
        raise LacunarError(f"got {evaluations} evaluations, wanted 1 or more")
    name = f"{sampler}:{evaluations}"
    if known == "repaint":
        again = min(MOST_RESAMPLINGS, isqrt(evaluations))
        steps = evaluations // again
        return Preset(steps, max(1, steps // JUMPS_PER_SCHEDULE), again, name=name, sampler=known)
    steps = (evaluations + 1) // 2 if known == "heun" else evaluations
    return Preset(steps, name=name, sampler=known, spacing="trailing")


def plan_named(text: str) -> Preset:
    """Give the plan that ``SAMPLER:EVALUATIONS`` names.

    Raises
    ------
    LacunarError
        Another form, an unknown sampler, or no evaluation.
    """
    name, _, count = text.partition(":")
    if not count.isdecimal():
        raise LacunarError(f"got the sampler {text!r}; wanted a name and evaluations such as dpm-solver++:10")
    return plan(name, int(count))


def _check_name(name: str) -> SamplerName:
    """The sampler of this name."""
    if name not in SAMPLERS:
        raise LacunarError(f"unknown sampler {name!r}: choose one of {', '.join(SAMPLER_NAMES)}")
    return name  # type: ignore[return-value]


def draw(
    preset: Preset,
    denoiser: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    *,
    image: Tensor | None = None,
    known: Tensor | None = None,
    start: Tensor | None = None,
    prediction: Prediction = "epsilon",
    clip_x_0: tuple[float, float] | None = None,
    generator: torch.Generator | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Draw samples as a preset says.

    Parameters
    ----------
    preset
        The sampler; how the schedule is thinned out is the caller's part.
    denoiser
        The network, told what is known for a conditional sampler, and that all is gap for the others.
    x_T
        Standard normal noise, (B, C, H, W).
    schedule
        The steps that are gone through, or of which a warm start takes its share.
    image, known
        What the samplers on an unconditional prior are held to, as in `lacunar.diffusion.repaint.repaint_sample`; not
        looked at
        by the others.
    start
        First guess of x_0, which a preset of strength below 1 begins from.
    prediction, clip_x_0, generator, callback
        As in `lacunar.diffusion.sampling.ddpm_sample`.

    Returns
    -------
    torch.Tensor
        x_0 in the shape of ``x_T``.

    Raises
    ------
    LacunarError
        A sampler on the unconditional prior without an image.
    ModelError
        What the sampler itself refuses.
    """
    shared: dict[str, Any] = {"prediction": prediction, "clip_x_0": clip_x_0, "callback": callback}
    warm: dict[str, Any] = {"start": start if preset.strength < 1 else None, "strength": preset.strength}
    solvers: dict[str, Any] = {
        "ddim": ddim_sample,
        "adams": adams_sample,
        "dpm-solver++": dpm_solver_pp_2m_sample,
        "heun": heun_sample,
        "unipc": unipc_sample,
    }
    if preset.conditional:
        x: Tensor = solvers[preset.sampler](denoiser, x_T, schedule, **shared, **warm)
        return x
    if image is None or known is None:
        raise LacunarError(f"sampler {preset.sampler} without an image: wanted one, and which of its pixels are known")
    jumps: dict[str, Any] = {"jump_length": preset.jump_length, "jump_n_sample": preset.jump_n_sample}
    held = {
        "repaint": partial(repaint_sample, **jumps),
        "ddnm": partial(ddnm_sample, **warm),
        "diffpir": partial(diffpir_sample, **warm),
        "pigdm": partial(pigdm_sample, **warm),
    }
    return held[preset.sampler](denoiser, image, known, x_T, schedule, generator=generator, **shared)
