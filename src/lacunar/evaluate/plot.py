"""The figures of an evaluation: values in, matplotlib figures out.

Colours are those of Okabe and Ito; curves differ in marker and line too. Misfits raise plain ValueError.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import NDArray

_INK, _FAINT, _GREY, _UNKNOWN = "#2b2b2b", "#d0d0d0", "#8a8a8a", "#b4b4b4"
_COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a")
_MARKERS, _LINES = ("o", "s", "^", "D", "v", "P", "X", "*"), ("-", "-", "-", "-", "--", "--", "-.", ":")
_LEVEL_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_PANEL = 3.3  # inches: side of a plot
_BELOW = 0.9  # inches: titles and labels above and below it
_LEGEND_LINE, _LEGEND_LETTER, _LEGEND_ROW = 0.75, 0.068, 0.18  # inches of an entry: its line, a letter, its height
_LETTERS_PER_INCH = 11  # of a title over a picture


@dataclass(frozen=True, eq=False)
class Image:
    """Colours (H, W, 3), or values (H, W) with a colour map and its limits, NaN in grey; one `unit`, one colour bar."""

    title: str
    values: NDArray[Any]
    colours: str = ""
    limits: tuple[float, float] = (0.0, 1.0)
    unit: str = ""


def line_panels(
    table: pd.DataFrame,
    axes_of: tuple[str, str, str],
    methods: Sequence[str],
    *,
    labels: tuple[str, str],
    ticks: Sequence[str] = (),
    diagonal: tuple[str, str] | None = None,
    dots: bool = False,
) -> Figure:
    """Draw a curve for each method, one plot for each panel; a method looks the same in all of them.

    `axes_of` names the columns of panel, x and y, beside ``method``. `ticks` name the places 0, 1, ... of the x axis;
    `diagonal` adds the line of equal shares, with words for above and below it; `dots` are points without lines.
    """
    panel, x, y = axes_of
    figure, plots = plots_beside(list(dict.fromkeys(table[panel])), share_y=diagonal is None)
    for axes, (_, inside) in zip(plots, table.groupby(panel, sort=False), strict=True):
        if diagonal:
            axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1.5, zorder=1)
            axes.annotate(diagonal[0], (0.04, 0.94), color=_GREY, fontsize=8)
            axes.annotate(diagonal[1], (0.97, 0.03), color=_GREY, fontsize=8, ha="right")
            axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        else:
            axes.grid(axis="y", color=_FAINT, linewidth=0.5)
        for method in methods:
            if len(own := inside[inside["method"] == method]):
                style = style_of(methods, method) | ({"linestyle": "none", "alpha": 0.75} if dots else {})
                axes.plot(own[x], own[y], label=method, **style)
        if ticks:
            places = [tick.removesuffix(" px") for tick in ticks]
            axes.set_xticks(np.arange(len(ticks)), places, rotation=45, ha="right")
            axes.set_xlim(-0.5, len(ticks) - 0.5)
        axes.set_xlabel(labels[0])
    plots[0].set_ylabel(labels[1])
    if not diagonal:
        plots[0].set_ylim(*((-0.03, 1.03) if dots else (0, None)))  # after all curves: the panels share this axis
    return with_legend(figure, plots)


def cost_panels(table: pd.DataFrame, *, labels: tuple[str, str]) -> Figure:
    """Draw a score against network evaluations, from the columns panel, method, curve, x, y, low and high (bars).

    Points of one curve are joined; methods without a curve (NaN) are horizontal lines.
    """
    figure, plots = plots_beside(list(dict.fromkeys(table["panel"])))
    names = ["", *dict.fromkeys(table["curve"].dropna())]  # black is kept for the levels
    level_names = list(dict.fromkeys(table.loc[table["curve"].isna(), "method"]))
    for axes, (_, own) in zip(plots, table.groupby("panel", sort=False), strict=True):
        levels, points = own[own["curve"].isna()], own[own["curve"].notna()].sort_values("x", kind="stable")
        for method, level in zip(levels["method"], levels["y"], strict=True):
            line = _LEVEL_LINES[level_names.index(method) % len(_LEVEL_LINES)]
            axes.axhline(level, color=_INK, linewidth=1.0, linestyle=line, label=method, zorder=1)
        for curve, part in points.groupby("curve", sort=False):
            bars = np.nan_to_num(np.abs([part["y"] - part["low"], part["y"] - part["high"]]))
            style = style_of(names, str(curve))
            axes.errorbar(part["x"], part["y"], yerr=bars, capsize=3, elinewidth=0.8, label=curve, **style)
        taken = sorted(set(points["x"])) or [1]
        axes.set_xscale("log")
        axes.set_xticks(_apart(taken))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(taken[0] / 1.6, taken[-1] * 1.6)
        axes.set_xlabel(labels[0])
        axes.grid(axis="y", color=_FAINT, linewidth=0.5)
    plots[0].set_ylabel(labels[1])
    return with_legend(figure, plots)


def image_rows(
    rows: Sequence[tuple[str, Sequence[Image]]],
    *,
    title: str,
    side: float = 1.75,
    keys: Mapping[str, str] | None = None,
) -> Figure:
    """Draw cases row by row, each with a label and the same pictures, `side` inches wide; `keys` explain colours."""
    titles = [image.title for image in rows[0][1]] if rows else []
    if not titles or any([image.title for image in row] != titles for _, row in rows):
        raise ValueError(f"got {len(rows)} rows; wanted one or more, all with the same pictures")
    bars = len({image.unit for image in rows[0][1] if image.unit})
    figure = Figure(figsize=(side * len(titles) + 0.7 * bars + 0.5, side * len(rows) + 0.8), layout="constrained")
    figure.suptitle(title, fontsize=12, color=_INK)
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, (label, row) in zip(grid, rows, strict=True):
        for axes, image in zip(line, row, strict=True):
            _draw(axes, image)
        line[0].set_ylabel(label, fontsize=8, color=_INK)
        for unit in dict.fromkeys(image.unit for image in row if image.unit):
            own = [axes for axes, image in zip(line, row, strict=True) if image.unit == unit]
            bar = figure.colorbar(own[-1].images[-1], ax=own, shrink=0.92, aspect=14, pad=0.012)
            bar.set_label(unit, fontsize=9)
            bar.ax.tick_params(labelsize=8)
    for axes, text in zip(grid[0], titles, strict=True):
        lines = [part for line in text.split("\n") for part in wrap(line, int(side * _LETTERS_PER_INCH))]
        axes.set_title("\n".join(lines), fontsize=8.5, color=_INK)
    if keys:
        handles = [Patch(facecolor=colour, edgecolor=_FAINT, label=name) for name, colour in keys.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(keys), frameon=False, fontsize=8)
    return figure


def plots_beside(titles: Sequence[str], *, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """Plots side by side in the house's look, with room for a legend below."""
    if not titles:
        raise ValueError("got no panel; wanted one or more to draw")
    figure = Figure(figsize=(_PANEL * len(titles) + 0.6, _PANEL + _BELOW), layout="constrained")
    plots = list(figure.subplots(1, len(titles), squeeze=False, sharey=share_y)[0])
    for axes, title in zip(plots, titles, strict=True):
        axes.set_title(title, fontsize=11, color=_INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_GREY)
        axes.tick_params(colors=_INK, labelsize=8)
    return figure, plots


