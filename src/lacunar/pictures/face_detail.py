"""Detail of single samples of a face that the model does not draw: sharper edges, and what the other half shows.

The mean of many samples is smooth because they differ; a sample is smooth because the model knows few pixels. So detail
is for samples alone: the mean of sharpened ones would be further from the truth.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from lacunar.pictures.face_frame import LUMA
from lacunar.pictures.missing_regions import BoolArray, FloatArray

# Lengths are in pixels of the model. All were chosen on thirteen photographs of faces that are in no set of this
# project, and the mirror image also tried on 63 of the last 500 faces of the training.
EDGE_WIDTH, EDGE_GAIN = 0.7, 1.5  # what is finer than a Gaussian of that width is added that many times again
SHADING_WIDTH = 2.0  # light and colour that are coarser stay those of the sample, where the mirror image is taken
LIKENESS_WIDTH = 3.0  # of the Gaussian window in which the mirror image is held against a sample
UNLIKE, LIKE = 0.3, 0.7  # correlation there: below nothing is taken of the mirror image, above all
FAINT = 4e-5  # variance, white to black being 2: what is flatter correlates by chance
FACE = (0.36, 0.46, 0.06)  # half width, half height and middle below that of the frame, in sides of it: an ellipse
SOFT = 0.15  # of its radius: from here on the mirror image is left out by and by
LEAST_SYMMETRY = 0.6  # correlation of both halves where both are known: a face that looks straight ahead
INNER = 0.65  # of the ellipse's radius: eyes, nose and mouth, which tell the axis
REACH, STEP = 7.0, 0.5  # of the columns of the axis that are tried around the middle
TILT, TILT_STEP = 6.0, 1.0  # and of its tilts, in degrees
LEAST_SEEN = 0.05  # of the frame, in which both halves are known
ALL = 0.99  # of the pixels that a place lies between

Place = NDArray[np.float64]


@dataclass(frozen=True)
class Axis:
    """The axis of symmetry of a face in its frame, and how alike both halves are."""

    column: float  # in the middle row
    tilt: float  # degrees
    correlation: float

    def reflected(self, rows: Place, cols: Place, size: int) -> tuple[Place, Place]:
        """Where the mirror images of places lie."""
        down, across = rows - (size - 1) / 2, cols - self.column
        cosine, sine = np.cos(2 * np.deg2rad(self.tilt)), np.sin(2 * np.deg2rad(self.tilt))
        return down * cosine + across * sine + (size - 1) / 2, down * sine - across * cosine + self.column

    def mirrored(self, values: FloatArray) -> FloatArray:
        """The mirror image of (S, S, C) values; 0 where it would lie outside."""
        places = np.indices(values.shape[:2]).astype(np.float64)
        at = self.reflected(places[0], places[1], len(values))
        planes = [map_coordinates(plane, at, order=1, mode="constant") for plane in np.moveaxis(values, 2, 0)]
        return np.stack(planes, axis=2)


def detailed(samples: FloatArray, expected: FloatArray, missing: BoolArray, scale: float) -> FloatArray:
    """Samples (K, S, S, 3) of a face in its frame with more detail; ``expected`` (S, S, 3) is their mean.

    What is known stays. ``scale`` is the pixels of the frame to one of the model.
    """
    inward = _inward(missing, scale)[..., None]
    width = (EDGE_WIDTH * scale, EDGE_WIDTH * scale, 0)
    sharp = [one + inward * EDGE_GAIN * (one - gaussian_filter(one, width, mode="nearest")) for one in samples]
    axis = axis_of(expected, missing, scale)
    if axis is not None:
        sharp = [_with_mirror_image(one, soft, missing, axis, scale) for one, soft in zip(sharp, samples, strict=True)]
    return np.stack(sharp).astype(np.float32)


def axis_of(expected: FloatArray, missing: BoolArray, scale: float) -> Axis | None:
    """The axis about which the known pixels of a face are most like their mirror image; None where they are not."""
    size = len(missing)
    luma = expected @ np.array(LUMA)
    band = gaussian_filter(luma, 0.5 * scale) - gaussian_filter(luma, 4 * scale)
    known = (~missing).astype(np.float64)
    own = (np.indices((round(size / scale),) * 2) + 0.5) * scale - 0.5  # the model's pixels
    seen = (map_coordinates(known, own, order=1) > ALL) & (map_coordinates(_radius(size), own, order=1) < INNER)
    rows, cols = own[:, seen]
    values = map_coordinates(band, (rows, cols), order=1)
    found = []
    for step in np.arange(-REACH, REACH + STEP, STEP):
        for tilt in np.arange(-TILT, TILT + TILT_STEP, TILT_STEP):
            axis = Axis((size - 1) / 2 + step * scale, float(tilt), 0.0)
            at = axis.reflected(rows, cols, size)
            both = map_coordinates(known, at, order=1, mode="constant") > ALL
            if both.sum() >= LEAST_SEEN * seen.size:
                other = map_coordinates(band, [one[both] for one in at], order=1)
                if min(values[both].std(), other.std()) > 0:  # a flat half is like nothing
                    found.append(replace(axis, correlation=float(np.corrcoef(values[both], other)[0, 1])))
    best = max(found, key=lambda one: one.correlation, default=None)
    return best if best is not None and best.correlation > LEAST_SYMMETRY else None


def _with_mirror_image(sharp: FloatArray, soft: FloatArray, missing: BoolArray, axis: Axis, scale: float) -> FloatArray:
    """A sample with what the other half of the face shows, where that is known and like what the model drew."""
    known = axis.mirrored((~missing[..., None]).astype(np.float32))[..., 0] > ALL
    mirror, weight = axis.mirrored(soft), known.astype(np.float32)
    shading = _mean((soft - mirror) * weight[..., None], SHADING_WIDTH * scale) / _share(weight, SHADING_WIDTH * scale)
    taken = np.minimum(1, distance_transform_edt(known) / scale) * _inward(missing, scale)
    taken = taken * np.clip((1 - _radius(len(missing))) / SOFT, 0, 1)
    alike = _likeness(soft, mirror, weight, scale)
    taken = taken * np.clip((alike - UNLIKE) / (LIKE - UNLIKE), 0, 1)
    return np.asarray(sharp + taken[..., None] * (mirror + shading - sharp), dtype=np.float32)


def _likeness(first: FloatArray, second: FloatArray, weight: FloatArray, scale: float) -> Place:
    """(H, W) local correlation of the luma of two pictures at the model's resolution."""
    wide = LIKENESS_WIDTH * scale
    share = _share(weight, wide)[..., 0]
    a, b = (gaussian_filter(one @ np.array(LUMA), scale) for one in (first, second))

    def mean(values: Place) -> Place:
        return np.asarray(gaussian_filter(values * weight, wide) / share)

    own, other = (mean(one * one) - mean(one) ** 2 + FAINT for one in (a, b))
    together = mean(a * b) - mean(a) * mean(b) + FAINT
    return np.asarray(together / np.sqrt(np.maximum(own * other, FAINT**2)))


def _mean(values: FloatArray, width: float) -> FloatArray:
    return np.asarray(gaussian_filter(values, (width, width, 0)))


def _share(weight: FloatArray, width: float) -> FloatArray:
    """(H, W, 1) mean of weights around, no less than what counts as nothing."""
    return np.maximum(_mean(weight[..., None], width), np.float32(1e-3))


def _inward(missing: BoolArray, scale: float) -> Place:
    """(H, W): from 0 at the border of what is missing to 1 inside."""
    return np.asarray(1 - np.exp(-((distance_transform_edt(missing) / scale) ** 2)))


def _radius(size: int) -> Place:
    """(size, size): 1 on the ellipse that holds the face."""
    across = (np.arange(size) + 0.5) / size - 0.5
    width, height, below = FACE
    return np.asarray(np.hypot(across / width, ((across - below) / height)[:, None]))
