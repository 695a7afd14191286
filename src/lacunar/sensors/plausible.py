"""Which values of a band are measurements: one judge of every raster, whatever its role.

Files hold values that stand for "nothing measured" and do not say so. Numbers that programs write for that are taken so
where they lie apart from all other values; in a raster of temperatures everything that no land surface has is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PLAUSIBLE_LST = (150.0, 400.0)  # K: beyond this a land surface temperature is a fault, not a measurement
CELSIUS_ZERO = 273.15  # K
KELVIN = {"k", "kelvin", "kelvins", "degk", "°k"}  # unit tags
CELSIUS = {"c", "°c", "degc", "deg c", "deg_c", "celsius", "degree celsius", "degrees celsius", "degree_celsius"}
CELSIUS |= {"degrees_celsius"}
# Written for "nothing", as stored: habits of programs, and the ends of whole numbers of 16 and 32 bits.
FILLS = (
    *(-999.0, -9999.0, -99_999.0, -999_999.0, -32_767.0, -32_768.0, 32_767.0, 65_535.0),
    *(-(2.0**31), 2.0**31 - 1, 2.0**32 - 1),
)
BYTE = 255.0  # the highest number of 8 bits
HUGE = 1e20  # no measurement reaches it; fills of NetCDF (9.97e36), of climate models (1e20) and ends of floats do
TOO_LARGE = f"are beyond {HUGE:g}, which stands for nothing measured"
APART = 0.1  # of the range of all other values: how far beyond it a number has to lie to be a fill
PLAUSIBLE_SHARE = 0.5  # of a sample that must be land surface temperatures

BoolArray = NDArray[np.bool_]
Values = NDArray[np.floating]


@dataclass(frozen=True)
class ValueJudge:
    """What is no measurement in a band; made by `of` from a sample of its values."""

    fills: Mapping[float, float]  # value -> the number that is stored for it
    low: float
    high: float
    beyond: str  # what values from low down and from high up do, in words

    @classmethod
    def of(cls, sample: Values, *, units: str = "", physical: Callable[[float], float] = float) -> "ValueJudge":
        """Judge a band in such units; ``physical`` gives the value that a stored number stands for.

        Units of a temperature count where most values agree. Without units 0 is a fill where all else may be kelvin.

        >>> judge = ValueJudge.of(np.array([290.5, 300.1, -9999.0, 0.0]), units="K")
        >>> [reason for reason in judge.faults(np.array([295.0, 0.0, 450.0]))]
        ['hold 0, which stands for nothing measured', 'lie beyond 150 to 400 K, as no land surface does']
        """
        limits = limits_of(units)
        if limits is not None and not are_temperatures(sample, limits):
            limits = None
        fills = {float(np.float32(physical(number))): number for number in FILLS}
        rest = sample[(np.abs(sample) < HUGE) & ~np.isin(sample, list(fills))]
        nonzero = rest[rest != 0]
        if limits is not None:
            nonzero = nonzero[(nonzero > limits[0]) & (nonzero < limits[1])]
        if _could_be_kelvin(nonzero) if limits is None else limits == PLAUSIBLE_LST:
            fills, rest = {**fills, 0.0: 0.0}, nonzero
        apart = {value: number for value, number in fills.items() if _lies_apart(value, rest)}
        if limits is None:
            return cls(apart, -HUGE, HUGE, TOO_LARGE)
        unit = "K" if limits == PLAUSIBLE_LST else "degC"
        return cls(apart, *limits, f"lie beyond {limits[0]:g} to {limits[1]:g} {unit}, as no land surface does")

    @classmethod
    def of_light(cls, sample: Values, *, physical: Callable[[float], float] = float) -> "ValueJudge":
        """Judge a band of reflectance, where 0 is dark."""
        judge = cls.of(sample, physical=physical)
        return cls({value: number for value, number in judge.fills.items() if number}, -HUGE, HUGE, TOO_LARGE)

    @classmethod
    def of_mask(cls, sample: Values) -> "ValueJudge":
        """Judge a mask: a negative fill names nothing; where it is of 0 and 1 otherwise, no other fill does."""
        seen = {float(value) for value in np.unique(sample)}
        binary = {0.0, 1.0} <= seen <= {0.0, 1.0, BYTE, *FILLS}
        fills = {number: number for number in (BYTE, *FILLS) if number < 0 or binary}
        return cls(fills, -HUGE, HUGE, TOO_LARGE)

    def faults(self, values: Values) -> dict[str, BoolArray]:
        """Where values (any shape) are no measurements, by what they do, in words."""
        found, outside = {}, (values <= self.low) | (values >= self.high)
        for value, number in self.fills.items():
            where = values == np.float32(value)
            if where.any():
                found[f"hold {number:.10g}, which stands for nothing measured"] = where
                outside &= ~where
        if outside.any():
            found[self.beyond] = outside
        return found


TRUSTING = ValueJudge({}, -np.inf, np.inf, "")  # takes every number for a measurement


def limits_of(units: str) -> tuple[float, float] | None:
    """Between which values (both excluded) a land surface temperature lies in such units; None of other quantities."""
    unit = unit_of(units)
    if unit in KELVIN:
        return PLAUSIBLE_LST
    return (PLAUSIBLE_LST[0] - CELSIUS_ZERO, PLAUSIBLE_LST[1] - CELSIUS_ZERO) if unit in CELSIUS else None


def unit_of(text: str) -> str:
    """A unit tag in one form."""
    return " ".join(text.lower().split())


def are_temperatures(sample: Values, limits: tuple[float, float]) -> bool:
    """Whether most of a sample are land surface temperatures within limits; 0 and fills do not count.

    >>> are_temperatures(np.array([0.0, -9999.0, 300.0]), PLAUSIBLE_LST)
    True
    """
    seen = sample[(np.abs(sample) < HUGE) & ~np.isin(sample, [0.0, *FILLS])]
    return bool(seen.size == 0 or ((seen > limits[0]) & (seen < limits[1])).mean() >= PLAUSIBLE_SHARE)


def _could_be_kelvin(values: Values) -> bool:
    """Whether all values, fractions among them, could be land surface temperatures in kelvin."""
    plausible = (values > PLAUSIBLE_LST[0]) & (values < PLAUSIBLE_LST[1])
    return bool(values.size and plausible.all() and (values != np.rint(values)).any())


def _lies_apart(value: float, others: Values) -> bool:
    if others.size == 0:
        return True
    low, high = float(others.min()), float(others.max())
    spare = APART * (high - low)
    return value < low - spare or value > high + spare
