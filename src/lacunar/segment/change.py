"""Water on several dates of one grid: its area on each, what was gained and lost between them, as table and figure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lacunar.geo.grid import Gridded
from lacunar.geo.polygons import Bodies, find_bodies
from lacunar.geo.windows import Tile, blocks_over
from lacunar.segment.plot import DatedMap, change_figure, colour_image
from lacunar.segment.raster_map import BLOCK, FIGURE_SIDE, WaterMap, thinned
from lacunar.sensors.scene import Scene

SQUARE_KM = 1e6  # square metres
SHOWN_IN_KM = 1e5  # square metres from which an area is told in square kilometres


@dataclass(frozen=True, eq=False)
class DatedWater:
    """The water of one date.

    Parameters
    ----------
    name, label, date
        Of the image; date where it is known, else the name; the date alone, or None.
    found
        The map, on the grid that all dates share.
    bodies
        Its water bodies.
    """

    name: str
    label: str
    date: str | None
    found: WaterMap
    bodies: Bodies

    @classmethod
    def of(cls, scene: Scene, found: WaterMap) -> "DatedWater":
        """Trace the bodies of a map."""
        date = scene.date.isoformat() if scene.date else None
        return cls(scene.name, date or scene.name, date, found, find_bodies(found.water, found.probability, found))


@dataclass(frozen=True, eq=False)
class Change:
    """What changed from one date to the next, among pixels that are valid on both.

    Parameters
    ----------
    before, after
        Labels of the two dates.
    gained, lost
        Land that became water, and water that became land; the mean probability is that of the date with the water.
    """

    before: str
    after: str
    gained: Bodies
    lost: Bodies

    @classmethod
    def between(cls, before: DatedWater, after: DatedWater) -> "Change":
        """Compare two dates."""
        return cls(
            before.label, after.label, _new_water(before.found, after.found), _new_water(after.found, before.found)
        )

    def parts(self, least: float) -> list[tuple[dict[str, str], Bodies]]:
        """Polygons of at least this area, with their columns, for `lacunar.geo.polygons.write_bodies`."""
        dates = {"from_date": self.before, "to_date": self.after}
        return [
            ({"change": name, **dates}, bodies.from_area(least))
            for name, bodies in (("gained", self.gained), ("lost", self.lost))
        ]


def _new_water(one: WaterMap, other: WaterMap) -> Bodies:
    """Land of one map that is water on the other."""

    def water(window: Tile) -> NDArray[np.bool_]:
        return one.valid(window) & ~one.water(window) & other.water(window)

    return find_bodies(water, other.probability, one)


def area_name(grid: Gridded) -> str:
    """What an area is called in a record."""
    return "area_m2" if grid.crs is not None else "area_pixels"


def rows_of(dates: Sequence[DatedWater], changes: Sequence[Change]) -> list[dict[str, Any]]:
    """One row for each date: its water, and what changed since the date before (None for the first)."""
    unit = area_name(dates[0].found).removeprefix("area_")
    rows = []
    for one, change in zip(dates, [None, *changes], strict=True):
        rows.append(
            {
                "image": one.name,
                "date": one.date,
                f"water_{unit}": _total(one.bodies),
                "bodies": len(one.bodies),
                "valid_share": round(_valid_share(one.found), 6),
                f"gained_{unit}": None if change is None else _total(change.gained),
                f"lost_{unit}": None if change is None else _total(change.lost),
            }
        )
    return rows


def draw_changes(dates: Sequence[DatedWater], planes: Sequence[Callable[[Tile], NDArray[np.floating[Any]]]]) -> Figure:
    """The water of each date over its image, and what changed.

    Parameters
    ----------
    dates
        Two or more.
    planes
        For each, any window of its image on the shared grid, (6, H, W).
    """
    shape = dates[0].found.shape
    maps = [
        DatedMap(
            title=one.label,
            image=colour_image(thinned(read, shape, most=FIGURE_SIDE)),
            water=thinned(one.found.water, shape, most=FIGURE_SIDE),
            valid=thinned(one.found.valid, shape, most=FIGURE_SIDE),
            area=_in_words(one),
        )
        for one, read in zip(dates, planes, strict=True)
    ]
    return change_figure(maps)


def _in_words(one: DatedWater) -> str:
    """Area of the water of a date."""
    area = _total(one.bodies)
    if one.found.crs is None:
        return f"{area:,.0f} pixels"
    return f"{area / SQUARE_KM:,.2f} km²" if area >= SHOWN_IN_KM else f"{area:,.0f} m²"


def _total(bodies: Bodies) -> float:
    """Area of all."""
    return round(float(bodies.area.sum()), 1)


def _valid_share(found: WaterMap) -> float:
    """Share of the grid that a map covers."""
    blocks = blocks_over(found.shape, block=BLOCK, halo=0)
    return sum(int(found.valid(block.core).sum()) for block in blocks) / math.prod(found.shape)
