"""What fillers are judged on: clear tiles of real rasters with real cloud shapes transplanted on them."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from lacunar.datasets import KELVIN_PER_COUNT, load_pack, pack_lst, place_of
from lacunar.errors import LacunarError
from lacunar.masks import gap_pattern

RATES = (0.15, 0.22, 0.50)  # missing rates of Bezerra et al. 2024

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """A tile whose truth is known, and the gap to be filled.

    Parameters
    ----------
    scene
        Name of the raster that the tile is from: place, sensor and date.
    row, col
        Where the tile begins in the raster.
    rate
        Missing rate.
    values, gap
        (H, W): the truth, without a hole, and the pixels that are hidden.
    low, high
        Extremes of the whole raster: the data range of its PSNR and SSIM.
    """

    scene: str
    row: int
    col: int
    rate: float
    values: FloatArray
    gap: BoolArray
    low: float
    high: float

    @property
    def name(self) -> str:
        """Scene, tile and rate, as one word."""
        return f"{self.scene}+{self.row}+{self.col}@{self.rate:g}"

    @property
    def place(self) -> str:
        """The place of the scene."""
        return place_of(self.scene)


def read_scenes(rasters: Path, clouds: Path) -> tuple[dict[str, FloatArray], tuple[BoolArray, ...]]:
    """Read LST rasters (kelvin, NaN = unknown) and cloud masks as training reads them: through the same pack.

    Raises
    ------
    TrainingError
        As `lacunar.datasets.pack_lst`: no raster or no folder.
    """
    with TemporaryDirectory() as folder:
        packed = Path(folder) / "scenes.npz"
        pack_lst(rasters, clouds, packed)
        pack = load_pack(packed)
    kelvin = (np.where(counts > 0, counts * KELVIN_PER_COUNT, np.nan) for counts in pack.rasters)
    return dict(zip(pack.names, kelvin, strict=True)), pack.clouds


def lst_cases(
    rasters: Mapping[str, FloatArray],
    clouds: Sequence[BoolArray],
    *,
    rates: Sequence[float] = RATES,
    size: int = 64,
    per_raster: int = 4,
    seed: int = 0,
) -> list[Case]:
    """Cut clear tiles and hide a real cloud's shape in each; the same tiles and clouds at every rate.

    Parameters
    ----------
    rasters
        Scene -> (H, W), NaN = unknown. A scene's cases depend on its name and the seed, not on the other scenes.
    clouds
        Boolean cloud masks, True = cloud; those smaller than a tile are left out.
    rates
        Missing rates, each exact to one pixel.
    size, per_raster
        Side of a tile, and tiles from each raster; they do not overlap.
    seed
        Of tiles, clouds and crops.

    Returns
    -------
    list of Case
        Scene by scene, tile by tile, rate by rate.

    Raises
    ------
    LacunarError
        No cloud mask of a tile's size, or a raster with too few clear tiles.
    """
    fitting = [cloud for cloud in clouds if min(cloud.shape) >= size]
    if not fitting:
        raise LacunarError(f"none of {len(clouds)} cloud masks has {size} x {size} pixels: give larger masks")
    cases = []
    for scene, raster in rasters.items():
        rng = np.random.default_rng((seed, zlib.crc32(scene.encode())))
        low, high = float(np.nanmin(raster)), float(np.nanmax(raster))
        for row, col in _clear_tiles(raster, size, per_raster, rng, scene):
            tile = raster[row : row + size, col : col + size].astype(np.float64)
            cloud, crop_seed = fitting[rng.integers(len(fitting))], int(rng.integers(2**32))
            for rate in rates:
                same_crop = np.random.default_rng(crop_seed)
                gap = gap_pattern("cloud", (size, size), rate, rng=same_crop, cloud=cloud)
                cases.append(Case(scene, row, col, rate, tile, gap, low, high))
    return cases


def _clear_tiles(
    raster: FloatArray, size: int, count: int, rng: np.random.Generator, scene: str
) -> list[tuple[int, int]]:
    """Corners of fully known tiles of a lattice with a random origin, in random order."""
    known = np.isfinite(raster)
    starts = [range(int(rng.integers(min(size, max(1, n - size + 1)))), n - size + 1, size) for n in raster.shape]
    corners = [(r, c) for r in starts[0] for c in starts[1] if known[r : r + size, c : c + size].all()]
    if len(corners) < count:
        raise LacunarError(
            f"{scene} has {len(corners)} clear tiles of {size} pixels, wanted {count}: take fewer or smaller tiles"
        )
    return [corners[i] for i in rng.permutation(len(corners))[:count]]
