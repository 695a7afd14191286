"""What is missing, as a short list of edits: quality classes, an imported mask, grown by some pixels, then strokes.

A mask is worked out where it is looked at, window by window; undo is a shorter list.
"""

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from scipy import ndimage
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry

from lacunar.errors import LacunarError
from lacunar.geo.grid import check_same_grid
from lacunar.geo.masks import read_mask
from lacunar.geo.picture import Picture, read_picture, write_picture
from lacunar.geo.raster import RasterSource, RasterWriter
from lacunar.geo.windows import Tile, blocks_over
from lacunar.sensors.landsat_qa import GAP_CLASSES, QaClass
from lacunar.web.store import read_json, write_json
from lacunar.web.views import CLASSES, MISSING_BIT, OUTSIDE_BIT, read_window

MAX_GROW = 200  # pixels
MAX_RADIUS = 2000.0  # pixels of a brush
MAX_STROKES, MAX_POINTS = 2000, 20_000
COUNTED = 1024  # pixels a side from which the share of a mask is told
IMPORTED = "imported_mask.tif"
SUSPECTS = "suspects.tif"  # numbered places that look like cloud
PLACES = 2000  # of them at most
BLOCK = 1024

Bools = NDArray[np.bool_]
Number = Annotated[int, Field(ge=1, le=PLACES)]
Place = tuple[Annotated[float, Field(ge=-1e6, le=1e6)], Annotated[float, Field(ge=-1e6, le=1e6)]]


class Stroke(BaseModel):
    """A stroke of a brush, or a polygon: points (row, column) in pixels from the upper left corner."""

    model_config = ConfigDict(extra="forbid")
    points: list[Place] = Field(min_length=1, max_length=MAX_POINTS)
    radius: float | None = Field(default=None, gt=0, le=MAX_RADIUS, description="of a brush; a polygon has none")
    erase: bool = False

    def shape(self) -> BaseGeometry:
        """The area that it covers, x the column and y the row; a polygon that crosses itself by the even-odd rule."""
        places = [(col, row) for row, col in self.points]
        if self.radius is not None:
            return (LineString(places) if len(places) > 1 else Point(places[0])).buffer(self.radius)
        if len(places) < 3:
            return Polygon()
        return Polygon(places).buffer(0)


class Edits(BaseModel):
    """A mask: quality classes, an imported mask, suspect places, grown by ``grow`` pixels, then strokes in order."""

    model_config = ConfigDict(extra="forbid")
    classes: list[QaClass] = Field(default_factory=list)
    grow: int = Field(default=0, ge=0, le=MAX_GROW)
    imported: bool = False
    accepted: list[Number] = Field(default_factory=list, max_length=PLACES, description="suspect places to be filled")
    refused: list[Number] = Field(default_factory=list, max_length=PLACES, description="suspect places that stay")
    strokes: list[Stroke] = Field(default_factory=list, max_length=MAX_STROKES)

    @property
    def only_classes(self) -> bool:
        """Whether the classes alone say it, so that a job needs no mask file."""
        return not (self.grow or self.imported or self.accepted or self.strokes)


