"""Whether a network of LST learns more where samples of a generator are added to its training tiles.

    python benchmarks/augmentation.py train PACK results.json
    python benchmarks/augmentation.py table results.json > docs/evidence/tables/augmentation.md

PACK is what `lacunar train lst-small --pack PACK` packed. Tiles of 32 x 32 pixels of the training places make a small
and a large budget. The generators: `lst-small`, told nothing, as `lacunar sample` draws from it (quarters of its tiles;
it has seen all training places), and Gaussian fields with the mean cosine spectrum of the budget's own tiles. Real and
drawn tiles become examples by `lacunar train`'s own functions (gaps of clouds, kriging, no other dates). For every seed
a small network is trained with batches of which 0, 25 or 50 % are drawn tiles (50 % of the fields), for the same number
of steps, and scored on tiles of places that are held out: the loss, and the error of one evaluation over that of
kriging.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from torch import nn

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.evaluate.unconditional import statistics
from lacunar.models.backend import load_filler
from lacunar.models.unconditional import draw_untold
from lacunar.networks.unet import UNet, UNetConfig
from lacunar.train.loop import Ema
from lacunar.train.lst_data import LstDataset, LstExamples, LstPack, draw_tile, load_lst, make_examples
from lacunar.train.objectives import Batch, DenoisingObjective, seeded
from lacunar.train.recipes import LST_HELD_OUT_WEIGHTS, LST_WEIGHTS

SIDE = 32
BUDGETS = {"small": 64, "large": 600}  # real tiles
MASKS = {"small": 4, "large": 1}  # gaps drawn for each real tile
HELD_OUT, DRAWN = 192, 256  # tiles
HELD_OUT_SEED = 1_000_003
SETTINGS = (
    ("none", 0.0),
    ("lst-small", 0.25),
    ("lst-small", 0.5),
    ("field", 0.5),
)  # generator, share of the batches
SEEDS, STEPS, BATCH = 3, 300, 32
RATE, WARM_UP, DECAY, EMA = 1e-3, 0.05, 0.4, 0.99
KELVIN_MEAN, KELVIN_STD, KELVIN_PER_COUNT = 300.0, 5.0, 0.01
SCHEDULE = NoiseSchedule.cosine(1000)
OBJECTIVE = DenoisingObjective(schedule=SCHEDULE, prediction="v")
NETWORK = UNetConfig(
    sample_size=SIDE,
    in_channels=5,
    block_out_channels=(16, 32, 64),
    layers_per_block=1,
    attention_levels=(2,),
    norm_groups=8,
    patch=2,
)
FloatArray = NDArray[np.float64]


def main() -> None:
    """Train, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "table"))
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if asked.part == "table":
        print(table(json.loads(asked.files[0].read_text())))
    else:
        run(*asked.files, asked)


# --- tiles and examples ---


def real_tiles(pack: LstPack, weights: Mapping[str, float], count: int, seed: int) -> FloatArray:
    """Tiles (N, s, s) of places, in kelvin."""
    rngs = (np.random.default_rng((seed, number)) for number in range(count))
    return np.stack([draw_tile(pack, weights, SIDE, rng)[0] for rng in rngs])


def batch_of(tiles: FloatArray, clouds: tuple[NDArray[np.bool_], ...], count: int, seed: int) -> Batch:
    """Kriged examples, as a training has them: each tile in turn."""
    found = []
    for number in range(count):
        counts = np.rint(tiles[number % len(tiles)] / KELVIN_PER_COUNT).astype(np.uint16)
        alone = LstPack(("tile",), (counts,), clouds, ((0, 0, 0),))
        found.append(make_examples(alone, {"tile": 1.0}, count=1, size=SIDE, seed=seed + number))
    whole = LstExamples(
        *(np.concatenate(planes) for planes in zip(*(vars(one).values() for one in found), strict=True))
    )
    dataset = LstDataset(whole, unconditional_share=0.0, augment=False, seed=0)
    return torch.utils.data.default_collate([dataset[0, number] for number in range(count)])


def varied(batch: Batch) -> Batch:
    """All examples in the eight symmetries of the square, and with the anomaly's sign turned: 16 of each."""
    signs = {"x_0": -1.0, "condition": torch.tensor([-1.0, 1.0, -1.0])[:, None, None]}
    out = {}
    for name, value in batch.items():
        turned = [torch.rot90(side, k, (2, 3)) for side in (value, value.flip(3)) for k in range(4)]
        sign = torch.as_tensor(signs.get(name, 1.0)).to(value)
        out[name] = torch.cat([*turned, *(sign * one for one in turned)])
    return out


# --- generators ---


