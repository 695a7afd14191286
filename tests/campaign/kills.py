"""Signals at random moments of long jobs; the same command must then give what an uninterrupted run gives, to the bit.

Half of the signals come after a time, half before a file is opened, renamed or removed: there a run is most easily hurt.
"""

import json
import os
import shutil
import signal
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
import trial
from files import ENGINE
from trial import Case, Result
from world import temperature, write

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
EVENTS = (
    "open",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "shutil.rmtree",
    "tempfile.mkdtemp",
    "tempfile.mkstemp",
)
SIDE, BLOCK = 96, 32  # of a raster, and of the blocks that it is filled in here
VOLATILE = (
    "second",
    "time",
    "started",
    "ended",
    "resumed",
    "kept",
    "whole_already",
    "status",
    "created",
    "fingerprint",
)
ENDED = {signal.SIGTERM: (130, 143, -15), signal.SIGINT: (130,), signal.SIGKILL: (-9,)}


def commands(world):
    """Jobs with several steps each, and how each goes on."""
    quick = ("--sampler", "ddim", "--evaluations", "2", "--samples", "2", *ENGINE)
    lst_model, water_model = ("--model", str(world / "models/lst")), ("--model", str(world / "models/water"))
    return {
        "lst": ["lst", "in/product", "-o", "out/lst.tif", "--figure", "out/lst.png", *lst_model, *quick, "--resume"],
        "fill": ["fill", "in/raster.tif", "-o", "out/filled.tif", *lst_model, *quick, "--quantiles", "0.1,0.9", "--resume"],
        "fill anew": ["fill", "in/raster.tif", "-o", "out/filled.tif", *lst_model, *quick, "--overwrite"],
        "lst with bands": ["lst", "in/product", "-o", "out/lst.tif", "--save-bands", "out/bands", *lst_model, *quick, "--overwrite"],
        "water": ["water", "in/image.tif", "-o", "out/water.tif", "--polygons", "out/water.gpkg", "--figure", "out/water.png", "--samples", "2", "--steps", "2", *water_model, *ENGINE, "--overwrite"],
        "fill, inputs replaced": ["fill", "in/raster.tif", "-o", "out/filled.tif", "--reference", "in/other.tif", *lst_model, *quick, "--resume"],
        "archive": ["fill", "in/date*.tif", "-o", "out/many", *lst_model, *quick, "--resume"],
        "train": ["train", "lst-small", "--pack", "out/pack.npz", "--data", "in/lst", "--clouds", "in/clouds", "--run", "out/run", "--workers", "1"],
    }  # fmt: skip


def prepare_inputs(world, folder):
    """Inputs of all jobs, large enough for several blocks."""
    world.give("products/level1", folder, "product")
    world.give("waters/four.tif", folder, "image.tif")
    world.give("sets/lst", folder)
    world.give("sets/clouds", folder)
    (folder / "out").mkdir(exist_ok=True)
    for number, name in enumerate(("raster", "other", "date1", "date2", "date3")):
        side = SIDE // 2 if name.startswith("date") else SIDE
        values = temperature((side, side), number)
        rows, cols = np.indices(values.shape)
        values[np.hypot((rows + 9 * number) % 31 - 15, cols % 37 - 18) < 7] = np.nan
        write(folder / "in" / f"{name}.tif", values.astype("f4"), nodata=np.nan)


def replace_inputs(rng, folder):
    """Other values in the raster or its reference, while the job is not running."""
    path = folder / "in" / ("raster.tif" if rng.random() < 0.5 else "other.tif")
    with rasterio.open(path, "r+") as made:
        made.write(made.read() + np.float32(3))


def small_blocks():
    """Fill in blocks of 32 pixels."""
    from lacunar.fill import blocks
    from lacunar.geo.windows import blocks_over

    blocks.blocks_of = lambda shape: blocks_over(shape, block=BLOCK, halo=0)