class Mask:
    """The mask of an opened raster, in its folder."""

    def __init__(self, folder: Path, info: dict[str, Any]) -> None:
        self._folder, self._info = folder, info
        self.shape = (int(info["shape"][0]), int(info["shape"][1]))
        self.grid = Grid(self.shape, info)

    def edits(self) -> Edits:
        """The edits that were saved; at first the usual quality classes, which a raster without them ignores."""
        saved = read_json(self._folder / "edits.json")
        if saved is not None:
            return Edits.model_validate(saved)
        return Edits(classes=[name for name in GAP_CLASSES if name in self._info["classes"]])

    def save(self, edits: Edits) -> None:
        """Keep edits; ``imported`` needs an imported mask, suspect places a search."""
        if edits.imported and not (self._folder / IMPORTED).is_file():
            raise LacunarError("no mask was imported: import one first (POST .../mask)")
        if (edits.accepted or edits.refused) and not (self._folder / SUSPECTS).is_file():
            raise LacunarError("no suspect places were looked for: do that first (POST .../suspects)")
        write_json(self._folder / "edits.json", edits.model_dump())

    def take(self, path: Path) -> Edits:
        """Import a mask on the grid of the raster (of a picture: white = to be filled); all other edits go."""
        if self._is_picture and path.suffix.lower() not in (".tif", ".tiff"):
            picture = Path(self._info["source"])
            gap = read_mask(path, read_picture(picture), of=picture).missing
        else:
            with RasterSource(path) as source:
                check_same_grid(self.grid, source, names=(self._info["name"], path.name))
                gap = np.zeros(self.shape, dtype=np.bool_)
                for block in blocks_over(self.shape, block=BLOCK, halo=0):
                    part = source.read(block.core, bands=[1])
                    gap[block.core.slices] = part.known[0] & (np.nan_to_num(part.data[0]) != 0)
        with self._writer(self._folder / IMPORTED) as writer:
            writer.write(gap[None].astype(np.float32))
        edits = Edits(imported=True)
        self.save(edits)
        return edits

    def window(self, edits: Edits, window: Tile, step: int = 1) -> Bools:
        """Where pixels (ceil(h / step), ceil(w / step)) of a window are to be filled."""
        margin = math.ceil(edits.grow / step)
        above, left = min(margin, window.row // step), min(margin, window.col // step)
        wide = Tile(
            window.row - above * step,
            window.col - left * step,
            window.height + (above + margin) * step,
            window.width + (left + margin) * step,
        )
        gap, forced, outside = self._base(edits, wide, step)
        if edits.grow and gap.any():
            gap = ndimage.distance_transform_edt(~gap) <= edits.grow / step
        transform = Affine(step, 0, wide.col, 0, step, wide.row)
        for stroke in edits.strokes:
            shape = stroke.shape()
            x0, y0, x1, y1 = shape.bounds if not shape.is_empty else (0, 0, -1, -1)
            touches = x1 >= wide.col and x0 <= wide.col + wide.width and y1 >= wide.row and y0 <= wide.row + wide.height
            if shape.is_empty or not touches:
                continue
            gap[geometry_mask([shape], gap.shape, transform, invert=True)] = not stroke.erase
        gap = (gap | forced) & ~outside
        rows, cols = -(-window.height // step), -(-window.width // step)
        return np.asarray(gap[above : above + rows, left : left + cols])

    def share(self, edits: Edits) -> tuple[float, bool]:
        """Share of the image that is to be filled, and whether it is counted on every pixel."""
        whole, step = Tile(0, 0, *self.shape), -(-max(self.shape) // COUNTED)
        _, _, outside = self._base(Edits(), whole, step)
        gap = self.window(edits, whole, step)
        return float(gap.sum() / max(1, (~outside).sum())), step == 1

    def write(self, edits: Edits, path: Path) -> bool:
        """Write the whole mask: GeoTIFF on the grid, 1 = missing (of a picture PNG, white); whether any pixel is."""
        if self._is_picture:
            gap = self.window(edits, Tile(0, 0, *self.shape))
            write_picture(path, Picture(np.where(gap, np.uint8(255), np.uint8(0))[..., None]))
            return bool(gap.any())
        found = False
        with self._writer(path) as writer:
            for block in blocks_over(self.shape, block=BLOCK, halo=0):
                gap = self.window(edits, block.core)
                writer.write(gap[None].astype(np.float32), block.core)
                found |= bool(gap.any())
        return found

    @property
    def file_name(self) -> str:
        """Name of the file that `write` makes."""
        return "mask.png" if self._is_picture else "mask.tif"

    @property
    def _is_picture(self) -> bool:
        return "picture" in self._info["jobs"]

    def _base(self, edits: Edits, window: Tile, step: int) -> tuple[Bools, Bools, Bools]:
        """What classes, imported mask and accepted places name, what no edit takes away, and what lies outside."""
        rows, cols = -(-window.height // step), -(-window.width // step)
        row, col = np.mgrid[window.row : window.row + rows * step : step, window.col : window.col + cols * step : step]
        beyond = (row >= self.shape[0]) | (col >= self.shape[1])
        gap, forced, outside = np.zeros((rows, cols), dtype=np.bool_), np.zeros((rows, cols), dtype=np.bool_), beyond
        if "flags" in self._info["bands"]:
            number = self._info["bands"].index("flags") + 1
            read = read_window(self._folder / self._info["file"], [number], window, step)[0]
            flags = np.nan_to_num(read).astype(np.int64)
            chosen = sum(1 << CLASSES.index(name) for name in edits.classes if name in CLASSES)
            lacking = flags & MISSING_BIT > 0
            gap, outside = (flags & chosen > 0) | lacking, beyond | (flags & OUTSIDE_BIT > 0)
            forced = lacking if self._info["kind"] == "product" else forced
        if edits.imported:
            gap = gap | (np.nan_to_num(read_window(self._folder / IMPORTED, [1], window, step)[0]) > 0)
        if edits.accepted:
            gap = gap | np.isin(read_window(self._folder / SUSPECTS, [1], window, step)[0], edits.accepted)
        return gap, forced, outside

    def _writer(self, path: Path) -> RasterWriter:
        grid = self.grid
        return RasterWriter(
            path, shape=self.shape, transform=grid.transform, crs=grid.crs, band_names=("missing",), overwrite=True
        )


class Grid:
    """The grid of a raster from what is known of its view."""

    def __init__(self, shape: tuple[int, int], info: dict[str, Any]) -> None:
        self.shape, self.transform = shape, Affine(*info["transform"])
        self.crs = CRS.from_string(info["crs"]) if info["crs"] else None
