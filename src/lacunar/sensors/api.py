"""Open a scene as labelled arrays: the public function of this room."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  # registers the accessor `rio`
import xarray as xr
from numpy.typing import NDArray

from lacunar.geo.labelled import COL, MISSING, ROW, coordinates_of
from lacunar.geo.windows import Tile, blocks_over
from lacunar.sensors.bands import BANDS
from lacunar.sensors.scene import Scene
from lacunar.sensors.scene import open_scene as open_windows

BLOCK = 1024  # side of the windows in which a scene is read


class LabelledScene(AbstractContextManager["LabelledScene"]):
    """A scene as DataArrays with coordinates, CRS and units. Made by `open_scene`."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene  # size, CRS, date, notes; windows as numpy arrays

    def __exit__(self, *_: object) -> None:
        self.scene.close()

    def lst(self, *, needs_qa: bool = True) -> xr.DataArray:
        """Land surface temperature (y, x) in kelvin, float32; of a raster its single band, in its own unit.

        NaN where not measured. The coordinate ``missing`` marks the pixels to be filled, which `lacunar.fill` heeds:
        clouds, but not what lies outside the image. A product with neither quality band nor gap mask is refused; with
        ``needs_qa=False`` all of its pixels count as measured. A scene without LST, of several bands, or damaged is a
        `LacunarError`.
        """
        scene = self.scene
        scene.check_lst(needs_qa=needs_qa)
        values = np.empty(scene.shape, dtype=np.float32)
        missing = np.empty(scene.shape, dtype=np.bool_)
        for window in self._windows():
            part = scene.lst(window)
            values[window.slices] = np.where(part.known, part.values, np.nan)
            missing[window.slices] = part.missing
        said = {}
        if scene.quantity == "lst":
            said = {"long_name": "land surface temperature", "comment": "clear-sky-equivalent"}
        lst = self._labelled(values, scene.quantity, said, scene.units, scene.lst_notes())
        return lst.assign_coords({MISSING: ((ROW, COL), missing)})

    def valid(self, *, needs_qa: bool = True) -> xr.DataArray:
        """Where `lst` is measured, (y, x) booleans."""
        lst = self.lst(needs_qa=needs_qa)
        return lst.notnull().rename("valid").drop_vars(MISSING)

    def bands(self) -> xr.DataArray:
        """Reflectance (band, y, x) of the bands that the image has, float32; NaN where not valid.

        Bands have the names and the order of `lacunar.sensors.bands.BANDS`. A scene without a valid pixel, or whose
        bands or units are unknown, is a `LacunarError`.
        """
        scene = self.scene
        scene.check_bands()
        chosen = [BANDS.index(name) for name in scene.band_names]
        values = np.empty((len(chosen), *scene.shape), dtype=np.float32)
        for window in self._windows():
            values[:, *window.slices] = scene.reflectance(window)[chosen]
        bands = self._labelled(values, "reflectance", {"long_name": scene.band_units}, "1", scene.band_notes)
        return bands.assign_coords(band=list(scene.band_names))

    def _windows(self) -> list[Tile]:
        return [block.core for block in blocks_over(self.scene.shape, block=BLOCK, halo=0)]

    def _labelled(
        self, values: NDArray[Any], name: str, said: dict[str, str], units: str, notes: tuple[str, ...]
    ) -> xr.DataArray:
        """An array with coordinates, CRS and attributes."""
        scene = self.scene
        date = scene.date.isoformat() if scene.date else ""
        attrs = {"units": units, "source": scene.product_id or scene.name, "notes": "; ".join(notes), "date": date}
        dims = (*(["band"] if values.ndim == 3 else []), ROW, COL)
        kept = {key: text for key, text in (said | attrs).items() if text}
        array = xr.DataArray(values, dims=dims, coords=coordinates_of(scene), attrs=kept, name=name)
        placed: xr.DataArray = array if scene.crs is None else array.rio.write_crs(scene.crs)
        return placed


def open_scene(path: str | Path, **how: Any) -> LabelledScene:  # noqa: ANN401  # they are checked there
    """Open a Landsat 8/9 product (folder or .tar), a raster or a picture, without reading a pixel.

    Parameters
    ----------
    path
        The file or folder.
    **how
        ``gap_mask``, ``lst_options``, ``bands``, ``scale``, ``offset``, ``nodata``, ``keep_clouds``, as
        `lacunar.sensors.scene.open_scene` describes them.

    Raises
    ------
    LacunarError
        No such file, a file that is cut off or no image, a product without metadata or position.

    Examples
    --------
    >>> import lacunar as lc, tempfile
    >>> from lacunar.sensors.simulated import simulate_product
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     product = simulate_product(folder + "/product", size=64, seed=1)
    ...     with lc.open_scene(product.folder) as scene:
    ...         lst = scene.lst()
    >>> lst.dims, lst.attrs["units"], lst.rio.crs.to_epsg(), lst.attrs["date"]
    (('y', 'x'), 'K', 32619, '2022-11-15')
    """
    return LabelledScene(open_windows(path, **how))
