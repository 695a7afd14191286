"""Several samples of a water map fused into one: a probability, how far the samples disagree, and a yes or no.

``mean`` averages the samples. ``staple`` (Warfield, Zou & Wells 2004) takes each sample as a rater of unknown
sensitivity and specificity. All that it needs of a pixel is which raters said water: a first pass counts these patterns
over the whole image, the estimate runs on the 2**K counts, and a second pass looks each pixel up, without seams.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.geo.staging import disk_errors
from lacunar.geo.windows import Tile
from lacunar.segment.classes import NOT_VALID, clouds_of, decided

FusionName = Literal["mean", "staple"]

THRESHOLD = 0.5  # probability from which a pixel is water; also where STAPLE takes a sample to say water
MOST_RATERS = 15  # a pattern, or that there is none, fits 16 bits
FIRST_GUESS = 0.99999  # sensitivity and specificity of every rater to begin with, as in the authors' own software
TOLERANCE = 1e-10  # the estimate stands when no sensitivity or specificity changes by more
MOST_ITERATIONS = 10_000

_NO_PATTERN = np.uint16(2**16 - 1)

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class SampledBlock:
    """A window and its samples: probability of water (K, h, w) in each, NaN where the image is not valid.

    ``cover`` (C, h, w): what a pixel is if it is not water, as probabilities of the model's other classes.
    """

    window: Tile
    samples: Values
    cover: NDArray[np.floating[Any]] = field(default_factory=lambda: np.empty((0, 0, 0), dtype=np.float32))


@dataclass(frozen=True, eq=False)
class FusedBlock:
    """A window of the fused map: water (1, or 0 for land, 255 not valid), its probability, the samples' deviation.

    ``classes`` are numbers as in `lacunar.segment.classes`; of a model of water alone they are the water.
    """

    window: Tile
    water: NDArray[np.uint8]
    probability: Values
    disagreement: Values
    classes: NDArray[np.uint8]


class Staple(NamedTuple):
    """What STAPLE estimated from K raters."""

    sensitivity: Floats  # (K,); NaN where all raters always agree, which rates nobody
    specificity: Floats
    prior: float  # share of all decisions that say water
    probability: Floats  # (2**K,); bit k of the index says whether rater k said water
    iterations: int


def check_fusion(method: str, *, samples: int, threshold: float) -> None:
    """Refuse, with a ``LacunarError``, an unknown method, its wrong number of samples, or a threshold out of range."""
    if method not in get_args(FusionName):
        raise LacunarError(f"fusion {method!r}: wanted one of {', '.join(get_args(FusionName))}")
    if method == "staple" and not 2 <= samples <= MOST_RATERS:
        raise LacunarError(f"{samples} samples: staple wants 2 to {MOST_RATERS}; take others or --fusion mean")
    if not 0 < threshold < 1:
        raise LacunarError(f"threshold {threshold}: wanted above 0 and below 1; {THRESHOLD} is usual")


def fuse_blocks(
    blocks: Iterable[SampledBlock],
    *,
    method: FusionName = "mean",
    threshold: float = THRESHOLD,
    folder: Path,
    classes: Sequence[str] = ("water",),
) -> Iterator[FusedBlock]:
    """Fuse the samples of an image block by block; a pixel is water from the threshold on.

    ``classes`` are the model's. ``staple`` reads all blocks first; until then 6 bytes per pixel, and 2 for each class
    after water, wait in ``folder``. What `check_fusion` refuses, or a full folder, is a ``LacunarError``.
    """
    if method == "staple":
        yield from _fused_by_staple(blocks, threshold, folder, classes)
        return
    for block in blocks:
        yield decided_block(block.window, *mean_and_disagreement(block.samples), threshold, block.cover, classes)


def decided_block(
    window: Tile,
    probability: Values,
    disagreement: Values,
    threshold: float,
    cover: NDArray[np.floating] | None = None,
    classes: Sequence[str] = ("water",),
) -> FusedBlock:
    """A block that is water from this probability on, else what its cover says."""
    water = np.where(np.isnan(probability), np.uint8(NOT_VALID), (probability >= threshold).astype(np.uint8))
    kinds = water if cover is None else decided(water, cover, classes)
    return FusedBlock(window, water, probability, disagreement, kinds)


def without_clouds(block: FusedBlock, classes: Sequence[str]) -> FusedBlock:
    """The block with what hides the ground not valid, but for its classes."""
    hidden = np.isin(block.classes, clouds_of(classes))
    water = np.where(hidden, np.uint8(NOT_VALID), block.water)
    probability, disagreement = (
        np.where(hidden, np.float32(np.nan), plane) for plane in (block.probability, block.disagreement)
    )
    return FusedBlock(block.window, water, probability, disagreement, block.classes)


def mean_and_disagreement(samples: Values) -> tuple[Values, Values]:
    """Mean and standard deviation of the samples (K, H, W) at each pixel; NaN stays."""
    mean = samples.mean(axis=0, dtype=np.float64)
    return mean.astype(np.float32), samples.std(axis=0, dtype=np.float64).astype(np.float32)


def decision_patterns(samples: Values) -> NDArray[np.uint16]:
    """Which samples say water at each pixel, as bits: bit k for sample k; 65535 where not valid."""
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

    ``counts`` (2**K,) says how many pixels have each pattern of `decision_patterns`; another size, or K beyond 15, is a
    ``LacunarError``. Where all raters always agree, that is the truth. Warfield, Zou & Wells (2004), IEEE Transactions
    on Medical Imaging 23(7), 903-921.
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
    p, q = np.full((2, raters), FIRST_GUESS)
    iterations, moved = 0, np.inf
    while moved > TOLERANCE and iterations < MOST_ITERATIONS:
        iterations += 1
        weight = _expectation(decided, p, q, prior)
        last, p, q = (p, q), _share(counts * weight, decided), _share(counts * (1 - weight), ~decided)
        moved = max(np.abs(p - last[0]).max(), np.abs(q - last[1]).max())
    return Staple(p, q, prior, _expectation(decided, p, q, prior), iterations)


def _expectation(decided: Bools, p: Floats, q: Floats, prior: float) -> Floats:
    """Probability of water for each pattern; the prior where sensitivities and specificities rule the pattern out."""
    water = prior * np.where(decided, p, 1 - p).prod(axis=1)
    land = (1 - prior) * np.where(decided, 1 - q, q).prod(axis=1)
    both = water + land
    return np.asarray(np.divide(water, both, out=np.full_like(both, prior), where=both > 0))


def _share(weight: Floats, decided: Bools) -> Floats:
    """Share of the weight in which each rater decided so; 1 where there is no weight."""
    total = weight.sum()
    return np.asarray(weight @ decided / total if total > 0 else np.ones(decided.shape[1]))


def _fused_by_staple(
    blocks: Iterable[SampledBlock], threshold: float, folder: Path, classes: Sequence[str]
) -> Iterator[FusedBlock]:
    held: list[tuple[Tile, Path]] = []
    counts = np.zeros(1, dtype=np.int64)
    for block in blocks:
        check_fusion("staple", samples=len(block.samples), threshold=threshold)
        patterns = decision_patterns(block.samples)
        counts = counts + np.bincount(patterns[patterns != _NO_PATTERN], minlength=2 ** len(block.samples))
        held.append((block.window, folder / f"held_{len(held)}.npy"))
        with disk_errors(held[-1][1]), held[-1][1].open("wb") as file:
            np.save(file, patterns)
            np.save(file, mean_and_disagreement(block.samples)[1])
            np.save(file, block.cover.astype(np.float16))
    table = fit_staple(counts).probability.astype(np.float32) if held else np.zeros(0, dtype=np.float32)
    for window, path in held:
        with path.open("rb") as file:
            patterns, disagreement, cover = np.load(file), np.load(file), np.load(file)
        path.unlink()
        valid = patterns != _NO_PATTERN
        probability = np.where(valid, table[np.where(valid, patterns, 0)], np.float32(np.nan))
        yield decided_block(window, probability, disagreement, threshold, cover, classes)
