"""Train by the plan on one GPU within a time, then time the networks. Started by `run.sh`; runs on a CPU with --smoke.

No internet, no geospatial library and no diffusers are needed. Every part of the plan runs the recipe's own data,
network and objective; only the loop is not that of `lacunar train`, because time, not a number of steps, ends it.
"""

import argparse
import atexit
import json
import math
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing import Process
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import torch
from safetensors.torch import save
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from gpu_kit.faces import FaceFeed
from gpu_kit.plan import (
    COMPILE_FROM,
    END_EARLY,
    FASTER,
    LARGEST,
    NEARLY,
    PEAKS,
    PROBE,
    TIMINGS,
    Part,
    chosen,
    expected_per_minute,
    peak_of,
)
from lacunar.models.weights import as_dtype
from lacunar.train.kinds import LstRecipe, PictureRecipe, WaterRecipe
from lacunar.train.loop import Ema, parameter_groups
from lacunar.train.picture_data import PictureDataset
from lacunar.train.recipe import WEIGHTS_ENDING, Data, Recipe, Start, load_start
from lacunar.train.recipes import RECIPES

BATCHES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Batches that stay on the device, at most, and their share of its memory: where no new batch has arrived, a step takes
# one of them again, with new noise and times.
KEPT, KEPT_SHARE = 48, 0.2
AHEAD = 4  # batches on their way to the device
WARM_UP, DECAY = 0.05, 0.4  # shares of the time in which the learning rate rises, and falls
LARGEST_RATE = 2e-3
SMOKE_STEPS = 2
PROBED, MEASURED = 5, 3  # passes for each batch size, and those of them that are measured
LST_EXAMPLES_PER_CORE_MINUTE = 15.0  # drawn while other parts train; kriging one takes up to a second of a slow core
SHAPES_PER_MINUTE = 600.0  # occlusions drawn before pictures are learned
EVERY = 60.0  # seconds between two files of weights


