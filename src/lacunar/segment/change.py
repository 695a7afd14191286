"""Water on several dates of one grid: its area on each, what was gained and lost between them, as table and figure."""

import datetime
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import pandas as pd
from matplotlib.figure import Figure

from lacunar.errors import LacunarError
from lacunar.geo.polygons import area_column, pixel_counts
from lacunar.geo.windows import Tile
from lacunar.segment.fusion import Bools, Values
from lacunar.segment.plot import DatedMap, change_figure, colour_image, series_figure
from lacunar.segment.raster_map import WaterMap, thinned, water_and_sigma
from lacunar.segment.shoreline import migration, shore_length
from lacunar.sensors.scene import Scene

KM, SQUARE_KM = 1e3, 1e6  # metres, square metres
SHOWN_IN_KM = 1e5  # square metres from which an area is told in square kilometres


@dataclass(frozen=True, eq=False)
class DatedWater:
    """The water of one date."""

    name: str  # of the image
    date: str | None
    found: WaterMap  # on the grid that all dates share
    bodies: gpd.GeoDataFrame
    valid_share: float
    sigma: float  # of the area of all bodies, in its unit

    @classmethod
    def of(cls, scene: Scene, found: WaterMap, pixels: Mapping[str, int]) -> "DatedWater":
        """Trace the bodies of a map of which `lacunar.segment.raster_map.write_map` counted the pixels."""
        date, bodies = scene.date.isoformat() if scene.date else None, found.polygons()
        valid_share = 1 - pixels["nodata"] / sum(pixels.values())
        return cls(scene.name, date, found, bodies, valid_share, area_sigma(found, bodies))

    @property
    def label(self) -> str:
        """The date where it is known, else a year in the name, else the name."""
        return self.date or str(self.year or self.name)

    @property
    def year(self) -> float | None:
        """When it was, in years; None where neither a date nor a year in the name says so."""
        if self.date:
            day = datetime.date.fromisoformat(self.date)
            return round(day.year + (day.timetuple().tm_yday - 1) / 365.25, 3)
        year = re.search(r"(?<!\d)(?:19|20)\d\d(?!\d)", self.name)
        return int(year[0]) if year else None


def change_between(before: DatedWater, after: DatedWater) -> gpd.GeoDataFrame:
    """Polygons of water gained and lost from one date to another, where both are valid.

    Columns ``change`` (gained or lost), ``from_date``, ``to_date``; the mean probability is of the date with the water.
    """
    parts = []
    for change, dry, wet in (("gained", before, after), ("lost", after, before)):
        bodies = wet.found.polygons(_new_water(dry.found, wet.found))
        for column, text in (("to_date", after.label), ("from_date", before.label), ("change", change)):
            bodies.insert(1, column, pd.Series(text, index=bodies.index, dtype=object))
        parts.append(bodies)
    return pd.concat(parts, ignore_index=True)


def _new_water(dry: WaterMap, wet: WaterMap) -> Callable[[Tile], Bools]:
    return lambda window: dry.valid(window) & ~dry.water(window) & wet.water(window)


def change_rows(dates: Sequence[DatedWater], changes: Sequence[gpd.GeoDataFrame]) -> list[dict[str, Any]]:
    """One row for each date: its water, and what changed since the date before (None for the first).

    ``shore`` is the mean length of the shores of both dates, ``migration`` how far they moved in a year.
    """
    column = area_column(dates[0].found.crs)
    unit = column.removeprefix("area_")
    length = "m" if dates[0].found.crs is not None else "pixels"
    columns = (f"gained_{unit}", f"lost_{unit}", f"shore_{length}", migration_column(length))
    rows = []
    for before, one, change in zip([None, *dates], dates, [None, *changes], strict=False):
        moved: list[float | None] = [None] * len(columns)
        if before is not None and change is not None:
            gained, lost = (total_area(change[change["change"] == kind]) for kind in ("gained", "lost"))
            shore = (shore_length(before.found, one.found) + shore_length(one.found, before.found)) / 2
            moved = [gained, lost, round(shore, 1), migration(gained + lost, shore, _years(before, one))]
        rows.append(
            {
                "image": one.name,
                "date": one.date,
                f"water_{unit}": total_area(one.bodies),
                f"sigma_{unit}": one.sigma,
                "bodies": len(one.bodies),
                "valid_share": round(one.valid_share, 6),
                **dict(zip(columns, moved, strict=True)),
            }
        )
    return rows


