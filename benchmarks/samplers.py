"""Quality against network evaluations for every sampler, on LST and on faces: one table and one figure.

    python benchmarks/samplers.py                     # on development data: what a choice may be made by
    python benchmarks/samplers.py --split test        # the final figure, and table; nothing is chosen by it

LST: tiles of places that `lst-small` was not trained on, under real cloud shapes at 22 %; gap RMSE over that of the
kriging that the network starts from. Faces: held-out CelebA photographs under all kinds of occlusions at 20 %; PSNR
over the hole; the solvers refine a guess of the model's prior there, as `lacunar face` does. The first solvers ask the
network as it was trained, about the gap; the others use it as an unconditional prior (told that all is gap) and run on
the first `--prior-cases` alone. `presets` are fast and balanced. ``in 1 sigma`` is the share of LST errors within the
samples' own deviation, not calibrated.

Scores are kept in `--scores`: a run that was interrupted, or is asked for more, does not compute them again.
"""

import argparse
import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lacunar.diffusion.samplers import PRESETS, SAMPLERS, Preset, plan
from lacunar.evaluate.lst_cases import lst_cases, read_scenes
from lacunar.evaluate.pictures import PictureCase, picture_cases
from lacunar.evaluate.report import markdown_table
from lacunar.fill.array import fill_from_background
from lacunar.fill.options import FillOptions
from lacunar.interpolate.background import TILE, CoarseField, background_field
from lacunar.interpolate.membrane import membrane_fill
from lacunar.metrics import psnr
from lacunar.models.backend import load_filler
from lacunar.pictures.fill import Drawing, fill_window, to_model
from lacunar.pictures.sampler import frame_evaluations
from lacunar.plotting import save_figure
from lacunar.train.kinds import HELD_OUT_FACES
from lacunar.train.lst_data import place_of
from lacunar.train.picture_data import FACE_CENTRE, FACE_SIDE, cut_square
from lacunar.train.recipes import LST_HELD_OUT_WEIGHTS
from lacunar.versions import describe_machine

LST_RATE, FACE_RATE = 0.22, 0.20
SIDE = 64  # pixels of a case
WHITE = 255

Score = dict[str, float]
Run = Callable[[Preset, int, int], Score]  # preset, samples, cases


def main() -> None:
    """Score every sampler at every number of evaluations, print the table and draw the figure."""
    options = parse()
    panels: dict[str, Run] = {}
    if options.lst_cases:
        panels["LST"] = lst_panel(options)
    if options.pictures:
        panels["faces"] = face_panel(options)
    scores = Kept(options.scores, vars(options))
    rows = []
    for panel, run in panels.items():
        count = options.lst_cases if panel == "LST" else options.pictures
        for label, preset in presets(options):
            samples = 1 if preset.mean_only else options.samples if preset.conditional else options.prior_samples
            cases = count if preset.conditional else min(count, options.prior_cases)
            score = scores.get(f"{panel}: {label}:{preset.evaluations}", preset, samples, cases, run)
            rows.append((panel, label, samples, score))
            told = ", ".join(f"{name} {value:.3f}" for name, value in score.items())
            print(f"{panel}, {label}: {told}", file=sys.stderr)
    print(f"{describe_machine()}; {options.split} data, seed {options.seed}\n")
    print(table(rows))
    if rows:
        save_figure(draw(rows, options.split), options.output)


def presets(options: argparse.Namespace) -> Iterator[tuple[str, Preset]]:
    """Every sampler with every number of evaluations, as it is called; one evaluation is the same for all solvers."""
    yield "instant", PRESETS["instant"]
    for name in ("fast", "balanced"):
        if PRESETS[name].steps in options.evaluations:
            yield "presets", replace(PRESETS[name], name="")  # without a name nothing is calibrated
    for name in options.samplers or SAMPLERS:
        for count in options.evaluations if SAMPLERS[name].conditional else options.prior_evaluations:
            if name == "ddim" or plan(name, count).evaluations > 1:
                yield name, plan(name, count)


class Kept:
    """Scores that stay in a file, as long as the settings are the same."""

    def __init__(self, file: Path, settings: dict[str, object]) -> None:
        named = ("split", "data", "seed", "lst_model", "face_model")
        self._settings, self._file = {name: str(settings[name]) for name in named}, file
        stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        self._scores: dict[str, Score] = stored["scores"] if stored.get("settings") == self._settings else {}

    def get(self, label: str, preset: Preset, samples: int, cases: int, run: Run) -> Score:
        """The score of this name, computed where it is not there yet."""
        key = f"{label}, {samples} samples, {cases} cases"
        if key not in self._scores:
            self._scores[key] = run(preset, samples, cases)
            text = json.dumps({"settings": self._settings, "scores": self._scores}, indent=1)
            self._file.write_text(text, encoding="utf-8")
        return self._scores[key]


