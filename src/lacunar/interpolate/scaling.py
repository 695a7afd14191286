"""Physical range <-> model range: a network never sees kelvin, and the way back is the exact inverse."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lacunar.errors import ModelError, RasterError

ScalingKind = Literal["tile", "range"]

# 1e-4 of a land surface of 300 K is 0.03 K, about the noise of Landsat's thermal sensor (TIRS, band 10: 0.05 K at
# 300 K, Montanaro et al. 2014, Remote Sensing 6, 10232): a calmer tile holds noise, which must not be blown up.
RELATIVE_FLOOR = 1e-4
ABSOLUTE_FLOOR = 1e-6  # of a tile that is zero everywhere and has no scale: any small number will do


@dataclass(frozen=True)
class Affine:
    """One affine map: physical = offset + scale * model; a ``ModelError`` unless finite, with scale > 0.

    >>> Affine(300.0, 5.0).to_model([295.0, 310.0])
    array([-1.,  2.], dtype=float32)
    >>> Affine(300.0, 5.0).to_physical([-1.0, 2.0])
    array([295., 310.])
    """

    offset: float
    scale: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.offset) and math.isfinite(self.scale) and self.scale > 0):
            raise ModelError(
                f"scaling: offset {self.offset} and scale {self.scale}, wanted finite numbers and a scale above 0"
            )

    def to_model(self, values: ArrayLike) -> NDArray[np.float32]:
        """``(values - offset) / scale`` as float32, computed in float64; NaN stays NaN."""
        physical = np.asarray(values, dtype=np.float64)
        return ((physical - self.offset) / self.scale).astype(np.float32)

    def to_physical(self, values: ArrayLike) -> NDArray[np.float64]:
        """``offset + scale * values`` in float64."""
        return np.asarray(values, dtype=np.float64) * self.scale + self.offset


def tile_statistics(
    values: ArrayLike, known: ArrayLike, *, relative_floor: float = RELATIVE_FLOOR
) -> tuple[float, float]:
    """Mean and population standard deviation of the known pixels of a tile, in its unit.

    The standard deviation is at least ``relative_floor`` times the mean's magnitude, and at least `ABSOLUTE_FLOOR`.
    Raises `RasterError`: no known pixel, one that is not finite, or a ``known`` that does not fit.

    >>> tile_statistics([1.0, 3.0, float("nan")], [True, True, False])
    (2.0, 1.0)
    """
    tile, measured = np.asarray(values), np.asarray(known)
    if measured.dtype != np.bool_ or tile.shape != measured.shape:
        raise RasterError(
            f"known is {measured.dtype} of shape {measured.shape}, wanted bool of the values' shape {tile.shape}"
        )
    sample = tile[measured].astype(np.float64)
    if not sample.size:
        raise RasterError("a tile without a known pixel has no statistics: take them from a larger or coarser tile")
    if not np.isfinite(sample).all():
        raise RasterError("a known pixel is not finite: mark it as missing")
    mean = float(sample.mean())
    return mean, max(float(sample.std()), relative_floor * abs(mean), ABSOLUTE_FLOOR)


@dataclass(frozen=True, kw_only=True)
class TileScaling:
    """Each tile is standardised by its own known pixels, so that a model depends on neither season nor place.

    >>> TileScaling().fit(np.array([290.0, 310.0]), np.array([True, True]))
    Affine(offset=300.0, scale=10.0)
    """

    relative_floor: float = RELATIVE_FLOOR

    def __post_init__(self) -> None:
        if not _is_finite(self.relative_floor) or self.relative_floor < 0:
            raise ModelError(f"scaling: relative_floor is {self.relative_floor!r}, wanted a number from 0")

    def fit(self, values: ArrayLike, known: ArrayLike) -> Affine:
        """The map of this tile; raises as `tile_statistics` does."""
        return Affine(*tile_statistics(values, known, relative_floor=self.relative_floor))

    def to_dict(self) -> dict[str, Any]:
        """The settings with their kind, ready for JSON."""
        return {"kind": "tile", **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class RangeScaling:
    """A fixed range [low, high] is seen as [-1, 1], as for 8-bit pictures (Ho et al. 2020, section 3.3).

    >>> RangeScaling().affine.to_model([0, 255])
    array([-1.,  1.], dtype=float32)
    """

    low: float = 0.0
    high: float = 255.0

    def __post_init__(self) -> None:
        if not (_is_finite(self.low) and _is_finite(self.high) and self.low < self.high):
            raise ModelError(f"scaling: range is {self.low!r}..{self.high!r}, wanted two numbers, the lower first")

    @property
    def affine(self) -> Affine:
        """The map between the range and [-1, 1]."""
        return Affine((self.low + self.high) / 2, (self.high - self.low) / 2)

    def to_dict(self) -> dict[str, Any]:
        """The settings with their kind, ready for JSON."""
        return {"kind": "range", **asdict(self)}


Scaling = TileScaling | RangeScaling


def scaling_from_dict(values: Mapping[str, Any]) -> Scaling:
    """Read what ``to_dict`` of either scaling wrote, as a model folder's ``scaling.json`` holds it.

    Raises `ModelError`: no or an unknown ``kind``, an unknown key, or a value out of range.

    >>> scaling_from_dict({"kind": "range", "low": 0, "high": 1})
    RangeScaling(low=0, high=1)
    """
    kinds: dict[str, type[Scaling]] = {"tile": TileScaling, "range": RangeScaling}
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise ModelError(f"scaling: kind is {kind!r}, wanted one of {list(get_args(ScalingKind))}")
    scaling, known = kinds[kind], {item.name for item in fields(kinds[kind])}
    unknown = sorted(set(values) - known - {"kind"})
    if unknown:
        raise ModelError(f"scaling: unknown key {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return scaling(**{key: value for key, value in values.items() if key != "kind"})


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
