"""The figures of an evaluation: arrays in, matplotlib figures out; imports nothing of the package.

Colours are those of Okabe and Ito, told apart by marker and line too; pictures use sequential colour maps. Temperatures
come in kelvin and are drawn in degrees Celsius. Misfits raise plain ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike, NDArray

_ZERO_CELSIUS = 273.15
INK, FAINT, _GREY, _GAP_GREY = "#2b2b2b", "#d0d0d0", "#8a8a8a", "#b4b4b4"
_COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a")
_MARKERS, _LINES = ("o", "s", "^", "D", "v", "P", "X", "*"), ("-", "-", "-", "-", "--", "--", "-.", ":")
_LEVEL_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_VALUE_MAP, _ERROR_MAP = "inferno", "YlGnBu"
_CLIP_PERCENT = 0.5  # share of pixels left beyond each end of a colour scale
_REFERENCE = "reference\n(own scale)"
_PANEL = 3.3  # inches: side of a plot
_BELOW = 0.9  # inches: titles and labels above and below it
_LEGEND_LINE, _LEGEND_LETTER, _LEGEND_ROW = 0.75, 0.068, 0.18  # inches of an entry: its line, a letter, its height
_TITLE_LETTERS = 18  # of a line over a picture


@dataclass(frozen=True, eq=False)
class Example:
    """One case in pictures, each (H, W) in kelvin: the truth, what is hidden, and what was filled in.

    `fills` are drawn in their order; absolute error and `sigma` are those of the last of them, of which `sample` is one
    posterior sample. `reference`, another date, has a colour scale of its own. `label` stands beside the row.
    """

    label: str
    truth: ArrayLike
    gap: NDArray[np.bool_]
    fills: Mapping[str, ArrayLike]
    sample: ArrayLike | None = None
    sigma: ArrayLike | None = None
    reference: ArrayLike | None = None


@dataclass(frozen=True)
class Point:
    """A score after so many network evaluations, with its interval (NaN = none)."""

    evaluations: int
    value: float
    low: float
    high: float


def reliability_panels(nominal: ArrayLike, observed: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Draw observed against nominal coverage, one plot for each panel; an honest sigma lies on the diagonal.

    Parameters
    ----------
    nominal
        (L,) nominal coverages, 0 .. 1.
    observed
        Panel -> name -> (L,) observed coverages.

    Raises
    ------
    ValueError
        No panel, or lengths that differ.
    """
    x = np.asarray(nominal, dtype=np.float64)
    figure, plots = plots_beside(list(observed))
    names = names_of(observed)
    for axes, curves in zip(plots, observed.values(), strict=True):
        draw_diagonal(axes, above="sigma too wide", below="sigma too narrow")
        for name, values in curves.items():
            axes.plot(x, _fitting(values, x, name), label=name, **style_of(names, name))
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="nominal coverage")
    plots[0].set_ylabel("observed coverage")
    return with_legend(figure, plots)


def strata_panels(
    strata: Sequence[str], values: Mapping[str, Mapping[str, ArrayLike]], *, x_label: str, y_label: str
) -> Figure:
    """Draw a score in each stratum, small to large, one plot for each panel.

    Parameters
    ----------
    strata
        Names of the (S,) strata in pixels, in order.
    values
        Panel -> name -> (S,) scores, NaN where a stratum holds nothing.
    x_label, y_label
        What the strata and the scores are.

    Raises
    ------
    ValueError
        No panel, or lengths that differ.
    """
    x = np.arange(len(strata), dtype=np.float64)
    figure, plots = plots_beside(list(values), share_y=True)
    names = names_of(values)
    for axes, curves in zip(plots, values.values(), strict=True):
        for name, scores in curves.items():
            axes.plot(x, _fitting(scores, x, name), label=name, **style_of(names, name))
        axes.set_xticks(x, [stratum.removesuffix(" px") for stratum in strata], rotation=45, ha="right")
        axes.set(xlabel=x_label, xlim=(-0.5, len(x) - 0.5))
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
    plots[0].set_ylabel(y_label)
    plots[0].set_ylim(bottom=0)  # after all curves: the panels share this axis
    return with_legend(figure, plots)


