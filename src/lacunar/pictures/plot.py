"""Contact sheets of filled pictures: what was given, every sample, their mean and their standard deviation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lacunar.geo.picture import Picture
from lacunar.geo.staging import disk_errors
from lacunar.pictures.fill import FilledRegion, paste, to_model

FloatArray = NDArray[np.floating]

COLUMNS = 4
PANEL_INCHES = 2.6
MASKED_GREY = 0.5  # how missing pixels are shown
SIDE = 512  # pixels: a larger part of a picture is thinned out
DPI = 150


def draw_sheet(
    path: Path,
    picture: Picture,
    missing: NDArray[np.bool_],
    regions: Sequence[FilledRegion],
    *,
    title: str,
    places: Sequence[int] = (),
) -> None:
    """Draw the part of a picture around its regions, before and after; a full disk is a ``RasterError``.

    ``places`` are those of ranked samples.
    """
    windows = [region.window for region in regions]
    top, left = min(window.row for window in windows), min(window.col for window in windows)
    bottom, right = max(one.row + one.height for one in windows), max(one.col + one.width for one in windows)
    step = max(1, -(-max(bottom - top, right - left) // SIDE))
    part = (slice(top, bottom, step), slice(left, right, step))
    numbers = [*range(len(regions[0].samples)), None]
    filled = [paste(picture, regions, sample=number) for number in numbers]
    given, *samples, mean = ((to_model(one.colours[part], one.white) + 1) / 2 for one in (picture, *filled))
    with disk_errors(path):
        contact_sheet(given, missing[part], samples, mean, title=title, places=places).savefig(path, dpi=DPI)


def contact_sheet(
    original: FloatArray,
    missing: NDArray[np.bool_],
    samples: Sequence[FloatArray],
    mean: FloatArray | None = None,
    *,
    title: str = "",
    places: Sequence[int] = (),
) -> Figure:
    """Draw the original (H, W, 3) in [0, 1], masked, and every sample; of several also mean and standard deviation.

    The deviation is the root mean square over the colours, in percent of white.
    """
    masked = np.where(missing[..., None], MASKED_GREY, original)
    panels = [("original", original), ("masked", masked)]
    said = [f", place {place}" + (" (chosen)" if place == 1 else "") for place in places] or [""] * len(samples)
    panels += [(f"sample {number + 1}{said[number]}", sample) for number, sample in enumerate(samples)]
    several = len(samples) > 1
    if several:
        panels.append(("mean", np.mean(samples, axis=0) if mean is None else mean))
    count = len(panels) + several
    columns = count if count <= COLUMNS else min((COLUMNS, COLUMNS - 1), key=lambda wide: -count % wide)
    rows = -(-count // columns)
    height = PANEL_INCHES * original.shape[0] / original.shape[1]
    figure = Figure(figsize=(PANEL_INCHES * columns, (height + 0.3) * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (name, picture) in zip(axes, panels, strict=False):
        axis.imshow(np.clip(picture, 0, 1), interpolation="nearest")
        axis.set_title(name, fontsize="small")
    if several:
        axis = axes[len(panels)]
        deviation = 100 * np.sqrt(np.var(samples, axis=0, ddof=1).mean(axis=-1))
        image = axis.imshow(np.where(missing, deviation, np.nan), cmap="magma", vmin=0, interpolation="nearest")
        axis.set_title("deviation (% of white)", fontsize="small")
        figure.colorbar(image, cax=axis.inset_axes((0.05, 0.06, 0.9, 0.04)), orientation="horizontal")
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(title, fontsize="medium")
    return figure
