"""Whether a network of LST learns more where samples of a generator are added to its training tiles.

    lacunar train lst-small --data DATA --clouds CLOUDS --pack PACK --steps 1     writes PACK, or another recipe's run
    python benchmarks/augmentation.py tiles PACK tiles.npz
    python benchmarks/augmentation.py train tiles.npz results.json                --device cuda on a GPU
    python benchmarks/augmentation.py table results.json > docs/evidence/tables/augmentation.md

Tiles of 32 x 32 pixels of the training places make a small and a large budget. Two generators learn from the tiles of a
budget alone: a diffusion prior, and Gaussian fields with the mean cosine spectrum of these tiles. Real and drawn tiles
become examples by `lacunar train`'s own functions (gaps of clouds, kriging, no other dates). For every seed a network
is trained with batches of which 0, 25 or 50 % are drawn tiles, for the same number of steps, and scored on tiles of
places that are held out: the loss, and the error of one evaluation over that of kriging. --seconds ends in time: the
number of steps is cut for all runs alike.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from torch import Tensor, nn

from lacunar.diffusion.process import q_sample, training_target
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import ddim_sample
from lacunar.networks.layers import network_input
from lacunar.networks.unet import UNet, UNetConfig
from lacunar.train.lst_data import LstDataset, LstPack, draw_tile, load_lst, make_examples
from lacunar.train.objectives import Batch, DenoisingObjective, draw_noise, seeded

SIDE = 32
BUDGETS = {"small": 64, "large": 1200}  # real tiles
MASKS = {"small": 4, "large": 1}  # gaps drawn for each real tile
HELD_OUT, DRAWN = 320, 384  # tiles
HELD_OUT_SEED = 1_000_003
GENERATORS, SHARES = ("prior", "field"), (0.25, 0.5)
SEEDS, STEPS, PRIOR_STEPS, BATCH = 3, 3000, 3000, 64
SAMPLING_STEPS = 25
RATE, WARM_UP, DECAY, EMA = 4e-4, 0.05, 0.4, 0.995
TIMED = 20  # steps whose time is taken
CHECKS = 5  # scores along a training
PRIOR_SHARE = 0.1  # of the seconds, for the prior of each budget
KELVIN_MEAN, KELVIN_STD, KELVIN_PER_COUNT = 300.0, 5.0, 0.01
SCHEDULE = NoiseSchedule.cosine(1000)
OBJECTIVE = DenoisingObjective(schedule=SCHEDULE, prediction="v")
NETWORK = UNetConfig(
    sample_size=SIDE,
    in_channels=5,
    block_out_channels=(48, 96, 128),
    layers_per_block=1,
    attention_levels=(2,),
    norm_groups=16,
    patch=2,
)
FloatArray = NDArray[np.float64]


def main() -> None:
    """Run one of the three parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("tiles", "train", "table"))
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    asked = parser.parse_args()
    if asked.part == "tiles":
        write_tiles(*asked.files)
    elif asked.part == "table":
        print(table(json.loads(asked.files[0].read_text())))
    else:
        Trials(asked).run()


# --- tiles and examples ---


def write_tiles(pack: Path, out: Path) -> None:
    """Draw real tiles of training and of held-out places, in hundredths of a kelvin."""
    from lacunar.train.recipes import LST_HELD_OUT_WEIGHTS, LST_WEIGHTS

    loaded, parts = load_lst(pack), {}
    sets = {"large": (LST_WEIGHTS, BUDGETS["large"], 0), "held_out": (LST_HELD_OUT_WEIGHTS, HELD_OUT, HELD_OUT_SEED)}
    for name, (weights, count, seed) in sets.items():
        drawn = [draw_tile(loaded, weights, SIDE, np.random.default_rng((seed, i)))[0] for i in range(count)]
        parts[name] = np.diff(
            np.rint(np.stack(drawn) / KELVIN_PER_COUNT).astype(np.uint16), axis=2, prepend=np.uint16(0)
        )
    clouds = {f"cloud/{i}": np.packbits(cloud, axis=1) for i, cloud in enumerate(loaded.clouds)}
    widths = np.array([cloud.shape[1] for cloud in loaded.clouds])
    np.savez_compressed(out, widths=widths, **parts, **clouds)


def read_tiles(file: Path) -> tuple[dict[str, FloatArray], tuple[NDArray[np.bool_], ...]]:
    """Tiles in kelvin, of which the small budget has the first, and masks of clouds."""
    with np.load(file) as stored:
        kelvin = {
            name: np.cumsum(stored[name], axis=2, dtype=np.uint16) * KELVIN_PER_COUNT for name in ("large", "held_out")
        }
        clouds = tuple(
            np.unpackbits(stored[f"cloud/{i}"], axis=1)[:, :width].astype(bool)
            for i, width in enumerate(stored["widths"])
        )
    return {**kelvin, "small": kelvin["large"][: BUDGETS["small"]]}, clouds