def killed(number, seed, world, folder):
    """Kill a job once, let it go on, and compare."""
    rng = np.random.default_rng([seed, number, 9])
    jobs = commands(world)
    name = list(jobs)[number % len(jobs)]
    command = jobs[name]
    how = SIGNALS[int(rng.integers(3))]
    whole, seconds, events = _uninterrupted(name, tuple(command), world, folder.with_name(f"whole-{os.getpid()}"))
    prepare_inputs(world, folder)
    by_time = rng.random() < 0.5
    moment = float(rng.uniform(0.02, seconds)) if by_time else int(rng.integers(1, max(2, events)))
    when = f"after {moment:.2f} of {seconds:.2f} s" if by_time else f"at step {moment} of {events} on the disk"
    result = Result(number, "kills", name, command[0], f"{how.name} {when}", "accepted")

    def before():
        small_blocks()
        if by_time:
            _alarm(moment, how)
        else:
            _at_event(moment, how)

    trial.emptied(folder / "tmp") if (folder / "tmp").exists() else None
    first = _run(command, folder, before)
    result.seconds = first.seconds
    if first.outcome == "stopped":
        return _with(result, "without end", first.said)
    code = os.waitstatus_to_exitcode(first.status)
    if code not in (*ENDED[how], 0):
        return _with(result, "tracebacks", f"{how.name}: exit code {code}: {' '.join(first.said.split())[-300:]}")
    if how != signal.SIGKILL:
        lines = [line for line in first.said.splitlines() if line.strip()]
        if code not in (0, -how) and (  # a signal that comes before the command listens ends it without a word
            not lines or not all(line.startswith("lacunar: ") or "kept" in line or ":" in line for line in lines)
        ):
            _with(result, "more than one line", f"{how.name}: {first.said[-200:]!r}")
        left = [one for one in trial.listing(folder / "out") if ".partial" in one or ".old" in one]
        if left:
            _with(result, "half-written", f"{how.name} left {left[0]}")
    for path in (folder / "out").rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and ".partial" not in path.name and (broken := trial.invalid(path)):
            _with(result, "half-written", f"{path.name}: {broken}")
    if "replaced" in name:
        replace_inputs(rng, folder)
    second = _run(command, folder, small_blocks)
    result.said = second.said[-500:]
    if "replaced" in name:
        return _after_a_change(result, second, command, folder)
    if second.outcome == "stopped" or second.status:
        return _with(
            result,
            "wrong",
            f"{how.name}, {when}: the same command does not go on: {' '.join(second.said.split())[-250:]}",
        )
    if different := compare(whole, folder / "out"):
        _with(result, "half-written" if "leftover" in different else "wrong", f"{how.name}: {different}")
    return result


def _after_a_change(result, ran, command, folder):
    """With other inputs the job is refused, or done anew from them alone; it never goes on from the old ones."""
    if ran.outcome == "stopped" or ran.status:
        refused = ran.outcome == "ended" and os.waitstatus_to_exitcode(ran.status) == 2
        return result if refused else _with(result, "tracebacks", f"after a change: {ran.said[-250:]}")
    kept = folder / "first"
    (folder / "out").rename(kept)
    if _run(command, folder, small_blocks).status:
        return _with(result, "tracebacks", "the changed inputs cannot be filled")
    different = _differ(kept / "filled.tif", folder / "out" / "filled.tif")
    return _with(result, "wrong", "old and new inputs are mixed") if different else result


def _with(result, fault, said):
    result.faults.append((fault, said))
    return result


class _Ran:
    """How a run ended."""

    def __init__(self, status, said, seconds):
        self.status, self.said, self.seconds = status, said, seconds
        self.outcome = "stopped" if isinstance(status, str) else "ended"


