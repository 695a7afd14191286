"""What accumulates while a raster is filled block by block: scores against a truth, and the pixels of a figure."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError, RasterError
from lacunar.fill.blocks import FILLED, FilledBlock, Survey, least_sigma
from lacunar.geo.grid import check_same_grid, same_grid
from lacunar.metrics import bias, mae, rmse
from lacunar.plotting import Place, save_figure
from lacunar.sensors.plausible import ValueJudge
from lacunar.sensors.scene import Scene, open_scene

MOST_FILLED = 0.5  # share of the image from which a fill rests on little
FAR = 64  # pixels from anything measured from which it does
SIGMAS_KEPT = 10_000  # of a block, for their median
THUMBNAIL_SIDE = 1200  # pixels on the longer side of what a figure shows


class Truth(AbstractContextManager["Truth"]):
    """Scores of the filled pixels against the first band of a raster on the same grid; without a path, none."""

    def __init__(self, scene: Scene, path: Path | None) -> None:
        self._raster = open_scene(path, band=1) if path else None
        if path and self._raster and scene.clip and not same_grid(scene, self._raster):
            self._raster.close()
            self._raster = open_scene(path, band=1, clip=scene.clip)
        self._errors: list[NDArray[np.float32]] = []
        self._within = 0
        if self._raster is not None:
            check_same_grid(scene, self._raster, names=("the input", f"the truth {path}"))
            self._judge = ValueJudge.of(self._raster.some_lst(), units=scene.units)
        self._notes: set[str] = set()

    def __exit__(self, *_: object) -> None:
        if self._raster is not None:
            self._raster.close()

    def add(self, block: FilledBlock) -> NDArray[np.float32] | None:
        """Take the errors of a block; returns its true values."""
        if self._raster is None:
            return None
        part = self._raster.measured(block.window)
        values, faults = np.where(part.known, part.values, np.nan).astype(np.float32), self._judge.faults(part.values)
        for where in faults.values():
            values[where] = np.nan
        self._notes |= {reason for reason, where in faults.items() if where.any()}
        self._notes |= {text.partition(":")[0] for text, where in part.remarks.items() if where.any()}
        scored = (block.source == FILLED) & np.isfinite(values)
        error = block.value[scored] - values[scored]
        self._errors.append(error)
        self._within += int((np.abs(error) <= block.sigma[scored]).sum())
        return values

    def scores(self) -> dict[str, Any]:
        """RMSE, MAE, bias and the share within one sigma, under the key ``truth``; empty if no pixel was scored."""
        error = np.concatenate(self._errors) if self._errors else np.empty(0, dtype=np.float32)
        if error.size == 0:
            return {}
        zero = np.zeros_like(error)
        notes = [f"some pixels {reason}: not scored" for reason in sorted(self._notes)]
        return {
            "truth": {
                "pixels": int(error.size),
                "rmse": round(rmse(error, zero), 4),
                "mae": round(mae(error, zero), 4),
                "bias": round(bias(error, zero), 4),
                "within_one_sigma": round(self._within / error.size, 4),
                **({"notes": notes} if notes else {}),
            }
        }


class Support:
    """What filled pixels rest on: said where that is little."""

    def __init__(self) -> None:
        self._sigma: list[NDArray[np.float32]] = []
        self._floored = 0

    def add(self, block: FilledBlock) -> None:
        """Take a block."""
        filled = block.source == FILLED
        sigma, values = block.sigma[filled], block.value[filled]
        self._floored += int((sigma <= least_sigma(values)).sum())
        self._sigma.append(sigma[:: max(1, sigma.size // SIGMAS_KEPT)].copy())

    def notes(self, scene: Scene, found: Survey) -> list[str]:
        """Sentences for a person; none where the fill rests on enough."""
        notes, share = [], found.missing / (found.measured + found.missing)
        sigma = np.concatenate(self._sigma) if self._sigma else np.empty(0)
        if sigma.size and (share > MOST_FILLED or found.reach > FAR):
            pixels = f"{found.reach:.0f} pixels"
            if scene.crs is not None and scene.crs.is_projected:
                pixels += f" ({found.reach * abs(scene.transform.a):,.0f} {scene.crs.linear_units})"
            notes.append(
                f"{share:.0%} of the image is filled, up to about {pixels} from anything measured, with a median sigma "
                f"of {np.median(sigma):.3g}{scene.units and f' {scene.units}'}: it rests on little there"
            )
        if self._floored:
            notes.append(
                f"{self._floored} filled pixels have the least sigma, the rounding of their value: what is measured "
                "around them is all equal and tells no more"
            )
        return notes


class Thumbnail:
    """The figure of a raster of any size: every n-th pixel is kept block by block, and drawn at the end.

    With ``has_truth``, `add` is given the true values, and their absolute error is drawn too.
    """

    def __init__(self, scene: Scene, path: Path, *, has_truth: bool) -> None:
        self._scene, self._path, self._has_truth = scene, path, has_truth
        self._step = -(-max(scene.shape) // THUMBNAIL_SIDE)
        small = tuple(-(-length // self._step) for length in scene.shape)
        self._before, self._value, self._sigma = (np.full(small, np.nan, dtype=np.float32) for _ in range(3))
        self._missing = np.zeros(small, dtype=np.bool_)

    def add(self, block: FilledBlock, true_values: NDArray[np.floating] | None) -> None:
        """Take every n-th pixel of a block, and of its true or else its unfilled values."""
        before = self._scene.measured(block.window).values if true_values is None else true_values
        start = (block.window.row, block.window.col)
        grid = tuple(slice(-first % self._step, None, self._step) for first in start)
        place = tuple(
            slice(-(-first // self._step), -(-(first + length) // self._step))
            for first, length in zip(start, block.window.shape, strict=True)
        )
        self._before[place], self._value[place] = before[grid], block.value[grid]
        self._sigma[place], self._missing[place] = block.sigma[grid], block.source[grid] == FILLED

    def draw(self) -> None:
        """Write the figure."""
        try:
            from lacunar.fill.plot import lst_figure

            figure = lst_figure(
                self._before,
                self._value,
                self._missing,
                truth=self._before if self._has_truth else None,
                sigma=self._sigma,
                units=self._scene.units,
                title=self._scene.title,
                place=Place.of(self._scene, self._step),
            )
            save_figure(figure, self._path)
        except OSError as error:
            reason = f"cannot be written ({error.strerror}); wanted a folder with free space"
            raise RasterError(f"{self._path.name}: {reason}") from error
        except ValueError as error:
            raise LacunarError(f"the figure cannot be drawn: {error}; leave it out") from error
