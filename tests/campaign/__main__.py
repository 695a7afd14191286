"""The campaign: damaged, odd and hostile inputs, and signals at random moments, against every command.

    python -m tests.campaign --inputs 10000 --kills 200        all of it; the table goes to standard output
    python -m tests.campaign --only 4711 --keep case           one input again, and what it left
    python -m tests.campaign --inputs 10000 --kills 200 --minutes 9 --record all.json     in pieces: the same again goes on

The same seed and number give the same input. Every run has 15 s of CPU time, 60 s asleep and 2 GiB.
"""

import argparse
import functools
import json
import math
import multiprocessing
import os
import shutil
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402
import trial  # noqa: E402

STARTED = time.monotonic()
COLUMNS = ("refused", "accepted", *trial.FAULTS)
# Of a hundred inputs, so many are of each kind.
KINDS = (("damaged bytes", 45), ("odd meaning", 25), ("hostile", 14), ("arguments", 11), ("file system", 5))


def main() -> int:
    """Run what is asked for and print the table; the exit code is 1 where anything is wrong."""
    options = parse()
    known = [trial.Result(**one) for one in json.loads(options.record.read_text())] if _goes_on(options) else []
    if options.merge:
        found = [trial.Result(**one) for path in options.merge for one in json.loads(path.read_text())]
    else:
        with TemporaryDirectory(dir=options.scratch, ignore_cleanup_errors=True) as scratch:
            found = known + campaign(options, Path(scratch), known)
        found.sort(key=lambda one: (one.kind == "kills", one.number))
    if options.record:
        keep(found, options.record)
    print(table(found, by_role=options.roles))
    print(f"\n{len(found)} runs; the longest took {max((one.seconds for one in found), default=0):.0f} s.")
    wrong = [one for one in found if one.faults]
    if wrong:
        print(f"\n{faults(wrong)}")
    return int(bool(wrong))


def keep(found: list[trial.Result], record: Path) -> None:
    """Write the results so far."""
    made = record.with_suffix(".new")
    made.write_text(json.dumps([asdict(one) for one in found]))
    made.replace(record)


