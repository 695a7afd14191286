"""Fill what hides a face: the face model in its own frame, then back in the photograph at full resolution."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from lacunar.errors import PictureError
from lacunar.geo.picture import Picture
from lacunar.geo.windows import Tile
from lacunar.interpolate.gmrf import MarkovField
from lacunar.interpolate.membrane import membrane_fill
from lacunar.models.checkpoint import Model
from lacunar.pictures.face_detail import detailed
from lacunar.pictures.face_frame import Face, from_frame, in_frame, to_frame
from lacunar.pictures.fill import Drawing, FilledRegion, check_model, check_picture_model, fill_window, to_model
from lacunar.pictures.missing_regions import MissingRegion, bounding_box, check_window, find_regions, window_around

FINER = 4  # times the model's pixels along a side: the finest grid on which a field completes its answer
FIELD_RANGE, FIELD_STIFFNESS = 8.0, 1.0  # pixels of the model; chosen on faces held out of its training
MARGIN = 32  # pixels of the model around a mask, from which the membrane of a photograph is spanned

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Callback = Callable[[int, int], None]


def fill_face(
    picture: Picture,
    missing: BoolArray,
    face: Face,
    model: Model,
    detail: Model | None,
    drawing: Drawing,
    *,
    callback: Callback | None = None,
) -> tuple[FilledRegion, ...]:
    """Draw samples of what hides a face: ``missing`` pixels (H, W) of a photograph.

    The face model's field is the size of the frame; on a finer grid its answer is drift, and a Gaussian field completes
    what is known around (`completed`). Samples then get detail (`detailed`), their mean does not. ``detail``, a picture
    model, fills what lies outside the frame; with None nothing may lie outside. ``callback`` gets
    (steps done, all): the face in its frame, then each region in the photograph. A mask that does not touch the frame,
    hides all of it, or lies outside without a ``detail`` is a ``PictureError``; a model of another kind is a
    ``ModelError``.
    """
    check_model(model, drawing.preset)
    if detail is not None:
        check_picture_model(detail, drawing.preset)
    rows, cols = np.nonzero(missing)
    framed = np.zeros_like(missing)
    framed[rows, cols] = in_frame(face, rows, cols)
    if not framed.any():
        raise PictureError("the mask does not touch the face: choose another by --face INDEX or use `lacunar inpaint`")
    if detail is None and framed.sum() < missing.sum():
        raise PictureError(
            f"{int(missing.sum() - framed.sum())} pixels of the mask lie outside the face's frame, where only a "
            "picture model fills: give --detail a picture model, or keep the mask to the face"
        )
    job = _Job(picture, missing, face, drawing)
    residual = job.in_frame(model)
    outside = () if detail is None else find_regions(missing & ~framed, detail.network.config.sample_size)
    tell = callback or (lambda *_: None)
    steps = 2 + len(outside)
    tell(1, steps)
    filled = [job.in_photograph(framed, residual)]
    if detail is not None:
        for done, region in enumerate(outside, start=2):
            tell(done, steps)
            filled.append(job.outside(region, filled, detail))
    tell(steps, steps)
    return tuple(filled)


@dataclass(frozen=True)
class _Job:
    """What stays the same from step to step."""

    picture: Picture
    missing: BoolArray
    face: Face
    drawing: Drawing

    def in_frame(self, model: Model) -> FloatArray:
        """What is added to the membrane in the frame, on a finer grid where the face is larger, (K + 1, fine, fine, 3).

        The last is the mean.
        """
        size = model.network.config.sample_size
        window = _window_of(self.face, self.missing.shape)
        shifted = replace(self.face, x=self.face.x - window.col, y=self.face.y - window.row)
        frame, hidden = to_frame(self._seen(window)[0], self.missing[window.slices], shifted, size)
        if hidden.all():
            raise PictureError("the mask hides all of the face, wanted a part to start from: draw a smaller mask")
        drawn = fill_window(frame[None], hidden, model, self.drawing, halvings=0)
        fine = min(FINER * size, max(size, round(self.face.side)))
        frame, hidden = to_frame(self._seen(window)[0], self.missing[window.slices], shifted, fine)
        samples = completed(drawn, frame, hidden)
        mean = samples.mean(axis=0)
        if not self.drawing.preset.mean_only:
            samples = detailed(samples, mean, hidden, fine / size)
        return np.asarray(np.concatenate([samples, mean[None]]) - membrane_fill(frame, hidden), dtype=np.float32)

    def in_photograph(self, framed: BoolArray, residual: FloatArray) -> FilledRegion:
        """The fill of the frame over the membrane of the photograph."""
        box, margin = bounding_box(framed), MARGIN * max(1, round(self.face.side / residual.shape[1]))
        wanted = [length + 2 * margin for length in box.shape]
        window = window_around(box, wanted, framed.shape, of="the mask on the face spans")
        seen, hidden, inside = self._seen(window), self.missing[window.slices], framed[window.slices]
        rows, cols = np.nonzero(inside)
        filled = np.repeat(membrane_fill(seen[0], hidden)[None], len(residual), axis=0)
        filled[:, rows, cols] += from_frame(residual, self.face, rows + window.row, cols + window.col)
        *samples, mean = filled[:, inside].clip(-1, 1)
        return FilledRegion(window, inside, np.stack(samples), mean)

    def outside(self, region: MissingRegion, filled: list[FilledRegion], detail: Model) -> FilledRegion:
        """Fill a region that lies outside the frame; what was filled before is known now."""
        window = region.window
        pictures = np.repeat(self._seen(window), self.drawing.samples, axis=0)
        missing = self.missing[window.slices].copy()
        for part in filled:
            rows, cols = np.nonzero(part.inside)
            rows, cols = rows + part.window.row - window.row, cols + part.window.col - window.col
            here = (rows >= 0) & (rows < window.height) & (cols >= 0) & (cols < window.width)
            pictures[:, rows[here], cols[here]] = part.samples[:, here]
            missing[rows[here], cols[here]] = False
        place = window.row, window.col
        whole = fill_window(pictures, missing, detail, self.drawing, place=place, halvings=region.halvings)
        return FilledRegion(window, region.inside, whole[:, region.inside])

    def _seen(self, window: Tile) -> FloatArray:
        return to_model(self.picture.colours[window.slices], self.picture.white)[None]


def completed(drawn: FloatArray, picture: FloatArray, missing: BoolArray) -> FloatArray:
    """Answers (K, s, s, 3) of the face model as drift of a finer picture (S, S, 3): (K, S, S, 3).

    What the known pixels say beyond the enlarged answer is carried into the missing ones by a Gaussian Markov field
    that knows `FIELD_RANGE` and continues slopes over `FIELD_STIFFNESS`, in pixels of the model: near the border of a
    hole it decides, as a biharmonic fill does, and inside the model.
    """
    scale = len(picture) / drawn.shape[1]
    enlarged = np.stack([zoom(one, (scale, scale, 1), order=3, mode="nearest", grid_mode=True) for one in drawn])
    left = np.moveaxis(picture - enlarged, 3, 1).reshape(-1, *missing.shape)
    field = MarkovField(
        ~missing, missing, correlation_range=FIELD_RANGE * scale, smoothness=(FIELD_STIFFNESS * scale) ** 2
    )
    added = np.moveaxis(field.completed(left).reshape(len(drawn), 3, *missing.shape), 1, 3)
    return np.asarray(np.where(missing[..., None], enlarged + added, picture), dtype=np.float32)


def _window_of(face: Face, shape: tuple[int, ...]) -> Tile:
    """The part of a photograph that a frame needs, with what is blurred into it."""
    radius = face.side  # more than the half diagonal of the frame and the blur around it
    top, left = max(0, int(face.y - radius)), max(0, int(face.x - radius))
    bottom, right = min(shape[0], int(face.y + radius) + 1), min(shape[1], int(face.x + radius) + 1)
    if bottom <= top or right <= left:
        raise PictureError("the face's box lies outside the picture: give --box inside it")
    return check_window(Tile(top, left, bottom - top, right - left), of="the face spans")
