"""What fillers are judged on: clear tiles of real rasters with gaps of known shape, alone or beside another date."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import permutations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.geo.missing_shapes import PatternName, gap_pattern
from lacunar.train.lst_data import KELVIN_PER_COUNT, load_lst, pack_lst, place_of

RATES = (0.15, 0.22, 0.50)  # missing rates of Bezerra et al. 2024
MONTH = 31  # days: up to here two dates are "within a month"
LIKE_SEASON = 45  # days between two days of the year, around the year's end too: up to here the season is alike
WITHIN_MONTH, LIKE, UNLIKE = GROUPS = ("within a month", "like season, another year", "other season")
MIN_SHOWN = 0.5  # share of a tile that its reference must show

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
    references
        The same tile (H, W) of other dates, NaN where unknown.
    reference, days_apart, group
        Name of the reference's raster, days between the dates, and which of `GROUPS` the pair belongs to.
    """

    scene: str
    row: int
    col: int
    rate: float
    values: FloatArray
    gap: BoolArray
    low: float
    high: float
    references: tuple[FloatArray, ...] = ()
    reference: str = ""
    days_apart: int | None = None
    group: str = ""

    @property
    def name(self) -> str:
        """Scene, tile, rate and reference, as one word."""
        beside = f"~{self.reference}" if self.reference else ""
        return f"{self.scene}+{self.row}+{self.col}@{self.rate:g}{beside}"

    @property
    def place(self) -> str:
        """The place of the scene."""
        return place_of(self.scene)


def read_scenes(rasters: Path, clouds: Path | None) -> tuple[dict[str, FloatArray], tuple[BoolArray, ...]]:
    """Read LST rasters (kelvin, NaN = unknown) and cloud masks as training reads them: through the same pack.

    Raises
    ------
    LacunarError
        No raster or no folder of clouds, or rasters that cannot be in kelvin.
    """
    if not any(rasters.glob("*.tif")):
        raise LacunarError(f"no GeoTIFF in {rasters}; wanted a folder of LST rasters named PLACE_*.tif in kelvin")
    with TemporaryDirectory() as folder:
        packed = Path(folder) / "scenes.npz"
        pack_lst(rasters, clouds, packed)
        pack = load_lst(packed)
    kelvin = (np.where(counts > 0, counts * KELVIN_PER_COUNT, np.nan) for counts in pack.rasters)
    return dict(zip(pack.names, kelvin, strict=True)), pack.clouds


def lst_cases(
    rasters: Mapping[str, FloatArray],
    clouds: Sequence[BoolArray],
    *,
    masks: PatternName = "cloud",
    rates: Sequence[float] = RATES,
    size: int = 64,
    per_raster: int = 4,
    seed: int = 0,
) -> list[Case]:
    """Cut clear tiles and hide a gap in each; the same tiles and shapes at every rate.

    Parameters
    ----------
    rasters
        Scene -> (H, W), NaN = unknown. A scene's cases depend on its name and the seed, not on the other scenes.
    clouds
        Boolean cloud masks, True = cloud; those smaller than a tile are left out. Only the masks ``cloud`` need them.
    masks
        Shape of the gaps (see `lacunar.geo.missing_shapes.gap_pattern`); ``cloud`` transplants real ones.
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
        No clear scene, too few clear tiles in one of them, no cloud mask of a tile's size, or a rate that hides
        nothing or everything.
    """
    fitting = _checked(clouds, masks=masks, rates=rates, size=size)
    tiles, rngs = {}, {}
    for scene, raster in rasters.items():
        rngs[scene] = np.random.default_rng((seed, zlib.crc32(scene.encode())))
        tiles[scene] = _clear_tiles(raster, size, rngs[scene])
    _refuse_without_tiles(tiles, size, per_raster)
    cases = []
    for scene, raster in rasters.items():
        low, high = float(np.nanmin(raster)), float(np.nanmax(raster))
        for row, col in tiles[scene][:per_raster]:
            values = raster[row : row + size, col : col + size].astype(np.float64)
            for rate, gap in _gaps(masks, fitting, rates, size, rngs[scene]):
                cases.append(Case(scene, row, col, rate, values, gap, low, high))
    return cases


