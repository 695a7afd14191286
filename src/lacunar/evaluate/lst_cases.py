"""Cases of LST: clear tiles of real rasters with missing regions of known shape, alone or beside another date."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.geo.missing_shapes import PatternName, gap_pattern
from lacunar.geo.staging import temporary_room
from lacunar.sensors.scene import date_in
from lacunar.train.lst_data import KELVIN_PER_COUNT, load_lst, pack_lst

RATES = (0.15, 0.22, 0.50)  # missing rates of Bezerra et al. 2024
MONTH = 31  # days: up to here two dates are "within a month"
LIKE_SEASON = 45  # days between two days of the year, around the year's end too: up to here the season is alike
WITHIN_MONTH, LIKE, UNLIKE = GROUPS = ("within a month", "like season, another year", "other season")
MIN_SHOWN = 0.5  # share of a tile that its reference must show

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LstCase:
    """A tile whose truth is known, and what of it is hidden."""

    scene: str  # name of the raster that the tile is from: place, sensor and date
    row: int  # where the tile begins in the raster
    col: int
    rate: float  # missing rate
    truth: FloatArray  # (H, W), kelvin
    missing: BoolArray  # (H, W): the pixels that are hidden
    low: float  # extremes of the whole raster: the data range of its PSNR and SSIM
    high: float
    references: tuple[FloatArray, ...] = ()  # the same tile (H, W) of other dates, NaN where unknown
    reference: str = ""  # name of the reference's raster
    days_apart: int | None = None
    group: str = ""  # which of `GROUPS` the pair of dates belongs to

    @property
    def name(self) -> str:
        """Scene, tile, rate and reference, as one word."""
        beside = f"~{self.reference}" if self.reference else ""
        return f"{self.scene}+{self.row}+{self.col}@{self.rate:g}{beside}"

    @property
    def identity(self) -> dict[str, Any]:
        """Columns that tell the case in tables."""
        names = ("scene", "row", "col", "rate", "reference", "days_apart", "group")
        return {name: getattr(self, name) for name in names}

    @property
    def given(self) -> tuple[FloatArray, BoolArray, tuple[FloatArray, ...]]:
        """Values with NaN where they are hidden, the known pixels, and the references."""
        return np.where(self.missing, np.nan, self.truth), ~self.missing, self.references


def read_scenes(rasters: Path, clouds: Path | None) -> tuple[dict[str, FloatArray], tuple[BoolArray, ...]]:
    """Read LST rasters (kelvin, NaN = unknown) and cloud masks as training does.

    No raster, no folder of clouds, or rasters that cannot be in kelvin are a `LacunarError`.
    """
    if not any(rasters.glob("*.tif")):
        raise LacunarError(f"no GeoTIFF in {rasters}; wanted a folder of LST rasters named PLACE_*.tif in kelvin")
    with temporary_room("scenes") as room:
        packed = room.path / "scenes.npz"
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
    pairs_per_group: int = 0,
    seed: int = 0,
) -> list[LstCase]:
    """Cut clear tiles and hide a part of each: scene by scene, tile by tile, rate by rate; the same tiles at all rates.

    ``rasters`` are (H, W), NaN = unknown, and a scene's cases depend on its name and the seed alone. ``clouds``, True =
    cloud, are needed for the shape ``cloud``. With ``pairs_per_group`` every case comes beside the same tile of one
    other date, known in half of it or more: so many pairs are drawn from each of `GROUPS`, of rasters of one grid with
    a date in the name. Too few clear tiles, masks or pairs, or a rate that hides nothing or all is a `LacunarError`.
    """
    fitting = _fitting(clouds, masks, rates, size)
    pairs = _pairs(rasters, pairs_per_group, seed) if pairs_per_group else [(scene, "") for scene in rasters]
    rngs = [np.random.default_rng((seed, zlib.crc32(scene.encode()))) for scene, _ in pairs]
    corners = [
        _corners(rasters[scene], size, rng, beside=rasters.get(other))
        for (scene, other), rng in zip(pairs, rngs, strict=True)
    ]
    names = [f"{scene} beside {other}" if other else scene for scene, other in pairs]
    _refuse_too_few(dict(zip(names, corners, strict=True)), size, per_raster)
    cases = []
    for (scene, other), rng, own in zip(pairs, rngs, corners, strict=True):
        raster, low, high = rasters[scene], float(np.nanmin(rasters[scene])), float(np.nanmax(rasters[scene]))
        for row, col in own[:per_raster]:
            cut = (slice(row, row + size), slice(col, col + size))
            truth, beside = raster[cut].astype(np.float64), _beside(rasters, scene, other, cut)
            cloud, crop_seed = fitting[int(rng.integers(len(fitting)))], int(rng.integers(2**32))
            for rate in rates:
                draws = np.random.default_rng(crop_seed)
                missing = gap_pattern(masks, (size, size), rate, rng=draws, cloud=cloud)
                cases.append(LstCase(scene, row, col, rate, truth, missing, low, high, **beside))
    return cases


def spread_out(cases: Sequence[LstCase], count: int) -> list[LstCase]:
    """At most ``count`` cases of each rate, as far apart in the list as they can be; the same tiles at every rate."""
    chosen = []
    for rate in dict.fromkeys(case.rate for case in cases):
        own = [case for case in cases if case.rate == rate]
        few = min(count, len(own))
        chosen += [own[i * len(own) // few] for i in range(few)]
    return chosen


def date_of(name: str) -> date:
    """The date in a raster's name; without one, `LacunarError`."""
    if (found := date_in(name)) is None:
        raise LacunarError(f"{name} carries no date; wanted 8 digits such as 20250620 in the name: rename the raster")
    return found