def migration_column(length: str) -> str:
    """Name of the column that says how far shores moved, in ``m`` or ``pixels``."""
    return f"migration_{length}_per_year"


def mean_migration(dates: Sequence[DatedWater], rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """How far shores moved in a year over all dates: the mean of the rows, each by its years."""
    column = migration_column("m" if dates[0].found.crs is not None else "pixels")
    known = [
        (row[column], years)
        for before, one, row in zip(dates, dates[1:], rows[1:], strict=False)
        if row[column] is not None and (years := _years(before, one))
    ]
    total = sum(years for _, years in known)
    return {column: round(sum(rate * years for rate, years in known) / total, 4) if total else None}


def _years(before: DatedWater, after: DatedWater) -> float | None:
    return None if before.year is None or after.year is None else after.year - before.year


def draw_changes(dates: Sequence[DatedWater], planes: Sequence[Callable[[Tile], Values]]) -> Figure:
    """The water of each date over its image, and what changed; ``planes`` reads any window of the image of each."""
    return change_figure(_shown(dates, planes))


def draw_series(
    dates: Sequence[DatedWater], planes: Sequence[Callable[[Tile], Values]], *, pixel_size: float | None
) -> Figure:
    """Where the water was and when, what was gained and lost in all, and its area over time.

    ``pixel_size`` (metres) turns pixels into areas where there is no CRS. A date that is not known is a `LacunarError`.
    """
    years = [one.year for one in dates]
    for one, year in zip(dates, years, strict=True):
        if year is None:
            raise LacunarError(f"{one.name}: no date in its name or metadata; wanted one such as 1985 or 20240813")
    located = dates[0].found.crs is not None
    factor = 1 / SQUARE_KM if located else (pixel_size or 0) ** 2 / SQUARE_KM or 1.0
    areas = [(total_area(one.bodies) * factor, one.sigma * factor) for one in dates]
    first, last = min(one.name for one in dates), max(one.name for one in dates)
    shared = "".join(a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    place = shared.rstrip("0123456789-_. ").replace("_", " ").capitalize()
    unit = "km²" if located or pixel_size else "pixels"
    metres, crs = pixel_size, dates[0].found.crs
    if crs is not None and crs.is_projected:
        metres = abs(dates[0].found.transform.a) * crs.linear_units_factor[1]
    maps = _shown(dates, planes)
    side = dates[0].found.shape[1] / maps[0].water.shape[1] * metres / KM if metres else None
    return series_figure(maps, [year or 0.0 for year in years], areas, unit=unit, place=place, pixel_km=side)


def area_sigma(found: WaterMap, bodies: gpd.GeoDataFrame) -> float:
    """Standard deviation of the area of all bodies of a map, in its unit."""
    pixels = float(pixel_counts(bodies).sum())
    return round(water_and_sigma(found)[1] * total_area(bodies) / pixels, 1) if pixels else 0.0


def _shown(dates: Sequence[DatedWater], planes: Sequence[Callable[[Tile], Values]]) -> list[DatedMap]:
    return [
        DatedMap(
            title=one.label,
            image=colour_image(thinned(read, one.found.shape)),
            water=thinned(one.found.water, one.found.shape),
            valid=thinned(one.found.valid, one.found.shape),
            area=_in_words(one),
        )
        for one, read in zip(dates, planes, strict=True)
    ]


def total_area(bodies: gpd.GeoDataFrame) -> float:
    """Area of all polygons, in the unit of their column."""
    return round(float(bodies[area_column(bodies.crs)].sum()), 1)


def _in_words(one: DatedWater) -> str:
    area = total_area(one.bodies)
    if one.found.crs is None:
        return f"{area:,.0f} ± {one.sigma:,.0f} pixels"
    if area < SHOWN_IN_KM:
        return f"{area:,.0f} ± {one.sigma:,.0f} m²"
    return f"{area / SQUARE_KM:,.2f} ± {one.sigma / SQUARE_KM:,.2f} km²"
