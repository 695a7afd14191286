"""Which of several samples of a filled picture is the best to show, without knowing the truth.

Two marks, smaller is better: how much slopes break at the border of what is filled, and of a face how far what is
filled differs from its mirror image. Samples are ordered by the sum of both, each in units of its own spread.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.geo.picture import Picture
from lacunar.pictures.face_frame import LUMA, Face
from lacunar.pictures.fill import FilledRegion, paste, to_model
from lacunar.pictures.missing_regions import BoolArray, FloatArray, bounding_box

FRAME = 64  # pixels: side of the frame in which a face is held against its mirror image
MARGIN = 2  # known pixels around what is filled that tell the slope


@dataclass(frozen=True)
class Ranking:
    """Marks of samples, and their places from 1, the best."""

    border: tuple[float, ...]  # mean break of the slope at the border, in shares of white
    symmetry: tuple[float, ...]  # mean difference from the mirror image, in shares of white; zeros without a face
    places: tuple[int, ...]

    @property
    def best(self) -> int:
        """Number of the best sample, from 0."""
        return self.places.index(1)


def ranked(picture: Picture, missing: BoolArray, regions: Sequence[FilledRegion], face: Face | None = None) -> Ranking:
    """Rank the samples of the missing pixels (H, W) of a picture, by its border and, of a ``face``, its symmetry."""
    filled = [paste(picture, regions, sample=number) for number in range(len(regions[0].samples))]
    shown = [np.asarray((to_model(one.colours, one.white) + 1) / 2, dtype=np.float32) for one in filled]
    border = [border_break(one, missing) for one in shown]
    symmetry = [0.0 if face is None else asymmetry(one, missing, face) for one in shown]
    marks = _spread(border) + _spread(symmetry)
    places = np.argsort(np.argsort(marks, kind="stable"), kind="stable") + 1
    return Ranking(tuple(border), tuple(symmetry), tuple(map(int, places)))


def border_break(filled: FloatArray, missing: BoolArray) -> float:
    """Mean absolute second difference (H, W, 3) where a filled pixel follows on two known ones, in four directions."""
    box = bounding_box(missing)
    top, left = max(0, box.row - MARGIN), max(0, box.col - MARGIN)
    part = np.s_[top : box.row + box.height + MARGIN, left : box.col + box.width + MARGIN]
    total, count = 0.0, 0
    for turns in range(4):
        values, hidden = np.rot90(filled[part].astype(np.float64), turns), np.rot90(missing[part], turns)
        there = ~hidden[:-2] & ~hidden[1:-1] & hidden[2:]
        breaks = np.abs(values[2:] - 2 * values[1:-1] + values[:-2])
        total += float(breaks[there].mean(axis=-1).sum())
        count += int(there.sum())
    return total / max(1, count)


def asymmetry(filled: FloatArray, missing: BoolArray, face: Face) -> float:
    """Mean absolute difference of luma from that of the mirror image of a face, over the filled part of its frame."""
    rows, cols = face.places(FRAME)
    reach = int(np.ceil(face.side))
    top, left = (max(0, int(place) - reach) for place in (face.y, face.x))
    part = np.s_[top : int(face.y) + reach + 1, left : int(face.x) + reach + 1]
    luma, hidden = filled[part] @ np.array(LUMA), missing[part].astype(np.float64)
    width = max(0.0, face.side / FRAME / 2)
    at = [rows - top, cols - left]
    frame = ndimage.map_coordinates(ndimage.gaussian_filter(luma, width), at, order=1, mode="nearest")
    there = ndimage.map_coordinates(hidden, at, order=1, mode="constant") > 0.5  # by more than half
    return float(np.abs(frame - frame[:, ::-1])[there].mean()) if there.any() else 0.0


def _spread(marks: Sequence[float]) -> NDArray[np.float64]:
    """Marks in units of their own spread; zeros where they are all alike."""
    values = np.asarray(marks, dtype=np.float64)
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-9))
