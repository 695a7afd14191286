"""The frame of a face: found in a photograph, brought upright to the model's size, and back.

The detector is scikit-image's frontal-face cascade of local binary patterns. How many of its windows agree says how
sure a face is, and how many agree when the picture is turned says how the face is tilted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lacunar.errors import PictureError
from lacunar.pictures.missing_regions import BoolArray, FloatArray

if TYPE_CHECKING:
    from skimage.feature import Cascade

IndexArray = NDArray[np.intp]

# Calibrated on aligned CelebA photographs of the training set, pasted into other pictures: the frame (a square in
# CelebA-HQ's framing) over the box that the detector draws from brow to chin. docs/faces.md tells how well that serves.
FRAME_OVER_BOX = 1.51
SHIFT_OVER_FRAME = (-0.015, -0.06)  # from the middle of the box to that of the frame (x, y), in sides of the frame

SURE_VOTES = 6  # windows that agree: fewer than 1 in 20 such finds is false
WORKING_SIDE = 480  # pixels: a larger picture is searched at this size
SMALLEST_BOX = 24  # pixels, the cascade's own window
TURNS = (0.0, -30.0, 30.0)  # degrees: how a picture is turned until a face is found
TILTS = np.arange(-40.0, 41.0, 8.0)  # degrees, tried around a find
CROP_RADIUS, CROP_BOX = 48, 44  # pixels of the crop in which a tilt is tried, and of the box in it
SAME_BOX = 0.25  # of its side: windows whose middles are nearer belong together
SAME_SIZE = 0.35  # log of the ratio of the sides of windows that belong together
COARSE_STEP, FINE_STEP = 1.1, 1.06  # from one size of window to the next
LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
PIXEL_SPREAD = 12**-0.5  # standard deviation of a box one pixel wide

Length = TypeVar("Length", float, NDArray[np.float64])
Votes = tuple[float, float, float, int]  # middle x and y, side, how many windows agree


@dataclass(frozen=True, order=True)
class Face:
    """The frame of a face in a photograph: a square in CelebA-HQ's framing."""

    x: float  # of the middle, in pixels from the picture's left border
    y: float
    side: float
    tilt: float = 0.0  # degrees, clockwise
    votes: int = 0  # how many of the detector's windows agree; 0 where it was not asked

    @classmethod
    def in_box(cls, box: tuple[float, float, float, float]) -> "Face":
        """The frame of an upright face whose box (x, y, width, height) reaches from brow to chin, ear to ear."""
        x, y, width, height = box
        return _frame(x + width / 2, y + height / 2, max(width, height), 0.0, 0)

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> "Face":
        """The largest square in the middle of a picture (H, W) that shows an aligned face."""
        return cls(shape[1] / 2, shape[0] / 2, float(min(shape)))

    def places(self, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Row and column in the photograph of the centre of each pixel of the frame (size, size)."""
        across = ((np.arange(size) + 0.5) / size - 0.5) * self.side
        down, right = np.meshgrid(across, across, indexing="ij")
        cols, rows = _turned((self.x, self.y), right, down, self.tilt)
        return rows - 0.5, cols - 0.5

    def places_in_frame(
        self, rows: IndexArray, cols: IndexArray, size: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Row and column in the frame (size, size) of pixels of the photograph; the inverse of `places`."""
        down, right = rows + 0.5 - self.y, cols + 0.5 - self.x
        cosine, sine = np.cos(np.deg2rad(self.tilt)), np.sin(np.deg2rad(self.tilt))
        scale = size / self.side
        in_rows = (down * cosine - right * sine) * scale + size / 2 - 0.5
        return in_rows, (right * cosine + down * sine) * scale + size / 2 - 0.5


def find_faces(picture: FloatArray, missing: BoolArray | None = None) -> tuple[Face, ...]:
    """Find the faces of a photograph (H, W, 3) in [-1, 1], from left to right.

    Fill what is ``missing`` (H, W) smoothly first; a weak detection is accepted if the mask partly covers it. Ahonen et
    al. 2006, "Face description with local binary patterns"; Viola & Jones 2001, "Rapid object detection using a boosted
    cascade of simple features".
    """
    shrink = max(1.0, max(picture.shape[:2]) / WORKING_SIDE)
    luma = (picture @ np.array(LUMA) + 1) / 2
    seen = ndimage.gaussian_filter(luma, PIXEL_SPREAD * shrink) if shrink > 1 else luma
    small = ndimage.zoom(seen, 1 / shrink, order=1, grid_mode=True, mode="nearest") if shrink > 1 else seen
    for turn in TURNS:
        middle = (small.shape[1] / 2, small.shape[0] / 2)
        turned = ndimage.rotate(small, turn, reshape=False, order=1, mode="nearest") if turn else small
        finds = [
            (*_turned(middle, x - middle[0], y - middle[1], turn), side, votes) for x, y, side, votes in _finds(turned)
        ]
        rough = {find: _scaled(_frame(*find[:3], turn, find[3]), shrink) for find in finds}
        kept = [find for find in finds if rough[find] in _believed(list(rough.values()), missing)]
        if kept:
            return tuple(sorted(_scaled(_upright(small, find, turn), shrink) for find in kept))
    return ()


def choose_face(faces: Sequence[Face], missing: BoolArray, *, index: int | None = None) -> Face:
    """Choose the face of that number (from 1), or the only one that the mask touches.

    No face, none that the mask touches, several, or no face of that number are a ``PictureError``.
    """
    listed = "; ".join(f"{number} at ({face.x:.0f}, {face.y:.0f})" for number, face in enumerate(faces, start=1))
    by_hand = "say where it is with --box X,Y,WIDTH,HEIGHT (brow to chin), or --whole if the picture is the face"
    if not faces:
        raise PictureError(f"no face was found: {by_hand}; `lacunar inpaint` fills any picture")
    if index is not None:
        if not 1 <= index <= len(faces):
            raise PictureError(f"no face {index}: wanted 1 to {len(faces)} ({listed})")
        return faces[index - 1]
    touched = [face for face in faces if covered(face, missing) > 0]
    if not touched:
        raise PictureError(f"the mask touches none of the faces found ({listed}): {by_hand}")
    if len(touched) > 1:
        raise PictureError(
            f"the mask touches {len(touched)} faces of {len(faces)} ({listed}): choose with --face INDEX"
        )
    return touched[0]


def covered(face: Face, missing: BoolArray) -> float:
    """Share of the frame that the mask covers, on a grid of 32 x 32 places."""
    rows, cols = face.places(32)
    return float(ndimage.map_coordinates(missing.astype(np.uint8), [rows, cols], order=0, cval=0).mean())


def to_frame(picture: FloatArray, missing: BoolArray, face: Face, size: int) -> tuple[FloatArray, BoolArray]:
    """Bring a face of a picture (H, W, 3) in [-1, 1] into the model's frame (size, size, 3).

    Also gives which of its pixels are missing (size, size): those of the mask, and those outside the photograph.
    """
    rows, cols = face.places(size)
    blur = PIXEL_SPREAD * max(0.0, face.side / size - 1)
    box, inner = _around(rows, cols, missing.shape, margin=int(4 * blur) + 2)
    known = np.where(missing[box], 0.0, 1.0)
    weight = ndimage.gaussian_filter(known, blur, mode="nearest") if blur else known
    places = [rows - inner[0], cols - inner[1]]
    share = ndimage.map_coordinates(weight, places, order=1, mode="constant", cval=0.0)
    hidden = share < 0.5
    frame = np.zeros((size, size, picture.shape[2]), dtype=np.float32)
    for colour in range(picture.shape[2]):
        values = np.where(missing[box], 0.0, picture[box][..., colour])
        blurred = ndimage.gaussian_filter(values, blur, mode="nearest") if blur else values
        total = ndimage.map_coordinates(blurred, places, order=1, mode="constant", cval=0.0)
        frame[..., colour] = np.divide(total, share, out=np.zeros_like(total), where=~hidden)
    return frame, hidden


def from_frame(residual: FloatArray, face: Face, rows: IndexArray, cols: IndexArray) -> FloatArray:
    """What the frame (K, size, size, 3) holds at pixels (P,) of the photograph, (K, P, 3); 0 outside the frame."""
    size = residual.shape[1]
    places = face.places_in_frame(rows, cols, size)
    inside = in_frame(face, rows, cols)
    found = [
        [ndimage.map_coordinates(sample[..., colour], places, order=3, mode="nearest") for colour in range(3)]
        for sample in residual
    ]
    return np.where(inside[:, None], np.moveaxis(np.array(found), 1, 2), 0.0).astype(np.float32)


def in_frame(face: Face, rows: IndexArray, cols: IndexArray) -> BoolArray:
    """Whether pixels of the photograph lie in the frame."""
    in_rows, in_cols = face.places_in_frame(rows, cols, 1)
    inside: BoolArray = (np.abs(in_rows) <= 0.5) & (np.abs(in_cols) <= 0.5)
    return inside


@cache
def _cascade() -> "Cascade":
    """The detector; its file comes with scikit-image."""
    from skimage import data
    from skimage.feature import Cascade

    return Cascade(data.lbp_frontal_face_cascade_filename())  # type: ignore[no-untyped-call]


def _windows(luma: NDArray[np.floating], smallest: int, largest: int, step: float) -> NDArray[np.float64]:
    """Every window (middle x, middle y, side) that the cascade takes for a face, unmerged."""
    found = _cascade().detect_multi_scale(
        np.ascontiguousarray(luma, dtype=np.float64),
        scale_factor=step,
        step_ratio=1,
        min_size=(smallest, smallest),
        max_size=(largest, largest),
        min_neighbor_number=0,
        intersection_score_threshold=1.1,  # a ratio of areas is never that high
    )
    boxes = [(part["c"] + part["width"] / 2, part["r"] + part["height"] / 2, part["width"]) for part in found]
    return np.array(boxes, dtype=np.float64).reshape(-1, 3)


def _finds(luma: NDArray[np.floating]) -> list[Votes]:
    """Groups of windows that agree, the largest first; each window counts once."""
    windows = _windows(luma, SMALLEST_BOX, min(luma.shape), COARSE_STEP)
    left, finds = np.ones(len(windows), dtype=bool), []
    smaller = np.minimum(windows[:, None, 2], windows[None, :, 2])
    apart = np.hypot(*(windows[:, None, axis] - windows[None, :, axis] for axis in (0, 1)))
    alike = np.abs(np.log(windows[:, None, 2] / windows[None, :, 2])) < SAME_SIZE
    together = (apart < SAME_BOX * smaller) & alike
    while left.any():
        votes = (together & left).sum(axis=1) * left
        members = together[votes.argmax()] & left
        x, y, side = windows[members].mean(axis=0)
        finds.append((float(x), float(y), float(side), int(members.sum())))
        left &= ~members & (np.maximum(np.abs(windows[:, 0] - x), np.abs(windows[:, 1] - y)) > side / 2)
    return finds


def _upright(luma: NDArray[np.floating], votes: Votes, turn: float) -> Face:
    """Estimate the tilt of a face by the votes it gets when turned, then its box once it is upright."""
    x, y, side, number = votes
    smallest, largest = int(0.75 * CROP_BOX), int(1.35 * CROP_BOX)
    weights = []
    for tilt in TILTS:
        windows = _windows(_crop(luma, x, y, side, turn + tilt), smallest, largest, COARSE_STEP)
        weights.append(float(_central(windows).sum()) ** 2)
    tilt = turn + float(np.average(TILTS, weights=weights)) if sum(weights) else turn
    windows = _windows(_crop(luma, x, y, side, tilt), smallest, largest, FINE_STEP)
    windows = windows[_central(windows)]
    if len(windows):
        right, down, box = (windows.mean(axis=0) - (CROP_RADIUS, CROP_RADIUS, 0.0)) * side / CROP_BOX
        (x, y), side = _turned((x, y), right, down, tilt), box
    return _frame(x, y, side, tilt, number)


def _crop(luma: NDArray[np.floating], x: float, y: float, box: float, tilt: float) -> NDArray[np.float64]:
    """A crop around a box that is `CROP_BOX` wide in it, turned upright."""
    rows, cols = Face(x, y, 2 * CROP_RADIUS * box / CROP_BOX, tilt).places(2 * CROP_RADIUS)
    crop: NDArray[np.float64] = ndimage.map_coordinates(luma, [rows, cols], order=1, mode="nearest")
    return crop


def _central(windows: NDArray[np.float64]) -> BoolArray:
    """Which windows of a crop are about its middle."""
    near: BoolArray = np.hypot(windows[:, 0] - CROP_RADIUS, windows[:, 1] - CROP_RADIUS) < SAME_BOX * CROP_BOX
    return near


def _frame(x: float, y: float, box: float, tilt: float, votes: int) -> Face:
    """The frame around a box from brow to chin."""
    side = FRAME_OVER_BOX * box
    return Face(*_turned((x, y), SHIFT_OVER_FRAME[0] * side, SHIFT_OVER_FRAME[1] * side, tilt), side, tilt, votes)


def _turned(middle: tuple[float, float], right: Length, down: Length, tilt: float) -> tuple[Length, Length]:
    """The place (x, y) that lies so far right and down of a middle, seen in a picture tilted clockwise by degrees."""
    cosine, sine = np.cos(np.deg2rad(tilt)), np.sin(np.deg2rad(tilt))
    return middle[0] + right * cosine - down * sine, middle[1] + right * sine + down * cosine


def _believed(faces: Sequence[Face], missing: BoolArray | None) -> list[Face]:
    """Faces that are sure; if the mask touches none of them, also the likeliest one that it touches."""
    sure = [face for face in faces if face.votes >= SURE_VOTES]
    if missing is None or any(covered(face, missing) > 0 for face in sure):
        return sure
    likely = max(faces, key=lambda face: face.votes * covered(face, missing), default=None)
    return [*sure, likely] if likely is not None and covered(likely, missing) > 0 else sure


def _scaled(face: Face, factor: float) -> Face:
    return Face(face.x * factor, face.y * factor, face.side * factor, face.tilt, face.votes)


def _around(
    rows: NDArray[np.floating], cols: NDArray[np.floating], shape: tuple[int, ...], *, margin: int
) -> tuple[tuple[slice, slice], tuple[int, int]]:
    """The part of a picture in which places lie, with a margin, and its first row and column."""
    spans = [
        (max(0, int(places.min()) - margin), min(length, int(places.max()) + margin + 1))
        for places, length in zip((rows, cols), shape, strict=True)
    ]
    (top, bottom), (left, right) = spans
    return (slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))), (top, left)
