import pytest
import torch

from lacunar.diffusion.operators import Mask
from lacunar.errors import ModelError

KNOWN = torch.tensor([[True, False, True], [False, True, True]])


def normal(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 2, 3, generator=torch.Generator().manual_seed(seed))


def test_a_mask_is_its_own_pseudo_inverse():
    mask, x = Mask(KNOWN), normal(0)
    assert torch.equal(mask.forward(mask.pseudo_inverse(mask.forward(x))), mask.forward(x))


def test_the_projection_agrees_with_the_measurement_and_leaves_the_rest_bit_for_bit():
    mask, image, x = Mask(KNOWN), normal(0), 1e4 * normal(1)
    projected = mask.measure(image.masked_fill(~KNOWN, float("nan"))).project(x)
    assert torch.equal(mask.forward(projected), mask.forward(image))
    assert torch.equal(projected[..., ~KNOWN], x[..., ~KNOWN])


def test_bad_masks_are_refused():
    image = torch.zeros(1, 1, 2, 3)
    with pytest.raises(ModelError, match=r"got known of dtype torch.uint8, wanted torch.bool with True = measured"):
        Mask(KNOWN.byte())
    with pytest.raises(ModelError, match=r"got known of shape \(3, 2\), wanted one that broadcasts to \(1, 1, 2, 3\)"):
        Mask(KNOWN.T).measure(image)
    with pytest.raises(ModelError, match="got 1 known pixels that are NaN or infinite"):
        Mask(KNOWN).measure(image.masked_fill(torch.arange(6).reshape(2, 3) == 4, float("nan")))
