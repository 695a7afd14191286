"""Examples of hidden faces drawn on the GPU: sixteen cores draw three hundred a second, and a GPU learns thousands.

They are those of `lacunar.train.picture_data.PictureDataset` with other random numbers, and resampled bicubically.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, pad

from lacunar.interpolate.membrane import RELAXATIONS, RESIDUAL_SIGMA
from lacunar.train.picture_data import FACE_CENTRE, FACE_SIDE, GAIN, GAMMA, OFFSET, SHIFT, TURN, ZOOM, PictureDataset

INVERTED = 64  # shapes whose inverses are found together


class FaceFeed:
    """Batches of a data set of faces with their Gaussian prior, each drawn anew on a device."""

    def __init__(self, dataset: PictureDataset, size: int, device: torch.device) -> None:
        assert dataset.prior is not None
        self.arrived, self._size, self._device, self._set = 0, size, device, dataset
        self._random = torch.Generator(device).manual_seed(dataset.seed)
        self._faces = torch.from_numpy(dataset.pack.faces).permute(0, 3, 1, 2).contiguous().to(device)
        self._pool = torch.from_numpy(dataset.pool).to(device)
        self._mean = torch.from_numpy(dataset.prior.mean).permute(2, 0, 1).contiguous().to(device)
        shape = (-1, *dataset.prior.mean.shape)
        components = torch.from_numpy(np.ascontiguousarray(dataset.prior.components)).reshape(shape)
        self._components = components.permute(0, 3, 1, 2).flatten(1).contiguous().to(device)  # (K, C * H * W)
        self._inverses = self._all_inverses()

    def _all_inverses(self) -> Tensor:
        """Covariances (N, K, K) of the prior given what each shape leaves known."""
        prior = self._set.prior
        assert prior is not None
        own = torch.diag(1 / torch.as_tensor(prior.variances, device=self._device).double())
        eye, found = torch.eye(len(own), device=self._device, dtype=torch.float64), []
        for missing in self._pool.split(INVERTED):
            hidden = missing.flatten(1).repeat(1, len(self._mean)).float()
            with _exact():  # the components are orthonormal: what is hidden of them is the rest
                shared = eye - ((self._components * hidden[:, None]) @ self._components.T).double()
            found.append(torch.linalg.inv(shared / prior.noise + own).float())
        return torch.cat(found)

    @torch.no_grad()
    def batch(self) -> dict[str, Tensor]:
        """A batch (B, ...) as of the data set."""
        self.arrived += 1
        count = self._size
        picture = self._varied(self._cut(self._integers(len(self._faces), count)))
        number = self._integers(len(self._pool), count)
        missing = self._pool[number][:, None]
        free = self._uniform(count) < self._set.unconditional_share
        mean = self.filled(picture, number)
        missing, mean = missing | free, torch.where(free, 0.0, mean)
        sigma = torch.where(free, 1.0, RESIDUAL_SIGMA)
        plane = missing.float()
        return {
            "x_0": (picture - mean) / sigma,
            "condition": torch.cat([mean, sigma.expand_as(plane)], dim=1),
            "missing": plane,
            "weight": torch.ones_like(plane),
        }

    def close(self) -> None:
        """Nothing runs in the background."""

    def filled(self, picture: Tensor, number: Tensor) -> Tensor:
        """`GaussianPrior.filled` of pictures (B, C, H, W) with the shapes of these numbers missing."""
        prior, missing = self._set.prior, self._pool[number][:, None]
        assert prior is not None
        with _exact():
            left = torch.where(missing, 0.0, picture - self._mean).flatten(1)
            y = torch.einsum("bij,bj->bi", self._inverses[number], left @ self._components.T) / prior.noise
            expected = self._mean + (y @ self._components).reshape(picture.shape)
        return expected + membrane(torch.where(missing, 0.0, picture - expected), ~missing)

    def _cut(self, index: Tensor) -> Tensor:
        """The square of each face that CelebA-HQ shows, moved, turned and zoomed a little; (B, 3, side, side)."""
        faces, side = self._faces[index].float() / 127.5 - 1, self._pool.shape[-1]
        height, width = faces.shape[-2:]
        count = len(faces)
        offset = self._set.variation * self._normal(count, 4).clamp(-2, 2)
        x, y = FACE_CENTRE[0] + SHIFT * offset[:, 0], FACE_CENTRE[1] + SHIFT * offset[:, 1]
        half = FACE_SIDE * torch.exp(ZOOM * offset[:, 2]) / 2
        turn = math.radians(TURN) * offset[:, 3]
        cos, sin = half * torch.cos(turn), half * torch.sin(turn)
        rows = [
            torch.stack([cos * 2 / width, -sin * 2 / width, 2 * x / width - 1], dim=1),
            torch.stack([sin * 2 / height, cos * 2 / height, 2 * y / height - 1], dim=1),
        ]
        grid = affine_grid(torch.stack(rows, dim=1), [count, 3, side, side], align_corners=False)
        return grid_sample(faces, grid, mode="bicubic", padding_mode="reflection", align_corners=False).clamp(-1, 1)

    def _varied(self, picture: Tensor) -> Tensor:
        count, by = len(picture), self._set.variation
        picture = torch.where(self._uniform(count) < 0.5, picture.flip(3), picture)
        light = ((picture + 1) / 2).clamp(0, 1) ** torch.exp(by * GAMMA * self._normal(count, 1, 1, 1))
        gain = 1 + by * GAIN * (self._normal(count, 1, 1, 1) + self._normal(count, 3, 1, 1) / 2)
        offset = by * OFFSET * (self._normal(count, 1, 1, 1) + self._normal(count, 3, 1, 1) / 2)
        return (2 * (gain * light + offset) - 1).clamp(-1, 1)

    def _integers(self, below: int, count: int) -> Tensor:
        return torch.randint(below, (count,), generator=self._random, device=self._device)

    def _uniform(self, count: int) -> Tensor:
        return torch.rand(count, 1, 1, 1, generator=self._random, device=self._device)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random, device=self._device)


def membrane(values: Tensor, known: Tensor) -> Tensor:
    """`lacunar.interpolate.membrane.membrane_fill` of values (B, C, H, W), 0 where not known (B, 1, H, W)."""
    height, width = values.shape[-2:]
    if min(height, width) == 1:
        return values
    edge = [0, width % 2, 0, height % 2]
    shown = pad(known.float(), edge)
    count, total = (4 * avg_pool2d(part, 2) for part in (shown, pad(values, edge)))
    coarse = membrane(total / count.clamp(min=1), count > 0)
    field = interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    field = torch.where(known, values, field)
    for _ in range(RELAXATIONS):
        near = pad(field, [1, 1, 1, 1], mode="replicate")
        total = near[..., :-2, 1:-1] + near[..., 2:, 1:-1] + near[..., 1:-1, :-2] + near[..., 1:-1, 2:]
        field = torch.where(known, values, total / 4)
    return field


@contextmanager
def _exact() -> Iterator[None]:
    """Products of matrices in whole float32: the prior divides by a small variance."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
