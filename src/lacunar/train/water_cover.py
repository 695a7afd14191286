"""The last layer of a segmenter of several classes, fitted again to what is not water.

Clear land fills most examples, so a network names few of the clouds that there are. With the features as they are, the
rows of the last layer that tell covers apart are fitted by maximum likelihood to examples of every set, rare covers
counting more. What it says of water does not change.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pixel_unshuffle

from lacunar.networks.efficientnet import WATER_ROWS, PretrainedUNet
from lacunar.train.objectives import Examples, stacked

CELLS = 600  # of an example that count; each is 2 x 2 pixels with rows of its own
TOGETHER = 8  # examples in one call of the network
ITERATIONS = 150
BALANCE = 0.5  # power of a class's rarity by which it counts
DECAY = 1e-4  # of squared weights, beside the mean cross-entropy


def refit_cover(reader: PretrainedUNet, examples: Examples, count: int, *, seed: int) -> float:
    """Fit the rows to so many examples; returns the mean cross-entropy. Nothing labelled leaves them as they are."""
    features, covers = _sampled(reader, examples, count, np.random.default_rng(seed))
    if not (covers >= 0).any():
        return float("nan")
    classes = reader.head.weight.shape[0] // WATER_ROWS - 1
    weight = reader.head.weight[WATER_ROWS:, :, 0, 0].detach().clone().requires_grad_()
    assert reader.head.bias is not None
    bias = reader.head.bias[WATER_ROWS:].detach().clone().requires_grad_()
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    counts = torch.bincount(covers[covers >= 0], minlength=classes).clamp(min=1)
    weights = (counts.sum() / counts) ** BALANCE

    def entropy() -> Tensor:
        logits = (features @ weight.T + bias).reshape(len(features), classes, WATER_ROWS)
        return cross_entropy(logits, covers, weight=weights, ignore_index=-1)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = entropy() + DECAY * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        reader.head.weight[WATER_ROWS:, :, 0, 0] = weight
        reader.head.bias[WATER_ROWS:] = bias
        return float(entropy())


@torch.no_grad()
def _sampled(reader: PretrainedUNet, examples: Examples, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Features (N, F) of some cells of some examples, and the cover of the pixels of each (N, 4), -1 where unknown."""
    some = _First(examples, count)
    features, covers = [], []
    for _, stack in stacked(some, TOGETHER, next(reader.parameters()).device):
        read = reader(stack["image"])
        for found, cover in zip(read.features, pixel_unshuffle(stack["cover"], 2), strict=True):
            cells = torch.from_numpy(rng.choice(found[0].numel(), min(CELLS, found[0].numel()), replace=False))
            features.append(found.flatten(1)[:, cells].T.float())
            covers.append(cover.flatten(1)[:, cells].T.long())
    return torch.cat(features), torch.cat(covers)


class _First:
    """The first examples of a set, as one of its own."""

    def __init__(self, examples: Examples, count: int) -> None:
        self._examples, self._count = examples, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Tensor]:
        return self._examples[key]
