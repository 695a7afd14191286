"""Named ways to fill a gap, and how another sampler takes the place of theirs."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

from lacunar.diffusion.samplers import Preset, plan, plan_named
from lacunar.errors import LacunarError

PresetName = Literal["fast", "balanced", "paper", "instant"]
PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)

PRESETS: Mapping[PresetName, Preset] = MappingProxyType(
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
        raise LacunarError(f"unknown preset {name!r}: choose one of {', '.join(PRESET_NAMES)}")
    return PRESETS[name]  # type: ignore[index]


def chosen_preset(name: str, sampler: str | None = None, evaluations: int | None = None) -> Preset:
    """Return a preset, or what takes its place where a sampler or a number of evaluations is asked for.

    Parameters
    ----------
    name
        A preset; it says what is not asked for otherwise.
    sampler, evaluations
        One of `lacunar.diffusion.samplers.SAMPLER_NAMES`, and evaluations for each sample at most, by default the
        preset's steps.

    Raises
    ------
    LacunarError
        An unknown name, no evaluation, or ``instant``, which is one evaluation and no sampler.
    """
    preset = preset_named(name)
    if evaluations is None and sampler in (None, preset.sampler):
        return preset
    if preset.mean_only:
        raise LacunarError(f"preset {name} is one evaluation and no sampler: leave --sampler and --evaluations out")
    return plan(sampler or preset.sampler, preset.steps if evaluations is None else evaluations)


def runs_of(
    presets: Sequence[str], steps: Sequence[int], samplers: Sequence[str], *, samples: int
) -> list[tuple[Preset, int]]:
    """Every way to run a network that is named, and how many samples it draws.

    Parameters
    ----------
    presets
        ``NAME``, or ``NAME:K`` for K samples.
    steps
        Conditional DDIM of so many steps each.
    samplers
        ``NAME:N`` for N evaluations.
    samples
        Where no other number is named; one where the mean alone is given.

    Raises
    ------
    LacunarError
        An unknown name, another form, or samples of a preset that gives the mean alone.
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
