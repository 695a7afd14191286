"""What was measured of an image: operators y = A x + noise, which the samplers of `inverse` hold an image to.

To add an inverse problem, add an operator here. One with a singular value decomposition A = U S V^T is a `Spectral`:
every sampler takes it. Any other linear one needs `forward` and `adjoint` alone: conjugate gradients do the rest, for
all samplers but DDRM. Images are (B, C, H, W).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lacunar.errors import ModelError

NEGLIGIBLE = 1e-3  # of the largest singular value: smaller ones count as 0, what they measured is lost in rounding
ITERATIONS = 60  # of conjugate gradients at most
TOLERANCE = 1e-6  # of their residual, relative
BICUBIC = -0.5  # Keys 1981, Eq. 4: the a of the cubic kernel


class Operator(ABC):
    """A linear map A from images to measurements."""

    @abstractmethod
    def forward(self, x: Tensor, /) -> Tensor:
        """Measure: A x."""

    @abstractmethod
    def adjoint(self, y: Tensor, /) -> Tensor:
        """A^T y: <A x, y> = <x, A^T y>."""

    def pseudo_inverse(self, y: Tensor, /) -> Tensor:
        """A† y, the smallest image that A maps to y where y is in its range: A A† A = A."""
        return conjugate_gradients(lambda x: self.adjoint(self.forward(x)), self.adjoint(y))

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The image nearest to ``x`` that agrees with the measurements: A† y + (I - A† A) x."""
        return x + self.pseudo_inverse(y - self.forward(x))

    def prox(self, x: Tensor, y: Tensor, rho: float) -> Tensor:
        """The image z of the smallest |A z - y|² + rho |z - x|²; `project` at rho = 0."""
        if rho == 0:
            return self.project(x, y)
        change = self.adjoint(y - self.forward(x))
        return x + conjugate_gradients(lambda z: self.adjoint(self.forward(z)) + rho * z, change)


class Spectral(Operator):
    """A linear map whose singular value decomposition is known: A = U S V^T, with V^T over whole images."""

    singular: Tensor  # S >= 0, which broadcasts to a spectrum; 0 where nothing is measured

    @abstractmethod
    def spectrum(self, x: Tensor, /) -> Tensor:
        """V^T x."""

    @abstractmethod
    def image(self, spectrum: Tensor, /) -> Tensor:
        """V times a spectrum: the inverse of `spectrum`."""

    @abstractmethod
    def measured(self, y: Tensor, /) -> Tensor:
        """S† U^T y: the spectrum of A† y, 0 where nothing is measured."""

    def pseudo_inverse(self, y: Tensor, /) -> Tensor:
        """A† y = V S† U^T y."""
        return self.image(self.measured(y))

    def prox(self, x: Tensor, y: Tensor, rho: float) -> Tensor:
        """(S² ȳ + rho V^T x) / (S² + rho) in the spectrum, ȳ = S† U^T y."""
        if rho == 0:
            return self.project(x, y)
        energy = (self.singular**2).to(x)
        return self.image((energy * self.measured(y) + rho * self.spectrum(x)) / (energy + rho))


@dataclass(frozen=True, eq=False)
class Measurement:
    """Measurements ``y`` = A x_0 + noise of an image that is sought; ``sigma`` is the noise's standard deviation."""

    operator: Operator
    y: Tensor
    sigma: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise ModelError(f"got noise of sigma {self.sigma}, wanted 0 or more, in the units of the image")

    def project(self, x: Tensor) -> Tensor:
        """The image nearest to ``x`` that agrees with the measurements."""
        return self.operator.project(x, self.y)

    @cached_property
    def pseudo_inverse(self) -> Tensor:
        """A† y: all that the measurements alone say of the image, (B, C, H, W)."""
        return self.operator.pseudo_inverse(self.y)


