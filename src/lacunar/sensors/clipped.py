"""A part of a scene: a box or polygons, in any CRS."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from rasterio.warp import transform_bounds

from lacunar.errors import LacunarError, RasterError
from lacunar.geo.gate import read_vectors
from lacunar.geo.windows import Tile
from lacunar.sensors.bands import BandName
from lacunar.sensors.scene import BoolArray, Measured, Planes, Scene

_BOX = "wanted XMIN,YMIN,XMAX,YMAX in the CRS of the image, or with a fifth part in another, such as EPSG:4326"


class ClippedScene(Scene):
    """The pixels of a scene whose centres lie in a region, in the smallest window that holds them.

    ``clip`` is a box, ``XMIN,YMIN,XMAX,YMAX[,CRS]`` (in the image's CRS where none is said), or a file of polygons.
    A `LacunarError`: neither; no overlap; a rotated image, or one without a CRS where the region has another.
    """

    def __init__(self, scene: Scene, clip: str) -> None:
        super().__init__(scene.path)
        self._scene, self.clip = scene, clip
        self._close_after.callback(scene.close)
        for name in ("name", "title", "kind", "crs", "quantity", "units", "product_id", "date", "channels", "inputs"):
            setattr(self, name, getattr(scene, name))
        if scene.transform.b or scene.transform.d:
            raise RasterError(f"{scene.name} lies on a rotated grid, of which no part is cut: warp it first (gdalwarp)")
        box, self._shapes = _box_of(clip, scene) if "," in clip else _polygons_of(Path(clip), scene)
        self._window = _window_of(box, scene, clip)
        self.shape = self._window.shape
        self.transform = scene.transform @ Affine.translation(self._window.col, self._window.row)
        self.notes = (*scene.notes, f"clipped to {clip}")

    def check_lst(self, *, needs_qa: bool = True) -> None:
        """As the whole scene does."""
        self._scene.check_lst(needs_qa=needs_qa)

    def measured(self, window: Tile | None = None) -> Measured:
        """A window; outside polygons nothing is known or missing."""
        window = window or self._whole
        part, inside = self._scene.measured(self._there(window)), self._in_region(window)
        remarks = {text: where & inside for text, where in part.remarks.items()}
        return replace(part, known=part.known & inside, missing=part.missing & inside, remarks=remarks)

    def lst_record(self) -> dict[str, Any]:
        """That of the whole scene, and the region."""
        return self._scene.lst_record() | {"clip": self.clip}

    def lst_notes(self) -> tuple[str, ...]:
        """Those of the whole scene."""
        return self._scene.lst_notes()

    def intermediates(self, window: Tile | None = None) -> Mapping[str, NDArray[np.float64]]:
        """Of a window."""
        return self._scene.intermediates(self._there(window or self._whole))

    @property
    def has_quality(self) -> bool:
        """As of the whole scene."""
        return self._scene.has_quality

    @property
    def band_names(self) -> tuple[BandName, ...]:
        """Those of the whole scene."""
        return self._scene.band_names

    @property
    def band_units(self) -> str:
        """Those of the whole scene."""
        return self._scene.band_units

    @property
    def band_notes(self) -> tuple[str, ...]:
        """Those of the whole scene, and the region."""
        return (*self._scene.band_notes, f"clipped to {self.clip}")

    def reflectance(self, window: Tile) -> Planes:
        """Of a window; NaN outside polygons."""
        planes = self._scene.reflectance(self._there(window))
        planes[:, ~self._in_region(window)] = np.nan
        return planes

    def _there(self, window: Tile) -> Tile:
        """Where a window lies in the whole scene."""
        return Tile(window.row + self._window.row, window.col + self._window.col, window.height, window.width)

    def _in_region(self, window: Tile) -> BoolArray:
        if not self._shapes:
            return np.ones(window.shape, dtype=np.bool_)
        transform = self.transform @ Affine.translation(window.col, window.row)
        return np.asarray(geometry_mask(self._shapes, window.shape, transform, invert=True))


def _box_of(text: str, scene: Scene) -> tuple[tuple[float, ...], list[Any]]:
    parts = [part.strip() for part in text.split(",")]
    try:
        left, bottom, right, top = (float(part) for part in parts[:4])
        crs = CRS.from_user_input(",".join(parts[4:])) if parts[4:] else scene.crs
    except Exception as error:  # of float, and of PROJ
        raise LacunarError(f"box {text!r}: {_BOX}") from error
    if not (np.isfinite([left, bottom, right, top]).all() and left < right and bottom < top):
        raise LacunarError(f"box {text!r} is empty: {_BOX}")
    if crs == scene.crs:
        return (left, bottom, right, top), []
    if scene.crs is None:
        raise LacunarError(f"box {text!r} is in {crs}, {scene.name} has no CRS: {_BOX}")
    return transform_bounds(crs, scene.crs, left, bottom, right, top), []


def _polygons_of(path: Path, scene: Scene) -> tuple[tuple[float, ...], list[Any]]:
    shapes = read_vectors(path)
    shapes = shapes[~(shapes.geometry.is_empty | shapes.geometry.isna())]
    if shapes.crs is None or scene.crs is None:
        if shapes.crs is not None or scene.crs is not None:
            bare = path if shapes.crs is None else scene.name
            raise LacunarError(f"{bare} has no CRS: wanted one in both the image and {path}; assign it")
    else:
        shapes = shapes.to_crs(scene.crs)
    if shapes.empty:
        raise LacunarError(f"{path} holds no polygon: wanted one or more")
    return tuple(shapes.total_bounds), list(shapes.geometry)


def _window_of(box: tuple[float, ...], scene: Scene, clip: str) -> Tile:
    """The pixels whose centres lie in a box."""
    t, (height, width) = scene.transform, scene.shape
    cols = sorted((x - t.c) / t.a - 0.5 for x in (box[0], box[2]))
    rows = sorted((y - t.f) / t.e - 0.5 for y in (box[1], box[3]))
    left, right = max(0, int(np.ceil(cols[0]))), min(width, int(np.floor(cols[1])) + 1)
    top, bottom = max(0, int(np.ceil(rows[0]))), min(height, int(np.floor(rows[1])) + 1)
    if left >= right or top >= bottom:
        x, y = sorted((t.c, t.c + t.a * width)), sorted((t.f, t.f + t.e * height))
        place = f"x {x[0]:.7g} to {x[1]:.7g}, y {y[0]:.7g} to {y[1]:.7g} in {scene.crs or 'pixels'}"
        raise RasterError(f"{clip} holds no pixel of {scene.name}, which spans {place}: wanted a part of it")
    return Tile(top, left, bottom - top, right - left)
