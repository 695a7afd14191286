"""Contact sheets of an evaluation of pictures: arrays in, matplotlib figures out; imports nothing of the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

_INK, _FAINT = "#2b2b2b", "#d0d0d0"
_CELL = 1.15  # inches: side of a picture
_HIDDEN = (0.62, 0.62, 0.62)
_TITLE_LETTERS = 16


@dataclass(frozen=True, eq=False)
class PictureExample:
    """One case in pictures (H, W, 3), 0 .. 255: a label, the truth, what is hidden (H, W), and results by name."""

    label: str
    truth: NDArray[np.number]
    gap: NDArray[np.bool_]
    results: Mapping[str, NDArray[np.number]]


def faces_figure(examples: Sequence[PictureExample], *, title: str) -> Figure:
    """Draw cases row by row: what is given, the results, the truth.

    Raises
    ------
    ValueError
        No example, or examples of different results.

    References
    ----------
    Bezerra et al. (2024), Fig. 5.
    """
    if not examples or len({tuple(example.results) for example in examples}) > 1:
        raise ValueError(f"got {len(examples)} examples; wanted one or more, all with the same results")
    columns = ["given", *examples[0].results, "truth"]
    figure = Figure(
        figsize=(_CELL * len(columns) + 0.5, _CELL * len(examples) + 0.8),
        layout=ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01),
    )
    figure.suptitle(title, fontsize=11, color=_INK)
    grid = figure.subplots(len(examples), len(columns), squeeze=False)
    for number, example in enumerate(examples):
        truth = example.truth / 255
        pictures = [np.where(example.gap[..., None], _HIDDEN, truth)]
        pictures += [np.asarray(result).clip(0, 255) / 255 for result in example.results.values()]
        for axes, name, picture in zip(grid[number], columns, [*pictures, truth], strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(color=_FAINT, linewidth=0.6)
            if number == 0:
                axes.set_title(_broken(name), fontsize=7.5, color=_INK)
        grid[number][0].set_ylabel(example.label, fontsize=7, color=_INK)
    return figure


def _broken(name: str) -> str:
    """A title in lines."""
    lines = [""]
    for word in name.split():
        if lines[-1] and len(lines[-1]) + len(word) >= _TITLE_LETTERS:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(lines)
