"""A synthetic scene and its clouds: terrain, lakes, forest, fields, a town, and their temperature; numpy and scipy.

Made for `lacunar.sensors.simulated`. Nothing is fitted to a place: the numbers are those of a temperate lake district
on a spring morning, chosen so that the temperature field has what real thermal scenes have: a power-law spectrum, sharp
borders between fields, lakes of nearly one temperature, and slopes warmed by the sun that they face.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from lacunar.errors import ProductError

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

PIXEL = 30.0  # metres
VALLEY_ELEVATION = 760.0  # metres above the sea
RELIEF = 270.0  # metres; the median height of the land above the lowest valley is about as much
OUTER_SCALE = 9000.0  # metres; hills do not grow with the scene beyond this wavelength
TREE_LINE = 1500.0  # metres above the sea
WATER_SHARE, SNOW_SHARE = 0.08, 0.015  # of the scene
LAPSE_RATE = 0.0065  # K/m, the standard atmosphere's
VALLEY_AIR = 290.0  # K, at VALLEY_ELEVATION
LAKE_TEMPERATURE, SNOW_TEMPERATURE = 285.3, 273.0  # K
CLOUD_BASE = 900.0  # metres above the ground, of fair-weather cumulus
CLOUD_TOP_TEMPERATURE = 268.0  # K
DILATION = 3  # pixels around a cloud, as CFMask does it (LSDS-1747)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sun:
    """Where the sun stands, degrees: azimuth clockwise from north, elevation above the horizon."""

    azimuth: float
    elevation: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticScene:
    """A scene under a clear sky, every array (size, size)."""

    elevation: Float  # metres above the sea
    water: Bool
    snow: Bool
    town: Bool
    cover: Float  # share of the ground under green leaves, 0 to 1; 0 on water and snow
    rock: Float  # share of rock in what is not green, 0 to 1
    light: Float  # sunlight on the slope over sunlight on flat ground, 0 and more
    texture: Float  # brightness of the ground relative to its kind, about 1
    temperature: Float  # of the surface itself, kelvin, as sharp as the land cover is


@dataclass(frozen=True, slots=True, kw_only=True)
class Clouds:
    """Clouds over a scene, every array (size, size)."""

    cloud: Bool
    dilated: Bool  # within three pixels of a cloud; may overlap shadow
    shadow: Bool  # in the shadow of a cloud and not under one
    opacity: Float  # 0 clear to 1 thick; not 0 only under and around clouds

    @property
    def gap(self) -> Bool:
        """Every pixel that cloud, rim or shadow touches."""
        return self.cloud | self.dilated | self.shadow


def power_law_field(
    size: int, rng: np.random.Generator, *, exponent: float, outer_scale: float = OUTER_SCALE, inner_scale: float = 0.0
) -> Float:
    """Gaussian random field (size, size) whose power falls as wavenumber to the minus ``exponent``; mean 0, sigma 1.

    The exponent is that of the two-dimensional spectrum, about 3 for clouds and 4 for hills. Above ``outer_scale`` and
    below ``inner_scale``, wavelengths in metres at `PIXEL`, there is no more power.

    >>> field = power_law_field(64, np.random.default_rng(0), exponent=3.0)
    >>> field.shape, round(float(field.std()), 6)
    ((64, 64), 1.0)
    """
    canvas = size + size // 2  # larger than the scene, so that its borders do not repeat each other
    frequency = np.hypot(np.fft.fftfreq(canvas, PIXEL)[:, None], np.fft.rfftfreq(canvas, PIXEL)[None, :])
    amplitude = (frequency**2 + outer_scale**-2) ** (-exponent / 4.0)
    amplitude *= np.exp(-((frequency * inner_scale) ** 2))
    amplitude[0, 0] = 0.0
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((canvas, canvas))) * amplitude, s=(canvas, canvas))
    field = field[:size, :size]
    return np.asarray((field - field.mean()) / field.std())


def make_scene(size: int, rng: np.random.Generator, sun: Sun) -> SyntheticScene:
    """A scene of size x size pixels; the same generator state gives the same one."""
    elevation, water = _terrain(size, rng)
    light = _sunlight(elevation, sun)
    steepness = np.hypot(*np.gradient(ndimage.gaussian_filter(elevation, 3.0), PIXEL))
    height = elevation - elevation.min()

    # Forest on the slopes, thinning out to rock at the tree line; fields on flat low ground; a town among the fields.
    patches = power_law_field(size, rng, exponent=2.6, outer_scale=2500.0)
    above_trees = _step((elevation + 60.0 * patches - TREE_LINE) / 120.0)
    forest = _step((steepness - 0.15 + 0.05 * patches) / 0.03) * (1.0 - above_trees)
    wild = 0.86 * forest + (0.42 + 0.16 * patches) * (1.0 - forest) * (1.0 - above_trees) + 0.06 * above_trees
    farmed = (steepness + 0.035 * patches < 0.17) & (height < 0.45 * np.ptp(elevation)) & ~water
    crop, tint = _fields(size, rng)
    cover = np.where(farmed, crop, wild)
    town = _town(size, rng, farmed)
    blocks = _parcels(size, rng, strip=(90.0, 150.0), length=(90.0, 240.0))
    cover = np.where(town, 0.12 + 0.25 * rng.random(blocks.max() + 1)[blocks] ** 2, cover)
    cover = np.clip(cover + 0.04 * power_law_field(size, rng, exponent=1.5, outer_scale=600.0), 0.0, 0.97)

    line = np.quantile((elevation + 40.0 * patches)[~water], 1.0 - SNOW_SHARE)
    snow = (elevation + 40.0 * patches > line) & ~water
    cover = np.where(water | snow, 0.0, cover)
    rock = np.clip(_step((steepness - 0.35) / 0.08) + above_trees, 0.0, 1.0)

    # Surface over air: dry bare ground most, transpiring leaves least; more on slopes that face the sun.
    moisture = power_law_field(size, rng, exponent=3.2, outer_scale=5000.0)
    bare = 13.5 + 1.5 * rock + np.where(farmed, 2.0 * tint, 0.0) - 1.2 * moisture
    leaves = 2.2 + np.where(farmed, 1.0 * tint, 0.0) - 0.5 * moisture
    excess = cover * leaves + (1.0 - cover) * bare + np.where(town, 1.8, 0.0)
    temperature = VALLEY_AIR - LAPSE_RATE * (elevation - VALLEY_ELEVATION) + excess * (0.45 + 0.55 * light)
    lake = LAKE_TEMPERATURE + 0.25 * power_law_field(size, rng, exponent=3.5) + _shallow(water)
    temperature = np.where(water, lake, temperature)
    temperature = np.where(snow, SNOW_TEMPERATURE + 0.4 * moisture, temperature)
    texture = 1.0 + np.where(farmed, 0.12 * tint, 0.05 * patches)
    return SyntheticScene(
        elevation=elevation,
        water=water,
        snow=snow,
        town=town,
        cover=cover,
        rock=rock,
        light=light,
        texture=np.clip(texture, 0.6, 1.5),
        temperature=temperature,
    )


def make_clouds(size: int, rng: np.random.Generator, sun: Sun, *, fraction: float) -> Clouds:
    """Fair-weather cumulus whose clouds, rims and shadows cover this fraction of a scene, 0 to 0.9, to a few pixels.

    Shadows fall away from the sun, by cloud base / tan(elevation). Another fraction is a `ProductError`.
    """
    if not 0.0 <= fraction <= 0.9:
        raise ProductError(f"cloud fraction {fraction}: wanted 0 to 0.9, the share of the scene that clouds take away")
    reach = CLOUD_BASE / math.tan(math.radians(sun.elevation)) / PIXEL
    azimuth = math.radians(sun.azimuth)
    # Away from the sun: rows count southwards, columns eastwards.
    rows, columns = round(reach * math.cos(azimuth)), round(-reach * math.sin(azimuth))
    margin = math.ceil(reach) + DILATION  # clouds outside the scene throw shadows into it
    field = power_law_field(size + 2 * margin, rng, exponent=3.4, outer_scale=3500.0, inner_scale=60.0)
    inside = (slice(margin, margin + size),) * 2

    def clouds_above(threshold: float) -> Clouds:
        cloud = field > threshold
        around = ndimage.binary_dilation(cloud, iterations=DILATION)
        shadow = np.roll(cloud, (rows, columns), axis=(0, 1)) & ~cloud
        opacity = np.where(around, 1.0 - np.exp(-6.0 * np.clip(field - threshold + 0.08, 0.0, None)), 0.0)
        return Clouds(
            cloud=cloud[inside], dilated=(around & ~cloud)[inside], shadow=shadow[inside], opacity=opacity[inside]
        )

    highest = float(field.max())
    if fraction == 0.0:
        return clouds_above(highest)
    threshold = optimize.bisect(
        lambda value: clouds_above(value).gap.mean() - fraction, float(field.min()) - 1.0, highest, xtol=1e-4
    )
    return clouds_above(threshold)


def _terrain(size: int, rng: np.random.Generator) -> tuple[Float, Bool]:
    """Elevation with flat valleys and steep heights, and the lakes that fill its lowest hollows."""
    shape = power_law_field(size, rng, exponent=4.6)
    detail = power_law_field(size, rng, exponent=3.2, outer_scale=1800.0, inner_scale=45.0)
    height = np.exp(0.75 * shape)  # log-normal: more valley than summit
    height = height / (1.0 + 0.08 * height)  # and no summit beyond measure
    height = height + 0.04 * detail * (height - height.min())  # valleys are smooth
    elevation = VALLEY_ELEVATION + RELIEF * (height - height.min())
    hollow = ndimage.gaussian_filter(elevation, 1.0)
    level = np.quantile(hollow, WATER_SHARE)
    labels, count = ndimage.label(hollow <= level)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    water = (sizes >= 40)[labels]  # pixels; a smaller pond would be no lake in the thermal band
    return np.where(water, level, np.maximum(elevation, level)), water


def _sunlight(elevation: Float, sun: Sun) -> Float:
    """Cosine of the angle between sun and slope, over that on flat ground."""
    down_rows, down_columns = np.gradient(ndimage.gaussian_filter(elevation, 0.7), PIXEL)
    east, north = -down_columns, down_rows  # of the normal; rows count southwards
    azimuth, height = math.radians(sun.azimuth), math.radians(sun.elevation)
    towards = math.cos(height) * (east * math.sin(azimuth) + north * math.cos(azimuth)) + math.sin(height)
    return np.asarray(np.clip(towards / np.sqrt(1.0 + east**2 + north**2) / math.sin(height), 0.0, None))


def _parcels(
    size: int, rng: np.random.Generator, *, strip: tuple[float, float], length: tuple[float, float]
) -> NDArray[np.int64]:
    """Number of the rectangle that each pixel lies in: strips of random width, cut at random lengths (metres)."""
    angle = rng.uniform(0.0, math.pi)
    rows, columns = np.indices((size, size)) * PIXEL
    # Roads bend a little: the grid is bent with them.
    bend = 120.0 * power_law_field(size, rng, exponent=4.0)
    across = rows * math.cos(angle) - columns * math.sin(angle) + bend
    along = rows * math.sin(angle) + columns * math.cos(angle)
    edges = across.min() + np.cumsum(rng.uniform(*strip, size=math.ceil(np.ptp(across) / strip[0]) + 1))
    strips = np.searchsorted(edges, across)
    cuts = rng.uniform(*length, size=len(edges) + 1)
    shifts = rng.uniform(0.0, length[1], size=len(edges) + 1)
    piece = np.floor((along - along.min() + shifts[strips]) / cuts[strips]).astype(np.int64)
    return np.asarray(strips * (int(piece.max()) + 1) + piece)


def _fields(size: int, rng: np.random.Generator) -> tuple[Float, Float]:
    """Green cover of farmland, two humps (ploughed and grown), and a tint of each field about 0, -1 to 1."""
    parcels = _parcels(size, rng, strip=(180.0, 480.0), length=(240.0, 1000.0))
    count = int(parcels.max()) + 1
    grown = rng.random(count) < 0.55
    cover = np.where(grown, rng.uniform(0.5, 0.9, count), rng.uniform(0.05, 0.3, count))
    return cover[parcels], rng.uniform(-1.0, 1.0, count)[parcels]


def _town(size: int, rng: np.random.Generator, farmed: Bool) -> Bool:
    """A town of about a square kilometre for every 60 of land, in the widest farmland."""
    room = ndimage.distance_transform_edt(np.pad(farmed, 1))[1:-1, 1:-1]
    rows, columns = np.indices((size, size))
    town = np.zeros((size, size), dtype=bool)
    wobble = power_law_field(size, rng, exponent=3.0, outer_scale=1500.0)
    for _ in range(max(1, round((size * PIXEL / 1000.0) ** 2 / 60.0))):
        row, column = np.unravel_index(int(np.argmax(room)), room.shape)
        distance = np.hypot(rows - row, columns - column)
        town |= (distance < 21.0 + 6.0 * wobble) & farmed
        room = np.where(distance < 80.0, 0.0, room)
    return town


def _shallow(water: Bool) -> Float:
    """Warming of lakes towards their shore, kelvin: the first two hundred metres are shallower."""
    depth = ndimage.distance_transform_edt(water) * PIXEL
    return np.asarray(1.2 * np.exp(-depth / 80.0))


def _step(value: Float) -> Float:
    """Smooth step from 0 to 1 about 0."""
    return np.asarray(0.5 + 0.5 * np.tanh(value))
