"""Fill the missing regions of a picture: a membrane says where to start, the diffusion network samples the rest.

The state of the diffusion is the residual over the membrane, ``picture = mean + sigma * z`` in [-1, 1]. Presets
``fast`` and ``balanced`` sample the conditional network, ``instant`` takes its mean in one evaluation, and ``paper``
(RePaint) or another zero-shot sampler uses it as an unconditional prior: the network is told that all is missing.

A region that is wide for the network's field is filled coarse to fine: a refinement starts late in the schedule from
the enlarged coarser fill (Meng et al. 2022, SDEdit, arXiv 2108.01073), so it keeps what is there and adds detail.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from lacunar.diffusion.samplers import SAMPLERS, Preset, refiner
from lacunar.errors import LacunarError, ModelError
from lacunar.geo.picture import Picture, PixelArray
from lacunar.geo.windows import Tile
from lacunar.interpolate.membrane import enlarged_pictures, halved_pictures
from lacunar.interpolate.scaling import RangeScaling
from lacunar.models.checkpoint import Model
from lacunar.models.weights import require_finite
from lacunar.pictures.missing_regions import BoolArray, FloatArray, MissingRegion, find_regions
from lacunar.pictures.sampler import COLOURS, PictureSampler, is_prior

CHANNELS_IN = 2 * COLOURS + 2  # state, mean, sigma, missing
PIXELS_AT_ONCE = 2**22  # of all samples that are drawn in one batch

Callback = Callable[[int, int], None]


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn; two in a row have opposite noise, and none depends on how many there are.

    Fewer than one sample, several where the preset gives the mean alone, or a seed below 0 are a ``LacunarError``.
    """

    preset: Preset
    samples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.seed < 0:
            raise LacunarError(f"{self.samples} samples and seed {self.seed}: wanted 1 or more and a seed of 0 or more")
        self.preset.check_samples(self.samples)


@dataclass(frozen=True, eq=False)
class FilledRegion:
    """A window, which of its pixels (h, w) are filled, and samples (K, P, 3) of these in their order, in [-1, 1]."""

    window: Tile
    inside: BoolArray
    samples: FloatArray
    smooth_mean: FloatArray | None = None  # (P, 3), where samples have detail that their mean should not have

    @property
    def mean(self) -> FloatArray:
        """(P, 3): what is expected."""
        return np.asarray(self.samples.mean(axis=0)) if self.smooth_mean is None else self.smooth_mean


def fill_regions(
    picture: Picture,
    missing: BoolArray,
    model: Model,
    drawing: Drawing,
    *,
    callback: Callback | None = None,
) -> tuple[FilledRegion, ...]:
    """Draw samples of every missing region (H, W) of a picture of 8 or 16 bits, grey or RGB, on the model's device.

    The model is a picture model (eight input channels, three of prediction), or an unconditional prior of RGB pictures
    with a sampler that holds it to what is known. Values of missing pixels are not used. ``callback`` gets (evaluations
    done, all). Missing pixels of another shape, everything or nothing missing, or a model that does not fit are a
    ``LacunarError``.
    """
    check_picture_model(model, drawing.preset)
    if missing.shape != picture.shape or not missing.any():
        raise LacunarError(
            f"got {int(missing.sum())} missing pixels of shape {missing.shape} for a picture of {picture.shape}; "
            "wanted one shape and a pixel to fill"
        )
    regions = find_regions(missing, model.network.config.sample_size)
    total, done = sum(_evaluations(region, model, drawing) for region in regions), count(1)

    def tell() -> None:
        if callback is not None:
            callback(next(done), total)

    filled = []
    for region in regions:
        window = region.window
        whole = fill_window(
            to_model(picture.colours[window.slices], picture.white)[None],
            missing[window.slices],
            model,
            drawing,
            place=(window.row, window.col),
            halvings=region.halvings,
            callback=tell,
        )
        filled.append(FilledRegion(window, region.inside, whole[:, region.inside]))
    return tuple(filled)


def fill_window(
    pictures: FloatArray,
    missing: BoolArray,
    model: Model,
    drawing: Drawing,
    *,
    place: tuple[int, ...] = (),
    halvings: int,
    callback: Callable[[], None] | None = None,
) -> FloatArray:
    """Draw samples of what is missing (H, W) in a picture that fits in memory, coarse to fine: (K, H, W, 3) in [-1, 1].

    ``pictures`` is (1, H, W, 3), or one for each sample (K, H, W, 3); values of missing pixels are not used. The noise
    depends on ``place``, whole numbers from 0. The picture is halved ``halvings`` times before the first fill.
    ``callback`` is called after each evaluation.
    """
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
        filled = samplers[halvings].sample(*pyramid[halvings], None)
        for level in reversed(range(halvings)):
            seen, hidden = pyramid[level]
            filled = samplers[level].sample(seen, hidden, enlarged_pictures(filled, hidden.shape))
        parts.append(filled)
    made = np.concatenate(parts)
    require_finite(made, model.name)
    return made


def paste(picture: Picture, regions: Sequence[FilledRegion], *, sample: int | None = None) -> Picture:
    """Put one sample (or the mean of all, where it is None) into the picture; all else stays bit by bit as it is.

    What is filled is opaque.
    """
    colours, alpha = picture.colours.copy(), None if picture.alpha is None else picture.alpha.copy()
    for region in regions:
        values = region.mean if sample is None else region.samples[sample]
        colours[region.window.slices][region.inside] = to_pixels(values, colours)
        if alpha is not None:
            alpha[region.window.slices][region.inside] = picture.white
    return Picture(colours, alpha, picture.icc_profile)


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


def check_model(model: Model, preset: Preset) -> None:
    """Refuse, with a ``ModelError``, a network that is no picture model or that this preset cannot sample."""
    taken, given = model.network.in_channels, model.network.out_channels
    if taken not in (CHANNELS_IN, COLOURS) or given != COLOURS:
        raise ModelError(
            f"model {model.name} takes {taken} channels and gives {given}; wanted {CHANNELS_IN} (state, mean, sigma, "
            f"missing) or {COLOURS} (an unconditional prior), and {COLOURS}: choose a model of faces or pictures"
        )
    if model.scaling != RangeScaling():
        raise ModelError(
            f"model {model.name}: scaling.json says {model.scaling.to_dict()}, wanted {RangeScaling().to_dict()}: "
            "pictures are black to white as -1 to 1; choose a model of faces or pictures"
        )
    if is_prior(model) and preset.conditional:
        samplers = ", ".join(name for name, sampler in SAMPLERS.items() if not sampler.conditional)
        raise ModelError(
            f"model {model.name} is an unconditional prior, which knows no mask and {preset.sampler} cannot hold to "
            f"the picture: choose --preset paper, or --sampler {samplers} and --evaluations"
        )


def check_picture_model(model: Model, preset: Preset) -> None:
    """As `check_model`; refuse a model of aligned faces too."""
    check_model(model, preset)
    if model.prior is not None:
        raise ModelError(
            f"model {model.name} knows aligned faces alone, wanted a model of any picture such as picture-small: "
            "`lacunar face` fills a face with it"
        )


def _samples_at_once(missing: BoolArray) -> int:
    """How many samples are drawn in one batch; pairs stay together."""
    return max(1, PIXELS_AT_ONCE // missing.size // 2 * 2)


def _evaluations(region: MissingRegion, model: Model, drawing: Drawing) -> int:
    preset, at_once = drawing.preset, _samples_at_once(region.inside)
    refined = region.halvings * refiner(preset, prior=is_prior(model)).evaluations
    return math.ceil(drawing.samples / at_once) * (preset.evaluations + refined)
