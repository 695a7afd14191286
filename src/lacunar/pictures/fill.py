"""Fill the regions of a picture: a membrane says where to start, the diffusion network samples the rest.

The state of the diffusion is the residual over the membrane, ``picture = base + spread * z`` in [-1, 1], as in
`lacunar.fill.array`: DDIM or another solver on the conditional network (presets ``fast``, ``balanced``), one evaluation
of it for the mean alone (``instant``), or RePaint or another zero-shot sampler on the same network as an unconditional
prior (``paper``), which is told that everything is missing over a base of 0.

A region that is wide for the network's field is filled coarse to fine: whole on the grid where it is narrow enough,
then refined on each finer grid. A refinement starts late in the schedule from the enlarged coarser fill (Meng et al.
2022, SDEdit), so it keeps what is there and adds what the finer grid can show.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lacunar.diffusion.samplers import Preset, refiner
from lacunar.errors import LacunarError, ModelError
from lacunar.geo.picture import Picture, PixelArray
from lacunar.geo.windows import Tile
from lacunar.interpolate.membrane import enlarged_pictures, halved_pictures
from lacunar.interpolate.scaling import RangeScaling
from lacunar.models.checkpoint import Model
from lacunar.pictures.missing_regions import MissingRegion, find_regions, halvings_of
from lacunar.pictures.sampler import COLOURS, PictureSampler

CHANNELS_IN = 2 * COLOURS + 2  # state, base, spread, missing
PIXELS_AT_ONCE = 2**22  # of all samples that are drawn in one batch

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Callback = Callable[[int, int], None]


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn.

    Parameters
    ----------
    preset
        The sampler and its steps.
    samples
        How many; but on the unconditional prior, a sample does not depend on how many there are, and two in a row have
        opposite noise.
    seed
        The same seed gives the same samples.

    Raises
    ------
    LacunarError
        Fewer than one sample, more than one where the preset gives the mean alone, or a seed below 0.
    """

    preset: Preset
    samples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Check both numbers."""
        if self.samples < 1 or self.seed < 0:
            raise LacunarError(
                f"{self.samples} samples and seed {self.seed}: wanted 1 sample or more and a seed of 0 or more"
            )
        self.preset.check_samples(self.samples)


@dataclass(frozen=True, eq=False)
class FilledRegion:
    """Samples of one region.

    Parameters
    ----------
    window, inside
        Where it is: (h, w) of the window, True = filled.
    samples
        (K, P, 3) float32 in [-1, 1], in the order of the P filled pixels.
    """

    window: Tile
    inside: BoolArray
    samples: FloatArray


def fill_regions(
    picture: Picture,
    missing: BoolArray,
    model: Model,
    drawing: Drawing,
    *,
    callback: Callback | None = None,
) -> tuple[FilledRegion, ...]:
    """Draw samples of every region of a picture.

    Parameters
    ----------
    picture
        8 or 16 bit, grey or RGB; only what surrounds the regions is looked at.
    missing
        (H, W), True = to be filled.
    model
        A picture model (eight input channels, three of prediction); its device is where the work is done.
    drawing
        How samples are drawn.
    callback
        Called with (evaluations done, all), counted on whole windows.

    Raises
    ------
    LacunarError
        A missing of another shape, or that is everything or nothing.
    ModelError
        A model of other channels, or one of aligned faces.
    """
    check_picture_model(model)
    if missing.shape != picture.shape or not missing.any():
        raise LacunarError(
            f"got {int(missing.sum())} missing pixels of shape {missing.shape} for a picture of {picture.shape}; "
            "wanted one shape and a pixel to fill"
        )
    regions = find_regions(missing, model.network.config.sample_size)
    counted = _Counted(sum(_evaluations(region, drawing) for region in regions), callback)
    filled = []
    for region in regions:
        surroundings = to_model(picture.colours[region.window.slices], picture.white)[None]
        whole = fill_window(
            surroundings,
            missing[region.window.slices],
            model,
            drawing,
            place=(region.window.row, region.window.col),
            halvings=region.halvings,
            callback=counted,
        )
        filled.append(FilledRegion(region.window, region.inside, whole[:, region.inside]))
    return tuple(filled)


def fill_window(
    pictures: FloatArray,
    missing: BoolArray,
    model: Model,
    drawing: Drawing,
    *,
    place: tuple[int, ...] = (),
    halvings: int | None = None,
    started: FloatArray | None = None,
    callback: Callable[[], None] | None = None,
) -> FloatArray:
    """Draw samples of what is missing in a picture that fits in memory, coarse to fine.

    Parameters
    ----------
    pictures
        (1, H, W, 3) or one for each sample (K, H, W, 3), in [-1, 1]; what stands in the missing is not looked at.
    missing
        (H, W), True = to be filled.
    model, drawing
        As in `fill_regions`.
    place
        Whole numbers from 0: each place of a picture has noise of its own.
    halvings
        How often the picture is halved before the first fill; by default until the missing is narrow enough.
    started
        (K, H, W, 3): a smooth fill that is there already, as if enlarged so often; it is refined only.
    callback
        Called after each evaluation.

    Returns
    -------
    numpy.ndarray
        (K, H, W, 3) float32 in [-1, 1]; the pictures outside the missing.

    References
    ----------
    Meng et al. 2022, "SDEdit", arXiv 2108.01073.
    """
    if halvings is None:
        halvings = halvings_of(missing, model.network.config.sample_size)
    at_once = _samples_at_once(missing)
    parts = []
    for first in range(0, drawing.samples, at_once):
        drawn = range(first, min(first + at_once, drawing.samples))
        own = pictures if len(pictures) == 1 else pictures[drawn.start : drawn.stop]
        pyramid = [(own, missing)]
        for _ in range(halvings):
            pyramid.append(halved_pictures(*pyramid[-1]))
        samplers = [
            PictureSampler(model, drawing.preset, drawn, (drawing.seed, *place, level), callback)
            for level in range(halvings + 1)
        ]
        if started is None:
            filled = samplers[halvings].sample(*pyramid[halvings], None)
        else:
            filled = started[drawn.start : drawn.stop]
            for _ in range(halvings):
                filled = halved_pictures(filled, np.zeros(filled.shape[1:3], dtype=bool))[0]
        for level in reversed(range(halvings)):
            seen, hidden = pyramid[level]
            filled = samplers[level].sample(seen, hidden, enlarged_pictures(filled, hidden.shape))
        parts.append(filled)
    return np.concatenate(parts)


def paste(picture: Picture, regions: Sequence[FilledRegion], *, sample: int | None = None) -> Picture:
    """Put one sample (or the mean of all, where it is None) into the picture; all else stays bit by bit as it is."""
    colours = picture.colours.copy()
    for region in regions:
        values = region.samples.mean(axis=0) if sample is None else region.samples[sample]
        colours[region.window.slices][region.inside] = to_pixels(values, colours)
    return Picture(colours, picture.alpha, picture.icc_profile)


def to_model(colours: PixelArray, white: int) -> FloatArray:
    """Samples (..., 1 or 3) from 0 to ``white`` as (..., 3) in [-1, 1]."""
    values = RangeScaling(high=white).affine.to_model(colours)
    return np.repeat(values, COLOURS, axis=-1) if colours.shape[-1] == 1 else values


def to_pixels(values: FloatArray, like: PixelArray) -> PixelArray:
    """Values (..., 3) in [-1, 1] as pixels of the type and the channels of ``like``; grey is the mean of three."""
    if like.shape[-1] == 1:
        values = values.mean(axis=-1, keepdims=True)
    white = int(np.iinfo(like.dtype).max)
    physical = RangeScaling(high=white).affine.to_physical(values)
    pixels: PixelArray = np.rint(physical.clip(0, white)).astype(like.dtype)
    return pixels


def check_model(model: Model) -> None:
    """Refuse a network that is no picture model, with a ``ModelError``."""
    if model.network.in_channels != CHANNELS_IN or model.network.out_channels != COLOURS:
        raise ModelError(
            f"model {model.name} takes {model.network.in_channels} channels and gives {model.network.out_channels}; "
            f"wanted {CHANNELS_IN} (state, base, spread, missing) and {COLOURS}: choose a model of faces or pictures"
        )


def check_picture_model(model: Model) -> None:
    """Refuse a network that does not fill any picture, with a ``ModelError``: other channels, or faces alone."""
    check_model(model)
    if getattr(model.network, "prior", None) is not None:
        raise ModelError(
            f"model {model.name} knows aligned faces alone, wanted a model of any picture such as picture-small: "
            "`lacunar face` fills a face with it"
        )


@dataclass
class _Counted:
    """Counts evaluations and reports them."""

    total: int
    callback: Callback | None
    done: int = 0

    def __call__(self) -> None:
        """One more."""
        self.done += 1
        if self.callback is not None:
            self.callback(self.done, self.total)


def _samples_at_once(missing: BoolArray) -> int:
    """How many samples are drawn in one batch; pairs stay together."""
    return max(1, PIXELS_AT_ONCE // missing.size // 2 * 2)


def _evaluations(region: MissingRegion, drawing: Drawing) -> int:
    """Calls of the denoiser that a region takes."""
    preset, at_once = drawing.preset, _samples_at_once(region.inside)
    return math.ceil(drawing.samples / at_once) * (preset.evaluations + region.halvings * refiner(preset).evaluations)
