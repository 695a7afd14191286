"""Shapes of missing pixels at an exact missing rate: gap patterns of rasters, occlusions of pictures; seeded.

All are boolean arrays, True = missing. Every shape is a score for each pixel, of which the highest are taken: so the
missing rate is exact to one pixel. Shapes on a face lie where `FACE_FRAME` has its features. Numpy and scipy only.
"""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.errors import LacunarError

PatternName = Literal["cloud", "blobs", "box", "stripes", "half"]
PATTERN_NAMES: tuple[PatternName, ...] = get_args(PatternName)

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

_BLOB_SPECTRUM = (1.6, 3.0)  # range of the spectral slope; about 5/3 to 3 for cloud fields (Davis et al. 1996)
_STRIPE_PERIOD = (6, 24)  # pixels from one stripe to the next, as in Landsat-7 SLC-off scenes
_EDGE_JITTER = 1.5  # pixels: roughness given to the grown or shrunk border of a transplanted cloud

OcclusionName = Literal[
    "rectangle", "strokes", "blobs", "face-mask", "sunglasses", "scarf", "hand", "half", "thin", "thick"
]
OCCLUSION_NAMES: tuple[OcclusionName, ...] = get_args(OcclusionName)

Score = Callable[[tuple[int, int], np.random.Generator], FloatArray]

# Where an aligned picture in CelebA-HQ's framing has its features, as shares (x, y) of width and height: the points of
# CelebA's alignment, eyes (69, 111) and (108, 111), nose (89, 135), mouth (89, 152) of 178 x 218, after the crop.
FACE_FRAME = {"left_eye": (0.38, 0.47), "right_eye": (0.62, 0.47), "nose": (0.5, 0.62), "mouth": (0.5, 0.73)}

_PATTERNS: dict[OcclusionName, PatternName] = {"rectangle": "box", "blobs": "blobs", "half": "half"}
# Width of the brush as a share of the shorter side: narrow and wide as in RePaint's masks, which are those of LaMa.
_BRUSHES = {"strokes": (0.06, 0.18), "thin": (0.03, 0.06), "thick": (0.2, 0.4)}
_BRUSH_STEPS = 600  # segments before what is still missing is taken around the strokes
_STROKE_SEGMENTS = (4, 12)  # of one stroke
_SEGMENT_LENGTH = (0.05, 0.25)  # share of the shorter side
_STROKE_BEND = 0.8  # radians: standard deviation of the turn from one segment to the next
_HAND_SHARE = 0.075  # of the picture, that the hand as drawn covers
_FACE_SHIFT, _FACE_TURN, _FACE_SIZE = 0.025, 0.1, 0.12  # standard deviations: shares, radians, log of the size


# --- gap patterns ---


def gap_pattern(
    name: PatternName, shape: tuple[int, int], rate: float, *, rng: np.random.Generator, cloud: BoolArray | None = None
) -> BoolArray:
    """Draw a gap (H, W), boolean, True = missing, with exactly ``round(rate * H * W)`` missing pixels.

    ``cloud`` transplants a crop of a real cloud mask; ``blobs`` thresholds a power-law random field; ``box`` is one
    rectangle; ``stripes`` are parallel bands; ``half`` takes one side. Only the first needs the mask ``cloud`` (True =
    cloud), at least as large as the gap. A rate outside (0, 1) is a `LacunarError`.

    >>> gap = gap_pattern("blobs", (64, 64), 0.22, rng=np.random.default_rng(0))
    >>> int(gap.sum()) == round(0.22 * 64 * 64)
    True
    """
    if name not in PATTERN_NAMES:
        raise LacunarError(f"unknown gap pattern {name!r}: choose one of {', '.join(PATTERN_NAMES)}")
    _check_rate(rate)
    if name == "cloud":
        return exact_rate(_cloud_crop(cloud, shape, rng), rate, rng=rng)
    score = {"blobs": _blob_score, "box": _box_score, "stripes": _stripe_score, "half": _half_score}[name](shape, rng)
    return highest(score, rate)


