"""Does a network on top of the field earn its place? Trained on all numbers of dates, scored on other places.

    python benchmarks/lst_network.py train PACK --out FOLDER --seconds 500          on a GPU where there is one
    python benchmarks/lst_network.py score PACK --weights FOLDER > docs/evidence/tables/lst_network.md

PACK is written by `lacunar train lst-small --data DATA/lst/train --clouds DATA/clouds --pack PACK`. Windows of 64 to
192 pixels of the training places are filled by the field, beside 0, 1, 2 to 3 and 4 to 9 other dates with clouds of
their own; processes beside the training draw them all the time. Two small networks learn what the field leaves,
(truth - mean) / sigma, from its mean, its sigma, what other dates tell, the distance to the nearest measured pixel and
how many dates see a pixel: *correction* tells a shift and a factor of sigma in one evaluation (its loss is the CRPS),
so that samples are those of the field, shifted and scaled; *diffusion* draws samples. To train takes numpy, scipy,
torch and safetensors alone.
"""

import argparse
import copy
import json
import os
import queue
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy import ndimage
from torch import Tensor, nn

from lacunar.diffusion.process import q_sample, training_target
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import ddim_sample
from lacunar.interpolate.background import CoarseField
from lacunar.interpolate.raster_field import RasterSample, View
from lacunar.networks.unet import UNet, UNetConfig
from lacunar.train.lst_data import LstPack, draw_missing, load_lst, resized

TRAINING = {"losangeles": 0.45, "newyork": 0.15, "aster": 0.15, "kano": 0.25}  # places
HELD_OUT = {"macas": 0.75, "liverpool": 0.25}
SHRINKS = {0.5: 0.2, 1.0: 0.5, 2.0: 0.2, 3.0: 0.1}  # share of the windows that are enlarged twice, or averaged n x n
ENLARGED = ("ecostress", "aster")  # Landsat's thermal band is enlarged already
SIDES = {64: 0.25, 128: 0.3, 192: 0.45}  # pixels of a window
REGIMES = {(0, 0): 0.34, (1, 1): 0.2, (2, 3): 0.22, (4, 9): 0.24}  # least and most other dates
RATES, OWN_RATES, CLOUDY = (0.05, 0.7), (0.05, 0.6), 0.6  # missing rates, of a cloudy date, and the share of such
CELL = 16  # pixels: of block means
LARGEST, TILE = 192, 64
TRUTH, MEAN, SIGMA, BASE, DISTANCE, SEEN = range(6)  # planes of a window
MOST_Z, LEAST_KNOWN, LEAST_SCALE = 6.0, 16, 0.02
WAITING, KEPT = 64, 6000  # windows
STEPS = 1000
SCHEDULE = NoiseSchedule.cosine(STEPS)
LAST_STEP_SHARE, NEGATED_SHARE, SQUARED_WEIGHT = 0.25, 0.25, 0.3
SAMPLES, EVALUATIONS = 8, 10
KINDS = ("correction", "diffusion")
SIDE, SQUARE = 96, 48  # pixels of a window, and of the square that is hidden in it, for the texture
TEXTURES = 4  # samples
SCORED_SEED = 10_007  # apart from those of training and validation

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """A fill by the field: number of other dates, planes (6, n, n), and deviates (K, n, n) of its samples."""

    references: int
    planes: NDArray[np.float32]
    deviates: NDArray[np.float32]

    @property
    def side(self) -> int:
        """Pixels."""
        return self.planes.shape[1]


@dataclass(frozen=True)
class Batch:
    """What networks see of tiles (B, 1, 64, 64), and what they are to tell."""

    z: Tensor
    condition: Tensor  # (B, 6, 64, 64)
    missing: Tensor
    sigma: Tensor  # kelvin; 0 where known


# --- windows ---