def evaluations_panels(
    curves: Mapping[str, Mapping[str, Sequence[Point]]],
    levels: Mapping[str, Mapping[str, float]],
    *,
    x_label: str,
    y_label: str,
) -> Figure:
    """Draw a score against the network evaluations that it took, one plot for each panel.

    Parameters
    ----------
    curves
        Panel -> name -> points, joined by a line where there are several.
    levels
        Panel -> name -> score of a method without a network, as a horizontal line.
    x_label, y_label
        What is counted, and what the score is.

    Raises
    ------
    ValueError
        No panel or no point.
    """
    if not any(points for panel in curves.values() for points in panel.values()):
        raise ValueError("got no point; wanted one network evaluation or more to draw")
    figure, plots = plots_beside(list(curves))
    names = ["", *names_of(curves)]  # black is kept for the levels
    level_names = names_of(levels)
    for axes, (panel, series) in zip(plots, curves.items(), strict=True):
        for name, level in levels.get(panel, {}).items():
            line = _LEVEL_LINES[level_names.index(name) % len(_LEVEL_LINES)]
            axes.axhline(level, color=INK, linewidth=1.0, linestyle=line, label=name, zorder=1)
        for name, points in series.items():
            x = np.array([point.evaluations for point in points], dtype=np.float64)
            y = np.array([point.value for point in points])
            down, up = ([abs(point.value - getattr(point, end)) for point in points] for end in ("low", "high"))
            bars = np.nan_to_num(np.array([down, up]))
            style = style_of(names, name)
            axes.errorbar(x, y, yerr=bars, capsize=3, elinewidth=0.8, label=name, **style)
        axes.set_xscale("log")
        taken = sorted({point.evaluations for points in series.values() for point in points})
        axes.set_xticks(_apart(taken))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(taken[0] / 1.6, taken[-1] * 1.6)
        axes.set_xlabel(x_label)
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
    plots[0].set_ylabel(y_label)
    return with_legend(figure, plots)


