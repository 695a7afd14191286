"""Held-out loss against steps: a run that began from another model's weights beside one that began from random weights.

    python benchmarks/transfer.py --transfer RUN --scratch RUN -o docs/face-transfer.png

RUN is the folder of a `lacunar train` run; both are runs of one recipe, the first with `--init-from`. The table says
after how many steps each first reached a loss, as far as the shorter run goes.
"""

import argparse
from pathlib import Path

import torch

from lacunar.evaluate.plot import plots_beside, style_of, with_legend
from lacunar.evaluate.report import markdown_table
from lacunar.plotting import save_figure

NAMES = ("from another model", "from random weights")


def main() -> None:
    """Draw both curves and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transfer", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    curves = {name: scores(run) for name, run in zip(NAMES, (options.transfer, options.scratch), strict=True)}
    last = min(max(curve) for curve in curves.values())
    curves = {name: {step: found for step, found in curve.items() if step <= last} for name, curve in curves.items()}
    titles = {"loss": "held-out loss", "rmse_ratio": "error of one evaluation / membrane"}
    figure, plots = plots_beside(list(titles.values()))
    for axes, key in zip(plots, titles, strict=True):
        for name, curve in curves.items():
            axes.plot(list(curve), [found[key] for found in curve.values()], label=name, **style_of(NAMES, name))
        axes.set(xlabel="step")
    save_figure(with_legend(figure, plots), options.output)
    steps = sorted({step for curve in curves.values() for step in curve})
    rows = [
        (step, *(f"{curve[step][key]:.3f}" if step in curve else "-" for curve in curves.values() for key in titles))
        for step in steps
    ]
    header = ("step", *(f"{key}, {name}" for name in NAMES for key in titles))
    print(markdown_table(header, rows))


def scores(run: Path) -> dict[int, dict[str, float]]:
    """Held-out scores of a run by step."""
    return dict(torch.load(run / "checkpoint.pt", weights_only=True, map_location="cpu")["held_out"])


if __name__ == "__main__":
    main()
