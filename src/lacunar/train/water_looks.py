"""Weights of a segmenter's looks at images of few bands, at their own and at coarser pixels, from held-out scenes.

A network that sees tiles of 512 pixels takes the middle of a large lake for a dark field; the same lake at a quarter of
its resolution fits into a tile. The logits of all looks are weighed by maximum likelihood, like a Platt calibration.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from lacunar.models.checkpoint import SegmentationModel
from lacunar.segment.array import COARSE_VIEWS, FEW_BANDS, SEGMENTER_SAMPLES, segment_array
from lacunar.train.water_data import IGNORE, WATER, WaterScene

FACTORS = (1, 2, 4)  # pixels of the scene along the side of a look's pixel
PIXELS = 12_000  # of a scene that count
SUREST = 1e-4  # probabilities are kept so far from 0 and 1

Floats = NDArray[np.float64]


def fit_looks(model: SegmentationModel, scenes: Sequence[WaterScene], *, seed: int) -> dict[str, float]:
    """Weight of the logit of each look, by its factor as text, and ``shift``; every set of scenes counts the same."""
    own = replace(model, card=replace(model.card, looks={}))
    few = [scene for scene in scenes if len(scene.band_names) <= FEW_BANDS]
    counts, rng = Counter(scene.set_name for scene in few), np.random.default_rng(seed)
    parts = []
    for scene in few:
        known = np.flatnonzero(scene.mask != IGNORE)
        some = rng.choice(known, min(PIXELS, known.size), replace=False)
        looks = np.stack([look_of(own, scene.bands(), factor).ravel()[some] for factor in FACTORS])
        seen = np.isfinite(looks).all(axis=0)
        weight = np.full(some.size, 1 / counts[scene.set_name] / max(some.size, 1))
        parts.append((looks[:, seen], scene.mask.ravel()[some][seen] == WATER, weight[seen]))
    looks, water, weight = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    given = np.concatenate([looks, np.ones((1, looks.shape[1]))])

    def loss(fit: Floats) -> tuple[float, Floats]:
        logits = fit @ given
        entropy = weight @ (np.logaddexp(0, logits) - water * logits)
        return float(entropy), given @ (weight * (expit(logits) - water))

    start = np.array([1.0, *[0.0] * len(FACTORS)])
    found = minimize(loss, start, jac=True, method="BFGS").x
    names = [*map(str, FACTORS), "shift"]
    return {name: round(float(value), 3) for name, value in zip(names, found, strict=True)}


def look_of(model: SegmentationModel, bands: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean logit of a plain segmenter's views at pixels ``factor`` times as large, on the pixels of ``bands``."""
    weights = {"1": 1.0} if factor == 1 else {"1": 0.0, str(factor): 1.0}
    looking = replace(model, card=replace(model.card, looks=weights))
    samples = segment_array(bands, looking, samples=SEGMENTER_SAMPLES if factor == 1 else COARSE_VIEWS).samples
    mean: NDArray[np.float32] = logit(samples.clip(SUREST, 1 - SUREST)).mean(axis=0)
    return mean
