"""How a coarser fill is refined: which steps it goes through on the finer grid.

References
----------
Meng et al. 2022, "SDEdit", arXiv 2108.01073.
"""

import math
from dataclasses import replace

from lacunar.diffusion.presets import PRESETS
from lacunar.diffusion.samplers import Preset
from lacunar.diffusion.schedule import NoiseSchedule

REFINED_SHARE = 0.3  # of the schedule's time, from clean, that a refinement goes through
FEW_STEPS = 10  # below so many, too few of a fill's steps lie in that share


def refiner(preset: Preset) -> Preset:
    """How one refinement is drawn: by the fill's own solver; what the prior began is refined as ``balanced`` does."""
    own = preset if preset.conditional else PRESETS["balanced"]
    return replace(own, steps=math.ceil(REFINED_SHARE * own.steps), strength=1.0)


def refining_schedule(schedule: NoiseSchedule, preset: Preset) -> NoiseSchedule:
    """The steps of one refinement of a fill by ``preset``, of the training schedule's first `REFINED_SHARE`.

    They are the fill's own steps there; where these are few, as many are spread over it anew.
    """
    own, steps = preset if preset.conditional else PRESETS["balanced"], refiner(preset).steps
    if own.steps >= FEW_STEPS:
        return _beginning(own.thinned(schedule), steps)
    return _beginning(schedule, round(REFINED_SHARE * schedule.num_timesteps)).respaced(steps, spacing=own.spacing)


def _beginning(schedule: NoiseSchedule, steps: int) -> NoiseSchedule:
    """The first, least noisy steps of a schedule."""
    return NoiseSchedule(schedule.betas[:steps], schedule.timesteps[:steps], schedule.original_num_timesteps)
