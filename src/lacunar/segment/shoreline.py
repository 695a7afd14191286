"""How far shores moved between two maps of water: area gained and lost over the length of the shores and the years."""

import math

import numpy as np

from lacunar.geo.polygons import pixel_sides
from lacunar.geo.windows import blocks_over
from lacunar.segment.fusion import Bools
from lacunar.segment.raster_map import BLOCK, WaterMap

NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))  # rows down and columns to the right: each pair of pixels once


def shore_length(found: WaterMap, other: WaterMap) -> float:
    """Length of the shores of a map where another one of its grid is valid too, in metres, or pixels without a CRS.

    By the formula of Cauchy and Crofton: of how often lines in four directions pass from water to land. Unlike a count
    of pixels' sides, it is right on average over all directions of a shore; at most 5 % too small, 3 % too large. The
    end of the image, and of what is valid, is no shore. Lehmann & Legland (2012), Efficient N-dimensional surface
    estimation using Crofton formula and run-length encoding, Insight Journal.
    """
    crossings = np.zeros(len(NEIGHBOURS))
    for block in blocks_over(found.shape, block=BLOCK, halo=1):
        seen = found.valid(block.outer) & other.valid(block.outer)
        water = found.water(block.outer)
        for index, (down, right) in enumerate(NEIGHBOURS):
            beside = seen & _shifted(seen, down, right) & (water != _shifted(water, down, right))
            crossings[index] += np.count_nonzero(beside[block.inner.slices])
    width, height = pixel_sides(found.transform, found.crs, found.shape)
    slope = math.atan2(height, width)
    across, along, *diagonals = crossings.tolist()
    # spacing of the lines in each direction, times the angle that the direction stands for
    return 0.5 * (
        slope * height * across
        + (math.pi / 2 - slope) * width * along
        + math.pi / 4 * width * height / math.hypot(width, height) * sum(diagonals)
    )


def migration(changed: float, shore: float, years: float | None) -> float | None:
    """Mean distance that shores moved in a year: area gained and lost, by their length and the years.

    A bank that moves sideways by d over its length L sweeps the area d L; so Micheli & Kirchner (2002), Earth Surface
    Processes and Landforms 27, 627-639, and, for rivers of any form, Rowland et al. (2016), Remote Sensing of
    Environment 184, 212-228. None without a shore, or where it is not known how many years passed.

    >>> migration(changed=2 * 30.0 * 1000, shore=2 * 1000.0, years=10)
    3.0
    """
    return round(changed / shore / years, 4) if years and shore else None


def _shifted(mask: Bools, down: int, right: int) -> Bools:
    """The mask's value so many pixels further; False beyond its end."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    return padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