def exact_rate(gap: BoolArray, rate: float, *, rng: np.random.Generator) -> BoolArray:
    """Grow or shrink a gap from its own border until its share of the pixels is exactly ``rate``.

    The score is the signed distance to the border (positive inside) plus a smooth jitter, so the shape stays that of
    the given gap. A gap that is empty or full carries no shape: it becomes a blob.
    """
    if not gap.any() or gap.all():
        return highest(_blob_score(gap.shape, rng), rate)
    signed = ndimage.distance_transform_edt(gap) - ndimage.distance_transform_edt(~gap)
    jitter = ndimage.gaussian_filter(rng.standard_normal(gap.shape), 1.5, mode="wrap")
    return highest(signed + _EDGE_JITTER * jitter / jitter.std(), rate)


def highest(score: FloatArray, rate: float) -> BoolArray:
    """Take the ``round(rate * size)`` pixels of highest score."""
    count = round(rate * score.size)
    chosen = np.zeros(score.size, dtype=bool)
    chosen[np.argsort(score, axis=None, kind="stable")[score.size - count :]] = True
    return chosen.reshape(score.shape)


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise LacunarError(f"missing rate {rate} is outside (0, 1): give a share such as 0.22")


def _cloud_crop(cloud: BoolArray | None, shape: tuple[int, int], rng: np.random.Generator) -> BoolArray:
    """A random crop of a cloud mask, in one of its eight orientations, with cloud and clear sky if it can."""
    if cloud is None or cloud.ndim != 2 or cloud.shape[0] < shape[0] or cloud.shape[1] < shape[1]:
        got = "none" if cloud is None else f"one of shape {cloud.shape}"
        raise LacunarError(f"the pattern 'cloud' needs a cloud mask of at least {shape} pixels; got {got}")
    for _ in range(20):
        row = rng.integers(0, cloud.shape[0] - shape[0] + 1)
        col = rng.integers(0, cloud.shape[1] - shape[1] + 1)
        crop = cloud[row : row + shape[0], col : col + shape[1]]
        if 0.05 < crop.mean() < 0.95:
            break
    if shape[0] == shape[1]:
        crop = np.rot90(crop, int(rng.integers(4)))
    return np.ascontiguousarray(crop[:, ::-1] if rng.random() < 0.5 else crop)


