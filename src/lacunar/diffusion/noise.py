"""Noise that belongs to pixels of an absolute grid: the same whatever window is asked for."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

NOISE_CELL = 64  # side of the cells on the absolute pixel grid that each have their own noise


def pixel_noise(shape: Sequence[int], origin: tuple[int, int], samples: int, seed: int) -> Tensor:
    """Standard normal noise (K, 1, H, W) of absolute pixels, in opposite pairs (antithetic variates).

    What is linear in the noise cancels, so the mean of few samples lies close to the posterior mean.
    """
    half = (samples + 1) // 2
    noise = torch.empty(half, 1, *shape)
    first = [start // NOISE_CELL for start in origin]
    last = [(start + length - 1) // NOISE_CELL for start, length in zip(origin, shape, strict=True)]
    for row in range(first[0], last[0] + 1):
        for col in range(first[1], last[1] + 1):
            words = np.random.SeedSequence((seed, row, col)).generate_state(2, dtype=np.uint32)
            generator = torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
            cell = torch.randn(half, 1, NOISE_CELL, NOISE_CELL, generator=generator)
            top, left = row * NOISE_CELL - origin[0], col * NOISE_CELL - origin[1]
            rows = slice(max(0, top), min(shape[0], top + NOISE_CELL))
            cols = slice(max(0, left), min(shape[1], left + NOISE_CELL))
            noise[:, :, rows, cols] = cell[
                :, :, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left
            ]
    return torch.cat([noise, -noise])[:samples] if samples > 1 else noise
