"""Structured pruning of lst-small: whole channels left out, then a short training; error and speed beside the whole.

    python benchmarks/pruning.py DATA PACK > docs/evidence/tables/pruning.md

DATA holds lst/test and clouds; PACK is what `lacunar train lst-small --pack PACK` packed. Between the two convolutions
of every residual block the channels with the smallest weights (those that read a channel, times its gain) are left out,
as many in each group of the normalisation. The thin network is trained on examples of the training places by the
recipe's own objective. The error is that of `smaller.py`, in kelvin; seconds are those of ONNX Runtime for eight tiles
on one thread.
"""

import argparse
import copy
import statistics
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lacunar.evaluate.report import markdown_table
from lacunar.models.backend import load_filler, with_backend
from lacunar.models.checkpoint import Model
from lacunar.networks.unet_blocks import ResidualBlock
from lacunar.train.lst_data import LstDataset, load_lst, make_examples
from lacunar.train.objectives import DenoisingObjective, seeded
from lacunar.train.recipes import LST_WEIGHTS
from smaller import CASES, fill_of

SHARES = (0.25, 0.5)  # of the channels between two convolutions that are left out
EXAMPLES, STEPS, BATCH, RATE, EMA = 256, 300, 16, 1e-4, 0.98
ROUNDS = 5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("pack", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    whole, fill = load_filler("lst-small"), fill_of("lst-small", asked.data)
    examples = make_examples(load_lst(asked.pack), LST_WEIGHTS, count=EXAMPLES, size=64, seed=0)
    data = LstDataset(examples, unconditional_share=0.0, augment=True, seed=0)
    models = {"whole": whole, f"whole, {asked.steps} steps more": trained(whole, data, asked.steps)}
    for share in SHARES:
        thin = replace(whole, network=thinned(whole.network, share))
        models |= {f"{share:.0%} left out": thin}
        models |= {f"{share:.0%} left out, {asked.steps} steps": trained(thin, data, asked.steps)}
    rows, plain = [], None
    for name, model in models.items():
        fast = with_backend(model, "onnx")
        with torch.inference_mode():
            error = float(np.sqrt(np.mean([fill(fast, case) for case in range(CASES)])))
            seconds = seconds_of(fast)
        plain = plain or (error, seconds)
        weights = sum(weight.numel() for weight in model.network.parameters()) / 1e6
        change, faster = error / plain[0] - 1, plain[1] / seconds
        rows.append((name, f"{weights:.1f}", f"{error:.4f}", f"{change:+.1%}", f"{faster:.2f}"))
        print(rows[-1], flush=True, file=sys.stderr)
    print(markdown_table(("network", "million weights", "error, K", "of the whole", "speed"), rows))


def thinned(network: nn.Module, share: float) -> nn.Module:
    """A copy whose residual blocks have fewer channels between their two convolutions."""
    thin = copy.deepcopy(network)
    for block in thin.modules():
        if isinstance(block, ResidualBlock):
            groups = block.norm2.num_groups
            worth = block.conv2.weight.detach().square().sum((0, 2, 3)).sqrt() * block.norm2.weight.detach().abs()
            by_group = worth.view(groups, -1)
            least = round(by_group.shape[1] * (1 - share))
            best = by_group.topk(max(least, 1), dim=1).indices.sort(dim=1).values
            kept = (best + torch.arange(groups)[:, None] * by_group.shape[1]).flatten()
            only(block, kept, len(worth))
    return thin


def only(block: ResidualBlock, kept: Tensor, width: int) -> None:
    """Keep some of the channels between the convolutions of a block."""
    rows = torch.cat([kept, kept + width]) if block.scale_shift else kept
    for layer, chosen in ((block.conv1, kept), (block.norm2, kept), (block.time_emb_proj, rows)):
        layer.weight, layer.bias = (nn.Parameter(part.detach()[chosen]) for part in (layer.weight, layer.bias))
    block.conv2.weight = nn.Parameter(block.conv2.weight.detach()[:, kept])
    block.conv1.out_channels = block.norm2.num_channels = block.conv2.in_channels = len(kept)
    block.time_emb_proj.out_features = len(rows)


def trained(model: Model, data: LstDataset, steps: int) -> Model:
    """The model after a short training."""
    network = copy.deepcopy(model.network).train()
    smooth = [weight.detach().clone() for weight in network.parameters()]
    objective = DenoisingObjective(schedule=model.schedule, prediction=model.prediction)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 20, 2 * (steps - step) / steps)
        chosen = torch.randint(len(data), (BATCH,), generator=seeded(step)).tolist()
        batch = torch.utils.data.default_collate([data[step, index] for index in chosen])
        with torch.autocast("cpu", torch.bfloat16):
            loss = objective.loss(network, batch, step=step, generator=seeded(step, 1))
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(smooth, list(network.parameters()), 1 - min(EMA, (1 + step) / (10 + step)))
    with torch.no_grad():
        for weight, value in zip(network.parameters(), smooth, strict=True):
            weight.copy_(value)
    return replace(model, network=network.eval())


def seconds_of(model: Model) -> float:
    """CPU seconds of eight tiles, the median of rounds."""
    x, t = torch.randn(8, 5, 64, 64, generator=seeded(0)), torch.full((8,), 500)
    model.network(x, t)
    taken = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        model.network(x, t)
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


if __name__ == "__main__":
    main()