def pair_cases(
    rasters: Mapping[str, FloatArray],
    clouds: Sequence[BoolArray],
    *,
    pairs: Sequence[tuple[str, str]] = (),
    per_group: int = 8,
    masks: PatternName = "cloud",
    rates: Sequence[float] = RATES,
    size: int = 64,
    per_pair: int = 4,
    seed: int = 0,
) -> list[Case]:
    """Cases as those of `lst_cases`, each beside the same tile of one other date.

    Parameters
    ----------
    rasters
        Scene -> (H, W), all dates of one grid; each name carries its date as 8 digits.
    clouds, masks, rates, size, seed
        As for `lst_cases`.
    pairs
        Pairs (scene, reference) to take; drawn where none is given.
    per_group
        Pairs drawn from each of `GROUPS`, fewer where there are not so many: dates up to 31 days apart; further apart,
        with days of the year up to 45 days apart; all others. Scenes are used evenly, and before or after their
        reference as it comes.
    per_pair
        Tiles from each pair: known everywhere in the scene, and in half or more of the tile in the reference.

    Returns
    -------
    list of Case
        Pair by pair, tile by tile, rate by rate.

    Raises
    ------
    LacunarError
        As `lst_cases`; a name without a date, rasters of different shape, a pair of unknown or equal names or of one
        date, or no pair.
    """
    fitting = _checked(clouds, masks=masks, rates=rates, size=size)
    shapes = {name: raster.shape for name, raster in rasters.items()}
    if len(set(shapes.values())) > 1:
        first, other = next((a, b) for a, b in permutations(shapes, 2) if shapes[a] != shapes[b])
        raise LacunarError(
            f"{first} has {shapes[first]} pixels and {other} {shapes[other]}; wanted dates of one grid: cut them to it"
        )
    dates = {name: date_of(name) for name in rasters}
    chosen = _given_pairs(pairs, dates) if pairs else _drawn_pairs(dates, per_group, seed)
    cases = []
    for scene, other in chosen:
        raster, beside, days = rasters[scene], rasters[other], abs((dates[scene] - dates[other]).days)
        low, high = float(np.nanmin(raster)), float(np.nanmax(raster))
        rng = np.random.default_rng((seed, zlib.crc32(scene.encode())))
        tiles = _clear_tiles(raster, size, rng, shown=np.isfinite(beside))
        _refuse_without_tiles({f"{scene} beside {other}": tiles}, size, per_pair)
        for row, col in tiles[:per_pair]:
            cut = (slice(row, row + size), slice(col, col + size))
            values, reference = raster[cut].astype(np.float64), beside[cut].astype(np.float64)
            for rate, gap in _gaps(masks, fitting, rates, size, rng):
                group = pair_group(dates[scene], dates[other])
                cases.append(Case(scene, row, col, rate, values, gap, low, high, (reference,), other, days, group))
    return cases