def draw(pack: LstPack, weights: Mapping[str, float], rng: np.random.Generator, *, texture: int = 0) -> Window:
    """Fill a window of a place drawn by weight; for ``texture`` a square is hidden, and so many samples drawn."""
    values, others = cut(pack, weights, rng, side=SIDE if texture else picked(SIDES, rng))
    side, clouds = len(values), list(pack.clouds)
    for one in others:
        if rng.random() < CLOUDY:
            one[draw_missing(clouds, side, OWN_RATES, rng)] = np.nan
    missing = draw_missing(clouds, side, RATES, rng)
    if texture:
        missing[:] = False
        first = (SIDE - SQUARE) // 2
        missing[first : first + SQUARE, first : first + SQUARE] = True
    cells = tuple(CoarseField.of(one, np.isfinite(one), CELL) for one in others)
    view, sample = View(values, ~missing, missing, others), RasterSample()
    sample.add(view)
    field = sample.fitted(replace(CoarseField.of(values, ~missing, CELL), guides=cells))
    told = field.told(view, noise=rng.standard_normal((texture, side, side)).astype(np.float32))
    base, middle = field.base(view), values[~missing].mean()
    distance = ndimage.distance_transform_edt(missing)
    seen = np.isfinite(others).sum(axis=0)
    planes = np.stack([values - middle, told.mean - middle, told.sigma, base - base.mean(), distance, seen])
    return Window(len(others), planes.astype(np.float32), told.deviates.astype(np.float32))


def cut(
    pack: LstPack, weights: Mapping[str, float], rng: np.random.Generator, *, side: int
) -> tuple[FloatArray, FloatArray]:
    """A fully known window (n, n) in kelvin of a place drawn by weight, and other dates (K, n, n)."""
    while True:
        place = picked(weights, rng)
        index = int(rng.choice([i for i, own in enumerate(pack.places) if own == place]))
        raster, shrink = pack.rasters[index], picked(SHRINKS, rng)
        if shrink < 1 and not any(sensor in pack.names[index] for sensor in ENLARGED):
            shrink = 1.0
        least, most = picked(REGIMES, rng)
        others = [i for i in pack.other_dates(index) if place != "aster"]  # which are other grounds, not other dates
        if min(raster.shape) < side * shrink or len(others) < least:
            continue
        length = round(side * shrink)
        row, col = (int(rng.integers(0, whole - length + 1)) for whole in raster.shape)
        counts = raster[row : row + length, col : col + length]
        if counts.all() and np.ptp(counts) > 0:
            count = min(int(rng.integers(least, most + 1)), len(others))
            chosen = rng.choice(others, count, replace=False) if count else []
            dates = [pack.window(int(i), row, col, length, of=index) for i in chosen]
            values, *beside = (resized(date, side) for date in (counts, *dates))
            return values, np.array(beside).reshape(-1, side, side)


def picked(shares: Mapping[Any, float], rng: np.random.Generator) -> Any:  # noqa: ANN401
    """A key, drawn by its share."""
    keys = list(shares)
    return keys[int(rng.choice(len(keys), p=np.array(list(shares.values())) / sum(shares.values())))]


def drawing(pack: LstPack, out: Any, seed: int, held_out: int) -> None:  # noqa: ANN401
    """In a process of its own: draw windows, the held-out ones among the first, until the training is over."""
    parent, number = os.getppid(), 0
    while True:
        held = number % 3 == 0 and number < 3 * held_out
        window = draw(pack, HELD_OUT if held else TRAINING, np.random.default_rng((seed, number)))
        number += 1
        while True:
            if os.getppid() != parent:
                os._exit(0)
            with suppress(queue.Full):
                out.put((held, window), timeout=1)
                break


# --- networks ---


def network(kind: str) -> UNet:
    """A small U-Net; the first output is v, the second, of a correction, the logarithm of a factor of sigma."""
    return UNet(
        UNetConfig(
            sample_size=TILE,
            in_channels=7,
            out_channels=2 if kind == "correction" else 1,
            block_out_channels=(32, 48, 80, 96),
            layers_per_block=1,
            attention_levels=(2,),
            attention_head_dim=16,
            norm_groups=16,
            patch=2,
        )
    )


