"""What a gap-filling network is given, in training and in use alike."""

import torch
from torch import Tensor


def network_input(x_t: Tensor, condition: Tensor, gap: Tensor) -> Tensor:
    """What a gap-filling network is given: the state inside the gap, the condition, and where the gap is.

    Parameters
    ----------
    x_t, condition, gap
        (B, C, H, W), (B, D, H, W) and (B, 1, H, W). The condition is the base (C channels) and its spread (one), then
        whatever else is known, such as the guide that other dates give. The gap is 1 to be filled and 0 known: the
        noise level of a known pixel is zero whatever t is (Mayet et al. 2024, TD-Paint).

    Returns
    -------
    torch.Tensor
        (B, C + D + 1, H, W): state, base, spread, gap, and what else there is. What is new comes last, so that a
        network can be widened (`lacunar.models.transfer`).
    """
    first = x_t.shape[1] + 1
    return torch.cat([x_t * gap, condition[:, :first], gap, condition[:, first:]], dim=1)
