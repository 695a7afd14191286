"""The figures of an evaluation of water: arrays in, matplotlib figures out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from lacunar.evaluate.report_figures import FAINT, INK, draw_diagonal, names_of, plots_beside, style_of, with_legend

HIT, MISSED, FALSE = "#56b4e9", "#d55e00", "#f0e442"  # Okabe and Ito: told apart by all
LAND_GREY, UNKNOWN = "#e8e8e8", "#ffffff"
WATER_BLUE = "#0072b2"
MOST_PIXELS = 500  # of a picture's side: more is thinned out
STRETCH = (2.0, 98.0)  # percentiles of a band that become black and white

BoolArray = NDArray[np.bool_]

_SIDE = 2.2  # inches of a picture
_DOT = 16  # area of a marker in square points

# Planes blue, green, red, nir shown as red, green, blue, by what there is.
_COMPOSITES = ((2, 1, 0), (3, 2, 1), (1, 1, 1), (3, 3, 3))


@dataclass(frozen=True, eq=False)
class WaterExample:
    """One scene in pictures: planes (6, H, W), true water, where it is known, the map, its probability (or None)."""

    label: str
    bands: ArrayLike
    truth: BoolArray
    valid: BoolArray
    water: BoolArray
    probability: ArrayLike | None = None


def composite(bands: ArrayLike) -> NDArray[np.float64]:
    """Colours to look at: true colour, else near infrared, red, green, else one band in grey.

    Parameters
    ----------
    bands
        (6, H, W), NaN where absent or unknown.

    Returns
    -------
    numpy.ndarray
        (H, W, 3), 0 .. 1; white where unknown. Each band is stretched by itself.
    """
    planes = np.asarray(bands, dtype=np.float64)
    there: BoolArray = np.asarray(np.isfinite(planes).any(axis=(1, 2)))
    chosen = next((order for order in _COMPOSITES if there[list(order)].all()), (int(np.argmax(there)),) * 3)
    picture = np.ones((*planes.shape[1:], 3))
    for channel, band in enumerate(chosen):
        plane = planes[band]
        if there[band]:
            low, high = np.nanpercentile(plane, STRETCH)
            picture[..., channel] = np.clip((plane - low) / max(high - low, 1e-9), 0, 1)
    picture[~np.isfinite(picture).all(axis=2)] = 1.0
    return picture


def difference_map(water: BoolArray, truth: BoolArray, valid: BoolArray) -> NDArray[np.float64]:
    """Colours (H, W, 3) of found, missed and false water, land and unknown pixels."""
    picture = np.empty((*truth.shape, 3))
    picture[:] = to_rgb(LAND_GREY)
    for colour, where in ((HIT, water & truth), (MISSED, ~water & truth), (FALSE, water & ~truth), (UNKNOWN, ~valid)):
        picture[where] = to_rgb(colour)
    return picture


def water_examples_figure(examples: Sequence[WaterExample], *, title: str, method: str) -> Figure:
    """Draw scenes row by row: image, truth, the map, where they differ, and the probability where there is one.

    Raises
    ------
    ValueError
        No example, or some with a probability and some without.

    References
    ----------
    Perez-Torres et al. (2024), as in Bezerra et al. (2024), Fig. 6.
    """
    if not examples or len({example.probability is None for example in examples}) > 1:
        raise ValueError(f"got {len(examples)} examples; wanted one or more, all with a probability or all without")
    titles = ["image", "truth", method, "difference", *(["probability"] if _sure(examples[0]) else [])]
    figure = Figure(figsize=(_SIDE * len(titles) + 0.6, (_SIDE + 0.05) * len(examples) + 0.9), layout="constrained")
    grid = figure.subplots(len(examples), len(titles), squeeze=False)
    figure.suptitle(title, fontsize=12, color=INK)
    for row, example in zip(grid, examples, strict=True):
        step = -(-max(example.truth.shape) // MOST_PIXELS)
        thin = (slice(None, None, step), slice(None, None, step))
        truth, valid, water = example.truth[thin], example.valid[thin], example.water[thin]
        bands = np.asarray(example.bands)[:, *thin]
        pictures: list[Any] = [composite(bands), _two(truth, valid), _two(water, valid)]
        pictures.append(difference_map(water, truth, valid))
        for axes, picture in zip(row, pictures, strict=False):
            axes.imshow(picture, interpolation="nearest")
        if example.probability is not None:
            shown = np.where(valid, np.asarray(example.probability)[thin], np.nan)
            image = row[-1].imshow(shown, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
            figure.colorbar(image, ax=row[-1], shrink=0.85, aspect=14, pad=0.02).ax.tick_params(labelsize=7)
        row[0].set_ylabel(example.label, fontsize=8, color=INK)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(color=FAINT, linewidth=0.6)
    for axes, name in zip(grid[0], titles, strict=True):
        axes.set_title(name.replace(", ", ",\n", 1), fontsize=9, color=INK)
    keys = {"found": HIT, "missed": MISSED, "false": FALSE, "land": LAND_GREY}
    handles = [Patch(facecolor=colour, edgecolor=FAINT, label=name) for name, colour in keys.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(keys), frameon=False, fontsize=8)
    return figure


def scatter_panels(points: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]]) -> Figure:
    """Draw the IoU of every image against its share of water, one plot for each panel.

    Parameters
    ----------
    points
        Panel -> name -> (share of water, IoU), one value for each image.

    Raises
    ------
    ValueError
        No panel.
    """
    figure, plots = plots_beside(list(points), share_y=True)
    names = names_of(points)
    for axes, series in zip(plots, points.values(), strict=True):
        for name, (water, scores) in series.items():
            style = style_of(names, name)
            axes.scatter(water, scores, s=_DOT, label=name, color=style["color"], marker=style["marker"], alpha=0.75)
        axes.set(xlabel="share of water in the image", ylim=(-0.03, 1.03))
        axes.set_xlim(left=0)
        axes.set_axisbelow(True)
        axes.grid(color=FAINT, linewidth=0.5)
    plots[0].set_ylabel("IoU of water")
    return with_legend(figure, plots)


def probability_panels(curves: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]]) -> Figure:
    """Draw how often there was water against the probability that was claimed, one plot for each panel.

    Parameters
    ----------
    curves
        Panel -> name -> (mean claimed probability, share of water), each (bins,), NaN in empty bins.

    Raises
    ------
    ValueError
        No panel.
    """
    figure, plots = plots_beside(list(curves))
    names = names_of(curves)
    for axes, series in zip(plots, curves.values(), strict=True):
        draw_diagonal(axes, above="more water than claimed", below="less water than claimed")
        for name, (claimed, observed) in series.items():
            axes.plot(claimed, observed, label=name, **style_of(names, name))
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="claimed probability of water")
    plots[0].set_ylabel("share of water")
    return with_legend(figure, plots)


def _sure(example: WaterExample) -> bool:
    """Whether there is a probability to draw."""
    return example.probability is not None


def _two(water: BoolArray, valid: BoolArray) -> NDArray[np.float64]:
    """Water and land in two colours; unknown pixels in white."""
    picture = np.where(water[..., None], to_rgb(WATER_BLUE), to_rgb(LAND_GREY))
    picture[~valid] = to_rgb(UNKNOWN)
    return np.asarray(picture)
