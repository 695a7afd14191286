"""What was measured of an image: linear operators y = A x, which the samplers of `inverse` hold an image to.

To add an inverse problem, add an operator here: its `forward` and `pseudo_inverse`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lacunar.errors import ModelError


class Operator(Protocol):
    """A linear map A from images (B, C, H, W) to measurements."""

    def forward(self, x: Tensor, /) -> Tensor:
        """Measure: A x."""
        ...

    def pseudo_inverse(self, y: Tensor, /) -> Tensor:
        """A† y, the smallest image that A maps to y where y is in its range: A A† A = A."""
        ...


@dataclass(frozen=True, eq=False)
class Measurement:
    """Noiseless measurements ``y`` = A x_0 of an image that is sought."""

    operator: Operator
    y: Tensor

    def project(self, x: Tensor) -> Tensor:
        """The image nearest to ``x`` that agrees with the measurements: A† y + (I - A† A) x."""
        return self.pseudo_inverse + (x - self.operator.pseudo_inverse(self.operator.forward(x)))

    @property
    def pseudo_inverse(self) -> Tensor:
        """A† y: all that the measurements alone say of the image, (B, C, H, W)."""
        return self.operator.pseudo_inverse(self.y)


@dataclass(frozen=True, eq=False)
class Mask:
    """Inpainting: A keeps the known pixels and sets the missing ones to 0, so A = Aᵀ = A†.

    ``known`` is bool and broadcasts to the image (B, C, H, W): True = measured. Another dtype is a ModelError.

    >>> mask = Mask(torch.tensor([True, False]))
    >>> mask.measure(torch.tensor([3.0, float("nan")])).project(torch.tensor([1.0, 2.0]))
    tensor([3., 2.])
    """

    known: Tensor

    def __post_init__(self) -> None:
        if self.known.dtype != torch.bool:
            raise ModelError(
                f"got known of dtype {self.known.dtype}, wanted torch.bool with True = measured; convert the mask"
            )

    def forward(self, x: Tensor) -> Tensor:
        """The known pixels of ``x``, 0 where missing; what stands in missing pixels may be NaN."""
        return torch.where(self.known, x, torch.zeros_like(x))

    pseudo_inverse = forward

    def measure(self, x_0: Tensor) -> Measurement:
        """Measurements of an image whose missing pixels are never used and may be NaN.

        A mask that does not broadcast to the image, or a known pixel that is not finite, is a ModelError.
        """
        try:
            known = self.known.expand_as(x_0)
        except RuntimeError:
            raise ModelError(
                f"got known of shape {tuple(self.known.shape)}, wanted one that broadcasts to {tuple(x_0.shape)}; "
                "give one bool for each pixel"
            ) from None
        bad = int((known & ~torch.isfinite(x_0)).sum())
        if bad:
            raise ModelError(
                f"got {bad} known pixels that are NaN or infinite, wanted finite measurements; set known to False there"
            )
        return Measurement(self, self.forward(x_0))