def spread_out(cases: Sequence[Case], count: int) -> list[Case]:
    """At most ``count`` cases of each rate, as far apart in the list as they can be; the same tiles at every rate."""
    chosen = []
    for rate in dict.fromkeys(case.rate for case in cases):
        own = [case for case in cases if case.rate == rate]
        few = min(count, len(own))
        chosen += [own[i * len(own) // few] for i in range(few)]
    return chosen


def date_of(name: str) -> date:
    """The date in a raster's name: 8 digits that stand alone.

    Raises
    ------
    LacunarError
        None, or digits that are no date.

    Examples
    --------
    >>> date_of("muenster_lc08_20250620").isoformat()
    '2025-06-20'
    """
    for digits in re.findall(r"(?<!\d)\d{8}(?!\d)", name):
        try:
            return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
        except ValueError:
            continue
    raise LacunarError(f"{name} carries no date; wanted 8 digits such as 20250620 in the name: rename the raster")


def pair_group(first: date, second: date) -> str:
    """Which of `GROUPS` two dates belong to.

    Examples
    --------
    >>> pair_group(date(2024, 12, 20), date(2022, 1, 10))
    'like season, another year'
    """
    if abs((first - second).days) <= MONTH:
        return WITHIN_MONTH
    around = abs(first.timetuple().tm_yday - second.timetuple().tm_yday)
    return LIKE if min(around, 365 - around) <= LIKE_SEASON else UNLIKE


def _given_pairs(pairs: Sequence[tuple[str, str]], dates: Mapping[str, date]) -> list[tuple[str, str]]:
    """The pairs, if each names two dates that there are."""
    for scene, other in pairs:
        if scene not in dates or other not in dates or dates[scene] == dates[other]:
            raise LacunarError(
                f"got the pair {scene}, {other}; wanted two rasters of different dates out of {', '.join(dates)}"
            )
    return list(pairs)


def _drawn_pairs(dates: Mapping[str, date], per_group: int, seed: int) -> list[tuple[str, str]]:
    """Pairs of each group in random order, those of the scenes used least first."""
    rng = np.random.default_rng((seed, len(dates)))
    there = [pair for pair in permutations(sorted(dates), 2) if dates[pair[0]] != dates[pair[1]]]
    chosen: list[tuple[str, str]] = []
    in_all = dict.fromkeys(dates, 0)
    for group in GROUPS:
        own = [pair for pair in there if pair_group(dates[pair[0]], dates[pair[1]]) == group]
        own = [own[i] for i in rng.permutation(len(own))]
        in_group = dict.fromkeys(dates, 0)
        for _ in range(min(per_group, len(own))):
            pair = min(own, key=lambda pair, group=in_group: (group[pair[0]], in_all[pair[0]]))  # type: ignore[misc]
            own.remove(pair)
            in_group[pair[0]] += 1
            in_all[pair[0]] += 1
            chosen.append(pair)
    if not chosen:
        raise LacunarError(
            f"got {len(dates)} dates and {per_group} pairs of each group; wanted 2 dates and 1 pair or more"
        )
    return chosen


def _checked(
    clouds: Sequence[BoolArray], *, masks: PatternName, rates: Sequence[float], size: int
) -> list[BoolArray | None]:
    """Cloud masks that a tile fits into, or a single None where the gaps are drawn; refuses rates that hide nothing."""
    for rate in rates:
        if not 0 < round(rate * size * size) < size * size:
            raise LacunarError(
                f"a missing rate of {rate:g} hides {round(rate * size * size)} of {size} x {size} pixels; wanted some "
                "hidden and some known: give a share such as 0.22"
            )
    if masks != "cloud":
        return [None]
    fitting: list[BoolArray | None] = [cloud for cloud in clouds if min(cloud.shape) >= size]
    if not fitting:
        raise LacunarError(f"none of {len(clouds)} cloud masks has {size} x {size} pixels: give larger masks")
    return fitting


def _gaps(
    masks: PatternName, clouds: Sequence[BoolArray | None], rates: Sequence[float], size: int, rng: np.random.Generator
) -> list[tuple[float, BoolArray]]:
    """One shape at every rate."""
    cloud, crop_seed = clouds[int(rng.integers(len(clouds)))], int(rng.integers(2**32))
    return [
        (rate, gap_pattern(masks, (size, size), rate, rng=np.random.default_rng(crop_seed), cloud=cloud))
        for rate in rates
    ]


def _clear_tiles(
    raster: FloatArray, size: int, rng: np.random.Generator, *, shown: BoolArray | None = None
) -> list[tuple[int, int]]:
    """Corners of fully known tiles of a lattice with a random origin, in random order; half ``shown`` or more."""
    known = np.isfinite(raster)
    starts = [range(int(rng.integers(min(size, max(1, n - size + 1)))), n - size + 1, size) for n in raster.shape]
    corners = [(r, c) for r in starts[0] for c in starts[1] if known[r : r + size, c : c + size].all()]
    mixed = [corners[i] for i in rng.permutation(len(corners))]
    if shown is None:
        return mixed
    return [(r, c) for r, c in mixed if shown[r : r + size, c : c + size].mean() >= MIN_SHOWN]


def _refuse_without_tiles(tiles: Mapping[str, Sequence[tuple[int, int]]], size: int, count: int) -> None:
    """Refuse rasters that have fewer clear tiles than wanted."""
    if not any(tiles.values()):
        names = next(iter(tiles), "no raster") if len(tiles) < 2 else f"none of {len(tiles)} rasters"
        raise LacunarError(
            f"no clear scene: {names} with a tile of {size} x {size} pixels without a gap of its own, so there is no "
            "truth to compare with: give clear scenes or a smaller tile"
        )
    for scene, corners in tiles.items():
        if len(corners) < count:
            raise LacunarError(
                f"{scene} has {len(corners)} clear tiles of {size} pixels, wanted {count}: take fewer or smaller tiles"
            )