def _run(command, folder, before):
    import time

    for name in ("tmp", "home", "out"):
        (folder / name).mkdir(exist_ok=True)
    begun = time.perf_counter()
    status = trial._forked(Case("kills", "", "", command, prepare=before), folder)
    return _Ran(status, (folder / "stderr").read_text(errors="replace"), time.perf_counter() - begun)


@cache
def _uninterrupted(name, command, world, folder):
    """The outputs of a run that nothing disturbs, how long it takes, and how often it touches the disk."""
    place = folder.with_name(f"{folder.name}-{name.replace(' ', '-')}")
    place.mkdir()
    prepare_inputs(world, place)

    def before():
        small_blocks()
        _at_event(0, signal.SIGKILL, count=place / "events")

    ran = _run(list(command), place, before)
    if ran.status:
        raise RuntimeError(f"{name} fails without a signal: {ran.status} {ran.said[-500:]}")
    shutil.rmtree(place / "in")
    return place / "out", ran.seconds, len((place / "events").read_bytes())


def _alarm(seconds, how):
    """Send a signal after a time; another process does, so that no handler of ours stands in between."""
    victim = os.getpid()
    if os.fork() == 0:
        import time

        os.setpgid(0, 0)
        time.sleep(seconds)
        try:
            os.kill(victim, how)
        finally:
            os._exit(0)


def _at_event(moment, how, count=None):
    """Send a signal just before the n-th event on the disk that a user's folder could see."""
    seen, handle = 0, os.open(count, os.O_WRONLY | os.O_CREAT) if count else None

    def hook(event, arguments):
        nonlocal seen
        if event not in EVENTS or not _writes(event, arguments):
            return
        seen += 1
        if handle is not None:
            os.write(handle, b".")
        if seen == moment:
            os.kill(os.getpid(), how)

    sys.addaudithook(hook)


def _writes(event, arguments):
    if event != "open":
        return True
    flags = arguments[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


def compare(whole: Path, found: Path):
    """How the outputs differ from those of a run that nothing disturbed; None where they do not."""
    wanted, got = ({str(path.relative_to(root)): path for path in sorted(root.rglob("*"))} for root in (whole, found))
    if more := sorted(set(got) - set(wanted)):
        return f"leftover {more[0]}"
    if less := sorted(set(wanted) - set(got)):
        return f"lacks {less[0]}"
    for name, path in wanted.items():  # a summary says what came of this run alone
        if path.is_file() and path.name != "lacunar_summary.json" and (said := _differ(path, got[name])):
            return f"{name}: {said}"
    return None


def _differ(one, other):
    ending = one.suffix
    if ending == ".tif":
        with rasterio.open(one) as first, rasterio.open(other) as second:
            same = np.array_equal(first.read(), second.read(), equal_nan=True) and repr(first.profile) == repr(
                second.profile
            )
            return None if same else "other pixels"
    if ending == ".json":
        first, second = (_steady(json.loads(_without_folder(path))) for path in (one, other))
        keys = [key for key in first if first[key] != second.get(key)] if isinstance(first, dict) else []
        return None if first == second else f"another record: {keys}"
    if ending == ".gpkg":
        import pyogrio

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return None if pyogrio.read_dataframe(one).equals(pyogrio.read_dataframe(other)) else "other polygons"
    if ending in (".safetensors", ".npz"):
        if ending == ".npz":
            with np.load(one) as first, np.load(other) as second:
                same = first.files == second.files and all(np.array_equal(first[k], second[k]) for k in first.files)
                return None if same else "other arrays"
        return None if one.read_bytes() == other.read_bytes() else "other weights"
    return None


def _without_folder(path):
    """A record with paths as from the folder of its case."""
    root = next(parent for parent in path.parents if parent.name == "out").parent
    return path.read_text().replace(str(root), ".")


def _steady(values):
    """A record without what every run has its own."""
    if isinstance(values, dict):
        return {key: _steady(value) for key, value in values.items() if not any(word in key for word in VOLATILE)}
    return [_steady(value) for value in values] if isinstance(values, list) else values
