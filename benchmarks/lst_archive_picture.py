"""The picture of a fill beside three other dates: docs/archive.png.

python benchmarks/lst_archive_picture.py
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lacunar.evaluate.lst import FIELD, ZERO_CELSIUS, field_method
from lacunar.evaluate.lst_archive import ArchiveTask
from lacunar.evaluate.lst_cases import date_of
from lacunar.metrics import rmse
from lacunar.plotting import save_figure

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "archive.png"
CLIPPED = 0.5  # per cent of the pixels beyond each end of a colour scale


def main() -> None:
    """Hide a date, fill it beside three others, and draw all of it."""
    options = parse()
    folders = {"rasters": options.data / "lst" / "test", "clouds": options.data / "clouds"}
    task = ArchiveTask(**folders, counts=(3,), rates=(options.rate,), seed=options.seed, every=1)
    case = next(case for case in task.cases() if options.scene in case.scene)
    values, known, references, _ = case.given
    filled = field_method(8)(values, known, references, options.seed)[FIELD]
    error = np.where(case.missing, np.abs(filled.value - case.truth), 0.0)
    measured = f"RMSE {rmse(filled.value, case.truth, region=case.missing):.2f} K"
    temperature = _scale(case.truth)
    doubt = (0.0, float(np.percentile(error[case.missing], 99)))
    names = [f"another date {number}" for number in (1, 2, 3)]
    panels = [("what is given", values, temperature)]
    panels += [(name, one, _scale(one)) for name, one in zip(names, references, strict=True)]
    panels += [("filled", np.where(known, values, filled.value), temperature), ("the truth", case.truth, temperature)]
    panels += [(f"|error|, {measured}", error, doubt), ("sigma", filled.sigma, doubt)]
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    for axes, (title, image, limits) in zip(figure.subplots(2, 4).flat, panels, strict=True):
        kelvin = limits is doubt
        shown = image if kelvin else image - ZERO_CELSIUS
        drawn = axes.imshow(shown, cmap="YlGnBu" if kelvin else "inferno", vmin=limits[0], vmax=limits[1])
        axes.set(xticks=[], yticks=[], facecolor="#c8c8c8")
        axes.set_title(title, fontsize=9)
        bar = figure.colorbar(drawn, ax=axes, location="bottom", shrink=0.8, aspect=24, pad=0.02)
        bar.set_label("K" if kelvin else "°C", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    figure.suptitle(f"Münster, {date_of(case.scene):%-d %B %Y}, {case.missing.mean():.0%} hidden", fontsize=11)
    save_figure(figure, options.figure, dpi=100)


def _scale(kelvin: np.ndarray) -> tuple[float, float]:
    """Ends of a colour scale in degrees Celsius."""
    low, high = np.nanpercentile(kelvin, [CLIPPED, 100 - CLIPPED]) - ZERO_CELSIUS
    return float(low), float(high)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="holds lst/test and clouds")
    parser.add_argument("--scene", default="20250620", help="part of its name")
    parser.add_argument("--rate", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    return parser.parse_args()


if __name__ == "__main__":
    main()
