"""Guides (other dates, static rasters) as drift of kriging, and the classical fills that use another date.

Another date tells the pattern, not the values. Its fine detail is less trustworthy than its coarse pattern: dates are
never perfectly registered, and each has its own noise. So every guide gives one drift term for each of its scales, and
kriging with external drift finds a coefficient for each. Where a guide is hidden (its own clouds) it gives no detail,
its coarser scales are carried in from around, and the standard deviation grows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.errors import LacunarError
from lacunar.interpolate.kriging import fit_covariance, krige, krige_with_drift, require_known

ReferenceFillName = Literal["reference copy", "regression", "regression + kriging", "kriging with drift"]
REFERENCE_FILL_NAMES: tuple[ReferenceFillName, ...] = get_args(ReferenceFillName)

SCALES = (2.0, 8.0)  # pixels: widths of the Gaussians between which a reference is split
MIN_COMMON = 64  # pixels that a reference and the known pixels must share; fewer do not fix a coefficient
RIDGE = 1e-3  # weight of "nothing known" in a smoothed reference: far from what it shows it falls to its mean

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


def drift_terms(guides: NDArray[np.floating], known: BoolArray) -> FloatArray:
    """Split guides (K, H, W) into scales (P, H, W), in units of each one's standard deviation, finite everywhere.

    A guide that shares fewer than `MIN_COMMON` pixels with the ``known`` ones, or is constant, is left out; each of the
    others gives three terms.
    """
    terms = []
    for guide in _usable(guides, known):
        shown = np.isfinite(guide)
        std = float(guide[shown].std(dtype=np.float64))
        anomaly = np.where(shown, (guide - guide[shown].mean(dtype=np.float64)) / std, 0.0)
        levels = [_smoothed(anomaly, shown, width) for width in SCALES]
        terms.append(np.where(shown, anomaly - levels[0], 0.0))
        terms += [fine - coarse for fine, coarse in pairwise(levels)]
        terms.append(levels[-1])
    return np.stack(terms) if terms else np.zeros((0, *known.shape))


def _usable(guides: NDArray[np.floating], known: BoolArray) -> list[NDArray[np.floating]]:
    """References that vary and share enough pixels with the known ones."""
    shown = [np.isfinite(guide) for guide in guides]
    return [
        guide
        for guide, there in zip(guides, shown, strict=True)
        if (there & known).sum() >= MIN_COMMON and np.ptp(guide[there]) > 0
    ]


@dataclass(frozen=True, eq=False)
class Guided:
    """Kriging with guides as drift: mean, standard deviation, and the guides' share of the mean, each (H, W)."""

    mean: FloatArray
    std: FloatArray
    guide: FloatArray


def krige_with_guides(
    values: NDArray[np.floating], known: BoolArray, guides: NDArray[np.floating], *, targets: BoolArray | None = None
) -> Guided:
    """Kriging with guides (K, H, W), in any units and NaN where unknown, as external drift.

    Where a guide is hidden, the field varies as it would without it. If the known pixels there show it, that is part of
    the covariance; if not, the sill there is raised by the variance that the guide's terms explain elsewhere. The other
    parameters and errors are those of `lacunar.interpolate.kriging.krige`.
    """
    terms, usable = drift_terms(guides, known), _usable(guides, known)
    hidden = ~np.isfinite(np.stack(usable)) if usable else None
    kriged = krige_with_drift(values, known, terms, hidden=hidden, targets=targets)
    lost = np.zeros(known.shape)
    scales = len(SCALES) + 1
    for number, guide in enumerate(usable if not kriged.veiled else []):
        own = slice(scales * number, scales * (number + 1))
        shown = np.isfinite(guide)
        lost += np.where(shown, 0.0, np.tensordot(kriged.coefficients[own], terms[own], axes=1)[shown].var())
    std = kriged.std * np.sqrt(1 + lost / max(kriged.sill, np.finfo(np.float64).tiny))
    return Guided(kriged.mean, std, np.tensordot(kriged.coefficients, terms, axes=1))


def _smoothed(anomaly: FloatArray, shown: BoolArray, width: float) -> FloatArray:
    """Gaussian mean of what is shown; it falls to 0, the mean, where nothing is near."""
    total = ndimage.gaussian_filter(anomaly, width, mode="constant")
    weight = ndimage.gaussian_filter(shown.astype(np.float64), width, mode="constant")
    return np.asarray(total / (weight + RIDGE))


def fill_from_reference(
    name: ReferenceFillName, values: NDArray[np.floating], known: BoolArray, references: Sequence[NDArray[np.floating]]
) -> tuple[FloatArray, FloatArray | None]:
    """Fill missing pixels (H, W) by a classical method from one or more references (H, W), NaN where unknown.

    ``reference copy``: the first reference, matched in mean and standard deviation on the pixels that both know;
    ``regression``: least squares on all references; ``regression + kriging``: with the residual kriged (exponential
    covariance); ``kriging with drift``: `krige_with_guides`. Where a reference is unknown, the first two take its mean.

    Returns mean and standard deviation in float64; known pixels keep their value, with 0. The first two methods give
    None for the standard deviation. Raises `LacunarError`: no known pixel, or a reference that shares none (which
    kriging with drift leaves out).
    """
    if name not in REFERENCE_FILL_NAMES:
        raise LacunarError(f"unknown fill {name!r}: choose one of {', '.join(REFERENCE_FILL_NAMES)}")
    require_known(values, known)
    if not references or any(reference.shape != known.shape for reference in references):
        raise LacunarError(f"got {len(references)} references; wanted one or more of the values' shape {known.shape}")
    clean = np.where(known, values, 0.0).astype(np.float64)
    if name == "kriging with drift":
        guided = krige_with_guides(clean, known, np.stack(list(references)))
        return guided.mean, guided.std
    if name == "reference copy":
        return np.where(known, clean, _matched(clean, known, references[0])), None
    predicted = _regressed(clean, known, references)
    if name == "regression":
        return np.where(known, clean, predicted), None
    residual = clean - predicted
    mean, std = krige(residual, known, covariance=fit_covariance(residual, known, smoothings=(0.0,)))
    return np.where(known, clean, predicted + mean), std


def _common(known: BoolArray, reference: NDArray[np.floating]) -> BoolArray:
    """Pixels that both know; there must be some."""
    common: BoolArray = known & np.isfinite(reference)
    if not common.any():
        raise LacunarError("a reference shares no measured pixel with the values: choose another date")
    return common


def _matched(values: FloatArray, known: BoolArray, reference: NDArray[np.floating]) -> FloatArray:
    """The reference with the mean and the standard deviation that the values have on the pixels both know."""
    common = _common(known, reference)
    scale = values[common].std() / max(float(reference[common].std()), np.finfo(np.float32).tiny)
    matched: FloatArray = values[common].mean() + scale * (reference - reference[common].mean())
    return np.where(np.isfinite(reference), matched, values[common].mean())


def _regressed(values: FloatArray, known: BoolArray, references: Sequence[NDArray[np.floating]]) -> FloatArray:
    """Least squares on all references over the known pixels; an unknown reference pixel counts as its mean."""
    columns = [np.ones(known.shape)]
    for reference in references:
        centre = float(reference[_common(known, reference)].mean())
        columns.append(np.where(np.isfinite(reference), reference - centre, 0.0))
    design = np.stack(columns)
    coefficients = np.linalg.lstsq(design[:, known].T, values[known], rcond=None)[0]
    return np.asarray(np.tensordot(coefficients, design, axes=1))