def by_network() -> FloatArray:
    """Quarters of what `lst-small` takes for a tile when it is told nothing."""
    whole = draw_untold(load_filler("lst-small"), DRAWN // 4)[:, 0].astype(np.float64)
    return in_kelvin(np.concatenate([whole[:, row:, col:][:, :SIDE, :SIDE] for row in (0, SIDE) for col in (0, SIDE)]))


def gaussian_fields(tiles: FloatArray, count: int, seed: int) -> FloatArray:
    """Fields whose cosine coefficients are independent and Gaussian, with the mean square of the tiles' own."""
    squares = np.mean(dctn(standardised(tiles), axes=(1, 2), norm="ortho") ** 2, axis=0)
    squares = (squares + squares.T) / 2
    noise = np.random.default_rng(seed).standard_normal((count, SIDE, SIDE))
    return in_kelvin(idctn(noise * np.sqrt(squares), axes=(1, 2), norm="ortho"))


def standardised(tiles: FloatArray) -> FloatArray:
    """Tiles of mean 0 and standard deviation 1."""
    std = np.maximum(tiles.std(axis=(1, 2), keepdims=True), 0.03)
    return np.asarray((tiles - tiles.mean(axis=(1, 2), keepdims=True)) / std)


def in_kelvin(fields: FloatArray) -> FloatArray:
    """Fields as tiles of a usual mean and deviation."""
    return KELVIN_MEAN + KELVIN_STD * standardised(fields)


# --- training ---


def train(batches: Callable[[int], Batch], config: UNetConfig, seed: int, asked: argparse.Namespace) -> UNet:
    """A network that was trained on the batches of so many steps, with averaged weights."""
    torch.manual_seed(seed)
    network = UNet(config).to(asked.device).train()
    ema = Ema(network, EMA)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.01)
    for step in range(asked.steps):
        share = step / asked.steps
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (share + 1e-3) / WARM_UP, (1 - share) / DECAY)
        loss = OBJECTIVE.loss(network, batches(step), step=step, generator=seeded(seed, step))
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        ema.update(network, step)
    network.load_state_dict(ema.weights)
    return network.eval()


def batches_of(parts: Sequence[tuple[Batch, float]], seed: int) -> Callable[[int], Batch]:
    """Batches, by step, in which every part has its share."""

    def batch(step: int) -> Batch:
        chosen = []
        for number, (part, share) in enumerate(parts):
            where = torch.randint(len(part["x_0"]), (round(BATCH * share),), generator=seeded(seed, step, number))
            chosen.append({name: value[where.to(value.device)] for name, value in part.items()})
        return {name: torch.cat([one[name] for one in chosen]) for name in chosen[0]}

    return batch


class Kept:
    """Held-out examples that are there already."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["x_0"])

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        return {name: value[key[1]] for name, value in self.batch.items()}


def run(file: Path, out: Path, asked: argparse.Namespace) -> None:
    """All trainings, by seed; what is found is written after each."""
    begun, pack = time.monotonic(), load_lst(file)
    tiles = {name: real_tiles(pack, LST_WEIGHTS, count, 0) for name, count in BUDGETS.items()}
    tiles["held_out"] = real_tiles(pack, LST_HELD_OUT_WEIGHTS, HELD_OUT, HELD_OUT_SEED)

    def examples(drawn: FloatArray, count: int, seed: int) -> Batch:
        made = batch_of(drawn, pack.clouds, count, seed)
        return {name: value.to(asked.device) for name, value in made.items()}

    held_out = Kept(examples(tiles["held_out"], HELD_OUT, HELD_OUT_SEED))
    real = {name: varied(examples(tiles[name], BUDGETS[name] * MASKS[name], 10_000)) for name in BUDGETS}
    sampled, fields = by_network(), {name: gaussian_fields(tiles[name], DRAWN, seed=1) for name in BUDGETS}
    of_network = varied(examples(sampled, DRAWN, 50_000))
    made = {(name, "field"): varied(examples(one, DRAWN, 50_000)) for name, one in fields.items()}
    made |= {(name, "lst-small"): of_network for name in BUDGETS}
    drawn = {"lst-small": sampled, **{f"field of {name}": one for name, one in fields.items()}, **tiles}
    shown = {name: statistics(standardised(one)) for name, one in drawn.items()}
    result: dict[str, Any] = {"tiles": BUDGETS, "steps": asked.steps, "statistics": shown, "runs": []}
    for seed, budget, (generator, share) in product(range(asked.seeds), BUDGETS, SETTINGS):
        parts = [(real[budget], 1 - share)] + ([(made[budget, generator], share)] if share else [])
        network = train(batches_of(parts, seed), NETWORK, seed, asked)
        scores = OBJECTIVE.score(network, held_out, device=torch.device(asked.device))
        found = {"seed": seed, "budget": budget, "generator": generator, "share": share, **scores}
        print(f"{time.monotonic() - begun:.0f} s: {found}", flush=True)
        result["runs"].append(found)
        out.write_text(json.dumps(result, indent=1))


def table(result: dict[str, Any]) -> str:
    """Mean over seeds, and the change from the same seed without drawn tiles."""
    from lacunar.evaluate.report import markdown_table

    rows = []
    for budget, (generator, share) in product(BUDGETS, SETTINGS):
        runs = [run for run in result["runs"] if run["budget"] == budget]
        plain = {run["seed"]: run for run in runs if not run["share"]}
        found = [run for run in runs if (run["generator"], run["share"]) == (generator, share)]
        cells = []
        for name in ("loss", "rmse_ratio"):
            change = np.array([100 * (run[name] / plain[run["seed"]][name] - 1) for run in found])
            told = f"{change.mean():+.2f} % ({change.min():+.2f} to {change.max():+.2f})" if share else ""
            cells += [f"{np.mean([run[name] for run in found]):.4f}", told]
        rows.append((f"{result['tiles'][budget]}", generator, f"{share:.0%}", str(len(found)), *cells))
    header = (
        "real tiles",
        "generator",
        "share",
        "seeds",
        "loss",
        "change (range)",
        "error / kriging's",
        "change (range)",
    )
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
