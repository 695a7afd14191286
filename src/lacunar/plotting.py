"""Matplotlib figures: the training curve, and how any figure is written."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lacunar.errors import LacunarError

METRES_IN_DEGREE = 111_320.0  # of longitude on the equator
FIGURE_ENDINGS = (".png", ".pdf", ".svg")
_INK, _FAINT, _TRAINING, _HELD_OUT = "#2b2b2b", "#d0d0d0", "#2a6f97", "#c8553d"


def check_figure(path: Path | None) -> None:
    """Refuse, with a `LacunarError`, a figure whose ending is none of `FIGURE_ENDINGS`; None is no figure."""
    if path is not None and path.suffix.lower() not in FIGURE_ENDINGS:
        raise LacunarError(f"{path}: wanted a figure in {', '.join(FIGURE_ENDINGS)}: rename it")


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 150) -> Path:
    """Write a figure under a temporary name in the same folder, then give it its name; an old file is replaced.

    The ending names the format (``.png``, ``.pdf``, ``.svg``), else a ``ValueError``. An ``OSError`` where the folder
    is missing or full; nothing is left behind then.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"{target}: got the ending '{target.suffix}'; wanted .png, .pdf or .svg: rename the figure")
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            figure.savefig(file, format=kind, dpi=dpi, facecolor="white")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


@dataclass(frozen=True)
class Place:
    """Where a picture lies: what its pixels mean on the ground, rows down and columns to the right."""

    origin: tuple[float, float]  # x and y of the upper left corner
    pixel: tuple[float, float]  # what a pixel to the right adds to x, and one down to y
    metres: float  # on the ground, in a unit of x at the centre
    geographic: bool  # whether x and y are degrees

    @classmethod
    def of(cls, grid: Any, step: int = 1) -> Place | None:  # noqa: ANN401  # with transform, crs and shape
        """That of every ``step``-th pixel of a grid; None where it is rotated or has no CRS."""
        t = grid.transform
        if grid.crs is None or t.b or t.d:
            return None
        geographic = bool(grid.crs.is_geographic)
        metres = METRES_IN_DEGREE * float(np.cos(np.radians(t.f + t.e * grid.shape[0] / 2)))
        if not geographic:
            metres = float(grid.crs.linear_units_factor[1])
        return cls((t.c, t.f), (t.a * step, t.e * step), metres, geographic)


def mark_place(axes: Axes, shape: tuple[int, int], place: Place) -> None:
    """Give a panel coordinates at two places of each side, and a scale bar."""
    height, width = shape
    cols, rows = (np.array([0.2, 0.8]) * length for length in (width, height))
    digits = 2 if place.geographic else 0
    for axis, places, start, step in ((axes.xaxis, cols, 0, 0), (axes.yaxis, rows, 1, 1)):
        values = place.origin[start] + places * place.pixel[step]
        axis.set_ticks(places - 0.5, [f"{value:.{digits}f}" for value in values])
    axes.tick_params(labelsize=6, colors=_INK, length=2, width=0.5, pad=1.5)
    for label in axes.get_yticklabels():
        label.set(rotation=90, va="center")
    per_pixel = abs(place.pixel[0]) * place.metres
    length = _round_length(0.35 * width * per_pixel)
    bar, left, bottom = length / per_pixel, 0.06 * width, 0.93 * height
    told = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    for colour, thick in (("white", 3.5), (_INK, 1.5)):
        axes.plot([left, left + bar], [bottom, bottom], color=colour, linewidth=thick, solid_capstyle="butt")
    axes.annotate(
        told,
        (left + bar / 2, bottom - 0.015 * height),
        ha="center",
        va="bottom",
        fontsize=7,
        color=_INK,
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.8},
    )
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _round_length(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is not longer."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9)))


def training_curve_figure(
    steps: ArrayLike, train_loss: ArrayLike, val_loss: ArrayLike, *, title: str | None = None
) -> Figure:
    """Draw the training loss (faint, with its running mean) and the held-out loss over the steps, on a log axis.

    One value per step; NaN where none was taken. A ``ValueError`` when lengths differ.
    """
    x = np.asarray(steps, dtype=np.float64)
    train, held_out = np.asarray(train_loss, dtype=np.float64), np.asarray(val_loss, dtype=np.float64)
    _check_lengths(x, train, names=("steps", "train_loss"))
    _check_lengths(x, held_out, names=("steps", "val_loss"))
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#8a8a8a")
    axes.tick_params(colors=_INK, labelsize=9)
    if title:
        axes.set_title(title, fontsize=11, color=_INK)
    taken = np.isfinite(train)
    axes.plot(x[taken], train[taken], color=_TRAINING, alpha=0.25, linewidth=0.8)
    axes.plot(x[taken], _running_mean(train[taken]), color=_TRAINING, linewidth=1.8, label="training, running mean")
    taken = np.isfinite(held_out)
    axes.plot(x[taken], held_out[taken], color=_HELD_OUT, marker="o", markersize=3.5, linewidth=1.4, label="held out")
    axes.set(xlabel="step", ylabel="loss")
    axes.set_yscale("log")
    axes.grid(which="both", color=_FAINT, linewidth=0.4)
    axes.legend(frameon=False, fontsize=9)
    return figure


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a fiftieth of the curve, fewer values at its ends."""
    half = len(values) // 100
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first, last = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return np.asarray((sums[last] - sums[first]) / (last - first))


def _check_lengths(first: NDArray[np.float64], second: NDArray[np.float64], *, names: tuple[str, str]) -> None:
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"got {names[0]} of {first.shape} and {names[1]} of {second.shape}; wanted two equal lengths")
