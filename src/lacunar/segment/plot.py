"""Maps of water as pictures (8-bit arrays) and matplotlib figures: over the image, and what changed between dates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from numpy.typing import NDArray

STRETCH = (1.0, 99.0)  # percentiles of an image that become black and white
WATER = (0.10, 0.55, 1.00)  # red, green, blue: of the fill
SHORE = (1.00, 0.10, 0.70)  # of the outline: magenta, which nothing on earth is
KEPT, GAINED, LOST = (0.23, 0.51, 0.74), (0.10, 0.62, 0.47), (0.85, 0.37, 0.01)  # told apart by all
NOT_VALID = (0.86, 0.86, 0.86)
TRANSPARENCY = 0.55  # of the fill
MOST_COLUMNS = 3  # panels side by side

# Planes blue, green, red, nir, swir1, swir2 shown as red, green, blue: the first triple that the image has.
COMPOSITES = ((2, 1, 0), (3, 2, 1), (4, 3, 2), (4, 3, 1))

_INK, _FAINT = "#2b2b2b", "#d0d0d0"
_PANEL = 3.3  # inches: height of a panel
_WIDEST = 1.8  # times its height, at most
_PROBABILITY_MAP, _DISAGREEMENT_MAP = "Blues", "Reds"
_HIGHEST_DISAGREEMENT = 0.5  # the standard deviation of samples half of which say yes for sure, half no

Colours = NDArray[np.uint8]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DatedMap:
    """The water of one date, for `change_figure`: image (H, W, 3) of 8 bits, boolean (H, W), and its area in words."""

    title: str
    image: Colours
    water: Bools
    valid: Bools
    area: str


def colour_image(planes: NDArray[np.floating[Any]]) -> Colours:
    """An image as a person would see it, or in the nearest composite that its bands allow.

    Takes planes (6, H, W): blue, green, red, nir, swir1, swir2; NaN where absent or not valid. Gives (H, W, 3) of 8
    bits, grey where not valid. All colours share one stretch, so hues stay.
    """
    there = [bool(np.isfinite(plane).any()) for plane in planes]
    found = next((triple for triple in COMPOSITES if all(there[index] for index in triple)), None)
    if found is None:
        only = there.index(True) if any(there) else 0
        found = (only, only, only)
    shown = planes[list(found)].astype(np.float64)
    valid = np.isfinite(shown).all(axis=0)
    low, high = np.percentile(shown[:, valid], STRETCH) if valid.any() else (0.0, 1.0)
    bright = np.clip((shown - low) / max(high - low, 1e-12), 0, 1)
    return _bytes(np.where(valid, bright, np.reshape(NOT_VALID, (3, 1, 1))).transpose(1, 2, 0))


def overlay(image: Colours, water: Bools) -> Colours:
    """Lay water (H, W) over an image (H, W, 3): filled, with its shore drawn one pixel wide inside the water."""
    if image.shape != (*water.shape, 3):
        raise ValueError(f"got an image of {image.shape} and water of {water.shape}; wanted (H, W, 3) and (H, W)")
    colours = image / 255.0
    filled = TRANSPARENCY * colours + (1 - TRANSPARENCY) * np.array(WATER)
    colours = np.where(water[..., None], filled, colours)
    colours[shore_of(water)] = SHORE
    return _bytes(colours)


def shore_of(water: Bools) -> Bools:
    """Water pixels that touch land by a side; the image's border is no shore."""
    inside = np.pad(water, 1, mode="edge")
    beside = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return water & ~beside


def water_figure(
    image: Colours,
    water: Bools,
    probability: NDArray[np.floating[Any]],
    disagreement: NDArray[np.floating[Any]],
    *,
    title: str | None = None,
) -> Figure:
    """Draw the image (H, W, 3), the water (H, W) over it, its probability, and how far the samples disagree.

    Probability and disagreement (H, W) are NaN where not valid. Shapes that do not fit are a ``ValueError``.
    """
    figure, axes = _panels(1, 4, water.shape, title=title, extra=0.4)
    _show(axes[0, 0], image, "Image")
    _show(axes[0, 1], overlay(image, water), "Water")
    maps = (
        (probability, "Probability", _PROBABILITY_MAP, 1.0),
        (disagreement, "Disagreement of samples", _DISAGREEMENT_MAP, _HIGHEST_DISAGREEMENT),
    )
    for panel, (values, name, colours, high) in zip(axes[0, 2:], maps, strict=True):
        if values.shape != water.shape:
            raise ValueError(f"got {name.lower()} of {values.shape} and water of {water.shape}; wanted one shape")
        shown = colormaps[colours].with_extremes(bad=NOT_VALID)
        drawn = panel.imshow(np.ma.masked_invalid(values), cmap=shown, vmin=0, vmax=high, interpolation="nearest")
        _frame(panel, name)
        bar = figure.colorbar(drawn, cax=panel.inset_axes((0.1, -0.08, 0.8, 0.03)), orientation="horizontal")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, colors=_INK, length=2)
    return figure


def change_figure(maps: Sequence[DatedMap]) -> Figure:
    """Draw the water of each date over its image, and below, from the second date on, what was kept, gained and lost.

    Fewer than two dates, or different shapes, are a ``ValueError``.
    """
    if len(maps) < 2 or len({one.water.shape for one in maps}) > 1:
        raise ValueError(
            f"got {len(maps)} maps of {[one.water.shape for one in maps]}; wanted two or more of one shape"
        )
    columns = min(len(maps), MOST_COLUMNS)
    figure, axes = _panels(2 * -(-len(maps) // columns), columns, maps[0].water.shape, extra=0.35)
    for panel in axes.flat:
        panel.set_axis_off()
    for index, one in enumerate(maps):
        row, column = 2 * (index // columns), index % columns
        _show(axes[row, column], overlay(one.image, one.water), f"{one.title}: {one.area}")
        if index:
            before = maps[index - 1]
            _show(axes[row + 1, column], _change(before, one), f"{before.title} to {one.title}")
    names = {"water in both": KEPT, "gained": GAINED, "lost": LOST, "not seen in both": NOT_VALID}
    handles = [Patch(facecolor=colour, label=name) for name, colour in names.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def _change(before: DatedMap, after: DatedMap) -> Colours:
    """Kept, gained and lost water in colours, on white."""
    seen = before.valid & after.valid
    colours = np.ones((*seen.shape, 3))
    for where, colour in (
        (before.water & after.water, KEPT),
        (~before.water & after.water, GAINED),
        (before.water & ~after.water, LOST),
        (~seen, NOT_VALID),
    ):
        colours[where] = colour
    return _bytes(colours)


def _panels(
    rows: int, columns: int, shape: tuple[int, ...], *, extra: float, title: str | None = None
) -> tuple[Figure, NDArray[Any]]:
    """A figure of equal panels (rows, columns), with extra inches below them."""
    width = _PANEL * min(max(shape[1] / shape[0], 1 / _WIDEST), _WIDEST)
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.06, wspace=0.02, hspace=0.02)
    height = rows * (_PANEL + 0.3) + extra + (0.4 if title else 0.0)
    figure = Figure(figsize=(columns * (width + 0.12), height), layout=layout)
    if title:
        figure.suptitle(title, fontsize=12, color=_INK)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _show(axes: Axes, picture: Colours, title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    _frame(axes, title)


def _frame(axes: Axes, title: str) -> None:
    axes.set_axis_on()
    axes.set_title(title, fontsize=10, color=_INK, pad=4)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=_FAINT, linewidth=0.6)


def _bytes(colours: NDArray[np.floating[Any]]) -> Colours:
    return np.round(colours * 255).astype(np.uint8)
