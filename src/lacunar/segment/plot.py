"""Maps of water as pictures (8-bit arrays) and matplotlib figures: over the image, and what changed between dates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from lacunar.plotting import Place, mark_place
from lacunar.segment.classes import LAND_NAME, class_colours

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
_PROBABILITY_MAP, _DISAGREEMENT_MAP, _WHEN_MAP = "Blues", "Reds", "YlGnBu"
_FADED = 0.28  # how much of an image is left under a map of years
Z_95 = 1.96  # standard deviations
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
    place: Place | None = None,
    classes: Mapping[str, Bools] = MappingProxyType({}),
) -> Figure:
    """Draw the image (H, W, 3), the water (H, W) over it, its probability, and how far the samples disagree.

    Probability and disagreement (H, W) are NaN where not valid. Where ``classes`` are given, name -> (H, W), all of
    them are drawn in place of the water, with a legend. Shapes that do not fit are a ``ValueError``.
    """
    figure, axes = _panels(1, 4, water.shape, title=title, extra=0.4)
    _show(axes[0, 0], image, "Image")
    if place is not None:
        mark_place(axes[0, 0], water.shape, place)
    if classes:
        _show_classes(axes[0, 1], image, classes)
    else:
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


def _show_classes(axes: Axes, image: Colours, classes: Mapping[str, Bools]) -> None:
    """All classes but land in their colours over the image, and a legend of those that occur."""
    numbers = {name: number for number, name in enumerate(classes)}
    shown, handles = image / 255.0, []
    for name, colour in class_colours(numbers).items():
        where = classes[name]
        if name != LAND_NAME:
            shown[where] = TRANSPARENCY / 2 * shown[where] + (1 - TRANSPARENCY / 2) * np.array(colour)
            handles += [Patch(facecolor=colour, edgecolor=_FAINT, label=name)] if where.any() else []
    _show(axes, _bytes(shown), "Classes")
    if handles:
        axes.legend(
            handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=2, frameon=False, fontsize=8
        )


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


def series_figure(
    maps: Sequence[DatedMap],
    years: Sequence[float],
    areas: Sequence[tuple[float, float]],
    *,
    unit: str,
    place: str,
    pixel_km: float | None = None,
) -> Figure:
    """Draw in which year each place was last water, what was gained and lost in all, and the area over time.

    ``areas`` are each date's area and its standard deviation, in the unit; ``pixel_km`` is the side of a pixel, for a
    scale bar. Fewer than two dates are a ``ValueError``.
    """
    if len(maps) < 2:
        raise ValueError(f"got {len(maps)} map; wanted two or more")
    wide = maps[0].water.shape[1] > maps[0].water.shape[0]
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.04, hspace=0.04)
    figure = Figure(figsize=(9.5, 9.0) if wide else (11.0, 8.0), layout=layout)
    span = f"{years[0]:.0f} to {years[-1]:.0f}"
    figure.suptitle(f"{place + ': where' if place else 'Where'} the water was, {span}", fontsize=16, color=_INK)
    mosaic: list[Any] = [["when", "when"], ["change", "area"]] if wide else [["when", "change"], ["when", "area"]]
    axes = figure.subplot_mosaic(mosaic, height_ratios=(1.65, 1) if wide else (1, 1))
    grey = maps[-1].image.mean(axis=2, keepdims=True) / 255
    seen = np.repeat(1 - _FADED * (1 - grey), 3, axis=2)
    colours = colormaps[_WHEN_MAP](np.linspace(0.22, 1.0, len(maps)))[:, :3]
    for one, colour in zip(maps, colours, strict=True):
        seen[one.water] = colour
    _show(axes["when"], _bytes(seen), "In which year each place was last seen under water")
    handles = [Patch(facecolor=colour, label=one.title) for one, colour in zip(maps, colours, strict=True)]
    key = {"frameon": False, "fontsize": 9, "handlelength": 1.1, "handleheight": 1.1, "columnspacing": 1.2}
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.01), **key}
    axes["when"].legend(handles=handles, ncols=min(len(maps), 8), **below)
    if pixel_km:
        _draw_scale(axes["when"], pixel_km, maps[0].water.shape)
    first, last = maps[0], maps[-1]
    _show(axes["change"], _change(first, last), f"{first.title} against {last.title}")
    names = {"water in both": KEPT, "gained": GAINED, "lost": LOST}
    handles = [Patch(facecolor=colour, label=name) for name, colour in names.items()]
    axes["change"].legend(handles=handles, ncols=3, **below)
    _draw_areas(axes["area"], years, areas, unit)
    return figure


def _draw_scale(axes: Axes, pixel_km: float, shape: tuple[int, ...]) -> None:
    """A bar of 1, 2 or 5 times a power of ten kilometres, about a sixth of the width."""
    most = shape[1] * pixel_km / 5
    power = 10.0 ** np.floor(np.log10(most))
    length = max(step * power for step in (1, 2, 5) if step * power <= most)
    left, down = 0.03 * shape[1], 0.955 * shape[0]
    axes.plot([left, left + length / pixel_km], [down, down], color=_INK, linewidth=3, solid_capstyle="butt")
    axes.text(left, down - 0.015 * shape[0], f"{length:g} km", color=_INK, fontsize=9, va="bottom")


def _draw_areas(axes: Axes, years: Sequence[float], areas: Sequence[tuple[float, float]], unit: str) -> None:
    """The area over time, with the interval that holds it in 95 of 100 cases."""
    area, reach = np.array([own for own, _ in areas]), np.array([Z_95 * sigma for _, sigma in areas])
    axes.fill_between(years, np.maximum(area - reach, 0), area + reach, color=KEPT, alpha=0.25, linewidth=0)
    axes.plot(years, area, "o-", color=KEPT, markersize=4.5, linewidth=1.6)
    axes.set_ylim(0, 1.12 * float((area + reach).max()) or 1)
    axes.set_title(f"Area of water ({unit}), with its 95 % interval", fontsize=10, color=_INK, pad=4)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=_FAINT)
    axes.tick_params(labelsize=9, colors=_INK, length=3)
    axes.grid(axis="y", color=_FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


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