def batch_of(tiles: FloatArray, clouds: tuple[NDArray[np.bool_], ...], count: int, seed: int) -> Batch:
    """Kriged examples of tiles, as a training has them."""
    counts = np.rint(tiles / KELVIN_PER_COUNT).astype(np.uint16)
    repeated = np.resize(counts, (count, *counts.shape[1:]))
    names, places = tuple(f"tile{i}" for i in range(count)), tuple((i, 0, 0) for i in range(count))
    pack = LstPack(names, tuple(repeated), clouds, places)  # each on a grid of its own: no other dates
    parts = [
        make_examples(replace_pack(pack, i), {f"tile{i}": 1.0}, count=1, size=SIDE, seed=seed + i) for i in range(count)
    ]
    whole = type(parts[0])(
        *(np.concatenate(planes) for planes in zip(*(vars(one).values() for one in parts), strict=True))
    )
    dataset = LstDataset(whole, unconditional_share=0.0, augment=False, seed=0)
    return torch.utils.data.default_collate([dataset[0, i] for i in range(count)])


def replace_pack(pack: LstPack, i: int) -> LstPack:
    """One raster of a pack, so that every tile is taken once."""
    return replace(
        pack, names=pack.names[i : i + 1], rasters=pack.rasters[i : i + 1], positions=pack.positions[i : i + 1]
    )


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


class Trainer:
    """Trains networks of one kind one after another, on a GPU by one CUDA graph."""

    def __init__(self, config: UNetConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.network = UNet(config).to(device)
        self.smooth = [weight.detach().clone() for weight in self.network.parameters()]
        self.rate = torch.tensor(0.0, device=device)
        cuda = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.rate if cuda else 0.0, weight_decay=0.01, fused=cuda, capturable=cuda
        )
        plane = (BATCH, 1, SIDE, SIDE)
        shapes = {"given": (BATCH, config.in_channels, SIDE, SIDE), "target": plane, "region": plane}
        self.fed = {name: torch.ones(shape, device=device) for name, shape in shapes.items()}
        self.fed["t"] = torch.zeros(BATCH, dtype=torch.long, device=device)
        self.loss = torch.zeros((), device=device)
        self.replay, self.graphed = self._step, False
        if cuda:
            self._capture()

    def _step(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda", cache_enabled=False):
            output = self.network(self.fed["given"], self.fed["t"])
        error = self.fed["region"] * (output.float() - self.fed["target"]).square()
        loss = (error.sum((1, 2, 3)) / self.fed["region"].sum((1, 2, 3)).clamp(min=1e-6)).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0, foreach=True)
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.smooth, list(self.network.parameters()), 1 - EMA)
            self.loss.copy_(loss.detach())

    def _capture(self) -> None:
        """Record a step; where that fails steps are taken as they are."""
        try:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(4):
                    self._step()
            torch.cuda.current_stream().wait_stream(side)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._step()
            self.replay, self.graphed = graph.replay, True
        except Exception as error:
            print("no graph:", str(error)[:300], flush=True)
            self.optimiser.zero_grad(set_to_none=True)

    def start(self, seed: int) -> None:
        """Take fresh weights; the memory that a graph knows stays."""
        torch.manual_seed(seed)
        fresh = UNet(self.config)
        with torch.no_grad():
            for weight, smooth, new in zip(self.network.parameters(), self.smooth, fresh.parameters(), strict=True):
                weight.copy_(new)
                smooth.copy_(new)
            for state in self.optimiser.state.values():
                for value in state.values():
                    if isinstance(value, Tensor):
                        value.zero_()

    def step(self, batch: Batch, number: int, steps: int, generator: torch.Generator) -> None:
        """One step on a batch: the loss of `DenoisingObjective` with v, in one place for CPU and GPU."""
        share = number / steps
        rate = RATE * min(1.0, (share + 1e-3) / WARM_UP, (1 - share) / DECAY)
        self.rate.fill_(rate)
        if self.device.type != "cuda":
            self.optimiser.param_groups[0]["lr"] = rate
        x_0 = batch["x_0"]
        t, eps = draw_noise(x_0, SCHEDULE.num_timesteps, OBJECTIVE.last_step_share, generator)
        x_t = q_sample(x_0, t, eps, SCHEDULE)
        self.fed["target"].copy_(training_target(x_0, t, eps, SCHEDULE, prediction="v"))
        if "condition" in batch:
            self.fed["given"].copy_(network_input(x_t, batch["condition"], batch["missing"]))
            self.fed["region"].copy_(batch["missing"] * batch["weight"])
        else:
            self.fed["given"].copy_(x_t)
        self.fed["t"].copy_(t)
        self.replay()

    def smoothed(self) -> UNet:
        """A network with the averaged weights."""
        network = UNet(self.config).to(self.device).eval()
        with torch.no_grad():
            for weight, smooth in zip(network.parameters(), self.smooth, strict=True):
                weight.copy_(smooth)
        return network