def _blob_score(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """A Gaussian random field with an isotropic power-law spectrum."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    frequency[0, 0] = np.inf
    amplitude = frequency ** (-0.5 * (rng.uniform(*_BLOB_SPECTRUM) + 1))
    return np.asarray(np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * amplitude, s=shape))


def _box_score(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Rectangles of one random centre and aspect, nested: higher inside."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    aspect = np.exp(rng.uniform(-0.7, 0.7))
    centre = rng.uniform(0.2, 0.8, size=2) * shape
    return np.asarray(-np.maximum(np.abs(rows - centre[0]) * aspect, np.abs(cols - centre[1]) / aspect))


def _stripe_score(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Parallel bands of a random direction and period."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    period = rng.uniform(*_STRIPE_PERIOD)
    return np.asarray(np.cos((rows * np.sin(angle) + cols * np.cos(angle)) * 2 * np.pi / period + phase))


def _half_score(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """A plane that rises in a random direction."""
    rows, cols = np.mgrid[: shape[0], : shape[1]]
    angle = rng.uniform(0, 2 * np.pi)
    return np.asarray(rows * np.sin(angle) + cols * np.cos(angle) + 1e-6 * rng.random(shape))


# --- occlusions ---


def occlusion(name: OcclusionName, shape: tuple[int, int], rate: float, *, rng: np.random.Generator) -> BoolArray:
    """Draw an occlusion (H, W), boolean, True = hidden, with exactly ``round(rate * H * W)`` hidden pixels.

    ``rectangle``, ``blobs`` and ``half`` (one side of the picture) are gap patterns; ``strokes``, ``thin`` and
    ``thick`` are painted by a brush of that width; ``face-mask`` hides nose to chin, ``sunglasses`` the eyes, ``scarf``
    the picture from below, of a face that is aligned as `FACE_FRAME` says; ``hand`` is a palm with five fingers.
    References: Lugmayr et al. 2022, arXiv 2201.09865 (thin, thick, half); Suvorov et al. 2022, arXiv 2109.07161
    (strokes). A rate outside (0, 1) is a `LacunarError`.

    >>> hidden = occlusion("sunglasses", (64, 64), 0.15, rng=np.random.default_rng(0))
    >>> int(hidden.sum()) == round(0.15 * 64 * 64)
    True
    """
    if name not in OCCLUSION_NAMES:
        raise LacunarError(f"unknown occlusion {name!r}: choose one of {', '.join(OCCLUSION_NAMES)}")
    _check_rate(rate)
    if name in _PATTERNS:
        return gap_pattern(_PATTERNS[name], shape, rate, rng=rng)
    if name in _BRUSHES:
        return highest(_painted_score(shape, rate, _BRUSHES[name], rng), rate)
    score = _hand_score(shape, rate, rng) if name == "hand" else _SHAPES[name](shape, rng)
    return highest(score, rate)


def _painted_score(
    shape: tuple[int, int], rate: float, brush: tuple[float, float], rng: np.random.Generator
) -> FloatArray:
    """Minus the time at which a brush first reaches a pixel; unreached pixels follow by distance."""
    side, wanted = min(shape), round(rate * shape[0] * shape[1])
    rows, cols = np.indices(shape)
    when, left = np.full(shape, np.inf), 0
    for step in range(_BRUSH_STEPS):
        if left == 0:  # a new stroke
            left = int(rng.integers(*_STROKE_SEGMENTS))
            at, heading = rng.uniform(0, shape), rng.uniform(0, 2 * np.pi)
            radius = max(0.5, rng.uniform(*brush) * side / 2)
        left, heading = left - 1, heading + _STROKE_BEND * rng.standard_normal()
        along, length = np.array([np.sin(heading), np.cos(heading)]), max(1.0, rng.uniform(*_SEGMENT_LENGTH) * side)
        reach = np.clip((rows - at[0]) * along[0] + (cols - at[1]) * along[1], 0, length)
        distance = np.hypot(rows - at[0] - reach * along[0], cols - at[1] - reach * along[1])
        np.minimum(when, np.where(distance <= radius, step + reach / (length + 1), np.inf), out=when)
        at = np.clip(at + length * along, 0, shape)
        if np.isfinite(when).sum() >= wanted:
            break
    if not np.isfinite(when).any():
        when[tuple(at.astype(int) - 1)] = _BRUSH_STEPS
    painted = np.isfinite(when)
    beyond: FloatArray = ndimage.distance_transform_edt(~painted)
    return -np.where(painted, when, _BRUSH_STEPS + beyond)


def _face_grid(shape: tuple[int, int], rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Coordinates (x, y) of the pixels in the face's frame, which is shifted, turned and scaled a little."""
    rows, cols = np.indices(shape)
    x, y = (cols + 0.5) / shape[1] - 0.5, (rows + 0.5) / shape[0] - 0.5
    shift, turn = _FACE_SHIFT * rng.standard_normal(2), _FACE_TURN * rng.standard_normal()
    size = np.exp(_FACE_SIZE * rng.standard_normal())
    x, y = (x - shift[0]) / size, (y - shift[1]) / size
    return x * np.cos(turn) + y * np.sin(turn) + 0.5, y * np.cos(turn) - x * np.sin(turn) + 0.5


def _ellipse(
    x: FloatArray, y: FloatArray, at: tuple[float, float], half: tuple[float, float], power: float = 2.0
) -> FloatArray:
    """About the depth (share) inside a superellipse, negative outside: 0 on its outline."""
    gauge = (np.abs((x - at[0]) / half[0]) ** power + np.abs((y - at[1]) / half[1]) ** power) ** (1 / power)
    return np.asarray((1 - gauge) * min(half))


def _capsule(
    x: FloatArray, y: FloatArray, start: tuple[float, float], end: tuple[float, float], radius: float
) -> FloatArray:
    """Depth (share) inside a line of round ends, negative outside."""
    across = (end[0] - start[0], end[1] - start[1])
    reach = np.clip(((x - start[0]) * across[0] + (y - start[1]) * across[1]) / (across[0] ** 2 + across[1] ** 2), 0, 1)
    return np.asarray(radius - np.hypot(x - start[0] - reach * across[0], y - start[1] - reach * across[1]))


def _sunglasses_score(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Two lenses over the eyes, a bridge and the arms."""
    x, y = _face_grid(shape, rng)
    (left, eyes), (right, _) = FACE_FRAME["left_eye"], FACE_FRAME["right_eye"]
    half = (rng.uniform(0.1, 0.13), rng.uniform(0.07, 0.11))
    power = rng.uniform(2, 4)  # from round to almost square lenses
    lenses = [_ellipse(x, y, (centre, eyes + 0.01), half, power) for centre in (left - 0.01, right + 0.01)]
    arms = _capsule(x, y, (0.16, eyes - 0.03), (0.84, eyes - 0.03), 0.012)
    return np.asarray(np.maximum.reduce([*lenses, arms]))


def _face_mask_score(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """A medical mask: from the bridge of the nose to below the chin, narrower at the top."""
    x, y = _face_grid(shape, rng)
    top, bottom = FACE_FRAME["nose"][1] - rng.uniform(0.02, 0.08), rng.uniform(0.92, 0.98)
    half_width = rng.uniform(0.22, 0.27) * np.clip(0.75 + 0.5 * (y - top) / (bottom - top), 0.6, 1.0)
    middle, half_height = (top + bottom) / 2, (bottom - top) / 2
    gauge = (np.abs((x - 0.5) / half_width) ** 3 + np.abs((y - middle) / half_height) ** 3) ** (1 / 3)
    return np.asarray(1 - gauge)


def _scarf_score(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Everything below a border that is highest before the mouth and has folds."""
    x, y = _face_grid(shape, rng)
    bow, folds, phase = rng.uniform(0.2, 1.5), rng.uniform(8, 20), rng.uniform(0, 2 * np.pi)
    return np.asarray(y - bow * (x - 0.5) ** 2 + 0.012 * np.sin(folds * x + phase))


def _hand_score(shape: tuple[int, int], rate: float, rng: np.random.Generator) -> FloatArray:
    """A palm, four fingers and a thumb of about the wanted size, in any place and direction, left or right."""
    rows, cols = np.indices(shape)
    x, y = (cols + 0.5) / shape[1] - rng.uniform(0.3, 0.7), (rows + 0.5) / shape[0] - rng.uniform(0.35, 0.8)
    turn, side = rng.uniform(0, 2 * np.pi), rng.choice([-1.0, 1.0])
    x, y = side * (x * np.cos(turn) + y * np.sin(turn)), y * np.cos(turn) - x * np.sin(turn)
    x, y = x * np.sqrt(_HAND_SHARE / rate), y * np.sqrt(_HAND_SHARE / rate)
    spread, finger = rng.uniform(0.1, 0.3), rng.uniform(0.024, 0.032)  # radians between fingers; half their width
    parts = [_ellipse(x, y, (0.0, 0.0), (0.11, 0.13), 2.5)]
    for index, length in enumerate((0.17, 0.21, 0.2, 0.15)):
        lean, root = spread * (index - 1.5), (0.06 * (index - 1.5), -0.1)
        parts.append(_capsule(x, y, root, (root[0] + length * np.sin(lean), root[1] - length * np.cos(lean)), finger))
    parts.append(_capsule(x, y, (-0.07, 0.04), (-0.2, -0.08), 1.15 * finger))
    return np.asarray(np.maximum.reduce(parts))


_SHAPES: dict[OcclusionName, Score] = {
    "face-mask": _face_mask_score,
    "sunglasses": _sunglasses_score,
    "scarf": _scarf_score,
}
