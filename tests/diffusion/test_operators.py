"""Operators against adjointness, dense linear algebra and second libraries: SciPy, Pillow, scikit-image."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.measure import block_reduce

from lacunar.diffusion.operators import (
    BoxDownsample,
    Clipping,
    Convolution,
    Mask,
    Measurement,
    Operator,
    Product,
    Separable,
    Spectral,
    bicubic_matrix,
    gaussian_matrix,
    motion_kernel,
)
from lacunar.errors import ModelError

KNOWN = torch.tensor([[True, False, True], [False, True, True]])
SHAPE = (2, 3, 24, 32)
LUMA = torch.tensor([[0.2125, 0.7154, 0.0721]], dtype=torch.float64)  # of rgb2gray
KERNEL = torch.rand(5, 3, generator=torch.Generator().manual_seed(3)).double() + 0.05
KERNEL /= KERNEL.sum()
HALVES = torch.rand(SHAPE[-2:], generator=torch.Generator().manual_seed(4)) < 0.5
SPECTRAL: dict[str, Spectral] = {
    "mask": Mask(HALVES),
    "channel loss": Mask(torch.tensor([True, False, True])[:, None, None]),
    "box": BoxDownsample(4),
    "bicubic": Separable(bicubic_matrix(24, 4), bicubic_matrix(32, 4)),
    "gaussian": Separable(gaussian_matrix(24, 1.5), gaussian_matrix(32, 1.5)),
    "grey": Separable(channels=LUMA),
    "kernel": Convolution(KERNEL, SHAPE[-2:]),
    "grey of bicubic": Separable(channels=LUMA).of(Separable(bicubic_matrix(24, 2), bicubic_matrix(32, 2))),
}
LINEAR: dict[str, Operator] = SPECTRAL | {"masked blur": Product(SPECTRAL["mask"], SPECTRAL["kernel"])}
linear = pytest.mark.parametrize("operator", LINEAR.values(), ids=LINEAR)
spectral = pytest.mark.parametrize("operator", SPECTRAL.values(), ids=SPECTRAL)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*(shape or SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def close(given: torch.Tensor, wanted: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(given, wanted, rtol=0, atol=atol)


@linear
def test_the_adjoint_is_one(operator: Operator):
    x = normal(0)
    y = normal(1, *operator.forward(x).shape)
    assert (operator.forward(x) * y).sum().item() == pytest.approx((x * operator.adjoint(y)).sum().item(), rel=1e-6)


@spectral
def test_the_decomposition_is_one(operator: Spectral):
    x = normal(0)
    close(operator.image(operator.spectrum(x)), x)
    assert operator.spectrum(x).abs().square().sum().item() == pytest.approx(x.square().sum().item(), rel=1e-9)
    # |A x|² = |S V^T x|²
    energy = (operator.singular * operator.spectrum(x)).abs().square().sum().item()
    assert operator.forward(x).square().sum().item() == pytest.approx(energy, rel=1e-5)
    close(operator.spectrum(operator.pseudo_inverse(operator.forward(x))), operator.measured(operator.forward(x)))


@linear
def test_the_pseudo_inverse_and_the_projection(operator: Operator):
    x, other = normal(0), normal(1)
    y = operator.forward(x)
    close(operator.forward(operator.pseudo_inverse(y)), y, 5e-3)  # what is NEGLIGIBLE counts as nothing
    projected = operator.project(other, y)
    close(operator.forward(projected), y, 5e-3)
    # nearest: the change is orthogonal to everything that the operator does not see
    unseen = operator.project(normal(2), torch.zeros_like(y))
    assert abs(((projected - other) * unseen).sum().item()) < 1e-2 * unseen.norm().item() + 1e-9


@linear
def test_the_prox_solves_its_normal_equations(operator: Operator):
    x, rho = normal(0), 0.2
    y = operator.forward(normal(1))
    z = operator.prox(x, y, rho)
    close(operator.adjoint(operator.forward(z) - y) + rho * (z - x), torch.zeros_like(x), 2e-4)
    close(operator.prox(x, y, 0.0), operator.project(x, y))


def test_downsampling_is_that_of_scikit_image_and_of_pillow():
    x = normal(0)
    for plane, ours in zip(x[0], SPECTRAL["box"].forward(x)[0], strict=True):
        np.testing.assert_allclose(ours, block_reduce(plane.numpy(), 4, np.mean), atol=1e-12)
    for plane, ours in zip(x[0], SPECTRAL["bicubic"].forward(x)[0], strict=True):
        theirs = Image.fromarray(plane.numpy().astype(np.float32)).resize((8, 6), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(ours, np.asarray(theirs), atol=1e-5)


def test_blur_is_that_of_scipy_and_grey_that_of_scikit_image():
    x = normal(0)
    blurred, filtered = SPECTRAL["gaussian"].forward(x), SPECTRAL["kernel"].forward(x)
    for plane, ours, theirs in zip(x[0], blurred[0], filtered[0], strict=True):
        np.testing.assert_allclose(ours, ndimage.gaussian_filter(plane.numpy(), 1.5, mode="reflect"), atol=1e-9)
        np.testing.assert_allclose(theirs, ndimage.convolve(plane.numpy(), KERNEL.numpy(), mode="wrap"), atol=1e-9)
    np.testing.assert_allclose(SPECTRAL["grey"].forward(x)[0, 0], rgb2gray(x[0].movedim(0, 2).numpy()), atol=1e-9)


def test_pseudo_inverses_are_those_of_dense_matrices():
    for operator in (BoxDownsample(2), Separable(bicubic_matrix(8, 2), bicubic_matrix(8, 2))):
        units = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)
        matrix = operator.forward(units).flatten(1).T
        y = normal(5, 1, 1, 4, 4)
        wanted = torch.linalg.pinv(matrix) @ y.flatten()
        close(operator.pseudo_inverse(y).flatten(), wanted)


def test_a_motion_is_a_line():
    level, upright, slanted = (motion_kernel(7, angle) for angle in (0.0, 90.0, 45.0))
    np.testing.assert_allclose(level[3].sum(), 1)
    close(upright, level.T)
    close(slanted, slanted.flip(0, 1))
    assert slanted[0, 6] < 1e-3  # the line is as long as the level one
    assert slanted[1, 5] > 0.05 > slanted[1, 1]


def test_clipping_is_an_inequality():
    clipping, truth, other = Clipping(0.5), torch.tensor([0.2, 0.9, 0.5]), torch.tensor([0.0, 0.7, 0.1])
    y = clipping.forward(truth)
    assert Measurement(clipping, y).project(other).tolist() == pytest.approx([0.2, 0.7, 0.5])
    assert clipping.prox(other, y, 1.0).tolist() == pytest.approx([0.1, 0.7, 0.5])
    with pytest.raises(ModelError, match="got clipping, which is not linear"):
        clipping.adjoint(y)


def test_the_projection_of_a_mask_keeps_every_bit():
    image, x = torch.randn(2, 3, 2, 3), 1e4 * torch.randn(2, 3, 2, 3)
    projected = Mask(KNOWN).measure(image.masked_fill(~KNOWN, float("nan"))).project(x)
    assert torch.equal(projected[..., KNOWN], image[..., KNOWN])
    assert torch.equal(projected[..., ~KNOWN], x[..., ~KNOWN])


def test_bad_masks_are_refused():
    image = torch.zeros(1, 1, 2, 3)
    with pytest.raises(ModelError, match=r"got known of dtype torch.uint8, wanted torch.bool with True = measured"):
        Mask(KNOWN.byte())
    with pytest.raises(ModelError, match=r"got known of shape \(3, 2\), wanted one that broadcasts to \(1, 1, 2, 3\)"):
        Mask(KNOWN.T).measure(image)
    with pytest.raises(ModelError, match="got 1 known pixels that are NaN or infinite"):
        Mask(KNOWN).measure(image.masked_fill(torch.arange(6).reshape(2, 3) == 4, float("nan")))


def test_operators_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="got a factor of 1, wanted a whole number from 2"):
        BoxDownsample(1)
    with pytest.raises(ModelError, match="got an image of 24 x 30 pixels, wanted multiples of 4"):
        BoxDownsample(4).forward(torch.zeros(1, 1, 24, 30))
    with pytest.raises(ModelError, match="got a factor of 5 for 24 pixels, wanted one from 2 that divides them"):
        bicubic_matrix(24, 5)
    with pytest.raises(ModelError, match=r"wanted 24 along axis 2; make the operator for the size of the image"):
        SPECTRAL["bicubic"].forward(torch.zeros(1, 1, 20, 32))
    with pytest.raises(
        ModelError, match=r"got a kernel of shape \(5, 3\) for an image of \(4, 4\), wanted two odd sides"
    ):
        Convolution(KERNEL, (4, 4))
    with pytest.raises(ModelError, match="got a kernel that sums to 2, wanted 1; divide it by its sum"):
        Convolution(2 * KERNEL, (24, 32))
    with pytest.raises(ModelError, match=r"got an image of \(8, 8\) pixels, wanted \(24, 32\)"):
        SPECTRAL["kernel"].forward(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ModelError, match="got a blur of sigma 9 for 24 pixels, wanted above 0 and at most 3"):
        gaussian_matrix(24, 9)
    with pytest.raises(ModelError, match="got a motion of 4 pixels, wanted an odd number from 3"):
        motion_kernel(4, 0.0)
    with pytest.raises(ModelError, match="got noise of sigma -1, wanted 0 or more"):
        Measurement(Mask(KNOWN), torch.zeros(1), -1)
