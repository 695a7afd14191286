"""From digital numbers to land surface temperature by SEBAL: radiance, reflectance, indices, emissivity, LST.

Arrays in, arrays out, in SI units and double precision; numpy only. Every constant of the sensor comes in as an
argument (`lacunar.sensors.landsat` reads them from the product's own MTL file). A pixel that was not measured is NaN
from the first step (digital number 0) to the last.

References: Bastiaanssen98 is Bastiaanssen et al. (1998), J. Hydrol. 212-213:198-212; Idaho02 the SEBAL manual of Waters
et al. (2002), University of Idaho; Allen07 Allen et al. (2007), J. Irrig. Drain. Eng. 133(4):380-394; USGS19 the Data
Users Handbook of Landsat 8, LSDS-1574 version 5.0, chapter 5; Huete88 Huete (1988), Remote Sens. Environ. 25:295-309.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lacunar.errors import ProductError

ReflectanceForm = Literal["usgs", "dr"]  # the handbook's, or the one that also divides by dr = 1/d^2
EmissivityKind = Literal["narrow_band", "broad_band"]  # in the thermal band (e_NB), or over the thermal spectrum (e_0)
Float = NDArray[np.float64]

FILL_DN = 0  # a pixel that was not measured (USGS19)
SNOW_ALBEDO = 0.47  # surface albedo from which a pixel of negative NDVI is snow and not water (Idaho02)
SNOW_EMISSIVITY = 0.985  # both kinds (Idaho02)
DENSE_LAI = 3.0  # from here on the canopy hides the soil (Idaho02)
DENSE_EMISSIVITY = 0.98  # both kinds, at DENSE_LAI and more (Idaho02)
PATH_ALBEDO = 0.03  # what the air itself sends back: 0.025 to 0.04 (Idaho02); Bastiaanssen98's value
SEA_LEVEL_TRANSMISSIVITY = 0.75  # of the air for sunlight, tau_sw (Idaho02)
EARTH_SUN_RANGE = (0.98, 1.02)  # AU: perihelion 0.983, aphelion 1.017
LEVEL2_ST_MULT = 0.00341802  # kelvin per digital number of ST_B10, Collection 2 (USGS, LSDS-1619)
LEVEL2_ST_ADD = 149.0  # kelvin at digital number 0 of ST_B10, Collection 2 (USGS, LSDS-1619)

# Soil value, slope with LAI, water value (Idaho02, Allen07).
_EMISSIVITY: dict[EmissivityKind, tuple[float, float, float]] = {
    "narrow_band": (0.97, 0.0033, 0.99),
    "broad_band": (0.95, 0.01, 0.985),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Atmosphere:
    """The air between the ground and the sensor in the thermal band, for the correction of LST."""

    path_radiance: float  # Rp, emitted by the air towards the sensor, W m-2 sr-1 um-1; 0 or more
    transmissivity: float  # tau_NB of the air in the band; above 0, at most 1
    sky_radiance: float  # Rsky, emitted by the clear sky towards the ground, W m-2 sr-1 um-1; 0 or more

    def __post_init__(self) -> None:
        if not 0.0 < self.transmissivity <= 1.0:
            raise ProductError(f"transmissivity {self.transmissivity}: wanted above 0 and at most 1; check the unit")
        for name in ("path_radiance", "sky_radiance"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ProductError(f"{name} {value}: wanted 0 or more, in W m-2 sr-1 um-1; check sign and unit")


def rescale(dn: ArrayLike, *, mult: float, add: float) -> Float:
    """Physical value of digital numbers, M DN + A; NaN at fill (0).

    Spectral radiance at the sensor, W m-2 sr-1 um-1 (USGS19), from RADIANCE_MULT and RADIANCE_ADD of the MTL file. Of
    Collection-2 Level 2 (LSDS-1619): surface temperature, K, from TEMPERATURE_MULT and TEMPERATURE_ADD of ``ST_B10``
    (`LEVEL2_ST_MULT`, `LEVEL2_ST_ADD`), and surface reflectance from REFLECTANCE_MULT and REFLECTANCE_ADD.

    >>> rescale([0, 65535], mult=3.3420e-4, add=0.1).round(4).tolist()  # RADIANCE_MAXIMUM_BAND_10 = 22.00180
    [nan, 22.0018]
    >>> rescale([44947], mult=LEVEL2_ST_MULT, add=LEVEL2_ST_ADD).round(1).tolist()  # the worked figure on usgs.gov
    [302.6]
    """
    number = np.asarray(dn, dtype=np.float64)
    return np.where(number == FILL_DN, np.nan, mult * number + add)


def digital_numbers_hint(values: ArrayLike) -> str:
    """Advice, where the median of the values looks like a digital number of ``ST_B10`` at 240 to 350 K; else no text.

    >>> digital_numbers_hint([44947.0])
    'looks like Landsat digital numbers: multiply by 0.00341802 and add 149.0'
    >>> digital_numbers_hint([302.6])
    ''
    """
    median = np.median(np.asarray(values)) if np.size(values) else np.nan
    if not 240.0 <= LEVEL2_ST_MULT * float(median) + LEVEL2_ST_ADD <= 350.0:
        return ""
    return f"looks like Landsat digital numbers: multiply by {LEVEL2_ST_MULT} and add {LEVEL2_ST_ADD}"


def toa_reflectance(
    dn: ArrayLike,
    *,
    mult: float,
    add: float,
    sun_elevation: float,
    form: ReflectanceForm = "usgs",
    earth_sun_distance: float | None = None,
) -> Float:
    """Reflectance at the top of the atmosphere, rho = (M_rho DN + A_rho) / sin(sun elevation) (USGS19); NaN at fill.

    The MTL's coefficients hold the distance to the sun already, so the USGS form has no d^2. ``form="dr"`` is the
    variant of the Brazilian SEBAL literature, which divides by dr = 1/d^2 once more; it alone wants
    ``earth_sun_distance``, d in AU, 0.98 to 1.02. ``sun_elevation`` is that of the scene's centre, in degrees; a night
    scene is a `ProductError`.

    >>> toa_reflectance([10320], mult=2e-5, add=-0.1, sun_elevation=90.0).round(4).tolist()
    [0.1064]
    """
    if not 0.0 < sun_elevation <= 90.0:
        wanted = "wanted above 0 and at most 90; a night scene has no reflectance"
        raise ProductError(f"sun elevation {sun_elevation} degrees: {wanted}")
    if form not in get_args(ReflectanceForm):
        raise ProductError(f"reflectance form {form!r}: wanted one of {', '.join(get_args(ReflectanceForm))}")
    rho = rescale(dn, mult=mult, add=add) / math.sin(math.radians(sun_elevation))
    if form == "usgs":
        return rho
    if earth_sun_distance is None or not EARTH_SUN_RANGE[0] <= earth_sun_distance <= EARTH_SUN_RANGE[1]:
        wanted = f"the form 'dr' wants it, in AU, {EARTH_SUN_RANGE[0]} to {EARTH_SUN_RANGE[1]}"
        raise ProductError(f"earth-sun distance {earth_sun_distance}: {wanted}; take the form 'usgs', which needs none")
    return rho * earth_sun_distance**2  # rho / dr


def ndvi(red: ArrayLike, nir: ArrayLike) -> Float:
    """Normalised difference vegetation index, (N - R) / (N + R) (Idaho02).

    ``red`` and ``nir`` are the reflectance of band 4 and of band 5, in this order, of one shape. Where N + R <= 0 (no
    light in either band) the index is 0, so that only fill is NaN.

    >>> ndvi([0.1, 0.0], [0.3, 0.0]).round(6).tolist()
    [0.5, 0.0]
    """
    return _ratio(np.subtract(nir, red, dtype=np.float64), np.add(nir, red, dtype=np.float64))


def savi(red: ArrayLike, nir: ArrayLike, *, soil_l: float = 0.5) -> Float:
    """Soil-adjusted vegetation index, (1 + L)(N - R) / (L + N + R) (Huete88); 0 where L + N + R <= 0.

    ``soil_l`` is L, 0 to 1, else a `ProductError`: 0.5 in Huete88, 0.1 in Idaho02; 0 gives NDVI.

    >>> savi([0.1], [0.3]).round(6).tolist()
    [0.333333]
    """
    if not 0.0 <= soil_l <= 1.0:
        raise ProductError(f"SAVI soil adjustment L {soil_l}: wanted 0 to 1; 0.5 is usual, 0.1 is the Idaho manual's")
    difference = np.subtract(nir, red, dtype=np.float64)
    return _ratio((1.0 + soil_l) * difference, soil_l + np.add(nir, red, dtype=np.float64))


def lai(savi: ArrayLike) -> Float:
    """Leaf area index, -ln((0.69 - SAVI) / 0.59) / 0.91 (Bastiaanssen98, Idaho02); m2 m-2, 0 to 6.

    0 where SAVI <= 0.1 and 6 where SAVI >= 0.687; NaN only where SAVI is NaN.

    >>> lai([-0.2, 0.1, 0.4, 0.7]).round(4).tolist()
    [0.0, 0.0, 0.7805, 6.0]
    """
    index = np.asarray(savi, dtype=np.float64)
    # Held inside the formula's own range, so that the logarithm is defined everywhere; what lies outside is set below.
    area = -np.log((0.69 - np.clip(index, 0.1, 0.687)) / 0.59) / 0.91
    return np.where(index >= 0.687, 6.0, np.where(index <= 0.1, 0.0, area))


def emissivity(
    ndvi: ArrayLike, lai: ArrayLike, *, kind: EmissivityKind = "narrow_band", albedo: ArrayLike | None = None
) -> Float:
    """Surface emissivity from NDVI and leaf area index (Idaho02, Allen07), 0.95 to 0.99.

    - land, LAI < 3: e_NB = 0.97 + 0.0033 LAI, e_0 = 0.95 + 0.01 LAI; LAI >= 3: 0.98;
    - water, NDVI < 0: e_NB = 0.99, e_0 = 0.985;
    - snow, NDVI < 0 and albedo >= 0.47: 0.985.

    The manual leaves NDVI = 0 and LAI = 0 open; here they are bare land, so that only fill is NaN. e_NB, the default,
    is for LST, e_0 (``"broad_band"``) for the energy balance; another kind is a `ProductError`. Without ``albedo``,
    from `surface_albedo`, snow of negative NDVI counts as water.

    >>> emissivity([0.5, 0.0, -0.3], [1.0, 0.0, 0.0]).round(4).tolist()
    [0.9733, 0.97, 0.99]
    """
    if kind not in _EMISSIVITY:
        raise ProductError(f"emissivity kind {kind!r}: wanted one of {', '.join(_EMISSIVITY)}")
    soil, slope, water = _EMISSIVITY[kind]
    index, area = np.asarray(ndvi, dtype=np.float64), np.asarray(lai, dtype=np.float64)
    value = np.where(area >= DENSE_LAI, DENSE_EMISSIVITY, soil + slope * area)
    value = np.where(index < 0.0, water, value)
    if albedo is not None:
        value = np.where((index < 0.0) & (np.asarray(albedo) >= SNOW_ALBEDO), SNOW_EMISSIVITY, value)
    return np.where(np.isnan(index) | np.isnan(area), np.nan, value)


def surface_albedo(reflectances: Sequence[ArrayLike], weights: Sequence[float]) -> Float:
    """Albedo at the ground, (sum_b w_b rho_b - a_path) / tau_sw^2 with a_path = 0.03 and tau_sw = 0.75 (Idaho02).

    rho_b is the top-of-atmosphere reflectance of a band (2 to 7 for Landsat 8), w_b its share of the sun's irradiance,
    from `lacunar.sensors.landsat.LandsatScene.albedo_weights`; weights of another sum than 1 are a `ProductError`.
    tau_sw grows by 2e-5 per metre of elevation, which is unknown here and taken as 0.

    >>> surface_albedo([[0.2], [0.31]], [0.5, 0.5]).round(4).tolist()
    [0.4]
    """
    if len(reflectances) != len(weights) or not math.isclose(sum(weights), 1.0, abs_tol=1e-6):
        got = f"{len(weights)} albedo weights of sum {sum(weights):g} for {len(reflectances)} bands"
        raise ProductError(f"{got}: wanted one for each band, of sum 1; take them from LandsatScene.albedo_weights")
    planetary = np.tensordot(np.asarray(weights), np.asarray(reflectances, dtype=np.float64), axes=1)
    return np.asarray((planetary - PATH_ALBEDO) / SEA_LEVEL_TRANSMISSIVITY**2)


def brightness_temperature(radiance: ArrayLike, *, k1: float, k2: float) -> Float:
    """Temperature of a black body of this radiance, K2 / ln(K1 / L + 1) (USGS19); kelvin, NaN where L <= 0.

    >>> brightness_temperature([10.222918], k1=774.8853, k2=1321.0789).round(3).tolist()
    [304.313]
    """
    return lst(radiance, 1.0, k1=k1, k2=k2)


def lst(
    radiance: ArrayLike, emissivity: ArrayLike, *, k1: float, k2: float, atmosphere: Atmosphere | None = None
) -> Float:
    """Land surface temperature, K2 / ln(e_NB K1 / Rc + 1) (Idaho02, Allen07); kelvin, NaN where Rc <= 0.

    Rc = (L - Rp) / tau_NB - (1 - e_NB) Rsky with an atmosphere (Wukelic et al. 1989, Remote Sens. Environ.
    28:339-347). Without one Rc = L, and the result is NOT corrected for the atmosphere: say so wherever it is shown.
    ``radiance`` is that of the thermal band at the sensor, W m-2 sr-1 um-1; K1 (W m-2 sr-1 um-1) and K2 (K) of the MTL
    file are above 0, else a `ProductError`.

    >>> lst([10.222918], [0.9703565], k1=774.8853, k2=1321.0789).round(3).tolist()
    [306.409]
    """
    _check_thermal(k1, k2)
    e_nb = np.asarray(emissivity, dtype=np.float64)
    corrected = np.asarray(radiance, dtype=np.float64)
    if atmosphere is not None:
        corrected = (corrected - atmosphere.path_radiance) / atmosphere.transmissivity
        corrected = corrected - (1.0 - e_nb) * atmosphere.sky_radiance
    corrected = np.where(corrected > 0.0, corrected, np.nan)
    return np.asarray(k2 / np.log(e_nb * k1 / corrected + 1.0))


def emitted_radiance(lst: ArrayLike, emissivity: ArrayLike, *, k1: float, k2: float) -> Float:
    """Radiance of a surface of this temperature, e_NB K1 / (exp(K2 / LST) - 1): the inverse of `lst` without air.

    >>> emitted_radiance([306.4085], [0.9703565], k1=774.8853, k2=1321.0789).round(4).tolist()
    [10.2229]
    """
    _check_thermal(k1, k2)
    exponent = k2 / np.asarray(lst, dtype=np.float64)
    return np.asarray(np.asarray(emissivity, dtype=np.float64) * k1 / np.expm1(exponent))


def _ratio(numerator: Float, denominator: Float) -> Float:
    """Numerator over denominator, 0 where the denominator is not positive, NaN where it is NaN."""
    quotient = np.divide(numerator, denominator, out=np.zeros_like(denominator), where=denominator > 0.0)
    return np.where(np.isnan(denominator), np.nan, quotient)


def _check_thermal(k1: float, k2: float) -> None:
    if not (math.isfinite(k1) and math.isfinite(k2) and k1 > 0.0 and k2 > 0.0):
        raise ProductError(f"thermal constants K1 {k1}, K2 {k2}: wanted both above 0; take them from the MTL file")
