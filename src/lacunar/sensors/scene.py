"""Images in which water is looked for: a picture, a raster of several bands, or a Landsat product.

All become a `Scene`: any window of it as six planes in the order of `lacunar.sensors.bands.BANDS`, divided by the
image's one
common scale, NaN where a band is lacking or a pixel is not valid. Nothing is read whole, so that size does not matter.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS

from lacunar.errors import LacunarError, RasterError
from lacunar.geo.picture import UPRIGHT, orientation_of, upright, window_in_file
from lacunar.geo.raster import RasterSource, open_raster
from lacunar.geo.windows import Tile, blocks_over
from lacunar.sensors.bands import BANDS, BandName, channel_names, common_scale, encoding_of, place_bands, present_bands
from lacunar.sensors.dates import date_in
from lacunar.sensors.landsat import Product, QaClass, open_product
from lacunar.sensors.sebal import surface_reflectance_from_level2, toa_reflectance

SceneKind = Literal["picture", "raster", "product"]

SAMPLE_SIDE = 256  # of the blocks whose pixels give the common scale
SAMPLE_BLOCKS = 36  # of them, spread over the image: all of it up to 1536 x 1536 pixels
LANDSAT_BANDS = dict(zip(BANDS, range(2, 8), strict=True))  # Landsat 8 and 9
ARCHIVES = (".tar", ".gz", ".tgz")  # endings of a product in one file
PICTURE_CHANNELS = (1, 3)
CLOUD_CLASSES: tuple[QaClass, ...] = ("cloud", "cloud_shadow")  # of a product's quality band, that hide water
CLOUD_SIDE = 1024  # of the blocks in which they are counted

_GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo 1, spread evenly whatever their number

Channels = NDArray[np.float32]
Reader = Callable[[Tile], Channels]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """An open image of six planes. Made by `open_scene`.

    Parameters
    ----------
    path, name
        File or folder, and its last part.
    kind
        ``"picture"``: one or three channels of 8 or 16 bits without a position; ``"raster"``; or ``"product"``.
    shape, transform, crs
        Size and position.
    bands
        Those that it has, in the order of `lacunar.sensors.bands.BANDS`.
    units
        How stored values became reflectance, in words.
    scale
        The common scale: reflectance by which all planes are divided.
    date
        When it was taken, where that is known.
    notes
        What a user should know.
    inputs
        Files that are read.
    reflectance
        Gives any window as (6, H, W); NaN in planes that are lacking, and in all planes where a pixel is not valid.
    """

    path: Path
    name: str
    kind: SceneKind
    shape: tuple[int, int]
    transform: Affine
    crs: CRS | None
    bands: tuple[BandName, ...]
    units: str
    scale: float
    date: date | None
    notes: tuple[str, ...]
    inputs: tuple[Path, ...]
    reflectance: Reader

    def read(self, window: Tile) -> Channels:
        """A window as (6, H, W), divided by the common scale: what a network sees."""
        return self.reflectance(window) / np.float32(self.scale)

    def record(self) -> dict[str, Any]:
        """What a sidecar says of it, ready for JSON."""
        return {
            "input": str(self.path),
            "kind": self.kind,
            "size": list(self.shape),
            "crs": str(self.crs) if self.crs else None,
            "date": self.date.isoformat() if self.date else None,
            "bands": list(self.bands),
            "units": self.units,
            "common_scale": float(f"{self.scale:.7g}"),
            "notes": list(self.notes),
        }


@contextmanager
def open_scene(
    path: Path,
    *,
    bands: Sequence[str] = (),
    scale: float | None = None,
    offset: float | None = None,
    nodata: float | None = None,
    keep_clouds: bool = False,
) -> Iterator[Scene]:
    """Open an image, tell what its channels and values are, and find its common scale from a sample of blocks.

    Parameters
    ----------
    path
        A picture, any raster that GDAL reads, or a Landsat 8/9 product (folder or .tar).
    bands
        What the file's channels are, in their order (`lacunar.sensors.bands.parse_bands`); an alpha channel does not
        count.
        Where it is not given, the file's own descriptions count, and three channels are red, green, blue.
    scale, offset
        Reflectance = value x scale + offset, in place of what the file declares.
    nodata
        A pixel whose channels all hold this value, as it is stored, is not valid; besides what the file declares.
    keep_clouds
        Of a product: what its quality band calls cloud or cloud shadow stays valid.

    Yields
    ------
    Scene
        Open until the ``with`` block ends.

    Raises
    ------
    LacunarError
        No such file, a file that is cut off or no image, channels that nobody named or that do not fit, values that
        may be raw digital numbers, or no valid pixel.
    """
    if path.is_dir() or (path.is_file() and path.suffix.lower() in ARCHIVES):
        if bands or not scale is offset is nodata is None:
            raise LacunarError(
                f"{path.name} is a Landsat product, which brings its own bands, scales and offsets: leave out --bands, "
                "--scale, --offset and --nodata"
            )
        yield _product_scene(path, open_product(path, purpose="water"), keep_clouds=keep_clouds)
        return
    with open_raster(path) as source:
        yield _raster_scene(source, bands, scale, offset, nodata)


# --- Landsat products ---


def _product_scene(path: Path, product: Product, *, keep_clouds: bool) -> Scene:
    """Bands 2 to 7 of a product, as many as there are."""
    prefix = "B" if product.level == 1 else "SR_B"
    names = tuple(band for band, number in LANDSAT_BANDS.items() if f"{prefix}{number}" in product.sources)
    hidden: tuple[QaClass, ...] = () if keep_clouds else CLOUD_CLASSES

    def channels(window: Tile) -> Channels:
        planes = np.stack([_landsat_band(product, f"{prefix}{LANDSAT_BANDS[band]}", window) for band in names])
        if product.has_qa:
            planes[:, product.qa_flags(["fill", *hidden], window=window)] = np.nan
        return planes

    read = _planes_of(channels, names)
    lacking = [band for band in BANDS if band not in names]
    notes = product.notes + ((f"the product lacks {', '.join(lacking)}",) if lacking else ())
    notes += _cloud_notes(product) if not keep_clouds else ()
    surface = "surface" if product.level == 2 else "top-of-atmosphere"
    return Scene(
        path=path,
        name=path.name,
        kind="product",
        shape=product.shape,
        transform=product.transform,
        crs=product.crs,
        bands=names,
        units=f"{surface} reflectance by the coefficients of the MTL file",
        scale=_common_scale(sample_planes(read, product.shape, path.name)),
        date=date_in(product.mtl.date),
        notes=notes,
        inputs=tuple(path.iterdir()) if path.is_dir() else (path,),
        reflectance=read,
    )


def _cloud_notes(product: Product) -> tuple[str, ...]:
    """What a user should know about clouds: their share of the footprint, or that nothing tells."""
    if not product.has_qa:
        return ("the product has no quality band: clouds and their shadows are not masked",)
    seen = hidden = 0
    for block in blocks_over(product.shape, block=CLOUD_SIDE, halo=0):
        footprint = ~product.qa_flags(["fill"], window=block.core)
        seen += int(footprint.sum())
        hidden += int((footprint & product.qa_flags(CLOUD_CLASSES, window=block.core)).sum())
    if not hidden:
        return ()
    return (f"{hidden / seen:.1%} is cloud or cloud shadow by the quality band: not valid; --keep-clouds maps it",)


def _landsat_band(product: Product, band: str, window: Tile) -> Channels:
    """Reflectance of a band, NaN at fill."""
    dn = product.read(band, window=window)
    mult, add = product.coefficients("REFLECTANCE", band)
    if product.level == 2:
        return surface_reflectance_from_level2(dn, mult=mult, add=add).astype(np.float32)
    elevation = product.mtl.constant("SUN_ELEVATION")
    return toa_reflectance(dn, mult=mult, add=add, sun_elevation=elevation).astype(np.float32)


# --- pictures and rasters ---


def _raster_scene(
    source: RasterSource, bands: Sequence[str], scale: float | None, offset: float | None, nodata: float | None
) -> Scene:
    """The channels of a file but for alpha, which is its mask."""
    name = source.path.name
    if "palette" in source.colours:
        raise RasterError(f"{name} is a palette picture, whose numbers are no colours: save it as RGB")
    chosen = [index for index, colour in enumerate(source.colours, start=1) if colour != "alpha"]
    names, notes = channel_names(source, chosen, bands)
    dtype = source.dtypes[chosen[0] - 1]
    placed = source.crs is not None or not source.transform.is_identity
    picture = not placed and dtype in ("uint8", "uint16") and len(chosen) in PICTURE_CHANNELS
    undeclared = nodata is None and not picture and all(source.nodatavals[i - 1] is None for i in chosen)
    if undeclared and dtype != "uint8":
        nodata = 0.0
        notes += ("the file declares no nodata: pixels that are 0 in all channels are not valid",)
    orientation = orientation_of(source.path) if not placed else UPRIGHT
    stored, shape = _turned(_stored(source, chosen, nodata), source.shape, orientation)
    raw = _planes_of(stored, names)
    sample = sample_planes(raw, shape, name)
    if undeclared and dtype == "uint8" and (black := float((np.nan_to_num(sample) == 0).all(axis=0).mean())) > 0:
        notes += (f"{black:.1%} of the pixels are 0 in all channels and count as black: if that is fill, --nodata 0",)
    encoding = encoding_of(source, chosen, sample, scale, offset, picture=picture)
    factor, addend = np.float32(encoding.scale), np.float32(encoding.offset)
    return Scene(
        path=source.path,
        name=name,
        kind="picture" if picture else "raster",
        shape=shape,
        transform=source.transform,
        crs=source.crs,
        bands=present_bands(names),
        units=encoding.meaning,
        scale=_common_scale(sample * factor + addend),
        date=date_in(name),
        notes=notes,
        inputs=(source.path,),
        reflectance=lambda window: raw(window) * factor + addend,
    )


def _stored(source: RasterSource, chosen: Sequence[int], nodata: float | None) -> Reader:
    """Channels (C, H, W) as the file declares them; NaN where all hold a stored value that is none."""
    if nodata is None:
        return lambda window: source.read(window, bands=chosen).data
    factors, addends = (np.array([values[i - 1] for i in chosen]) for values in (source.scales, source.offsets))
    nothing = (nodata * factors + addends).astype(np.float32)[:, None, None]

    def read(window: Tile) -> Channels:
        values = source.read(window, bands=chosen).data
        values[:, (values == nothing).all(axis=0)] = np.nan
        return values

    return read


def _turned(read: Reader, shape: tuple[int, int], orientation: int) -> tuple[Reader, tuple[int, int]]:
    """A reader of the upright picture, with its height and width, of one of the file's."""
    if orientation == UPRIGHT:
        return read, shape
    whole = window_in_file(Tile(0, 0, *shape), shape, orientation).shape  # a quarter turn swaps them

    def read_upright(window: Tile) -> Channels:
        values = read(window_in_file(window, whole, orientation))
        return np.moveaxis(upright(np.moveaxis(values, 0, -1), orientation), -1, 0)

    return read_upright, whole