def batch_of(planes: Tensor) -> Batch:
    """Tiles (B, 6, 64, 64), each scaled by its own known pixels; by its background where hardly any is known."""
    truth, mean, sigma, base, distance, seen = (plane[:, None] for plane in planes.float().unbind(1))
    missing = (sigma > 0).float()
    known, every = 1 - missing, (1, 2, 3)
    count = known.sum(every, keepdim=True)
    few = count < LEAST_KNOWN
    offset = (truth * known).sum(every, keepdim=True) / count.clamp(min=1)
    offset = torch.where(few, mean.mean(every, keepdim=True), offset)
    variance = ((truth - offset) ** 2 * known).sum(every, keepdim=True) / count.clamp(min=1)
    unsure = (sigma**2).mean(every, keepdim=True) + mean.var(every, keepdim=True)
    scale = torch.where(few, unsure, variance).sqrt().clamp(min=LEAST_SCALE)
    z = (missing * (truth - mean) / sigma.clamp(min=1e-3)).clamp(-MOST_Z, MOST_Z)
    guide = ((base - base.mean(every, keepdim=True)) / scale).clamp(-20, 20)
    inputs = ((mean - offset) / scale, sigma / scale, missing, guide, torch.log1p(distance) / 3, torch.log1p(seen) / 2)
    return Batch(z, torch.cat(inputs, dim=1), missing, sigma)


def told(net: nn.Module, batch: Batch, kind: str) -> tuple[Tensor, Tensor]:
    """Mean and logarithm of the standard deviation of z, in one evaluation at the noisiest step."""
    t = torch.full((len(batch.z),), STEPS - 1, device=batch.z.device)
    with torch.autocast(batch.z.device.type, torch.bfloat16):
        output = net(torch.cat([torch.zeros_like(batch.z), batch.condition], dim=1), t).float()
    spread = output[:, 1:].clamp(-3, 2) if kind == "correction" else torch.zeros_like(batch.z)
    return -output[:, :1], spread


def crps(mean: Tensor, spread: Tensor, z: Tensor) -> Tensor:
    """Of a normal distribution with a standard deviation exp(spread) (Gneiting and Raftery 2007, Eq. 21 ff.)."""
    deviation = spread.exp()
    d = (z - mean) / deviation
    return deviation * (d * torch.erf(d / 2**0.5) + (2 / np.pi) ** 0.5 * torch.exp(-d * d / 2) - np.pi**-0.5)


def loss_of(net: nn.Module, batch: Batch, kind: str) -> Tensor:
    """CRPS and squared error of a correction, v's squared error of a diffusion, by sigma."""
    weight = batch.sigma / batch.sigma.mean((1, 2, 3), keepdim=True).clamp(min=1e-6)
    if kind == "correction":
        mean, spread = told(net, batch, kind)
        each = crps(mean, spread, batch.z) + SQUARED_WEIGHT * (mean - batch.z) ** 2
    else:
        t = torch.randint(STEPS, (len(batch.z),))
        t[torch.rand(len(t)) < LAST_STEP_SHARE] = STEPS - 1
        eps = torch.randn_like(batch.z)
        x_t = q_sample(batch.z, t, eps, SCHEDULE)
        with torch.autocast(batch.z.device.type, torch.bfloat16):
            output = net(torch.cat([x_t * batch.missing, batch.condition], dim=1), t.to(x_t.device)).float()
        each = (output - training_target(batch.z, t, eps, SCHEDULE, prediction="v")) ** 2
    return (each * weight).sum() / weight.sum()


def varied(planes: Tensor) -> Tensor:
    """One of the eight symmetries of tiles, in some cases negated, as day turns to night."""
    planes = torch.rot90(planes, int(torch.randint(4, ())), (2, 3))
    planes = (planes.flip(3) if torch.rand(()) < 0.5 else planes).clone()
    signs = torch.where(torch.rand(len(planes), 1, 1, 1) < NEGATED_SHARE, -1.0, 1.0).to(planes)
    planes[:, [TRUTH, MEAN, BASE]] *= signs
    return planes


# --- training ---


