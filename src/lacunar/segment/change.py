"""Water on several dates of one grid: its area on each, what was gained and lost between them, as table and figure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import geopandas as gpd
import pandas as pd
from matplotlib.figure import Figure

from lacunar.geo.polygons import area_column
from lacunar.geo.windows import Tile
from lacunar.segment.fusion import Bools, Values
from lacunar.segment.plot import DatedMap, change_figure, colour_image
from lacunar.segment.raster_map import WaterMap, thinned
from lacunar.sensors.scene import Scene

SQUARE_KM = 1e6  # square metres
SHOWN_IN_KM = 1e5  # square metres from which an area is told in square kilometres


@dataclass(frozen=True, eq=False)
class DatedWater:
    """The water of one date."""

    name: str  # of the image
    date: str | None
    found: WaterMap  # on the grid that all dates share
    bodies: gpd.GeoDataFrame
    valid_share: float

    @classmethod
    def of(cls, scene: Scene, found: WaterMap, pixels: Mapping[str, int]) -> "DatedWater":
        """Trace the bodies of a map of which `lacunar.segment.raster_map.write_map` counted the pixels."""
        date = scene.date.isoformat() if scene.date else None
        return cls(scene.name, date, found, found.polygons(), 1 - pixels["nodata"] / sum(pixels.values()))

    @property
    def label(self) -> str:
        """The date where it is known, else the name."""
        return self.date or self.name


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
    """One row for each date: its water, and what changed since the date before (None for the first)."""
    column = area_column(dates[0].found.crs)
    unit = column.removeprefix("area_")
    rows = []
    for one, change in zip(dates, [None, *changes], strict=True):
        moved: dict[str, float | None] = {f"gained_{unit}": None, f"lost_{unit}": None}
        if change is not None:
            moved = {f"{kind}_{unit}": total_area(change[change["change"] == kind]) for kind in ("gained", "lost")}
        rows.append(
            {
                "image": one.name,
                "date": one.date,
                f"water_{unit}": total_area(one.bodies),
                "bodies": len(one.bodies),
                "valid_share": round(one.valid_share, 6),
                **moved,
            }
        )
    return rows


def draw_changes(dates: Sequence[DatedWater], planes: Sequence[Callable[[Tile], Values]]) -> Figure:
    """The water of each date over its image, and what changed; ``planes`` reads any window of the image of each."""
    maps = [
        DatedMap(
            title=one.label,
            image=colour_image(thinned(read, one.found.shape)),
            water=thinned(one.found.water, one.found.shape),
            valid=thinned(one.found.valid, one.found.shape),
            area=_in_words(one),
        )
        for one, read in zip(dates, planes, strict=True)
    ]
    return change_figure(maps)


def total_area(bodies: gpd.GeoDataFrame) -> float:
    """Area of all polygons, in the unit of their column."""
    return round(float(bodies[area_column(bodies.crs)].sum()), 1)


def _in_words(one: DatedWater) -> str:
    area = total_area(one.bodies)
    if one.found.crs is None:
        return f"{area:,.0f} pixels"
    return f"{area / SQUARE_KM:,.2f} km²" if area >= SHOWN_IN_KM else f"{area:,.0f} m²"