# --- what all have in common ---


def _planes_of(channels: Reader, names: Sequence[str]) -> Reader:
    """Channels of a window in the order of `BANDS`; a pixel that one of them lacks is not valid in any."""
    used = [index for index, name in enumerate(names) if name in BANDS]

    def read(window: Tile) -> Channels:
        values = channels(window)
        values[:, np.isnan(values[used]).any(axis=0)] = np.nan
        return place_bands(values, names)

    return read


def sample_planes(read: Reader, shape: tuple[int, int], name: str) -> Channels:
    """Valid pixels of blocks that are spread over an image, (6, N).

    Parameters
    ----------
    read
        Gives any window, (6, H, W).
    shape
        Rows and columns.
    name
        What the image is called in an error.

    Raises
    ------
    RasterError
        No valid pixel in the whole image.
    """
    blocks = blocks_over(shape, block=SAMPLE_SIDE, halo=0)
    found: list[Channels] = []
    for index in sorted(range(len(blocks)), key=lambda number: number * _GOLDEN % 1):
        planes = read(blocks[index].core)
        valid = ~np.isnan(planes).all(axis=0)
        if valid.any():
            found.append(planes[:, valid])
        if len(found) == SAMPLE_BLOCKS:
            break
    if not found:
        raise RasterError(f"{name}: no valid pixel, all is nodata or masked: check the file and its nodata value")
    return np.concatenate(found, axis=1)


def _common_scale(sample: Channels) -> float:
    """Of a sample (6, N)."""
    return common_scale(sample[:, None], np.ones((1, sample.shape[1]), dtype=np.bool_))