def with_legend(figure: Figure, plots: Sequence[Axes]) -> Figure:
    """One legend for all plots, below them."""
    entries: dict[str, Any] = {}
    for axes in plots:
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    widest = _LEGEND_LINE + _LEGEND_LETTER * max(map(len, entries), default=0)
    columns = max(1, min(len(entries), int(figure.get_figwidth() / widest)))
    rows = -(-len(entries) // columns)
    figure.set_figheight(_PANEL + _BELOW + _LEGEND_ROW * rows)
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=columns, frameon=False, fontsize=8
    )
    return figure


def style_of(names: Sequence[str], name: str) -> dict[str, Any]:
    """Colour, marker and line of a name: the same in every panel."""
    index = names.index(name)
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": _LINES[index % len(_LINES)],
        "markersize": 4,
        "linewidth": 1.5,
    }


def _draw(axes: Axes, image: Image) -> None:
    if image.colours:
        colour_map = colormaps[image.colours].with_extremes(bad=_UNKNOWN)
        low, high = image.limits
        axes.imshow(image.values, cmap=colour_map, vmin=low, vmax=high, interpolation="nearest")
    else:
        axes.imshow(image.values, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=_FAINT, linewidth=0.6)


def _apart(numbers: Sequence[int]) -> list[int]:
    """Those that a logarithmic axis can name without overlap."""
    kept: list[int] = []
    for value in numbers:
        if not kept or value >= 2 * kept[-1]:
            kept.append(value)
    return kept