class Work:
    """A part of the plan at work: recipe, data, network, and what is written."""

    def __init__(self, part: Part, arguments: argparse.Namespace, device: torch.device) -> None:
        self.part, self.device, self.smoke = part, device, arguments.smoke
        self.out, self.kit, self.work = arguments.out, arguments.kit, arguments.work
        self.batch, self.workers = arguments.batch, arguments.workers or max(1, (os.cpu_count() or 2) - 1)
        self.rate, self.recipe = arguments.rate, small(RECIPES[part.recipe], arguments)
        self.drawn = folder_of(part, arguments)
        self.record: dict[str, Any] = {"recipe": part.recipe, "start": part.start, "losses": []}

    def load(self) -> None:
        """Data, network and optimiser."""
        pack = pack_of(self.recipe, self.kit, self.work)
        self.recipe = self.recipe.adapted(pack)
        self.data: Data = self.recipe.load_data(pack, self.drawn, os.cpu_count() or 1, None)
        packed = self.kit / "starts" / f"{self.part.recipe}{WEIGHTS_ENDING}"
        start = self.part.start or (str(packed) if packed.exists() else None)
        self.network = self.recipe.new_network(load_start(self.recipe, start, None).model if start else None)
        self.network.to(self.device, memory_format=torch.channels_last).train()
        self.objective = self.recipe.objective_of(Start())
        self.ema = Ema(self.network, 0.999)
        self.optimiser = torch.optim.AdamW(
            parameter_groups(self.network, self.recipe.training.encoder_rate), lr=1e-4, weight_decay=0.01, fused=True
        )

    def loss_of(self, network: nn.Module, batch: dict[str, torch.Tensor], step: int) -> torch.Tensor:
        """The recipe's own loss, in bfloat16."""
        generator = torch.Generator().manual_seed(step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return self.objective.loss(network, batch, step=step, generator=generator)

    def step(self, network: nn.Module, batch: dict[str, torch.Tensor], number: int, rate: float) -> torch.Tensor:
        """One step of the optimiser."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        loss = self.loss_of(network, batch, number)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.training.gradient_clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    def train(self, seconds: float) -> None:
        """Train for so many seconds; writes weights every minute and at the end."""
        begun = time.monotonic()
        batch_size, network = self._probed(seconds)
        training = self.recipe.training  # its rate belongs to its batch, and grows with the root of the batch
        peak = self.rate * min(LARGEST_RATE, training.learning_rate * math.sqrt(batch_size / training.batch_size))
        feed = self._feed(batch_size)
        step, written, warned, started = 0, time.monotonic(), False, time.monotonic()
        while True:
            share = step / SMOKE_STEPS if self.smoke else (time.monotonic() - begun) / seconds
            if share < 1:
                rate = peak * min(1.0, (share + 1e-3) / WARM_UP, (1 - share) / DECAY)
                loss = self.step(network, feed.batch(), step, rate)
                self.ema.update(self.network, step)
                step += 1
                if step % 20 == 1:
                    self.record["losses"].append([step, round(time.monotonic() - begun, 1), round(float(loss), 5)])
            now, images = time.monotonic(), step * batch_size
            self.record |= {"steps": step, "images": images, "images_drawn": feed.arrived * batch_size}
            self.record["images_per_second"] = images / max(now - started, 1e-9)
            if not warned and now - started > min(EVERY, seconds / 2):
                warned = True
                self._compare()
            if share >= 1 or now - written > EVERY:
                self.write()
                written = now
            if share >= 1:
                feed.close()
                return

    def _feed(self, batch_size: int) -> "Feed | FaceFeed":
        drawn = self.data.training
        if isinstance(drawn, PictureDataset) and drawn.prior is not None:
            return FaceFeed(drawn, batch_size, self.device)
        return Feed(self._loader(batch_size), self.device)

    def _loader(self, batch_size: int) -> DataLoader[Any]:
        def keys() -> Iterator[list[tuple[int, int]]]:
            length, epoch = len(self.data.training), 0
            while True:
                order = torch.randperm(length, generator=torch.Generator().manual_seed(epoch)).tolist()
                order = order * -(-batch_size // length)
                for first in range(0, len(order) - batch_size + 1, batch_size):
                    yield [(epoch, index) for index in order[first : first + batch_size]]
                epoch += 1

        workers = 0 if self.device.type == "cpu" and self.smoke else self.workers
        return DataLoader(
            self.data.training,  # type: ignore[arg-type]
            batch_sampler=keys(),
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
        )

    def _probed(self, seconds: float) -> tuple[int, nn.Module]:
        """Batch size of the most images a second, and the network, compiled where that pays."""
        one = torch.utils.data.default_collate([self.data.training[0, index] for index in range(2)])
        one = {name: value.to(self.device) for name, value in one.items()}
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.loss_of(self.network, one, 0)
        self.flop = counter.get_total_flops() / 2
        planned = expected_per_minute(self.flop, PEAKS["H100"])
        self.record |= {"flop_per_image": self.flop, "per_minute_expected_of_an_h100": round(planned)}
        print(
            f"{self.part.recipe}: {self.flop / 1e9:.2f} GFLOP an image, {planned:,.0f} a minute expected of an H100",
            flush=True,
        )
        if self.smoke:
            return 2, self.network
        if self.batch:
            self.record["batch_size"] = self.batch
            return self.batch, self.network
        found, ends = dict[int, float](), math.inf
        for size in BATCHES:
            batch = {name: value[:1].expand(size, *value.shape[1:]).contiguous() for name, value in one.items()}
            try:
                found[size] = self._speed(self.network, batch)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            ends = min(ends, time.monotonic() + min(PROBE, seconds / 6))
            next_one = PROBED * 2 * size / found[size]  # seconds, at most
            if time.monotonic() + next_one > ends or found[size] < max(found.values()):
                break
        best = min(size for size, speed in found.items() if speed > NEARLY * max(found.values()))
        self.record |= {"probe": found, "batch_size": best}
        if self.device.type != "cuda" or seconds < COMPILE_FROM:
            return best, self.network
        batch = {name: value[:1].expand(best, *value.shape[1:]).contiguous() for name, value in one.items()}
        try:
            compiled = torch.compile(self.network)
            faster = self._speed(compiled, batch) / found[best]
        except Exception as error:  # a compiler that lacks something must not end the run
            self.record["compiled"] = f"failed: {type(error).__name__}"
            return best, self.network
        self.record["compiled"] = f"{faster:.2f} times as fast"
        return best, compiled if faster > FASTER else self.network

    def _speed(self, network: nn.Module, batch: dict[str, torch.Tensor]) -> float:
        """Images a second of forward and backward passes; weights are not changed."""
        size = len(next(iter(batch.values())))
        for repeat in range(PROBED):
            if repeat == PROBED - MEASURED:
                self._wait()
                begun = time.monotonic()
            self.loss_of(network, batch, repeat).backward()
            self.optimiser.zero_grad(set_to_none=True)
        self._wait()
        return MEASURED * size / (time.monotonic() - begun)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _compare(self) -> None:
        """Say how the speed compares with what the arithmetic of the device allows."""
        peak = peak_of(device_name(self.device))
        speed = self.record["images_per_second"] * 60
        told = f"{self.part.recipe}: {speed:,.0f} images a minute"
        if peak:
            expected = expected_per_minute(self.flop, peak)
            self.record |= {"expected_per_minute": expected, "share_of_expected": speed / expected}
            told += f", {speed / expected:.0%} of the {expected:,.0f} expected"
            if speed < expected / 10:
                told += "; FAR BELOW: drawing examples, or a small network, holds the GPU back"
        print(told, flush=True)

    def write(self) -> None:
        """Write the averaged weights and the record, each whole or not at all."""
        told = {
            "recipe": self.part.recipe,
            "steps": str(self.record["steps"]),
            "examples": str(self.record["images"]),
            "machine": device_name(self.device),
            "start": self.part.start,
        }
        weights = save(as_dtype(self.ema.weights, "float16"), told)
        if len(weights) > LARGEST:
            raise SystemExit(f"{self.part.recipe}: the weights have {len(weights)} bytes, more than {LARGEST}")
        write_whole(self.out / f"{self.part.recipe}.safetensors", weights)
        told = self.out / "records.json"  # one file for all recipes: few files come back
        records = json.loads(told.read_text()) if told.exists() else {}
        write_whole(told, json.dumps({**records, self.part.recipe: self.record}, indent=1).encode())

    def timings(self, seconds: float) -> dict[str, Any]:
        """Evaluations a second by batch, a picture of 256 x 256 with 8 samples, and the share of the peak."""
        ends, network, rows = time.monotonic() + seconds, self.network.eval(), {}
        peak = peak_of(device_name(self.device))
        speed = math.inf
        for size in (1,) if self.smoke else (1, 8, 64, 256):
            if time.monotonic() + 2 * size / speed > ends:
                break
            keys = [(0, index % len(self.data.held_out)) for index in range(size)]
            batch = torch.utils.data.default_collate([self.data.held_out[key] for key in keys])
            batch = {name: value.to(self.device) for name, value in batch.items()}
            with torch.no_grad():
                self.loss_of(network, batch, 0)
                self._wait()
                begun, count = time.monotonic(), 0
                while count < (1 if self.smoke else 100) and (not count or time.monotonic() < ends):
                    self.loss_of(network, batch, count)
                    count += 1
                self._wait()
            speed = size * count / max(time.monotonic() - begun, 1e-9)
            rows[size] = {"evaluations_per_second": speed} | (
                {"share_of_peak": speed * self.flop / peak} if peak else {}
            )
        best = max(row["evaluations_per_second"] for row in rows.values())
        side = self.recipe.size if isinstance(self.recipe, WaterRecipe) else self.recipe.network.sample_size
        tiles = math.ceil(256 / (side * 0.75)) ** 2  # tiles overlap by a quarter
        evaluations = 8 * (1 if isinstance(self.recipe, WaterRecipe) else 10)
        return {"by_batch": rows, "seconds_256_x_256_8_samples": tiles * evaluations / best}


class Feed:
    """Batches on a device: a new one where it has arrived, else one of the last that came, at random."""

    def __init__(self, loader: DataLoader[Any], device: torch.device) -> None:
        self.arrived, self._device, self._kept = 0, device, list[dict[str, torch.Tensor]]()
        self._queue: Queue[dict[str, torch.Tensor] | Exception] = Queue(AHEAD)
        self._open, self._random = True, random.Random(0)
        self._room = KEPT_SHARE * torch.cuda.mem_get_info()[0] if device.type == "cuda" else 0.0
        self._thread = Thread(target=self._fetch, args=(loader,), daemon=True)
        self._thread.start()

    def _fetch(self, loader: DataLoader[Any]) -> None:
        try:
            for batch in loader:
                self._queue.put({name: value.to(self._device, non_blocking=True) for name, value in batch.items()})
                if not self._open:
                    return
        except Exception as error:
            self._queue.put(error)

    def batch(self) -> dict[str, torch.Tensor]:
        """A batch to train on; what went wrong in drawing it is raised here."""
        try:
            new = self._queue.get(block=not self._kept)
        except Empty:
            return self._random.choice(self._kept)
        if isinstance(new, Exception):
            raise new
        self.arrived += 1
        size = sum(tensor.nbytes for tensor in new.values())
        most = int(self._room / size) if self._room else KEPT
        self._kept = [*self._kept, new][-max(1, min(KEPT, most)) :]
        return new

    def close(self) -> None:
        """Stop drawing."""
        self._open = False
        while self._thread.is_alive():
            with suppress(Empty):
                self._queue.get(timeout=0.1)
        self._kept.clear()


def small(recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """The recipe with what it draws beforehand cut to the time and the cores that there are."""
    if isinstance(recipe, LstRecipe):
        there = int(LST_EXAMPLES_PER_CORE_MINUTE * (os.cpu_count() or 1) * arguments.minutes)
        drawn = min(recipe.examples, max(16, there))
        return replace(recipe, examples=4 if arguments.smoke else drawn, held_out_examples=2)
    if isinstance(recipe, PictureRecipe):
        if arguments.smoke:
            return replace(recipe, shapes=4, held_out_examples=2, prior_components=min(recipe.prior_components, 4))
        return replace(recipe, shapes=min(recipe.shapes, max(64, int(SHAPES_PER_MINUTE * arguments.minutes))))
    return recipe


def pack_of(recipe: Recipe, kit: Path, work: Path) -> Path:
    """The packed data of a recipe; photographs travel as JPEG and are unpacked here."""
    if isinstance(recipe, PictureRecipe):
        pack = work / "pictures.npz"
        if not pack.exists():
            recipe.pack(kit / "data" / "pictures", None, pack)
        return pack
    return kit / "data" / ("lst.npz" if isinstance(recipe, LstRecipe) else "water.npz")


def folder_of(part: Part, arguments: argparse.Namespace) -> Path:
    """Where a part keeps what it draws once; a run of other minutes draws another number."""
    recipe = small(RECIPES[part.recipe], arguments)
    count = getattr(recipe, "shapes", getattr(recipe, "examples", 0))
    folder: Path = arguments.work / f"{part.recipe}-{count}"
    return folder


def draw_beforehand(parts: list[Part], arguments: argparse.Namespace) -> None:
    """Draw what recipes draw once, while the GPU trains something else; they then find it."""
    for part in parts:
        recipe = small(RECIPES[part.recipe], arguments)
        pack = pack_of(recipe, arguments.kit, arguments.work)
        recipe.adapted(pack).load_data(pack, folder_of(part, arguments), max(1, (os.cpu_count() or 2) // 2), None)


def drawing(parts: list[Part], arguments: argparse.Namespace) -> dict[str, Process]:
    """Started processes that draw beforehand, by recipe: those of a kind one after the other."""
    started = {}
    for kind in (PictureRecipe, LstRecipe):
        these = [part for part in parts if isinstance(RECIPES[part.recipe], kind)]
        if these:
            process = Process(target=draw_beforehand, args=(these, arguments))
            process.start()
            atexit.register(process.terminate)  # a run that is ended does not wait for it
            started |= {part.recipe: process for part in these}
    return started


def device_name(device: torch.device) -> str:
    """Name of the GPU, or cpu."""
    return torch.cuda.get_device_name() if device.type == "cuda" else "cpu"


def stop(*_: object) -> None:
    """End the run; whatever was written stays."""
    raise SystemExit("stopped; what was written stays")


def write_whole(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(content)
    partial.replace(file)


def parse() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--kit", "--work", "--out"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--smoke", action="store_true", help="two steps of each recipe, on whatever there is")
    parser.add_argument("--draw", action="store_true", help="only draw what recipes draw beforehand, for a later run")
    parser.add_argument("--batch", type=int, help="batch size; searched for where it is not given")
    parser.add_argument("--workers", type=int, help="processes that draw examples; one for each core but one")
    parser.add_argument("--rate", type=float, default=1.0, help="of learning, in units of the recipe's own")
    parser.add_argument("--no-timings", action="store_true", help="train to the end")
    parser.add_argument("minutes", nargs="?", type=float, default=10.0)
    parser.add_argument("recipes", nargs="*", help="RECIPE:SHARE:START; the plan where none is given")
    return parser.parse_args()


def main() -> None:
    """Run the plan."""
    given = parse()
    begun = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    print(f"{device_name(device)}, {os.cpu_count()} cores, torch {torch.__version__}", flush=True)
    if device.type == "cpu" and not given.smoke:
        print("no CUDA: this is a rehearsal on the CPU", flush=True)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, stop)
    if not given.smoke:
        signal.setitimer(signal.ITIMER_REAL, 60 * given.minutes)  # whatever hangs, the run ends
    scale = given.minutes / 10.0  # a rehearsal scales the fixed times, too
    ends = begun + 60 * given.minutes - END_EARLY * min(1.0, scale)
    timing = 0.0 if given.no_timings else TIMINGS * min(1.0, scale)
    parts = chosen(given.recipes)
    if given.draw:
        processes = drawing(list(parts), given).values()
        for process in processes:
            process.join()
        raise SystemExit(max((process.exitcode or 0 for process in processes), default=0))
    ahead = drawing(list(parts[1:]), given)
    told = given.out / "timings.json"
    timings: dict[str, Any] = json.loads(told.read_text()) if told.exists() else {}
    timings |= {"machine": device_name(device), "torch": torch.__version__}
    left = sum(part.share for part in parts)
    for part in parts:
        work, remaining = Work(part, given, device), ends - timing - time.monotonic()
        if part.recipe in ahead:
            process = ahead[part.recipe]
            process.join(None if given.smoke else max(0.0, remaining - 5))
            remaining = ends - timing - time.monotonic()
            if process.is_alive():
                process.terminate()
                remaining = 0.0
        begun_part = time.monotonic()
        if given.smoke or remaining > 5:
            work.load()
        seconds = remaining * part.share / left - (time.monotonic() - begun_part)
        left -= part.share
        if seconds < 5 and not given.smoke:
            print(f"{part.recipe}: left out, there is no time for it", flush=True)
            continue
        work.train(seconds)
        if timing:
            timings[part.recipe] = work.timings(timing / len(parts))
            write_whole(told, json.dumps(timings, indent=1).encode())
        print(
            f"{part.recipe}: {work.record['steps']} steps, {work.record['images_per_second']:.0f} images/s", flush=True
        )
    print(
        f"done after {(time.monotonic() - begun) / 60:.1f} of {given.minutes:g} minutes; results in {given.out}",
        flush=True,
    )


if __name__ == "__main__":
    main()
