"""A Gaussian distribution of pictures that travels with a network's weights; it has no part in the forward pass."""

import torch
from torch import Tensor, nn

from lacunar.interpolate.pca_prior import GaussianPrior


class PriorTensors(nn.Module):
    """The numbers of a `GaussianPrior` of square pictures as buffers, zero until `take` or a state fills them.

    Parameters
    ----------
    size, channels, components
        Side and channels of the pictures, and how many components there are.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor
    noise: Tensor

    def __init__(self, size: int, channels: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size, size, channels))
        self.register_buffer("components", torch.zeros(components, size * size * channels))
        self.register_buffer("variances", torch.zeros(components))
        self.register_buffer("noise", torch.zeros(()))

    def take(self, prior: GaussianPrior) -> None:
        """Copy a distribution of the same size."""
        for name in ("mean", "components", "variances"):
            getattr(self, name).copy_(torch.from_numpy(getattr(prior, name)))
        self.noise.fill_(prior.noise)

    def give(self) -> GaussianPrior:
        """The distribution."""
        mean, components, variances = (
            getattr(self, name).float().cpu().numpy() for name in ("mean", "components", "variances")
        )
        return GaussianPrior(mean, components, variances, float(self.noise))