def lst_panel(options: argparse.Namespace) -> Run:
    """Score a preset on LST tiles, whose bases are computed once."""
    model = load_filler(options.lst_model)
    folder = options.data / "lst" / ("test" if options.split == "test" else "train")
    with TemporaryDirectory() as chosen:
        for file in folder.glob("*.tif"):
            if options.split == "test" or place_of(file.stem) in LST_HELD_OUT_WEIGHTS:
                (Path(chosen) / file.name).symlink_to(file.resolve())
        scenes, clouds = read_scenes(Path(chosen), options.data / "clouds")
    every = -(-options.lst_cases // len(scenes))
    cases = lst_cases(scenes, clouds, rates=(LST_RATE,), size=SIDE, per_raster=every, seed=options.seed)
    cases = [cases[index * len(cases) // options.lst_cases] for index in range(options.lst_cases)]
    order = np.random.default_rng(options.seed).permutation(len(cases))  # so that a part of them is of every place
    cases, bases = [cases[index] for index in order], {}

    def run(preset: Preset, samples: int, count: int) -> Score:
        sums = np.zeros(6)
        for number, case in enumerate(cases[:count]):
            known, coarse = ~case.missing, CoarseField.of(case.truth, ~case.missing, TILE // 4)
            for kriged in (True, False):
                if (number, kriged) not in bases:
                    bases[number, kriged] = background_field(case.truth, known, case.missing, coarse, kriged=kriged)
            options = FillOptions(preset=preset, samples=samples, seed=number)
            filled = fill_from_background(
                bases[number, preset.conditional], case.truth, known, case.missing, model, options
            )
            truth, sigma = case.truth[case.missing], filled.sigma[case.missing]
            error, one = filled.mean[case.missing] - truth, filled.samples[0][case.missing] - truth
            start = bases[number, True].mean[case.missing] - truth
            inside = np.abs(error) <= sigma
            sums += [
                case.missing.sum(), (error**2).sum(), (one**2).sum(), (start**2).sum(), inside.sum(), (sigma**2).sum()
            ]  # fmt: skip
        pixels, mean, one, start, inside, variance = sums
        return {
            "evaluations": preset.evaluations,
            "mean": float(np.sqrt(mean / start)),
            "one": float(np.sqrt(one / start)),
            "in_sigma": float(inside / pixels),
            "sigma_over_error": float(np.sqrt(variance / mean)),
        }

    return run


def face_panel(options: argparse.Namespace) -> Run:
    """Score a preset on faces in their frame."""
    model = load_filler(options.face_model)
    if options.split == "test":
        folder = options.data / "faces" / "test"
        cases = picture_cases(folder, size=SIDE, rates=(FACE_RATE,), most=options.pictures, seed=options.seed)
    else:
        with TemporaryDirectory() as chosen:
            for name, square in held_out_faces(options.data / "faces" / "train", options.pictures):
                Image.fromarray(square).save(Path(chosen) / f"{name}.png")
            cases = picture_cases(Path(chosen), size=SIDE, rates=(FACE_RATE,), seed=options.seed)

    def run(preset: Preset, samples: int, count: int) -> Score:
        found: list[tuple[float, float]] = []
        for number, case in enumerate(cases[:count]):
            seen = to_model(case.truth, WHITE)[None]
            drawn = fill_window(seen, case.missing, model, Drawing(preset, samples, number), halvings=0)
            found.append((hole_psnr(drawn.mean(axis=0), case), hole_psnr(drawn[0], case)))
        starts = [hole_psnr(membrane_fill(to_model(case.truth, WHITE), case.missing), case) for case in cases[:count]]
        mean, one = np.mean(found, axis=0)
        spent = frame_evaluations(model, preset)
        return {"evaluations": spent, "mean": float(mean), "one": float(one), "membrane": float(np.mean(starts))}

    return run


def hole_psnr(filled: NDArray[np.float32], case: PictureCase) -> float:
    """PSNR over the hole of a picture (H, W, 3) in [-1, 1]."""
    estimate, truth = (np.moveaxis(each, 2, 0) for each in ((filled.clip(-1, 1) + 1) / 2, case.truth / WHITE))
    return psnr(estimate, truth, data_range=1.0, region=case.missing)


def held_out_faces(folder: Path, count: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Some of the photographs that the recipes hold out, the last ones of the archive, as squares."""
    (archive,) = folder.glob("*.tar")
    with tarfile.open(archive) as opened:
        members = sorted((m for m in opened.getmembers() if m.isfile()), key=lambda m: m.name)[-HELD_OUT_FACES:]
        for index in range(count):
            member = members[index * len(members) // count]
            content = opened.extractfile(member)
            if content is None:
                continue
            with Image.open(io.BytesIO(content.read())) as picture:
                square = cut_square(np.asarray(picture.convert("RGB")), FACE_CENTRE, FACE_SIDE, size=SIDE)
            yield Path(member.name).stem, np.rint((square.clip(-1, 1) + 1) * (WHITE / 2)).astype(np.uint8)


@dataclass(frozen=True)
class Style:
    """How the line of a sampler is drawn."""

    colour: str
    marker: str
    line: str


STYLES = {
    "instant": Style("black", "*", ""),
    "presets": Style("black", "P", ""),
    "ddim": Style("tab:blue", "o", "-"),
    "adams": Style("tab:red", "s", "-"),
    "dpm-solver++": Style("tab:green", "^", "-"),
    "repaint": Style("tab:gray", "o", "--"),
    "ddnm": Style("tab:orange", "s", "--"),
    "diffpir": Style("tab:brown", "^", "--"),
}
Row = tuple[str, str, int, Score]  # panel, sampler, samples, score


def draw(rows: Sequence[Row], split: str) -> Figure:
    """Quality against evaluations of one sample: the mean in full colour, one sample pale."""
    figure = Figure(figsize=(11, 5.2), layout="constrained")
    panels = list(dict.fromkeys(row[0] for row in rows))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for label, style in STYLES.items():
            own = [row for row in rows if row[0] == panel and row[1] == label]
            if not own:
                continue
            own.sort(key=lambda row: row[3]["evaluations"])
            x = [row[3]["evaluations"] for row in own]
            look = {"color": style.colour, "marker": style.marker, "linestyle": style.line, "linewidth": 1.2}
            axes.plot(x, [row[3]["mean"] for row in own], label=label, markersize=6, zorder=3, **look)
            if label != "instant":
                axes.plot(x, [row[3]["one"] for row in own], alpha=0.35, markersize=3.5, zorder=2, **look)
        axes.set_xscale("log")
        axes.set_xlabel("network evaluations of one sample")
        axes.grid(visible=True, which="both", color="0.92")
        if panel == "LST":
            axes.axhline(1, color="0.4", linewidth=0.8)
            axes.set_ylabel("gap RMSE / RMSE of the kriging it starts from")
        else:
            axes.axhline(own_membrane(rows), color="0.4", linewidth=0.8)
            axes.set_ylabel("PSNR over the hole, dB")
        axes.set_title(f"{panel}, {split} data: mean (full), one sample (pale)", fontsize=10)
    most = max(figure.axes, key=lambda axes: len(axes.get_legend_handles_labels()[1]))
    figure.legend(*most.get_legend_handles_labels(), loc="outside lower center", fontsize=8, ncols=8, frameon=False)
    return figure


def own_membrane(rows: Sequence[Row]) -> float:
    """PSNR of the membrane on the faces of the conditional solvers."""
    return next(row[3]["membrane"] for row in rows if row[0] == "faces")


def table(rows: Sequence[Row]) -> str:
    """All scores as markdown: a row for each sampler, its numbers of evaluations side by side."""
    header = ("data", "sampler", "evaluations", "mean", "one sample", "in 1 sigma")
    lines = []
    for panel, label in dict.fromkeys((panel, label) for panel, label, *_ in rows):
        own = [score for its_panel, its_label, _, score in rows if (its_panel, its_label) == (panel, label)]
        digits = 2 if panel == "LST" else 1
        counts = " / ".join(f"{score['evaluations']:.0f}" for score in own)
        values = [" / ".join(f"{score[name]:.{digits}f}" for score in own) for name in ("mean", "one")]
        spread = " / ".join(f"{score['in_sigma']:.0%}" for score in own if "in_sigma" in score)
        lines.append((panel, label, counts, *values, spread or "-"))
    return markdown_table(header, lines)


def parse() -> argparse.Namespace:
    """Read the command line."""

    def counts(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split(","))

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of lst, clouds and faces")
    parser.add_argument("--split", choices=("development", "test"), default="development")
    parser.add_argument("--lst-cases", type=int, default=24, help="LST tiles; 0 leaves the panel out")
    parser.add_argument("--pictures", type=int, default=21, help="faces; 0 leaves the panel out")
    parser.add_argument("--prior-cases", type=int, default=12, help="cases of the samplers on the prior")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--prior-samples", type=int, default=4)
    parser.add_argument("--evaluations", type=counts, default=(1, 2, 5, 10, 25), help="of the solvers, by comma")
    parser.add_argument("--prior-evaluations", type=counts, default=(5, 10, 25, 50, 100), help="of the others")
    parser.add_argument("--samplers", nargs="*", default=(), help="only these")
    parser.add_argument("--lst-model", default="lst-small", help="shipped model or model folder")
    parser.add_argument("--face-model", default="face-full", help="shipped model or model folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--scores", type=Path, default=Path(gettempdir()) / "lacunar-samplers.json", help="where scores are kept"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/samplers.png"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
