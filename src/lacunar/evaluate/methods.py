"""Judge fillers on truth that is hidden from them: the fillers, and every one of them on every case.

A filler sees a case with NaN in the gap, and the references that the case has. What comes out is pooled by
`lacunar.evaluate.scores`.
"""

import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lacunar.diffusion.samplers import Preset
from lacunar.errors import LacunarError
from lacunar.evaluate.cases import BoolArray, Case, FloatArray
from lacunar.evaluate.measure import ONE_SAMPLE, Fill, Measured, measure
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.interpolate.classical import FILL_NAMES, FillName, fill
from lacunar.interpolate.external_drift import REFERENCE_FILL_NAMES, ReferenceFillName, fill_from_reference
from lacunar.interpolate.kriging import fit_covariance, krige
from lacunar.models.checkpoint import Model

BASELINE: FillName = "kriging"  # what fills without a reference are compared with, pair by pair
REFERENCE_BASELINE: ReferenceFillName = "regression + kriging"  # and fills with one
SMOOTHED = "kriging (averaged)"  # with smoothed covariances, averaged: what the network starts from
CLASSICAL: tuple[str, ...] = (*(name for name in FILL_NAMES if name != BASELINE), BASELINE, SMOOTHED)

References = Sequence[NDArray[np.floating]]


class Filler(Protocol):
    """Anything that fills a gap: values (H, W) with NaN in the gap, known (H, W), a seed, references (H, W) each."""

    def __call__(self, values: FloatArray, known: BoolArray, seed: int, references: References = (), /) -> Fill:
        """Fill the gap."""


def classical_fillers(names: Collection[str] = CLASSICAL) -> dict[str, Filler]:
    """Classical methods by name, kriging with its own sigma, and kriging as the network starts from it.

    Raises
    ------
    LacunarError
        A name that is not in `CLASSICAL`.
    """
    unknown = [name for name in names if name not in CLASSICAL]
    if unknown:
        raise LacunarError(f"unknown method {unknown[0]!r}: choose out of {', '.join(CLASSICAL)}")
    fillers: dict[str, Filler] = {name: _classical(name) for name in FILL_NAMES if name != BASELINE}
    fillers[BASELINE] = _kriging(smoothed=False)
    fillers[SMOOTHED] = _kriging(smoothed=True)
    return {name: filler for name, filler in fillers.items() if name in names}


def _classical(name: FillName) -> Filler:
    """A method that gives no uncertainty."""
    return lambda values, known, seed, references=(), /: Fill(fill(name, values, known))


def _kriging(*, smoothed: bool) -> Filler:
    """Kriging with the likeliest exponential covariance, or as the network starts: smoothed ones, averaged."""

    def filler(values: FloatArray, known: BoolArray, _: int, references: References = (), /) -> Fill:
        covariance = None if smoothed else fit_covariance(values, known, smoothings=(0.0,))
        return Fill(*krige(values, known, covariance=covariance))

    return filler


def reference_fillers() -> dict[str, Filler]:
    """Classical methods that use references, by name; cases without one are bad input to them."""

    def filler(name: ReferenceFillName) -> Filler:
        return lambda values, known, seed, references=(), /: Fill(*fill_from_reference(name, values, known, references))

    return {name: filler(name) for name in REFERENCE_FILL_NAMES}


def model_filler(
    model: Model, *, preset: Preset, samples: int, with_sigma: bool = True, with_references: bool = False
) -> Filler:
    """A diffusion model: the mean of `samples`, their sigma, and the first of them.

    Of one sample alone there is no sigma, and the mean is that sample; a preset that gives the mean alone has a sigma,
    and no sample. References are used on request only, and sigma
    and the samples as a distribution can be left out.
    """

    def filler(values: FloatArray, known: BoolArray, seed: int, references: References = (), /) -> Fill:
        others = np.stack(list(references)) if with_references and references else None
        options = FillOptions(preset=preset, samples=samples, seed=seed)
        filled = fill_array(values, known, ~known, model, options, guides=others)
        each = filled.evaluations
        if samples == 1 and not (preset.mean_only and with_sigma):
            return Fill(filled.mean, evaluations=each)
        limits = (filled.quantile(0.025), filled.quantile(0.975)) if with_sigma else None
        if preset.mean_only:
            return Fill(filled.mean, filled.sigma, limits=limits, evaluations=each)
        return Fill(
            filled.mean,
            filled.sigma if with_sigma else None,
            filled.samples[0],
            filled.samples if with_sigma else None,
            limits,
            antithetic=filled.paired,
            evaluations=each * samples,
            sample_evaluations=each,
        )

    return filler


def evaluate(
    cases: Sequence[Case],
    fillers: Mapping[str, Filler],
    *,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
    watch: Callable[[Case, str, Fill], None] | None = None,
) -> list[Measured]:
    """Run every filler on every case.

    Parameters
    ----------
    cases
        From `lst_cases` or `pair_cases`, for example.
    fillers
        By name. One that gives a sample besides its mean is measured twice: ``NAME`` and ``NAME, one sample``.
    seed
        Of the fillers: each case has its own seed, made from this and its name.
    callback
        Called with (fills done, all).
    watch
        Called with (case, name, fill) after every fill: to draw it, for example.

    Returns
    -------
    list of Measured
        Case by case, to be pooled by `lacunar.evaluate.scores.pool`.

    Raises
    ------
    LacunarError
        No case, no filler, an empty gap, or a filler that leaves NaN in the gap.
    """
    if not cases or not fillers:
        raise LacunarError(f"got {len(cases)} cases and {len(fillers)} fillers; wanted one or more of both")
    measured: list[Measured] = []
    for number, case in enumerate(cases):
        hidden = np.where(case.gap, np.nan, case.values)
        case_seed = zlib.crc32(f"{seed} {case.name}".encode())
        for place, (name, filler) in enumerate(fillers.items()):
            filled = filler(hidden, ~case.gap, case_seed, case.references)
            measured.append(measure(case, name, filled))
            if filled.sample is not None:
                one = Fill(filled.sample, evaluations=filled.sample_evaluations)
                measured.append(measure(case, f"{name}, {ONE_SAMPLE}", one))
            if watch:
                watch(case, name, filled)
            if callback:
                callback(number * len(fillers) + place + 1, len(cases) * len(fillers))
    return measured
