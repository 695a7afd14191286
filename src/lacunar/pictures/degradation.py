"""What was done to a picture: the operator of each task for a picture of any size, and exact rounding."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from lacunar.diffusion.operators import (
    BoxDownsample,
    Convolution,
    Mask,
    Operator,
    Product,
    Separable,
    bicubic_matrix,
    gaussian_matrix,
    motion_kernel,
)
from lacunar.errors import PictureError

RestoreTask = Literal["superres", "deblur", "colourise", "denoise", "inpaint", "hdr"]
TASKS: tuple[RestoreTask, ...] = get_args(RestoreTask)
Kernel = Literal["box", "bicubic"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: what Pillow and cameras call grey
COLOUR_TOLERANCE = 0.02  # of white: how far the channels of a grey picture may lie apart
MAX_SIDE = 4096  # pixels of a blurred or bicubically enlarged picture: its operator is a matrix of that side
BISECTIONS = 60  # more than the digits of a float64

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """What was done to a picture; a value out of its range is a ``PictureError``."""

    task: RestoreTask
    scale: int = 4  # superres: pixels of the restored picture for each given one, along a side
    kernel: Kernel = "box"  # superres: how the given pixels came about
    blur: float = 2.0  # deblur: standard deviation of a Gaussian, in pixels
    motion: tuple[int, float] | None = None  # deblur: length (odd, pixels) and angle (degrees) in place of a Gaussian
    noise: float = 0.0  # standard deviation of the noise, as a share of white
    stops: float = 3.0  # hdr: how much brighter than white a highlight may be, in powers of two

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise PictureError(f"unknown task {self.task!r}: choose one of {', '.join(TASKS)}")
        if self.kernel not in get_args(Kernel):
            raise PictureError(f"unknown kernel {self.kernel!r}: choose one of {', '.join(get_args(Kernel))}")
        if not 0 <= self.noise <= 1:
            raise PictureError(
                f"got noise of {self.noise:g}, wanted its standard deviation as a share of white, 0 to 1: 25 of 255 is "
                "0.098"
            )
        if self.task == "denoise" and self.noise == 0:
            raise PictureError("denoise without the noise's standard deviation: give it, such as 0.1")
        if not 2 <= self.scale <= 16:
            raise PictureError(f"got a scale of {self.scale}, wanted a whole number from 2 to 16")
        if not 0 < self.stops <= 8:
            raise PictureError(f"got {self.stops:g} stops, wanted more than 0 and at most 8")

    def shape_of(self, given: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the restored picture."""
        times = self.scale if self.task == "superres" else 1
        return given[0] * times, given[1] * times

    def operator(self, shape: tuple[int, int], missing: NDArray[np.bool_] | None = None) -> Operator:
        """The operator for a restored picture of this height and width, whose pixels are in [-1, 1]."""
        height, width = shape
        if self.task == "inpaint":
            if missing is None:
                raise PictureError("inpaint without a mask: give the picture's missing pixels")
            return Mask(torch.from_numpy(~missing))
        if self.task == "colourise":
            return Separable(channels=torch.tensor([LUMA], dtype=torch.float64))
        if self.task == "denoise":
            return Mask(torch.ones(shape, dtype=torch.bool))
        if self.task == "deblur" and self.motion is not None:
            return _inside(motion_kernel(*self.motion), shape)
        if self.task == "superres" and self.kernel == "box":
            return BoxDownsample(self.scale)
        if max(shape) > MAX_SIDE:
            raise PictureError(
                f"got a picture of {width} x {height} pixels, wanted sides of at most {MAX_SIDE} for {self.task}: cut "
                "it into parts, or use the kernel box"
            )
        if self.task == "superres":
            return Separable(bicubic_matrix(height, self.scale), bicubic_matrix(width, self.scale))
        return Separable(gaussian_matrix(height, self.blur), gaussian_matrix(width, self.blur))

    def measured(self, picture: FloatArray) -> FloatArray:
        """The picture (h, w, 3) as the operator would have measured it; grey alone to colourise."""
        if self.task != "colourise":
            return picture
        spread = float(np.ptp(picture, axis=2).max()) / 2
        if spread > COLOUR_TOLERANCE:
            raise PictureError(
                f"the picture to colourise has colours: its channels differ by up to {spread:.0%} of white, wanted a "
                "grey one; take its luminance first"
            )
        return np.asarray(picture.mean(axis=2, keepdims=True))


def border_of(degradation: Degradation) -> int:
    """Pixels around a picture that its blur by motion looks at, and that are restored with it."""
    motion = degradation.motion
    return motion[0] // 2 if degradation.task == "deblur" and motion is not None else 0


def _inside(kernel: torch.Tensor, shape: tuple[int, int]) -> Operator:
    """Blur of a larger picture of which the inside alone was measured: nothing is assumed of what lies around."""
    border = len(kernel) // 2
    if 2 * border >= min(shape):
        raise PictureError(f"got a motion of {len(kernel)} pixels for a picture of {shape[1]} x {shape[0]}: shorten it")
    whole = (shape[0] + 2 * border, shape[1] + 2 * border)
    seen = torch.zeros(whole, dtype=torch.bool)
    seen[border:-border, border:-border] = True
    return Product(Mask(seen), Convolution(kernel, whole))


def encoded(linear: float | NDArray[np.floating]) -> Any:  # noqa: ANN401
    """Linear light from 0 as sRGB (IEC 61966-2-1)."""
    return np.where(np.asarray(linear) <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def decoded(srgb: float | NDArray[np.floating]) -> Any:  # noqa: ANN401
    """Linear light of sRGB; the inverse of `encoded`."""
    return np.where(np.asarray(srgb) <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0) + 0.055) / 1.055) ** 2.4)


def rounded_blocks(values: NDArray[np.floating], means: NDArray[np.integer], white: int) -> NDArray[np.integer]:
    """Round pixels (H, W, C) so that the mean of each block is exactly its pixel of ``means`` (h, w, C).

    A shift of each block, within 0 to ``white``, gives it its mean; then largest remainder: all are rounded down, and
    those with the largest fractions up, until the sum fits.
    """
    count = (values.shape[0] // means.shape[0]) ** 2
    factor = math.isqrt(count)
    blocks = values.reshape(means.shape[0], factor, means.shape[1], factor, -1).transpose(0, 2, 4, 1, 3)
    flat = blocks.reshape(*blocks.shape[:3], count).astype(np.float64)
    low, high = -flat.max(axis=-1) - 1, white - flat.min(axis=-1) + 1
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        short = np.clip(flat + middle[..., None], 0, white).mean(axis=-1) < means
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    flat = np.clip(flat + high[..., None], 0, white)
    pixels = np.floor(flat)
    lacking = np.rint(means.astype(np.float64) * count - pixels.sum(axis=-1))
    rank = np.argsort(np.argsort(pixels - flat, axis=-1, kind="stable"), axis=-1, kind="stable")
    pixels += rank < lacking[..., None]
    return np.asarray(pixels.reshape(blocks.shape).transpose(0, 3, 1, 4, 2).reshape(values.shape), dtype=means.dtype)
