"""What a boundary-aware diffusion block is worth: the last layers of a segmenter, trained on with it and without it.

    python benchmarks/water_boundary.py --pack PACK.npz -o FOLDER
    lacunar evaluate water --scenes DATA/water/test -o SCORES --model without=FOLDER/without
        --model with=FOLDER/with-4-steps --against "without, 1 step, K = 4"
    python benchmarks/water_boundary.py --scores SCORES > docs/evidence/tables/water_boundary.md

Encoder and decoder stay those of `water-classes`. Both heads see the same features of the same crops in the same order,
and start from the same weights; the block's own start is a weak diffusion.
"""

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from lacunar.evaluate.report import markdown_table
from lacunar.models.backend import load_segmenter
from lacunar.models.checkpoint import SegmentationModel, save_model
from lacunar.models.weights import extend_weights
from lacunar.networks.efficientnet import PretrainedUNet
from lacunar.networks.segdiff import WaterSegDiff, build_segmenter
from lacunar.train.kinds import WaterRecipe
from lacunar.train.objectives import anchor_loss, cover_loss
from lacunar.train.recipes import RECIPES

MODEL = "water-classes"
BATCH = 8
RATE, DECAY = 5e-4, 0.5  # of learning; the share of the steps in which the rate falls to nothing
TOLD = 50  # steps between two lines


def main() -> None:
    """Train both, and write two model folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, help="scenes, as `lacunar train water-classes` packs them")
    parser.add_argument("--crops", type=int, default=4000)
    parser.add_argument("--boundary-steps", type=int, nargs="+", default=[0, 4])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scores", type=Path, nargs="+", help="folders that `lacunar evaluate water` wrote: print a table"
    )
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if options.scores:
        print(table(options.scores))
        return
    if not (options.pack and options.output):
        parser.error("got neither --scores nor --pack with --output; wanted one of both")
    recipe, shipped = RECIPES[MODEL], load_segmenter(MODEL)
    assert isinstance(recipe, WaterRecipe)
    crops = replace(recipe, training=replace(recipe.training, seed=options.seed)).load_data(
        options.pack, options.output, 1, None
    )
    torch.manual_seed(options.seed)
    networks = {steps: started(shipped, steps) for steps in options.boundary_steps}
    trunk = reader(copy.deepcopy(shipped.network)).eval()
    optimisers = {steps: torch.optim.AdamW(tail(network), lr=RATE) for steps, network in networks.items()}
    count = options.crops // BATCH
    totals = dict.fromkeys(networks, 0.0)
    for step in range(count):
        items = [crops.training[1, step * BATCH + index] for index in range(BATCH)]
        batch = {name: torch.stack([item[name] for item in items]) for name in items[0]}
        with torch.no_grad():
            beside, *_ = trunk.coarse(batch["image"])
        for steps, network in networks.items():
            for group in optimisers[steps].param_groups:
                group["lr"] = RATE * min(1.0, (1 - step / count) / DECAY)
            _, logits = reader(network).answer(beside)
            loss = anchor_loss(logits[:, :1], batch["mask"], batch["valid"]) + cover_loss(logits[:, 1:], batch["cover"])
            loss.backward()  # type: ignore[no-untyped-call]
            optimisers[steps].step()
            optimisers[steps].zero_grad()
            totals[steps] += float(loss.detach())
        if step % TOLD == TOLD - 1:
            print((step + 1) * BATCH, {steps: round(total / TOLD, 4) for steps, total in totals.items()}, flush=True)
            totals = dict.fromkeys(networks, 0.0)
    for steps, network in networks.items():
        name = f"with-{steps}-steps" if steps else "without"
        save_model(options.output / name, replace(shipped, network=network.eval(), name=name), overwrite=True)


def table(folders: list[Path]) -> str:
    """Both networks on every set, and the gain with 95 % intervals by resampling images."""
    rows = []
    for one in pd.concat(pd.read_csv(folder / "scores.csv") for folder in folders).itertuples():
        if str(one.method).endswith("K = 4"):
            gains = (
                f"{getattr(one, f'{score}_gain'):+.4f} [{getattr(one, f'{score}_gain_low'):+.4f}, "
                f"{getattr(one, f'{score}_gain_high'):+.4f}]"
                for score in ("iou", "boundary")
            )
            scores = f"{one.iou:.3f}", f"{one.boundary_f1:.3f}"
            rows.append([f"{one.images} of `{one.set}`", str(one.method).split(",")[0], *scores, *gains])
    header = ("scenes", "block", "IoU of water", "boundary F1 (2 px)", "IoU gained", "boundary F1 gained")
    return markdown_table(header, rows)


def started(shipped: SegmentationModel, steps: int) -> WaterSegDiff:
    """The shipped network with a block of so many steps, its last layers ready to be trained."""
    network = build_segmenter(replace(shipped.network.spec, boundary_steps=steps))
    assert isinstance(network, WaterSegDiff)
    extend_weights(network, shipped.network.state_dict())
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for parameter in tail(network):
        parameter.requires_grad_(True)
    return network


def tail(network: WaterSegDiff) -> list[torch.nn.Parameter]:
    """Weights of the last layers."""
    own = reader(network)
    parts = (own.refine, own.head, *([own.boundary] if own.boundary is not None else []))
    return [parameter for part in parts for parameter in part.parameters()]


def reader(network: torch.nn.Module) -> PretrainedUNet:
    """The network that reads the image."""
    own = network.condition_unet
    assert isinstance(own, PretrainedUNet)
    return own


if __name__ == "__main__":
    main()