def pair_group(first: date, second: date) -> str:
    """Which of `GROUPS` two dates belong to.

    >>> pair_group(date(2024, 12, 20), date(2022, 1, 10))
    'like season, another year'
    """
    if abs((first - second).days) <= MONTH:
        return WITHIN_MONTH
    around = abs(first.timetuple().tm_yday - second.timetuple().tm_yday)
    return LIKE if min(around, 365 - around) <= LIKE_SEASON else UNLIKE


def _fitting(
    clouds: Sequence[BoolArray], masks: PatternName, rates: Sequence[float], size: int
) -> list[BoolArray | None]:
    """Cloud masks that a tile fits into, or a single None where shapes are drawn; refuses rates that hide nothing."""
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


def _pairs(rasters: Mapping[str, FloatArray], per_group: int, seed: int) -> list[tuple[str, str]]:
    """Pairs (scene, reference) of each group in random order, those of the scenes used least first."""
    shapes = {name: raster.shape for name, raster in rasters.items()}
    if len(set(shapes.values())) > 1:
        first, other = next((a, b) for a, b in permutations(shapes, 2) if shapes[a] != shapes[b])
        raise LacunarError(
            f"{first} has {shapes[first]} pixels and {other} {shapes[other]}; wanted dates of one grid: cut them to it"
        )
    dates = {name: date_of(name) for name in rasters}
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


def _corners(
    raster: FloatArray, size: int, rng: np.random.Generator, *, beside: FloatArray | None = None
) -> list[tuple[int, int]]:
    """Corners of fully known tiles of a lattice with a random origin, in random order; half known ``beside``."""
    known = np.isfinite(raster)
    starts = [range(int(rng.integers(min(size, max(1, n - size + 1)))), n - size + 1, size) for n in raster.shape]
    corners = [(r, c) for r in starts[0] for c in starts[1] if known[r : r + size, c : c + size].all()]
    mixed = [corners[i] for i in rng.permutation(len(corners))]
    if beside is None:
        return mixed
    return [(r, c) for r, c in mixed if np.isfinite(beside[r : r + size, c : c + size]).mean() >= MIN_SHOWN]


def _beside(rasters: Mapping[str, FloatArray], scene: str, other: str, cut: tuple[slice, slice]) -> dict[str, Any]:
    """What a case knows of its reference; nothing where it has none."""
    if not other:
        return {}
    dates = date_of(scene), date_of(other)
    return {
        "references": (rasters[other][cut].astype(np.float64),),
        "reference": other,
        "days_apart": abs((dates[0] - dates[1]).days),
        "group": pair_group(*dates),
    }


def _refuse_too_few(corners: Mapping[str, Sequence[tuple[int, int]]], size: int, count: int) -> None:
    if not any(corners.values()):
        names = next(iter(corners), "no raster") if len(corners) < 2 else f"none of {len(corners)} rasters"
        raise LacunarError(
            f"no clear scene: {names} with a tile of {size} x {size} pixels without a gap of its own, so there is no "
            "truth to compare with: give clear scenes or a smaller tile"
        )
    for scene, own in corners.items():
        if len(own) < count:
            raise LacunarError(
                f"{scene} has {len(own)} clear tiles of {size} pixels, wanted {count}: take fewer or smaller tiles"
            )