class Kept:
    """Held-out examples that are there already."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["x_0"])

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        return {name: value[key[1]] for name, value in self.batch.items()}


class Trials:
    """All trainings; what is found is written after each."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.begun, self.seconds = time.monotonic(), asked.seconds
        self.device, self.steps, self.seeds = torch.device(asked.device), asked.steps, asked.seeds
        self.tiles, self.clouds = read_tiles(asked.files[0])
        self.out = asked.files[1]
        self.result: dict[str, Any] = {"runs": [], "tiles": {name: len(one) for name, one in self.tiles.items()}}

    def run(self) -> None:
        """Generators, examples, then the trainings by seed, so that fewer seeds are a whole table too."""
        drawn = {}
        for budget in BUDGETS:
            tiles = self.tiles[budget]
            drawn[budget, "field"] = gaussian_fields(tiles, DRAWN, seed=1)
            drawn[budget, "prior"] = self.by_prior(budget)
        self.held_out = Kept(self.examples(self.tiles["held_out"], HELD_OUT, HELD_OUT_SEED, "held_out"))
        real = {
            budget: varied(self.examples(self.tiles[budget], count * MASKS[budget], 10_000, budget))
            for budget, count in ((name, len(self.tiles[name])) for name in BUDGETS)
        }
        made = {key: varied(self.examples(tiles, DRAWN, 50_000, "/".join(key))) for key, tiles in drawn.items()}
        trainer = Trainer(NETWORK, self.device)
        settings = [("", 0.0), *product(GENERATORS, SHARES)]
        runs = list(product(range(self.seeds), BUDGETS, settings))
        for number, (seed, budget, (generator, share)) in enumerate(runs):
            parts = [(real[budget], 1 - share)] + ([(made[budget, generator], share)] if share else [])
            if not number:
                self.cut(trainer, parts, len(runs))
            scores = self.train(trainer, parts, seed, self.steps)
            self.result["runs"].append(
                {"seed": seed, "budget": budget, "generator": generator, "share": share, "scores": scores}
            )
            self.result |= {"steps": self.steps, "graphed": trainer.graphed, "seconds": self.passed()}
            self.write()

    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    def cut(self, trainer: Trainer, parts: Sequence[tuple[Batch, float]], runs: int) -> None:
        """Fewer steps, for all runs alike, where the time would not do."""
        one = self.seconds_of_a_step(trainer, parts)
        begun = time.monotonic()
        OBJECTIVE.score(trainer.smoothed(), self.held_out, device=self.device)
        scoring = (time.monotonic() - begun) * CHECKS
        if self.seconds < float("inf"):
            left = (self.seconds - self.passed()) * 0.95 / runs - scoring
            self.steps = max(50, min(self.steps, int(left / one)))
        self.result |= {"seconds_of_a_step": one, "seconds_of_scores": scoring}
        print(f"{one * 1e3:.1f} ms a step, {self.steps} steps, graph {trainer.graphed}", flush=True)

    def seconds_of_a_step(self, trainer: Trainer, parts: Sequence[tuple[Batch, float]]) -> float:
        """Seconds that one step takes, of a network that is thrown away."""
        trainer.start(0)
        for number in range(TIMED + 5):
            if number == 5:
                float(trainer.loss)
                begun = time.monotonic()
            trainer.step(self.drawn(parts, seeded(0, number)), number, 10 * TIMED, seeded(1, number))
        float(trainer.loss)
        return (time.monotonic() - begun) / TIMED

    def drawn(self, parts: Sequence[tuple[Batch, float]], generator: torch.Generator) -> Batch:
        """A batch of which each part has its share."""
        counts = [round(BATCH * share) for _, share in parts]
        chosen = [
            {
                name: value[torch.randint(len(value), (count,), generator=seeded(int(word))).to(value.device)]
                for name, value in batch.items()
            }
            for (batch, _), count, word in zip(
                parts, counts, torch.randint(2**62, (len(parts),), generator=generator), strict=True
            )
        ]
        return {name: torch.cat([one[name] for one in chosen]) for name in chosen[0]}

    def train(self, trainer: Trainer, parts: Sequence[tuple[Batch, float]], seed: int, steps: int) -> list[Any]:
        """Train from fresh weights; held-out scores along the way."""
        trainer.start(seed)
        scores = []
        for number in range(steps):
            trainer.step(self.drawn(parts, seeded(seed, number)), number, steps, seeded(seed, number, 1))
            if (number + 1) * CHECKS // steps > number * CHECKS // steps:
                found = OBJECTIVE.score(trainer.smoothed(), self.held_out, device=self.device)
                scores.append({"step": number + 1, **found, "training": float(trainer.loss)})
        print(f"{self.passed():.0f} s, seed {seed}: {scores[-1]}", flush=True)
        return scores

    def by_prior(self, budget: str) -> FloatArray:
        """Tiles of a diffusion prior that was trained on the tiles of a budget."""
        tiles = torch.from_numpy(standardised(self.tiles[budget])).float()[:, None].to(self.device)
        whole = varied({"x_0": tiles})
        trainer = Trainer(replace(NETWORK, in_channels=1), self.device)
        parts, steps = [(whole, 1.0)], PRIOR_STEPS
        if self.seconds < float("inf"):
            steps = min(steps, int(PRIOR_SHARE * self.seconds / self.seconds_of_a_step(trainer, parts)))
        trainer.start(7)
        for number in range(steps):
            trainer.step(self.drawn(parts, seeded(7, number)), number, steps, seeded(8, number))
        network, drawn = trainer.smoothed(), []
        schedule = SCHEDULE.respaced(SAMPLING_STEPS)
        with torch.inference_mode():
            for first in range(0, DRAWN, BATCH):
                noise = torch.randn(min(BATCH, DRAWN - first), 1, SIDE, SIDE, generator=seeded(9, first))
                drawn.append(ddim_sample(network, noise.to(self.device), schedule, prediction="v").cpu().numpy())
        fields = np.concatenate(drawn)[:, 0].astype(np.float64)
        steepness = {
            name: float(np.mean(np.diff(standardised(one), axis=2) ** 2))
            for name, one in (("real", self.tiles[budget]), ("prior", fields), ("held_out", self.tiles["held_out"]))
        }
        self.result.setdefault("generators", {})[budget] = {
            "steps": steps,
            "loss": float(trainer.loss),
            "squared_steps": steepness,
            "graphed": trainer.graphed,
        }
        print(f"{self.passed():.0f} s, prior of {budget}: {self.result['generators'][budget]}", flush=True)
        return in_kelvin(fields)

    def examples(self, tiles: FloatArray, count: int, seed: int, name: str) -> Batch:
        """Kriged examples on the device."""
        batch = batch_of(tiles, self.clouds, count, seed)
        print(f"{self.passed():.0f} s, {count} examples of {name}", flush=True)
        return {key: value.to(self.device) for key, value in batch.items()}

    def write(self) -> None:
        """Write what is found, whole."""
        hidden = self.out.with_suffix(".part")
        hidden.write_text(json.dumps(self.result, indent=1))
        hidden.rename(self.out)