class Store:
    """The last windows drawn, on the device."""

    def __init__(self, device: torch.device) -> None:
        shape = (KEPT if device.type == "cuda" else KEPT // 6, 6, LARGEST, LARGEST)
        self.planes = torch.zeros(shape, dtype=torch.float16, device=device)
        self.sides = torch.zeros(len(self.planes), dtype=torch.long)
        self.count = 0

    def add(self, window: Window) -> None:
        """Keep a window."""
        place = self.count % len(self.planes)
        self.planes[place, :, : window.side, : window.side] = torch.from_numpy(window.planes).to(self.planes)
        self.sides[place] = window.side
        self.count += 1

    def tiles(self, count: int) -> Tensor:
        """Random tiles (count, 6, 64, 64), larger windows more often."""
        sides = self.sides[: self.count].float()
        chosen = torch.multinomial((sides / TILE) ** 1.5, count, replacement=True)
        room = self.sides[chosen] - TILE + 1
        steps = torch.arange(TILE)
        rows, cols = ((torch.rand(count) * room).long()[:, None] + steps for _ in range(2))
        where = chosen[:, None, None], slice(None), rows[:, :, None], cols[:, None, :]
        return self.planes[where[0], :, where[2], where[3]].permute(0, 3, 1, 2)


def train(options: argparse.Namespace) -> None:
    """Draw and train until the time is over; weights and losses are written every minute."""
    start, context = time.time(), get_context("fork")
    pack, waiting = load_lst(options.pack), context.Queue(WAITING)
    for number in range(options.drawers):
        context.Process(target=drawing, args=(pack, waiting, number, options.held_out), daemon=True).start()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    nets = {kind: network(kind).to(device) for kind in KINDS}
    averages = copy.deepcopy(nets)
    optimisers = {kind: torch.optim.AdamW(net.parameters(), lr=options.rate) for kind, net in nets.items()}
    store, held_out, log = Store(device), list[Window](), list[dict[str, Any]]()
    batch, running = options.batch or (256 if device.type == "cuda" else 32), dict.fromkeys(KINDS, 1.0)
    step, written = 0, 0.0
    options.out.mkdir(parents=True, exist_ok=True)
    while True:
        took = time.time() - start
        ready = store.count >= options.first and held_out
        for is_held_out, window in taken(waiting, wait=not ready) if step % 10 == 0 else ():
            (held_out.append if is_held_out else store.add)(window)  # type: ignore[operator]
        if ready and (took - written > options.every or took > options.seconds):
            written = took
            scores = {kind: loss_ratios(averages[kind], kind, held_out, device) for kind in KINDS}
            log.append({"s": round(took), "step": step, "windows": store.count, "loss": dict(running)} | scores)
            print(json.dumps(log[-1]), flush=True)
            (options.out / "losses.json").write_text(json.dumps(log, indent=1))
            for kind, net in averages.items():
                weights = {name: value.half().contiguous() for name, value in net.state_dict().items()}
                about = {"steps": str(step), "examples": str(step * batch), "machine": machine(device)}
                save_file(weights, options.out / f"{kind}.safetensors", metadata=about)
        if took > options.seconds:
            return
        if not ready:
            continue
        rate = options.rate * min(1.0, (step + 1) / 100, max(0.02, 2 * (1 - took / options.seconds)))
        tiles = batch_of(varied(store.tiles(batch)))
        for kind, net in nets.items():
            for group in optimisers[kind].param_groups:
                group["lr"] = rate
            loss = loss_of(net, tiles, kind)
            optimisers[kind].zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimisers[kind].step()
            with torch.no_grad():
                keep = min(0.998, (1 + step) / (10 + step))
                torch._foreach_lerp_(list(averages[kind].parameters()), list(net.parameters()), 1 - keep)
            if step % 20 == 0:  # to read it waits for the device
                running[kind] += 0.1 * (float(loss.detach()) - running[kind])
        step += 1


def taken(waiting: Any, *, wait: bool) -> Iterator[tuple[bool, Window]]:  # noqa: ANN401
    """All windows that wait; the first is waited for a second."""
    try:
        while True:
            yield waiting.get(timeout=1) if wait else waiting.get_nowait()
            wait = False
    except queue.Empty:
        return


def machine(device: torch.device) -> str:
    """The device in words."""
    return torch.cuda.get_device_name() if device.type == "cuda" else "CPU"


# --- scores ---


def tiles_of(window: Window, *, most: int = 3) -> Iterator[NDArray[np.float32]]:
    """Tiles (6 + K, 64, 64) of a window, some pixels of which are missing."""
    whole, rng = np.concatenate([window.planes, window.deviates]), np.random.default_rng(window.side)
    for _ in range(1 if window.side == TILE else most):
        row, col = (int(rng.integers(0, window.side - TILE + 1)) for _ in range(2))
        tile = whole[:, row : row + TILE, col : col + TILE]
        if (tile[SIGMA] > 0).any():
            yield tile


def regime_of(references: int) -> str:
    """0, 1, 2-3 or 4-9."""
    return next(f"{low}-{high}" if low < high else f"{low}" for low, high in REGIMES if low <= references <= high)


def loss_ratios(net: nn.Module, kind: str, windows: Sequence[Window], device: torch.device) -> dict[str, list[float]]:
    """By regime: RMSE, and CRPS, over those of the field."""
    net.eval()
    sums: dict[str, FloatArray] = {}
    with torch.no_grad():
        for window in windows:
            found = list(tiles_of(window))
            if not found:
                continue
            tiles = batch_of(torch.from_numpy(np.stack(found)).to(device))
            mean, spread = told(net, tiles, kind)
            zero = torch.zeros_like(mean)
            pairs = ((tiles.sigma * tiles.z) ** 2, (tiles.sigma * (tiles.z - mean)) ** 2)
            scores = (tiles.sigma * crps(zero, zero, tiles.z), tiles.sigma * crps(mean, spread, tiles.z))
            total = np.array([float((one * tiles.missing).sum()) for one in (*pairs, *scores)])
            for name in (regime_of(window.references), "all"):
                sums[name] = sums.get(name, np.zeros(4)) + total
    net.train()
    return {
        name: [round(float(np.sqrt(s[1] / s[0])), 4), round(float(s[3] / s[2]), 4)] for name, s in sorted(sums.items())
    }


@torch.no_grad()
def sampled(net: nn.Module, batch: Batch, count: int) -> Tensor:
    """Samples of z (count, B, 1, 64, 64) by DDIM."""
    schedule, condition = SCHEDULE.respaced(EVALUATIONS), batch.condition.repeat(count, 1, 1, 1)
    missing = batch.missing.repeat(count, 1, 1, 1)

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        output: Tensor = net(torch.cat([x_t * missing, condition], dim=1), t)
        return output

    noise = torch.randn(missing.shape, generator=torch.Generator().manual_seed(0))
    return ddim_sample(denoiser, noise, schedule, prediction="v").reshape(count, *batch.z.shape)


@torch.no_grad()
def score(options: argparse.Namespace) -> None:
    """Print how the networks do beside the field, on windows of places that they were not trained on."""
    pack, nets = load_lst(options.pack), {kind: network(kind).eval() for kind in KINDS}
    for kind, net in nets.items():
        net.load_state_dict({k: v.float() for k, v in load_file(options.weights / f"{kind}.safetensors").items()})
    sums: dict[tuple[str, str], list[FloatArray]] = {}
    for number in range(options.windows):
        window = draw(pack, HELD_OUT, np.random.default_rng((SCORED_SEED, number)))
        found = list(tiles_of(window))
        if not found:
            continue
        batch = batch_of(torch.from_numpy(np.stack(found)))
        drawn = sampled(nets["diffusion"], batch, SAMPLES)
        zero = torch.zeros_like(batch.z)
        methods = {
            "field": (zero, zero),
            "correction": told(nets["correction"], batch, "correction"),
            "diffusion": (drawn.mean(0), drawn.std(0).clamp(min=1e-3).log()),
        }
        for name, (mean, spread) in methods.items():
            off = (batch.z - mean) / spread.exp()
            each = (
                (batch.sigma * (batch.z - mean)) ** 2,
                batch.sigma * crps(mean, spread, batch.z),
                *((off.abs() <= reach).float() for reach in (1.0, 1.96)),
                torch.ones_like(off),
            )
            total = np.array([float((one * batch.missing).sum()) for one in each])
            for regime in (regime_of(window.references), "any"):
                sums.setdefault((regime, name), []).append(total)
        print(f"{number + 1} of {options.windows}", file=sys.stderr, flush=True)
    print_scores(sums)
    print_texture(pack, nets, options.squares)


def print_scores(sums: Mapping[tuple[str, str], list[FloatArray]]) -> None:
    """The table by number of other dates."""
    from lacunar.evaluate.report import markdown_table
    from lacunar.evaluate.scores import interval_95, resampling_weights

    rows = []
    for regime, name in sorted(sums):
        own, field = np.array(sums[regime, name]), np.array(sums[regime, "field"])
        weights = resampling_weights(len(own), seed=0)
        ratios = (
            np.sqrt((weights @ own[:, 0]) / (weights @ field[:, 0])),
            (weights @ own[:, 1]) / (weights @ field[:, 1]),
        )
        over = [f"{r[0]:.3f} [{', '.join(f'{x:.3f}' for x in interval_95(r, units=len(own)))}]" for r in ratios]
        total = own.sum(axis=0) / own[:, 4].sum()
        errors = f"{np.sqrt(total[0]):.2f}", f"{total[1]:.2f}"
        rows.append(
            (regime, str(len(own)), name, errors[0], over[0], errors[1], over[1], f"{total[2]:.0%} / {total[3]:.0%}")
        )
    order = ("field", "correction", "diffusion")
    rows.sort(key=lambda row: (row[0] == "any", row[0], order.index(row[2])))
    over_field = "over the field's"
    header = ("other dates", "windows", "method", "RMSE, K", over_field, "CRPS, K", over_field, "in 68 % / 95 %")
    print(markdown_table(header, rows))


def print_texture(pack: LstPack, nets: Mapping[str, nn.Module], count: int) -> None:
    """Variogram and spectrum of samples in a hidden square, over those of the truth: medians over windows."""
    from lacunar.evaluate.report import markdown_table
    from lst_texture import LAGS, WAVES, texture

    edge, first = (SIDE - TILE) // 2, (TILE - SQUARE) // 2
    ratios: dict[str, list[FloatArray]] = {}
    for number in range(count):
        window = draw(pack, HELD_OUT, np.random.default_rng((SCORED_SEED + 1, number)), texture=TEXTURES)
        middle = np.s_[:, edge : edge + TILE, edge : edge + TILE]
        batch = batch_of(torch.from_numpy(window.planes[middle])[None])
        mean, spread = told(nets["correction"], batch, "correction")
        deviates = torch.from_numpy(window.deviates[middle])[:, None, None]
        samples = {
            "field": deviates,
            "correction": mean + spread.exp() * deviates,
            "diffusion": sampled(nets["diffusion"], batch, TEXTURES),
        }
        square = np.s_[first : first + SQUARE, first : first + SQUARE]
        expected = window.planes[MEAN][middle[1:]]
        truth = texture(window.planes[TRUTH][middle[1:]][square])
        for name, z in samples.items():
            fields = expected + (batch.sigma * z)[:, 0, 0].numpy()
            found = np.mean([texture(field[square]) for field in fields], axis=0)
            ratios.setdefault(name, []).append(found / truth)
    bands = [f"{low:g}-{high:g} px" for low, high in pairwise(WAVES)]
    rows = [(name, *(f"{x:.2f}" for x in np.median(own, axis=0))) for name, own in ratios.items()]
    print(f"\nSamples in a hidden square of {SQUARE} pixels, over the truth's: medians of {count} windows.\n")
    print(markdown_table(("method", *(f"lag {lag}" for lag in LAGS), *bands), rows))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=("train", "score"))
    parser.add_argument("pack", type=Path)
    parser.add_argument("--out", type=Path, default=Path("lst-network"), help="folder of weights and losses")
    parser.add_argument("--seconds", type=float, default=500, help="of training, drawing included")
    parser.add_argument("--every", type=float, default=55, help="seconds from one validation to the next")
    parser.add_argument("--drawers", type=int, default=2, help="processes that draw windows")
    parser.add_argument("--batch", type=int, default=0, help="256 on a GPU, 32 elsewhere")
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--first", type=int, default=60, help="windows to begin with")
    parser.add_argument("--held-out", type=int, default=110, help="windows of each process to validate on")
    parser.add_argument("--weights", type=Path, help="to score: a folder that training wrote")
    parser.add_argument("--windows", type=int, default=240, help="to score on")
    parser.add_argument("--squares", type=int, default=40, help="windows whose texture is compared")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = parse()
    (train if chosen.job == "train" else score)(chosen)
    sys.stdout.flush()
    os._exit(0)  # the processes that draw end when this one is gone