def examples_figure(examples: Sequence[Example], *, title: str) -> Figure:
    """Draw cases row by row: truth, what is given, the fills, one sample, absolute error and sigma.

    The temperatures of a row share one colour scale, the errors and sigmas of all rows another. Gaps are grey where
    they are not filled; fills are shown with the known pixels around.

    Raises
    ------
    ValueError
        No example, examples of different panels, or shapes that differ.

    References
    ----------
    Bezerra et al. (2024), Figs. 4 to 6.
    """
    if (
        not examples
        or len({(tuple(e.fills), e.sample is None, e.sigma is None, e.reference is None) for e in examples}) > 1
    ):
        raise ValueError(f"got {len(examples)} examples; wanted one or more, all with the same panels")
    rows = [_pictures(example) for example in examples]
    temperatures, doubts = ([name for name, _, doubt in rows[0] if doubt == wanted] for wanted in (False, True))
    columns = len(temperatures) + len(doubts)
    figure = Figure(figsize=(1.75 * columns + 1.9, 1.78 * len(rows) + 0.75), layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    figure.suptitle(title, fontsize=12, color=INK)
    both = np.concatenate([values[e.gap] for e, row in zip(examples, rows, strict=True) for _, values, d in row if d])
    most = max(float(np.nanpercentile(both, 100 - _CLIP_PERCENT)), 1e-6)
    for number, (example, row) in enumerate(zip(examples, rows, strict=True)):
        low, high = _extremes(row[0][1])
        for axes, (name, values, doubt) in zip(grid[number], row, strict=True):
            scale = (_ERROR_MAP, 0.0, most) if doubt else (_VALUE_MAP, low, high)
            own = (_VALUE_MAP, *_extremes(values))
            _draw(axes, values, *(own if name == _REFERENCE else scale))
            if number == 0:
                lines = [part for line in name.split("\n") for part in wrap(line, _TITLE_LETTERS)]
                axes.set_title("\n".join(lines), fontsize=8.5, color=INK)
        grid[number][0].set_ylabel(example.label, fontsize=8, color=INK)
        bar = figure.colorbar(
            grid[number, 0].images[-1], ax=grid[number, : len(temperatures)], shrink=0.92, aspect=14, pad=0.012
        )
        bar.set_label("°C", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    bar = figure.colorbar(
        grid[0, -1].images[-1], ax=grid[:, len(temperatures) :], shrink=0.92, aspect=14 * len(rows), pad=0.02
    )
    bar.set_label("K", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def _pictures(example: Example) -> list[tuple[str, NDArray[np.float64], bool]]:
    """The pictures of a row: title, values, and whether they are kelvins of doubt, not degrees."""
    truth = np.asarray(example.truth, dtype=np.float64)
    given = {name: np.asarray(values, dtype=np.float64) for name, values in example.fills.items()}
    if not given or any(values.shape != truth.shape for values in [*given.values(), example.gap]):
        raise ValueError(f"got fills {list(given)} for a truth of {truth.shape}; wanted one or more of its shape")
    last, best = list(given.items())[-1]
    pictures = [("truth", truth - _ZERO_CELSIUS, False)]
    pictures += [("given", np.where(example.gap, np.nan, truth) - _ZERO_CELSIUS, False)]
    if example.reference is not None:
        pictures.append((_REFERENCE, np.asarray(example.reference, dtype=np.float64) - _ZERO_CELSIUS, False))
    pictures += [(name, np.where(example.gap, v, truth) - _ZERO_CELSIUS, False) for name, v in given.items()]
    if example.sample is not None:
        sample = np.where(example.gap, example.sample, truth)
        pictures.append(("one sample", sample - _ZERO_CELSIUS, False))
    pictures.append((f"|error|\n{last}", np.where(example.gap, np.abs(best - truth), 0.0), True))
    if example.sigma is not None:
        pictures.append((f"sigma\n{last}", np.where(example.gap, example.sigma, 0.0), True))
    return pictures


def _extremes(values: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of a colour scale, the rarest values clipped."""
    low, high = np.nanpercentile(values, [_CLIP_PERCENT, 100 - _CLIP_PERCENT])
    return float(low), float(high)


def _draw(axes: Axes, values: NDArray[np.float64], colours: str, low: float, high: float) -> None:
    """One picture without ticks; what is unknown in grey."""
    axes.imshow(np.zeros(values.shape), cmap=ListedColormap([_GAP_GREY]))
    colour_map = colormaps[colours].with_extremes(bad=(1, 1, 1, 0))
    axes.imshow(values, cmap=colour_map, vmin=low, vmax=high, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=FAINT, linewidth=0.6)


def plots_beside(titles: Sequence[str], *, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """Plots side by side in the house's look, with room for a legend below."""
    if not titles:
        raise ValueError("got no panel; wanted one or more to draw")
    figure = Figure(figsize=(_PANEL * len(titles) + 0.6, _PANEL + _BELOW), layout="constrained")
    plots = list(figure.subplots(1, len(titles), squeeze=False, sharey=share_y)[0])
    for axes, title in zip(plots, titles, strict=True):
        axes.set_title(title, fontsize=11, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(_GREY)
        axes.tick_params(colors=INK, labelsize=8)
    return figure, plots


def draw_diagonal(axes: Axes, *, above: str, below: str) -> None:
    """Where claim and observation agree, and what it means to lie above and below."""
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.5, zorder=1)
    axes.annotate(above, (0.04, 0.94), color=_GREY, fontsize=8)
    axes.annotate(below, (0.97, 0.03), color=_GREY, fontsize=8, ha="right")


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


def names_of(panels: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Every name of every panel, as first met."""
    return list(dict.fromkeys(name for panel in panels.values() for name in panel))


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


def _apart(numbers: Sequence[int]) -> list[int]:
    """Those that a logarithmic axis can name without overlap."""
    kept: list[int] = []
    for value in numbers:
        if not kept or value >= 2 * kept[-1]:
            kept.append(value)
    return kept


def _fitting(values: ArrayLike, x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """A curve over x."""
    y = np.asarray(values, dtype=np.float64)
    if y.shape != x.shape:
        raise ValueError(f"got {name} of {y.shape} for {x.size} places on the axis; wanted one value for each")
    return y