def table(result: dict[str, Any]) -> str:
    """Mean over seeds at the end of the trainings and at their best check; the difference from 0 % seed by seed."""
    from lacunar.evaluate.report import markdown_table

    rows = []
    for budget in BUDGETS:
        runs = [run for run in result["runs"] if run["budget"] == budget]
        plain = {run["seed"]: run["scores"] for run in runs if not run["share"]}
        for generator, share in [("", 0.0), *product(GENERATORS, SHARES)]:
            found = {r["seed"]: r["scores"] for r in runs if (r["generator"], r["share"]) == (generator, share)}
            seeds = sorted(set(found) & set(plain))
            ends = [found[seed][-1] for seed in seeds]
            best = [min(found[seed], key=lambda one: one["loss"]) for seed in seeds]
            shift = np.array([100 * (found[s][-1]["loss"] / plain[s][-1]["loss"] - 1) for s in seeds])
            rows.append(
                (
                    f"{budget}, {result['tiles'][budget]} tiles",
                    generator or "none",
                    f"{share:.0%}",
                    str(len(seeds)),
                    f"{np.mean([one['loss'] for one in ends]):.4f}",
                    f"{shift.mean():+.1f} ({shift.min():+.1f} to {shift.max():+.1f})" if share else "",
                    f"{np.mean([one['rmse_ratio'] for one in ends]):.3f}",
                    f"{np.mean([one['loss'] for one in best]):.4f}",
                    f"{np.mean([one['rmse_ratio'] for one in best]):.3f}",
                )
            )
    header = (
        "real",
        "generator",
        "share",
        "seeds",
        "loss",
        "change, % (range)",
        "error / kriging's",
        "least loss",
        "error there",
    )
    return markdown_table(header, rows)


if __name__ == "__main__":
    main()
