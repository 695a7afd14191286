"""Writing of matplotlib figures."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from matplotlib.figure import Figure

FIGURE_ENDINGS = (".png", ".pdf", ".svg")


def save_figure(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 150) -> Path:
    """Write a figure under a temporary name in the same folder, then give it its name; an old file is replaced.

    Parameters
    ----------
    figure
        Any matplotlib figure.
    path
        Output; the ending names the format (``.png``, ``.pdf``, ``.svg``).
    dpi
        Pixels per inch.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ValueError
        When the ending names no format.
    OSError
        When the folder is missing or full; nothing is left behind then.
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