@dataclass(frozen=True, eq=False)
class Mask(Spectral):
    """Inpainting: A keeps the known pixels and sets the missing ones to 0, so A = A^T = A†.

    ``known`` is bool and broadcasts to the image (B, C, H, W): True = measured. Another dtype is a ModelError. All of
    it known is the identity, which denoising asks for; some channels alone are channel loss.

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

    @property
    def singular(self) -> Tensor:  # type: ignore[override]
        """1 where known."""
        return self.known.double()

    def forward(self, x: Tensor) -> Tensor:
        """The known pixels of ``x``, 0 where missing; what stands in missing pixels may be NaN."""
        return torch.where(self.known, x, torch.zeros_like(x))

    adjoint = pseudo_inverse = measured = forward

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """The measured pixels, bit by bit, and those of ``x``."""
        return torch.where(self.known, y, x)

    def spectrum(self, x: Tensor) -> Tensor:
        """The image itself."""
        return x

    image = spectrum

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


@dataclass(frozen=True, eq=False)
class BoxDownsample(Spectral):
    """Fewer pixels: the means of blocks of ``factor`` x ``factor`` pixels. Works on images of any size.

    V^T is a Householder reflection of each block that takes its mean to one value: O(1) for each pixel.
    """

    factor: int

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ModelError(f"got a factor of {self.factor}, wanted a whole number from 2")

    @property
    def singular(self) -> Tensor:  # type: ignore[override]
        """1 / factor for the mean of each block, 0 for all else: (factor², 1, 1)."""
        values = torch.zeros(self.factor**2, 1, 1, dtype=torch.float64)
        values[0] = 1 / self.factor
        return values

    def forward(self, x: Tensor) -> Tensor:
        """Means of blocks; sides that the factor does not divide are a ModelError."""
        return self._blocks(x).mean(dim=2)

    def adjoint(self, y: Tensor) -> Tensor:
        """Each value over its block, divided by the number of pixels."""
        return self.pseudo_inverse(y) / self.factor**2

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """Each value over its block."""
        return y.repeat_interleave(self.factor, dim=-2).repeat_interleave(self.factor, dim=-1)

    def measured(self, y: Tensor) -> Tensor:
        """The means times the factor, 0 for all else."""
        spectrum = y.new_zeros(*y.shape[:2], self.factor**2, *y.shape[2:])
        spectrum[:, :, 0] = self.factor * y
        return spectrum

    def spectrum(self, x: Tensor) -> Tensor:
        """(B, C, factor², h, w)."""
        return self._reflected(self._blocks(x))

    def image(self, spectrum: Tensor) -> Tensor:
        """The reflection is its own inverse."""
        return torch.nn.functional.pixel_shuffle(self._reflected(spectrum).flatten(1, 2), self.factor)

    def _blocks(self, x: Tensor) -> Tensor:
        if x.shape[-1] % self.factor or x.shape[-2] % self.factor:
            raise ModelError(
                f"got an image of {x.shape[-2]} x {x.shape[-1]} pixels, wanted multiples of {self.factor}; cut it"
            )
        blocks = torch.nn.functional.pixel_unshuffle(x, self.factor)
        return blocks.reshape(*x.shape[:2], self.factor**2, *blocks.shape[2:])

    def _reflected(self, blocks: Tensor) -> Tensor:
        """I - 2 w w^T / |w|² with w = e_1 - 1/factor: exchanges the first axis and the mean."""
        total = blocks.sum(dim=2) / self.factor
        scale = (blocks[:, :, 0] - total) / (1 - 1 / self.factor)
        reflected = blocks + (scale / self.factor).unsqueeze(2)
        reflected[:, :, 0] = total
        return reflected


@dataclass(frozen=True, eq=False)
class Separable(Spectral):
    """Rows, columns and channels each mixed by a matrix of its own: A = channels ⊗ rows ⊗ cols; None leaves one alone.

    A bicubic downsampling, a Gaussian blur with reflected borders, a picture in grey, and their products are all of
    this kind; `of` gives the product of two. Matrices are (measured, whole), float64; their singular values below
    `NEGLIGIBLE` of the largest count as 0.
    """

    rows: Tensor | None = None
    cols: Tensor | None = None
    channels: Tensor | None = None

    @cached_property
    def _parts(self) -> list[tuple[int, Tensor, Tensor, Tensor, Tensor]]:
        """For each matrix its axis, itself, U^T, V (square) and the singular values, as many as V has columns."""
        parts = []
        for axis, matrix in ((1, self.channels), (2, self.rows), (3, self.cols)):
            if matrix is not None:
                u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=True)
                values = torch.zeros(matrix.shape[1], dtype=torch.float64)
                values[: len(s)] = s
                parts.append((axis, matrix.double(), u.T, vt.T, values))
        return parts

    @cached_property
    def singular(self) -> Tensor:  # type: ignore[override]
        """Products of the singular values of the matrices, (C or 1, H or 1, W or 1)."""
        values = torch.ones(1, 1, 1, dtype=torch.float64)
        for axis, _, _, _, own in self._parts:
            values = values * own.reshape([-1 if i == axis - 1 else 1 for i in range(3)])
        return torch.where(values > NEGLIGIBLE * values.max(), values, 0.0)

    def of(self, first: Separable) -> Separable:
        """The product: what this operator measures of what ``first`` measures."""

        def product(own: Tensor | None, other: Tensor | None) -> Tensor | None:
            if own is None or other is None:
                return other if own is None else own
            return own @ other

        parts = zip(vars_of(self), vars_of(first), strict=True)
        return Separable(*(product(own, other) for own, other in parts))

    def forward(self, x: Tensor) -> Tensor:
        """A x; an image of another size than the matrices are made for is a ModelError."""
        for axis, matrix, _, _, _ in self._parts:
            if x.shape[axis] != matrix.shape[1]:
                raise ModelError(
                    f"got an image of shape {tuple(x.shape)}, wanted {matrix.shape[1]} along axis {axis}; make the "
                    "operator for the size of the image"
                )
            x = _along(matrix, x, axis)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""
        for axis, matrix, _, _, _ in self._parts:
            y = _along(matrix.T, y, axis)
        return y

    def spectrum(self, x: Tensor) -> Tensor:
        """V^T x, of the shape of the image."""
        for axis, _, _, v, _ in self._parts:
            x = _along(v.T, x, axis)
        return x

    def image(self, spectrum: Tensor) -> Tensor:
        """V times a spectrum."""
        for axis, _, _, v, _ in self._parts:
            spectrum = _along(v, spectrum, axis)
        return spectrum

    def measured(self, y: Tensor) -> Tensor:
        """S† U^T y, with zeros to the size of the image."""
        for axis, matrix, ut, _, _ in self._parts:
            y = _along(ut, y, axis)
            lacking = matrix.shape[1] - matrix.shape[0]
            if lacking > 0:
                y = torch.cat([y, y.new_zeros([lacking if i == axis else n for i, n in enumerate(y.shape)])], dim=axis)
            elif lacking < 0:
                y = y.narrow(axis, 0, matrix.shape[1])
        singular = self.singular.to(y)
        return torch.where(singular > 0, y / torch.where(singular > 0, singular, 1), 0.0)


@dataclass(frozen=True, eq=False)
class Convolution(Spectral):
    """Blur by any kernel (h, w) of odd sides that sums to 1, the image taken as periodic: V is the Fourier transform.

    Pad an image that is not periodic. A kernel of even or larger sides than the image, or of another sum, is a
    ModelError.
    """

    kernel: Tensor
    shape: tuple[int, int]  # of the image

    def __post_init__(self) -> None:
        sides = tuple(self.kernel.shape)
        if self.kernel.ndim != 2 or any(
            side % 2 == 0 or side > length for side, length in zip(sides, self.shape, strict=True)
        ):
            raise ModelError(
                f"got a kernel of shape {sides} for an image of {self.shape}, wanted two odd sides no larger than the "
                "image; pad the kernel with zeros, or cut it"
            )
        if abs(float(self.kernel.sum()) - 1) > 1e-3:
            raise ModelError(
                f"got a kernel that sums to {float(self.kernel.sum()):.4g}, wanted 1; divide it by its sum"
            )

    @cached_property
    def _transfer(self) -> Tensor:
        whole = torch.zeros(self.shape, dtype=torch.float64)
        height, width = self.kernel.shape
        whole[:height, :width] = self.kernel.double()
        transfer: Tensor = torch.fft.fft2(torch.roll(whole, (-(height // 2), -(width // 2)), dims=(0, 1)))
        return transfer

    @cached_property
    def singular(self) -> Tensor:  # type: ignore[override]
        """The modulus of the transfer function, (H, W)."""
        values = self._transfer.abs()
        return torch.where(values > NEGLIGIBLE * values.max(), values, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution; an image of another size is a ModelError."""
        if x.shape[-2:] != self.shape:
            raise ModelError(f"got an image of {tuple(x.shape[-2:])} pixels, wanted {self.shape}")
        return self._filtered(x, self._transfer)

    def adjoint(self, y: Tensor) -> Tensor:
        """The correlation."""
        return self._filtered(y, self._transfer.conj())

    def spectrum(self, x: Tensor) -> Tensor:
        """The unitary Fourier transform, complex."""
        spectrum: Tensor = torch.fft.fft2(x, norm="ortho")
        return spectrum

    def image(self, spectrum: Tensor) -> Tensor:
        """Its inverse."""
        x: Tensor = torch.fft.ifft2(spectrum, norm="ortho").real
        return x

    def measured(self, y: Tensor) -> Tensor:
        """The spectrum of y over the transfer function, 0 where that counts as 0."""
        spectrum = self.spectrum(y)
        there = self.singular > 0
        inverse = torch.where(there, 1 / torch.where(there, self._transfer, 1), 0.0)
        return spectrum * inverse.to(spectrum.device, spectrum.dtype)

    def _filtered(self, x: Tensor, transfer: Tensor) -> Tensor:
        spectrum = self.spectrum(x)
        return self.image(spectrum * transfer.to(spectrum.device, spectrum.dtype))


