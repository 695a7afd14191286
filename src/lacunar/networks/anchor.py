"""The anchor condition of MedSegDiff-V2: uncertain spatial attention (U-SA)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

RADIUS = 3  # pixels at the body's resolution that the learnable Gaussian reaches
FIRST_WIDTH = 1.0  # its standard deviation at the start, in those pixels


class UncertainSpatialAttention(nn.Module):
    """Let the condition's last feature, smoothed by a learnable Gaussian, open and close the first noisy feature.

    f_anc = max(f_c * k_gauss, f_c), f' = sigmoid(conv1x1(f_anc)) . f_d + f_d (Wu et al. 2023, arXiv 2301.11798, section
    3.2). Each channel has its own Gaussian, whose standard deviation is learned.

    Parameters
    ----------
    condition_width, width
        Channels of f_c and f_d.
    """

    def __init__(self, condition_width: int, width: int) -> None:
        super().__init__()
        self.log_width = nn.Parameter(torch.full((condition_width,), FIRST_WIDTH).log())
        self.conv = nn.Conv2d(condition_width, width, 1)

    def kernel(self) -> Tensor:
        """The Gaussians (C, 1, 2 RADIUS + 1, 2 RADIUS + 1), each of sum 1."""
        at = torch.arange(-RADIUS, RADIUS + 1, device=self.log_width.device, dtype=torch.float32)
        line = torch.exp(-0.5 * (at / self.log_width.float().exp()[:, None]) ** 2)
        line = line / line.sum(dim=1, keepdim=True)
        return (line[:, :, None] * line[:, None, :])[:, None]

    def forward(self, noisy: Tensor, condition: Tensor) -> Tensor:
        """Gate f_d (B, width, H, W) by f_c (B, condition_width, H, W)."""
        padded = pad(condition, (RADIUS,) * 4, mode="replicate")
        smooth = conv2d(padded, self.kernel().to(condition.dtype), groups=condition.shape[1])
        anchor = torch.maximum(smooth, condition)
        gated: Tensor = torch.sigmoid(self.conv(anchor)) * noisy + noisy
        return gated
