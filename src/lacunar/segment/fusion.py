"""Several samples of a water map fused into one: a probability, how far the samples disagree, and a yes or no.

``mean`` averages the samples. ``staple`` (Warfield, Zou & Wells 2004) takes each sample as a rater of unknown
sensitivity and specificity, both estimated together with the hidden truth. All that STAPLE needs of a pixel is which
raters said water; so one pass counts these patterns over the whole image, whatever its size, the estimate runs on the
2**K counts, and a second pass looks each pixel up: no block has an estimate of its own, so there are no seams. Numpy
only.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError, RasterError
from lacunar.geo.windows import Tile

FusionName = Literal["mean", "staple"]

THRESHOLD = 0.5  # from which probability a pixel is water; also where STAPLE takes a sample to say water
NOT_VALID = 255  # of the band `water`, where the image has no valid pixel
MOST_RATERS = 15  # a pattern, or that there is none, fits 16 bits
FIRST_GUESS = 0.99999  # sensitivity and specificity of every rater to begin with, as in the authors' own software
TOLERANCE = 1e-10  # change of every sensitivity and specificity below which the estimate stands
MOST_ITERATIONS = 10_000

_NO_PATTERN = np.uint16(2**16 - 1)

Values = NDArray[np.float32]


class Sampled(Protocol):
    """One block of the result of a segmentation."""

    @property
    def window(self) -> Tile:
        """Where it lies."""

    @property
    def samples(self) -> Values:
        """(K, H, W), probability of water in each sample, 0 to 1; NaN where the image is not valid."""


@dataclass(frozen=True, eq=False)
class FusedBlock:
    """One block of the fused map.

    Parameters
    ----------
    window
        Where it lies.
    water
        (H, W), uint8: 1 water, 0 land, 255 not valid.
    probability, disagreement
        (H, W), float32: probability of water; standard deviation of the samples; NaN where not valid.
    """

    window: Tile
    water: NDArray[np.uint8]
    probability: Values
    disagreement: Values


@dataclass(frozen=True, eq=False)
class Staple:
    """What STAPLE estimated.

    Parameters
    ----------
    sensitivity, specificity
        (K,), of each rater; NaN where all of them say the same everywhere, which rates nobody.
    prior
        Share of all decisions that say water: the probability of water before any rater is heard.
    probability
        (2**K,), of water given which raters said so: bit k of the index is rater k.
    iterations
        Steps until no parameter changed by more than 1e-10.
    """

    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]
    prior: float
    probability: NDArray[np.float64]
    iterations: int


def check_fusion(method: str, *, samples: int, threshold: float) -> None:
    """Refuse what cannot be fused, before any work is done.

    Raises
    ------
    LacunarError
        An unknown method, too few or too many samples for it, or a threshold out of range.
    """
    if method not in get_args(FusionName):
        raise LacunarError(f"fusion {method!r}: wanted one of {', '.join(get_args(FusionName))}")
    if method == "staple" and not 2 <= samples <= MOST_RATERS:
        raise LacunarError(f"{samples} samples: staple wants 2 to {MOST_RATERS}; take others or --fusion mean")
    if not 0 < threshold < 1:
        raise LacunarError(f"threshold {threshold}: wanted above 0 and below 1; {THRESHOLD} is usual")


def fuse_blocks(
    blocks: Iterable[Sampled], *, method: FusionName = "mean", threshold: float = THRESHOLD, room: Path
) -> Iterator[FusedBlock]:
    """Fuse the samples of an image block by block.

    Parameters
    ----------
    blocks
        The blocks that part the image, in any order.
    method
        ``"mean"`` yields each block as it comes. ``"staple"`` first hears all of them; meanwhile 6 bytes per pixel wait
        in `room`.
    threshold
        A pixel whose probability is this or more is water.
    room
        Folder for what waits; the caller removes it.

    Raises
    ------
    LacunarError
        What `check_fusion` refuses, or a folder that is full.
    """
    if method == "mean":
        for block in blocks:
            probability, disagreement = mean_and_spread(block.samples)
            yield decided_block(block.window, probability, disagreement, threshold)
        return
    held: list[_Held] = []
    counts = np.zeros(0, dtype=np.int64)
    for block in blocks:
        check_fusion(method, samples=len(block.samples), threshold=threshold)
        patterns = decision_patterns(block.samples)
        added = np.bincount(patterns[patterns != _NO_PATTERN], minlength=2 ** len(block.samples))
        counts = counts + added if counts.size else added
        held.append(_Held.write(block, patterns, room / f"held_{len(held)}.npy"))
    table = fit_staple(counts).probability.astype(np.float32) if held else np.zeros(0, dtype=np.float32)
    for waiting in held:
        patterns, disagreement = waiting.read()
        valid = patterns != _NO_PATTERN
        probability = np.where(valid, table[np.where(valid, patterns, 0)], np.float32(np.nan))
        yield decided_block(waiting.window, probability, disagreement, threshold)


def decided_block(window: Tile, probability: Values, disagreement: Values, threshold: float) -> FusedBlock:
    """A block with its yes or no: water from this probability on."""
    said = (probability >= threshold).astype(np.uint8)
    water = np.where(np.isnan(probability), np.uint8(NOT_VALID), said)
    return FusedBlock(window, water, probability, disagreement)


def mean_and_spread(samples: Values) -> tuple[Values, Values]:
    """Mean and standard deviation of the samples (K, H, W) at each pixel; NaN stays.

    Examples
    --------
    >>> mean, spread = mean_and_spread(np.array([[[0.0]], [[1.0]]], dtype=np.float32))
    >>> mean.item(), spread.item()
    (0.5, 0.5)
    """
    mean = samples.mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32), samples.std(axis=0, dtype=np.float64).astype(np.float32)


def decision_patterns(samples: Values) -> NDArray[np.uint16]:
    """Which samples say water at each pixel, as bits: bit k for sample k; 65535 where not valid.

    Examples
    --------
    >>> decision_patterns(np.array([[[0.9, 0.1]], [[0.2, 0.8]], [[0.5, np.nan]]], dtype=np.float32))
    array([[    5, 65535]], dtype=uint16)
    """
    valid = np.isfinite(samples).all(axis=0)
    bits = 2 ** np.arange(len(samples), dtype=np.uint16)
    said = np.tensordot(bits, (samples >= THRESHOLD).astype(np.uint16), axes=1)
    return np.where(valid, said, _NO_PATTERN).astype(np.uint16)


def fit_staple(counts: NDArray[np.integer[Any]]) -> Staple:
    """Estimate sensitivity and specificity of each rater and the hidden truth by expectation maximisation.

    With D_ik the decision of rater k at pixel i, f the prior, p_k the sensitivity and q_k the specificity:

    - E step: a_i = f prod_k p_k^D_ik (1 - p_k)^(1 - D_ik), b_i = (1 - f) prod_k q_k^(1 - D_ik) (1 - q_k)^D_ik,
      W_i = a_i / (a_i + b_i);
    - M step: p_k = sum_i W_i D_ik / sum_i W_i, q_k = sum_i (1 - W_i)(1 - D_ik) / sum_i (1 - W_i).

    Parameters
    ----------
    counts
        (2**K,), how many pixels have each pattern; bit k of the index is what rater k decided.

    Returns
    -------
    Staple
        The estimate. Where all raters agree on water everywhere, or on land, that is the truth.

    Raises
    ------
    LacunarError
        A number of counts that is no power of 2, or K beyond 15.

    References
    ----------
    Warfield, Zou & Wells (2004), IEEE Transactions on Medical Imaging 23(7), 903-921.

    Examples
    --------
    >>> fit_staple(np.array([90, 0, 0, 10])).probability.round(6).tolist()[::3]
    [0.0, 1.0]
    """
    raters = int(counts.size).bit_length() - 1
    if counts.ndim != 1 or counts.size != 2**raters or not 1 <= raters <= MOST_RATERS:
        raise LacunarError(f"got counts of shape {counts.shape}: wanted 2**K of them for K = 1 to {MOST_RATERS} raters")
    decided = (np.arange(counts.size)[:, None] >> np.arange(raters)) & 1 == 1  # (2**K, K)
    total = int(counts.sum())
    prior = float(counts @ decided.mean(axis=1) / total) if total else 0.0
    if prior in (0.0, 1.0):
        nothing = np.full(raters, np.nan)
        return Staple(nothing, nothing, prior, np.full(counts.size, prior), 0)
    sensitivity, specificity = np.full((2, raters), FIRST_GUESS)
    iterations, moved = 0, np.inf
    while moved > TOLERANCE and iterations < MOST_ITERATIONS:
        iterations += 1
        weight = _expectation(decided, sensitivity, specificity, prior)
        water, land = counts * weight, counts * (1 - weight)
        last = sensitivity, specificity
        sensitivity = _share(water, decided)
        specificity = _share(land, ~decided)
        moved = max(np.abs(sensitivity - last[0]).max(), np.abs(specificity - last[1]).max())
    weight = _expectation(decided, sensitivity, specificity, prior)
    return Staple(sensitivity, specificity, prior, weight, iterations)


def _expectation(
    decided: NDArray[np.bool_], sensitivity: NDArray[np.float64], specificity: NDArray[np.float64], prior: float
) -> NDArray[np.float64]:
    """Probability of water for each pattern; the prior where no rater's parameters allow the pattern at all."""
    water = prior * np.where(decided, sensitivity, 1 - sensitivity).prod(axis=1)
    land = (1 - prior) * np.where(decided, 1 - specificity, specificity).prod(axis=1)
    both = water + land
    return np.asarray(np.divide(water, both, out=np.full_like(both, prior), where=both > 0))


def _share(weight: NDArray[np.float64], decided: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of the weight of all patterns, the part in which each rater decided so; 1 where there is no weight."""
    total = weight.sum()
    return np.asarray(weight @ decided / total if total > 0 else np.ones(decided.shape[1]))


@dataclass(frozen=True)
class _Held:
    """A block that waits on disk until all raters are heard."""

    window: Tile
    path: Path

    @classmethod
    def write(cls, block: Sampled, patterns: NDArray[np.uint16], path: Path) -> "_Held":
        """Put patterns and disagreement aside."""
        try:
            with path.open("wb") as file:
                np.save(file, patterns)
                np.save(file, mean_and_spread(block.samples)[1])
        except OSError as error:
            raise RasterError(
                f"{path}: cannot be written ({error.strerror}); wanted a folder with free space: free some"
            ) from error
        return cls(block.window, path)

    def read(self) -> tuple[NDArray[np.uint16], Values]:
        """Take patterns and disagreement back, and free their place."""
        with self.path.open("rb") as file:
            patterns, disagreement = np.load(file), np.load(file)
        self.path.unlink()
        return patterns, disagreement