@dataclass(frozen=True, eq=False)
class Product(Operator):
    """One operator after another, of any kind: A = ``last`` ``first``; by conjugate gradients, without an SVD."""

    last: Operator
    first: Operator

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        return self.last.forward(self.first.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y."""
        return self.first.adjoint(self.last.adjoint(y))


@dataclass(frozen=True, eq=False)
class Clipping(Operator):
    """Saturation: y = min(x, white). What is saturated is at least so bright: an inequality, not linear."""

    white: float

    def forward(self, x: Tensor) -> Tensor:
        """The image, clipped."""
        return x.clamp(max=self.white)

    def adjoint(self, y: Tensor) -> Tensor:
        """Clipping has no adjoint: a ModelError."""
        raise ModelError("got clipping, which is not linear, where an adjoint is wanted: choose ddnm or diffpir")

    def pseudo_inverse(self, y: Tensor) -> Tensor:
        """The darkest image that is clipped to y: y itself."""
        return y

    def project(self, x: Tensor, y: Tensor) -> Tensor:
        """What is not saturated as it was measured; what is, at least white."""
        return torch.where(y < self.white, y, x.clamp(min=self.white))

    def prox(self, x: Tensor, y: Tensor, rho: float) -> Tensor:
        """As `project`, with noise where nothing is saturated."""
        return torch.where(y < self.white, (y + rho * x) / (1 + rho), x.clamp(min=self.white))


# --- matrices of `Separable`, and kernels ---


def bicubic_matrix(length: int, factor: int) -> Tensor:
    """Downsampling by cubic convolution, widened by the factor against aliasing: (length / factor, length), float64.

    Weights of pixels beyond a border go to those inside, as Pillow does (Keys 1981 with a = -0.5).
    """
    if factor < 2 or length % factor:
        raise ModelError(f"got a factor of {factor} for {length} pixels, wanted one from 2 that divides them")
    centres = (torch.arange(length // factor, dtype=torch.float64) + 0.5) * factor
    away = ((torch.arange(length, dtype=torch.float64) + 0.5)[None] - centres[:, None]).abs() / factor
    near = ((BICUBIC + 2) * away - (BICUBIC + 3)) * away**2 + 1
    far = ((BICUBIC * away - 5 * BICUBIC) * away + 8 * BICUBIC) * away - 4 * BICUBIC
    weights = torch.where(away < 1, near, torch.where(away < 2, far, 0.0))
    return weights / weights.sum(dim=1, keepdim=True)


def gaussian_matrix(length: int, sigma: float) -> Tensor:
    """Blur by a Gaussian of ``sigma`` pixels cut at 4 sigma, borders reflected: (length, length), float64."""
    if not 0 < sigma <= length / 8:
        raise ModelError(f"got a blur of sigma {sigma} for {length} pixels, wanted above 0 and at most {length / 8:g}")
    radius = max(1, int(4 * sigma + 0.5))
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    places = torch.arange(length)[:, None] + offsets[None]
    places = places % (2 * length)
    places = torch.where(places < length, places, 2 * length - 1 - places)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, places, (weights / weights.sum()).expand_as(places).contiguous())


def motion_kernel(length: int, angle: float) -> Tensor:
    """A line of ``length`` pixels (odd) at an angle in degrees, counted from the horizontal: (length, length)."""
    if length < 3 or length % 2 == 0:
        raise ModelError(f"got a motion of {length} pixels, wanted an odd number from 3")
    along = torch.linspace(-(length // 2), length // 2, 8 * length, dtype=torch.float64)
    turn = torch.deg2rad(torch.tensor(angle, dtype=torch.float64))
    kernel = torch.zeros(length, length, dtype=torch.float64)
    x, y = length // 2 + along * torch.cos(turn), length // 2 - along * torch.sin(turn)
    for col, row, share in _bilinear(x, y):
        inside = (col >= 0) & (col < length) & (row >= 0) & (row < length)
        kernel.index_put_((row[inside], col[inside]), share[inside], accumulate=True)
    return kernel / kernel.sum()


def conjugate_gradients(matrix: Callable[[Tensor], Tensor], target: Tensor) -> Tensor:
    """Solve a symmetric positive (semi-)definite system, from zero: the smallest solution (Hestenes & Stiefel 1952)."""
    x, residual = torch.zeros_like(target), target
    direction, energy = residual, (residual * residual).sum()
    goal = energy * TOLERANCE**2
    for _ in range(ITERATIONS):
        if energy <= goal:
            break
        along = matrix(direction)
        step = energy / (direction * along).sum()
        x, residual = x + step * direction, residual - step * along
        energy, before = (residual * residual).sum(), energy
        direction = residual + energy / before * direction
    return x


def vars_of(operator: Separable) -> Sequence[Tensor | None]:
    """The matrices for rows, columns and channels."""
    return operator.rows, operator.cols, operator.channels


def _along(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """A matrix applied along one axis of an image."""
    mixed: Tensor = torch.tensordot(matrix.to(x), x, dims=([1], [axis])).movedim(0, axis)
    return mixed


def _bilinear(x: Tensor, y: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The four pixels (column, row) around places, each with its share."""
    left, top = x.floor(), y.floor()
    return [
        (col.long(), row.long(), (1 - (x - col).abs()) * (1 - (y - row).abs()))
        for col in (left, left + 1)
        for row in (top, top + 1)
    ]
