"""The figure of a filled raster: arrays in, a matplotlib figure out.

Figures are built without pyplot, so drawing leaves no global state behind and works in any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike, NDArray

from lacunar.plotting import Place, mark_place

_ZERO_CELSIUS = 273.15
_KELVIN = ("k", "kelvin", "kelvins")
_CELSIUS_LABELS = ("temperature (°C)", "K")  # of the bar that several panels share, and of a bar of differences
_MAX_PIXELS_PER_SIDE = 1400  # more than a screen shows only costs time
_CLIP_PERCENT = 0.5  # of pixels beyond each end of a colour scale, so that a few odd ones do not flatten the rest
_VALUE_MAP = "inferno"
_ERROR_MAP, _SIGMA_MAP = "Reds", "Blues"  # white at zero
_MISSING_GREY = "#b4b4b4"
_PANEL_INCHES = 3.0  # height of a panel
_INK = "#2b2b2b"
_FAINT = "#d0d0d0"


@dataclass(frozen=True, eq=False)
class _Scale:
    """What colours mean; panels that hold the same object share a colour bar."""

    low: float
    high: float
    colours: str


@dataclass(frozen=True, eq=False)
class _Panel:
    values: NDArray[np.float64]
    missing: NDArray[np.bool_] | None
    title: str
    scale: _Scale


def lst_figure(
    lst: ArrayLike,
    reconstructed: ArrayLike,
    missing: NDArray[np.bool_],
    *,
    truth: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    units: str = "K",
    title: str | None = None,
    place: Place | None = None,
) -> Figure:
    """Draw values, masked, reconstructed and, where given, absolute error and standard deviation, side by side.

    All arrays are (H, W) in ``units``; ``lst``, before masking, may hold the clouds' own temperatures. Kelvin is drawn
    in degrees Celsius (differences in kelvin), other units as they are. The values share one colour scale. Missing
    pixels are grey in the masked panel, pixels outside the footprint (NaN) white everywhere. ``place`` gives
    coordinates and a scale bar. After Bezerra et al. (2024), Fig. 4.

    Raises ``ValueError``: shapes that differ, or no finite pixel.
    """
    shape, kelvin = np.shape(reconstructed), units.lower() in _KELVIN
    zero, labels = (_ZERO_CELSIUS, _CELSIUS_LABELS) if kelvin else (0.0, (units or "value",) * 2)
    before, after = _as_image(lst, shape) - zero, _as_image(reconstructed, shape) - zero
    thinned = _as_missing(missing, shape)
    true = None if truth is None else _as_image(truth, shape) - zero
    scale = _value_scale(after if true is None else np.stack([after, true]))
    share = thinned.sum() / (np.isfinite(after) | thinned).sum()
    masked = f"Masked ({100 * share:.0f} % missing)"
    panels = [
        _Panel(before, None, "LST" if kelvin else "Input", scale),
        _Panel(np.where(thinned, np.nan, after), thinned, masked, scale),
        _Panel(after, None, "Reconstructed", scale),
    ]
    if true is not None:
        error = np.abs(after - true)
        panels.append(_Panel(error, None, "Absolute error", _positive_scale(error[thinned], _ERROR_MAP)))
    if sigma is not None:
        spread = _as_image(sigma, shape)
        sigma_scale = _positive_scale(spread[thinned], _SIGMA_MAP)
        panels.append(_Panel(spread, None, r"Uncertainty (1$\,\sigma$)", sigma_scale))
    figure = _draw_row(panels, title=title, labels=labels)
    if place is not None:
        mark_place(figure.axes[0], after.shape, place)
    return figure


def _draw_row(panels: Sequence[_Panel], *, title: str | None, labels: tuple[str, str]) -> Figure:
    """Panels side by side; those that share a scale share a colour bar below them, labelled by the first label."""
    rows, cols = panels[0].values.shape
    # Very wide or very tall rasters are held in bounds.
    width = _PANEL_INCHES * min(max(cols / rows, 0.5), 2.0)
    top = 0.42 if title else 0.0
    layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.06, wspace=0.015, hspace=0.02)
    figure = Figure(figsize=(len(panels) * (width + 0.12), _PANEL_INCHES + 0.95 + top), layout=layout)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    if title:
        figure.suptitle(title, fontsize=13, color=_INK)
    pictures = [_draw_panel(ax, panel) for ax, panel in zip(axes, panels, strict=True)]
    for scale in dict.fromkeys(panel.scale for panel in panels):
        members = [index for index, panel in enumerate(panels) if panel.scale is scale]
        bar = figure.colorbar(
            pictures[members[0]],
            ax=[axes[index] for index in members],
            location="bottom",
            label=labels[0] if len(members) > 1 else labels[1],
            extend=_extend([panels[index] for index in members]),
            shrink=0.6 if len(members) > 1 else 0.9,
            aspect=15 * len(members),
            pad=0.03,
        )
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=9, colors=_INK, length=2.5)
    return figure


def _draw_panel(axes: Axes, panel: _Panel) -> AxesImage:
    """One picture without ticks; its missing pixels grey, what is not there white."""
    if panel.missing is not None:
        axes.imshow(np.where(panel.missing, 1.0, np.nan), cmap=ListedColormap([_MISSING_GREY]), interpolation="nearest")
    scale, colours = panel.scale, colormaps[panel.scale.colours].with_extremes(bad=(1, 1, 1, 0))
    picture = axes.imshow(panel.values, cmap=colours, vmin=scale.low, vmax=scale.high)
    axes.set_title(panel.title, fontsize=11, color=_INK, pad=5)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(color=_FAINT, linewidth=0.6)
    return picture


def _value_scale(values: NDArray[np.float64]) -> _Scale:
    """One scale for all values, its rarest ones clipped."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        raise ValueError("got a raster without any finite pixel; wanted at least one to draw")
    low, high = np.percentile(finite, [_CLIP_PERCENT, 100 - _CLIP_PERCENT])
    spare = 0.0 if high > low else 0.5
    return _Scale(float(low - spare), float(high + spare), _VALUE_MAP)


def _positive_scale(values: NDArray[np.float64], colours: str) -> _Scale:
    finite = values[np.isfinite(values)]
    high = np.percentile(finite, 100 - _CLIP_PERCENT) if finite.size else 0.0
    return _Scale(0.0, float(high) if high > 0 else 1.0, colours)


def _extend(panels: Sequence[_Panel]) -> str:
    """Which ends of the colour bar have values beyond them."""
    low = any(np.nanmin(panel.values, initial=np.inf) < panel.scale.low for panel in panels)
    high = any(np.nanmax(panel.values, initial=-np.inf) > panel.scale.high for panel in panels)
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[low, high]


def _as_image(array: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Thinned for drawing, float64, infinities as NaN."""
    whole = np.asarray(array)
    if whole.ndim != 2:
        raise ValueError(f"got an array of {whole.shape}; wanted (height, width): pass one band")
    if whole.shape != shape:
        raise ValueError(f"got arrays of {whole.shape} and {shape}; wanted one shape: cut both to one grid")
    image = np.array(whole[_thinning(shape)], dtype=np.float64)
    image[~np.isfinite(image)] = np.nan
    return image


def _as_missing(missing: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Thinned for drawing, boolean."""
    mask = np.asarray(missing)
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise ValueError(f"got missing {mask.dtype} {mask.shape} for an image of {shape}; wanted bool of its shape")
    return mask[_thinning(shape)]


def _thinning(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Every n-th pixel, so that no side has more than a screen shows."""
    step = -(-max(shape) // _MAX_PIXELS_PER_SIDE)
    return slice(None, None, step), slice(None, None, step)