def _goes_on(options: argparse.Namespace) -> bool:
    return bool(options.record and options.record.exists() and not options.only)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that work side by side")
    parser.add_argument("--part", default="1/1", help="only this piece, such as 2/8")
    parser.add_argument("--record", type=Path, help="file for the results, as JSON; what is in it is not run again")
    parser.add_argument("--world", type=Path, help="folder in which the good inputs stay for the next piece")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this time, with what is done")
    parser.add_argument("--merge", type=Path, nargs="+", help="files of results to make one table of")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of inputs")
    parser.add_argument("--keep", type=Path, help="with --only: folder in which the inputs stay")
    parser.add_argument("--roles", action="store_true", help="a row for each role and command, not for each kind alone")
    parser.add_argument("--scratch", type=Path, default=Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    return parser.parse_args()


def campaign(options: argparse.Namespace, scratch: Path, known: list[trial.Result]) -> list[trial.Result]:
    """All inputs and kills that are asked for, shared among processes."""
    import world

    made = world.World(options.world) if options.world and options.world.exists() else None
    if made is None:
        made = world.make_world(scratch / "world")
        if options.world:
            shutil.copytree(made.root, options.world)
    warm_up(made, scratch)
    trap = trial.Trap(scratch)
    piece, pieces = (int(part) for part in options.part.split("/"))
    numbers = options.only or list(range(piece - 1, options.inputs, pieces))
    jobs = [("input", number) for number in numbers] + [("kill", n) for n in range(piece - 1, options.kills, pieces)]
    done = {("kill" if one.kind == "kills" else "input", one.number) for one in known}
    jobs = [job for job in jobs if job not in done]
    np.random.default_rng(0).shuffle(jobs)  # of any piece the kinds are mixed, kills among them
    shared = multiprocessing.get_context("fork").Queue()
    workers, found, begun = [], [], time.monotonic()
    options.until = STARTED + 60 * options.minutes
    for worker in range(min(options.jobs, max(1, len(jobs)))):
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                _work(jobs[worker :: options.jobs], made, scratch, trap, options, shared)
            shared.put(None)
            shared.close()
            shared.join_thread()
            os._exit(0)
        workers.append(pid)
    ended = 0
    try:
        while ended < len(workers):
            told = shared.get(timeout=3600)
            if told is None:
                ended += 1
                continue
            found.append(trial.Result(**told))
            if options.record and len(found) % 20 == 0:
                keep(known + found, options.record)
            if len(found) % 200 == 0:
                rate = len(found) / (time.monotonic() - begun)
                sys.stderr.write(f"{len(found)} of {len(jobs)}, {rate:.1f}/s\n")
    finally:
        trap.close()
        for pid in workers:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
    return found


def _work(jobs, made, scratch, trap, options, shared) -> None:
    import kills

    for kind, number in jobs:
        if time.monotonic() > options.until:
            return
        folder = options.keep / str(number) if options.keep else scratch / f"case{os.getpid()}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        trial.emptied(folder)
        try:
            if kind == "kill":
                result = kills.killed(number, options.seed, made, folder)
            else:
                result = trial.run(make_case(number, options.seed, made, folder, trap), folder, number, trap)
        except Exception as error:
            import traceback

            said = traceback.format_exc()
            result = trial.Result(
                number,
                "campaign",
                "itself",
                kind,
                "",
                "died",
                [("wrong", f"{type(error).__name__} {error}")],
                said=said,
            )
        shared.put(asdict(result))


def make_case(number: int, seed: int, made, folder: Path, trap) -> trial.Case:
    """The input of a number."""
    import files
    import hostile
    import meaning
    import typed

    shutil.copytree(made / "elsewhere", folder / "elsewhere")
    rng = np.random.default_rng([seed, number])
    shares = np.array([share for _, share in KINDS]) / 100
    kind = KINDS[int(rng.choice(len(KINDS), p=shares))][0]
    if kind == "hostile":
        return hostile.hostile(rng, made, folder, trap.url(number))
    makers = {
        "damaged bytes": files.damaged,
        "odd meaning": meaning.odd,
        "arguments": typed.typed,
        "file system": typed.disk,
    }
    return makers[kind](rng, made, folder)


def warm_up(made, scratch: Path) -> None:
    """Run one good command of each kind here, so that the children find all libraries loaded."""
    import warnings

    import typed
    from rasterio.errors import NotGeoreferencedWarning

    warnings.simplefilter("ignore", NotGeoreferencedWarning)  # of rasters that are made without a place

    import diffusers.models.unets.unet_2d  # noqa: F401  # which another user's child could not read

    import lacunar.train.recipes
    from lacunar.train.loop import this_process

    os.environ["ACCELERATE_USE_CPU"] = "true"
    this_process()
    lacunar.train.recipes.RECIPES = tiny_recipes(lacunar.train.recipes.RECIPES)
    share_what_is_alike(made)
    folder = trial.emptied(scratch / "warm")
    typed.everything(made, folder)
    (folder / "out").mkdir()
    here = Path.cwd()
    streams = [os.dup(number) for number in (1, 2)]
    os.chdir(folder)
    with (folder / "said").open("w") as said:
        for number in (1, 2):
            os.dup2(said.fileno(), number)
        try:
            shown = ["--figure", "out/x.png"]
            for command in ([*typed.fill(made), *shown], typed.lst(made), typed.water(made), typed.inpaint(made)):
                trial.as_typed(command)
        finally:
            sys.stdout.flush()
            for number, stream in zip((1, 2), streams, strict=True):
                os.dup2(stream, number)
                os.close(stream)
            os.chdir(here)


def share_what_is_alike(made) -> None:
    """Build the parser and read the good models once, as every run would."""
    import typer.main

    from lacunar.models import backend

    typer.main.get_command = functools.cache(typer.main.get_command)
    read = backend.read_model
    once = functools.cache(read)

    def read_model(name, **how):
        return (once if str(name).startswith(str(made.root)) else read)(name, **how)

    backend.read_model = read_model


def tiny_recipes(recipes):
    """The recipes with networks and numbers of examples so small that a step takes no time."""
    from dataclasses import replace

    from lacunar.networks.segdiff import SegmenterConfig

    made = dict(recipes)
    for name, recipe in recipes.items():
        training = replace(
            recipe.training,
            steps=6,
            batch_size=2,
            warmup_steps=2,
            validate_every=4,
            checkpoint_every=2,
            mixed_precision="no",
        )
        more = {"training": training}
        if name.startswith(("lst", "picture", "face")):
            more["network"] = replace(
                recipe.network,
                block_out_channels=(8, 16),
                norm_groups=4,
                attention_levels=(),
                sample_size=16,
                middle_attention=False,
            )
        if name.startswith("lst"):
            more |= {
                "examples": 12,
                "held_out_examples": 5,
                "weights": {"hill": 0.6, "lake": 0.4},
                "held_out_weights": {"town": 1.0},
            }
        if name == "water-small":
            more["network"] = SegmenterConfig(sample_size=32, condition_widths=(16, 32), widths=(16, 32))
        with suppress(ValueError, TypeError):
            made[name] = replace(recipe, **more)
    return made


def table(found: list[trial.Result], *, by_role: bool = False) -> str:
    """Counts of every kind of input, in Markdown."""

    def row_of(one: trial.Result) -> tuple[str, ...]:
        return (one.kind, one.role, one.command) if by_role else (one.kind,)

    head = ("kind", "role", "command")[: 3 if by_role else 1]
    rows: dict[tuple[str, ...], Counter] = {}
    for one in found:
        for key in (row_of(one), ("all",) + ("",) * (len(head) - 1)):
            counts = rows.setdefault(key, Counter())
            counts["inputs"] += 1
            counts[one.outcome] += 1
            counts.update({fault for fault, _ in one.faults})
    last = rows.pop(("all",) + ("",) * (len(head) - 1), Counter())
    lines = [f"| {' | '.join((*head, 'inputs', *COLUMNS))} |", "|" + "---|" * (len(head) + 1 + len(COLUMNS))]
    for key, counts in [*sorted(rows.items()), (("all",) + ("",) * (len(head) - 1), last)]:
        lines.append(f"| {' | '.join((*key, str(counts['inputs']), *(str(counts[name]) for name in COLUMNS)))} |")
    return "\n".join(lines)


def faults(wrong: list[trial.Result]) -> str:
    """Faults, the most frequent first, each with the numbers of a few inputs."""
    groups: dict[tuple[str, str], list[trial.Result]] = {}
    for one in wrong:
        for fault, said in one.faults:
            groups.setdefault((fault, _general(said)), []).append(one)
    lines = []
    for (fault, said), ones in sorted(groups.items(), key=lambda item: -len(item[1])):
        first = ones[0]
        lines.append(
            f"- {len(ones)} x {fault}: {said}\n  inputs {', '.join(str(one.number) for one in ones[:6])}; {first.kind}, {first.role}: {first.what[:160]}; `{first.command}`"
        )
        if first.kind == "campaign":
            lines.append(first.said)
    return "\n".join(lines)


def _general(said: str) -> str:
    import re

    return re.sub(r"case-?\d+|0x[0-9a-f]+|\d+", "N", said)[:220]


if __name__ == "__main__":
    sys.exit(main())
