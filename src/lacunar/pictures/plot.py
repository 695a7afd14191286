"""Contact sheets of filled pictures: arrays in, a Figure out."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

COLUMNS = 4
PANEL_INCHES = 2.6
MASKED_GREY = 0.5  # how what is to be filled is shown


def contact_sheet(
    original: FloatArray, missing: NDArray[np.bool_], samples: Sequence[FloatArray], *, title: str = ""
) -> Figure:
    """Draw what was given and what came out: original, masked, every sample, their mean and their spread.

    Parameters
    ----------
    original
        (H, W, 3) in [0, 1].
    missing
        (H, W), True = filled.
    samples
        Filled pictures (H, W, 3) in [0, 1]; mean and spread are drawn for two or more.
    title
        Above all.

    Returns
    -------
    matplotlib.figure.Figure
        The spread is the root mean square over the colours of the samples' standard deviation, in percent of white.
    """
    masked = np.where(missing[..., None], MASKED_GREY, original)
    panels = [("original", original), ("masked", masked)]
    panels += [(f"sample {number}", sample) for number, sample in enumerate(samples, start=1)]
    several = len(samples) > 1
    if several:
        panels.append(("mean", np.mean(samples, axis=0)))
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
        spread = 100 * np.sqrt(np.var(samples, axis=0, ddof=1).mean(axis=-1))
        image = axis.imshow(np.where(missing, spread, np.nan), cmap="magma", vmin=0, interpolation="nearest")
        axis.set_title("spread (% of white)", fontsize="small")
        figure.colorbar(image, cax=axis.inset_axes((0.05, 0.06, 0.9, 0.04)), orientation="horizontal")
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(title, fontsize="medium")
    return figure
