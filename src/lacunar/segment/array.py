"""Segment water in an image of any size by diffusion: samples of its mask, tile by tile without seams.

Each tile's image is read once; what the network finds in it serves every step and every sample. Overlapping tiles are
denoised together: their predictions are averaged at every step, so there is one mask and no seam. Where the card of a
model says so, it looks at images of few bands at coarser pixels too, since a lake may be larger than a tile, and weighs
NDWI as evidence where the bands are many.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor

from lacunar.diffusion.noise import pixel_noise
from lacunar.diffusion.solvers import ddim_sample, with_progress
from lacunar.errors import LacunarError
from lacunar.geo.windows import Tile, blocks_over, tiles_over, tiles_touching
from lacunar.limits import SAMPLES, check_limit
from lacunar.models.checkpoint import SegmentationModel
from lacunar.models.tiled import TiledNetwork
from lacunar.models.weights import require_finite
from lacunar.networks.layers import Condition
from lacunar.segment.fusion import SampledBlock, Values
from lacunar.segment.indices import ndwi_evidence
from lacunar.sensors.bands import BANDS, PICTURE, RGB

SEGMENTER_STEPS = 2  # network evaluations of each sample; on held-out scenes 1 and 2 give the same map
SEGMENTER_SAMPLES = 4
OVERLAP_SHARE = 4  # neighbouring tiles share one part in so many of their side
BATCH = 8  # tiles and samples in one call of the network
BLOCK_TILES = 5  # strides of tiles along the side of a block's core
HALO_STRIDES = 2  # read around the core: tiles that the end of the halo moves inwards then touch no core

# The symmetries of the square: quarter turns, and whether mirrored; the first four differ most.
FEW_BANDS = 3  # of images that are looked at coarsely too: from four on, the ratios between bands say enough
POOR_SHARE = (
    0.45  # of the logits of images of one or two visible bands: fitted on held-out tiles of which green is left
)
BEYOND_SHARE = 0.5  # of the logits of pixels with values that training did not show: said, not fitted
COARSE_VIEWS = 2  # answers that are averaged in a coarse look
SUREST = 11.0  # logit that is kept of a coarse look, in 16 bits
LEAST_WEIGHT = 1e-3  # of an image's own look at what is not water, beside the coarse ones

VIEWS = ((0, False), (2, False), (0, True), (2, True), (1, False), (3, False), (1, True), (3, True))

Reader = Callable[[Tile], Values]  # bands (6, h, w) of a window
Callback = Callable[[int, int], None]
Look = Literal["coarse", "ratios", "plain", "poor"]


@dataclass(frozen=True)
class Segmented:
    """Samples of a mask: probability of water (K, H, W) in each, NaN where the image is not valid.

    ``cover`` (C, H, W) tells what a pixel is if it is not water, the samples' mean: probabilities of the model's other
    classes, which add up to 1.
    """

    samples: Values
    cover: Values
    evaluations: int  # of the network, for each sample of each tile


class TiledAnswers(TiledNetwork):
    """A segmenter on tiles; its answers are of the water, and ``cover`` is what the last one said of the rest."""

    cover: Tensor  # (C, H, W): see `Segmented`

    def __init__(self, model: SegmentationModel, bands: Tensor, tiles: tuple[Tile, ...]) -> None:
        shape = (bands.shape[-2], bands.shape[-1])
        super().__init__(tiles, shape, device=bands.device, overlap=_overlap(model), batch=BATCH)
        self.network, self.bands = model.network, bands

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Predict x_0 (K, 1, H, W)."""
        answer = super().__call__(x_t, t)
        self.cover = answer[:, 1:].mean(dim=0)
        return answer[:, :1]

    def answer(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Water in mask units, and the probabilities of the other classes (B, 1 + C, h, w)."""
        return torch.cat([self.network.restore(x_t, t, condition), condition.logits[:, 1:].softmax(dim=1)], dim=1)


class TiledSegmenter(TiledAnswers):
    """A diffusion segmenter on tiles, each of whose images is read once."""

    def __init__(self, model: SegmentationModel, bands: Tensor, tiles: tuple[Tile, ...]) -> None:
        super().__init__(model, bands, tiles)
        read = [self.network.condition(bands[None, :, *tile.slices]) for tile in tiles]
        self.conditions = Condition(*(torch.cat(parts) for parts in zip(*read, strict=True)))

    def predict(self, patches: Tensor, t: Tensor, first: int, last: int) -> Tensor:
        """Answer for the patches of some tiles."""
        condition = Condition(*(part[first:last] for part in self.conditions))
        return self.answer(patches, t, condition.repeated(len(patches) // (last - first)))


class TiledViews(TiledAnswers):
    """A plain segmenter on tiles: each sample is its answer to another turned or mirrored view of a tile."""

    def predict(self, patches: Tensor, t: Tensor, first: int, last: int) -> Tensor:
        """Answers for some tiles; of the patches only their number is used."""
        count = len(patches) // (last - first)
        images = [self.bands[None, :, *tile.slices] for tile in self.tiles[first:last]]
        return torch.cat([self._seen(image, view, t[:1]) for image in images for view in range(count)])

    def _seen(self, image: Tensor, view: int, t: Tensor) -> Tensor:
        """The answer to one image under one of `VIEWS`, turned back."""
        quarters, mirrored = VIEWS[view]
        turned = torch.rot90(image, quarters, (2, 3))
        turned = turned.flip(3) if mirrored else turned
        answer = self.answer(turned[:, :1], t, self.network.condition(turned.contiguous()))
        return torch.rot90(answer.flip(3) if mirrored else answer, -quarters, (2, 3))


def segment_array(
    bands: NDArray[np.floating],
    model: SegmentationModel,
    *,
    steps: int = SEGMENTER_STEPS,
    samples: int = SEGMENTER_SAMPLES,
    seed: int = 0,
    callback: Callback | None = None,
) -> Segmented:
    """Draw samples of the water mask of an image that fits in memory, on the model's device.

    ``bands`` (6, H, W) are in the order of `lacunar.sensors.bands.BANDS`, divided by the image's common scale; NaN
    planes for absent bands, NaN pixels where not valid. A plain model (without diffusion) has no samples of its own: it
    answers once to each of up to eight turned and mirrored views. ``callback`` gets (done, all). Another number of
    bands, or fewer than one step or sample, is a ``LacunarError``.
    """
    if bands.ndim != 3 or len(bands) != len(BANDS) or steps < 1 or samples < 1:
        raise LacunarError(
            f"got bands {bands.shape}, {steps} steps and {samples} samples; wanted ({len(BANDS)}, height, width) with "
            "NaN for absent bands, and one or more of both"
        )
    count, steps = samples_and_steps(model, samples, steps)
    drawn = np.empty((count, *bands.shape[1:]), dtype=np.float32)
    cover = np.empty((len(model.network.spec.classes) - 1, *bands.shape[1:]), dtype=np.float32)
    for block in segment_blocks(
        lambda window: bands[:, *window.slices],
        (bands.shape[1], bands.shape[2]),
        model,
        look=look_for([name for name, plane in zip(BANDS, bands, strict=True) if np.isfinite(plane).any()]),
        steps=steps,
        samples=samples,
        seed=seed,
        callback=callback,
    ):
        drawn[:, *block.window.slices], cover[:, *block.window.slices] = block.samples, block.cover
    return Segmented(drawn, cover, steps)


def _segment_window(
    bands: NDArray[np.floating],
    model: SegmentationModel,
    *,
    steps: int,
    samples: int,
    seed: int,
    origin: tuple[int, int],
    callback: Callback | None,
) -> tuple[Values, Values]:
    """Samples and cover of a window; ``origin`` is its first row and column in the raster: the noise belongs there."""
    spec, (height, width) = model.network.spec, bands.shape[1:]
    valid = np.isfinite(bands).any(axis=0)
    pads = [(0, -length % spec.stride if length < spec.sample_size else 0) for length in (height, width)]
    padded = np.pad(bands, [(0, 0), *pads], constant_values=np.nan).astype(np.float32)
    tiles = tiles_over((padded.shape[1], padded.shape[2]), tile=spec.sample_size, overlap=_overlap(model))
    tiles = tiles_touching(tiles, np.pad(valid, pads))
    count, steps = samples_and_steps(model, samples, steps)
    if not tiles:
        nothing = np.full((count + len(spec.classes) - 1, height, width), np.nan, dtype=np.float32)
        return nothing[:count], nothing[count:]
    device, scale = next(model.network.parameters()).device, spec.mask_scale
    tiled = TiledSegmenter if spec.diffusion else TiledViews
    with torch.inference_mode():
        denoiser = tiled(model, torch.from_numpy(padded).to(device), tiles)
        mask = ddim_sample(
            with_progress(denoiser, steps, callback),
            pixel_noise(padded.shape[1:], origin, count, seed).to(device),
            model.schedule.respaced(steps),
            prediction=model.prediction,
            clip_x_0=(-scale, scale),
        )
        probability = ((mask[:, 0] / scale + 1) / 2).clamp(0, 1)
        found = torch.cat([probability, denoiser.cover]).float().cpu().numpy()[:, :height, :width]
    require_finite(found[:, valid], model.name)
    found = np.where(valid, found, np.nan).astype(np.float32)
    return found[:count], found[count:]


def samples_and_steps(model: SegmentationModel, samples: int, steps: int) -> tuple[int, int]:
    """Samples that are really drawn, and evaluations of each: a plain segmenter answers once to each view."""
    check_limit(samples, SAMPLES, "samples", "4 are usual")
    return (samples, steps) if model.network.spec.diffusion else (min(samples, len(VIEWS)), 1)


def look_for(bands: Collection[str], units: str = "") -> Look:
    """How an image of these bands, whose values are in these units, is looked at besides the network's own look.

    Few bands ``coarse``: at coarser pixels too. More bands by their ``ratios``: NDWI is evidence; but ``plain`` where a
    picture's bands may each have a stretch of their own. One or two visible bands are ``poor``: little is believed.

    >>> look_for(("red", "green", "blue")), look_for(BANDS), look_for(("green",))
    ('coarse', 'ratios', 'poor')
    """
    seen = set(bands)
    if len(seen) < len(RGB) and seen <= set(RGB):
        return "poor"
    if len(seen) <= FEW_BANDS:
        return "coarse"
    return "plain" if units.endswith(PICTURE) else "ratios"


def beyond(planes: Values, ranges: Mapping[str, Sequence[float]]) -> Values:
    """Which bands of which pixels (bands, H, W) have values beyond those of training, as `Card.ranges` tells them.

    >>> beyond(np.full((6, 1, 1), 3.0, np.float32), {"blue": (0, 2), "red": (0, 4)})[:, 0, 0].tolist()
    [True, False]
    """
    found = [
        (planes[BANDS.index(band)] < low) | (planes[BANDS.index(band)] > high) for band, (low, high) in ranges.items()
    ]
    return np.stack(found)


def segment_blocks(
    read: Reader,
    shape: tuple[int, int],
    model: SegmentationModel,
    *,
    look: Look = "plain",
    steps: int = SEGMENTER_STEPS,
    samples: int = SEGMENTER_SAMPLES,
    seed: int = 0,
    callback: Callback | None = None,
) -> Iterator[SampledBlock]:
    """Yield the samples of a raster of any size in blocks that part it without overlap, in the memory of one block.

    ``read`` gives the planes of any window, ``look`` is what `look_for` says of them; the rest is as in
    `segment_array`. Coarse looks at the whole raster come first and are held in memory, less than a byte per pixel and
    class.
    """
    looked = look == "coarse" and bool(model.card.looks)
    looks = dict(model.card.looks) if looked else {}
    evidence = model.card.ndwi if look == "ratios" else ()
    shift, own = looks.pop("shift", 0.0), looks.pop("1", 1.0)
    work = 1 + sum(1 / int(factor) ** 2 for factor in looks)
    given: dict[str, Any] = {"steps": steps, "seed": seed, "evidence": evidence}
    coarse, begun = [], 0.0
    for text, weight in looks.items():
        factor = int(text)
        report = _share(callback, begun / work, 1 / factor**2 / work)
        sides = (-(-shape[0] // factor), -(-shape[1] // factor))
        seen = np.full((len(model.network.spec.classes), *sides), np.nan, dtype=np.float16)  # logit of water, cover
        views = min(samples, COARSE_VIEWS)
        for block in _blocks(_coarser(read, shape, factor), sides, model, samples=views, callback=report, **given):
            seen[0, *block.window.slices] = _logit(block.samples).mean(axis=0)
            seen[1:, *block.window.slices] = block.cover
        coarse.append((factor, weight, seen))
        begun += 1 / factor**2
    report = _share(callback, begun / work, 1 / work) if looks else callback
    for block in _blocks(read, shape, model, samples=samples, callback=report, **given):
        if look == "poor":
            yield replace(block, samples=expit(POOR_SHARE * _logit(block.samples)))
            continue
        if not looked:
            yield block
            continue
        logits = _logit(block.samples)
        joined, cover, total = shift + own * logits, max(own, LEAST_WEIGHT) * block.cover, max(own, LEAST_WEIGHT)
        for factor, weight, seen in coarse:
            there = _enlarged(seen, block.window, factor)
            joined += weight * np.where(np.isnan(there[0]), logits, there[0])
            cover += max(weight, 0.0) * np.where(np.isnan(there[1:]), block.cover, there[1:])
            total += max(weight, 0.0)
        yield SampledBlock(block.window, expit(joined), cover / total)


def _share(callback: Callback | None, begun: float, part: float) -> Callback | None:
    """Progress of a part of the work, in thousandths of the whole."""
    return callback and (lambda done, total: callback(round(1000 * (begun + part * done / total)), 1000))


def _logit(probability: Values) -> Values:
    sure = expit(np.float32(SUREST))
    logits: Values = logit(probability.clip(1 - sure, sure))
    return logits


def _coarser(read: Reader, shape: tuple[int, int], factor: int) -> Reader:
    """Reads windows of pixels that are so many times as large: means of what is valid in them."""

    def reader(window: Tile) -> Values:
        row, col = window.row * factor, window.col * factor
        sides = (min(window.height * factor, shape[0] - row), min(window.width * factor, shape[1] - col))
        planes = read(Tile(row, col, *sides))
        short = [(0, -side % factor) for side in sides]
        padded = np.pad(planes, [(0, 0), *short], constant_values=np.nan)
        cells = padded.reshape(len(planes), window.height, factor, window.width, factor)
        known = np.isfinite(cells)
        total, count = np.where(known, cells, 0).sum(axis=(2, 4)), known.sum(axis=(2, 4))
        return np.where(count, total / np.maximum(count, 1), np.nan).astype(np.float32)

    return reader


def _enlarged(coarse: NDArray[np.float16], window: Tile, factor: int) -> Values:
    """A window of fine pixels, interpolated between the centres of coarse ones (C, H, W)."""
    at = []
    for first, side, length in zip((window.row, window.col), window.shape, coarse.shape[1:], strict=True):
        place = ((np.arange(first, first + side) + 0.5) / factor - 0.5).clip(0, length - 1)
        before = np.minimum(place.astype(int), max(length - 2, 0))
        at.append((before, np.minimum(before + 1, length - 1), (place - before).astype(np.float32)))
    (above, below, down), (left, right, across) = at
    rows = coarse[:, above] * (1 - down[:, None]) + coarse[:, below] * down[:, None]
    enlarged: Values = rows[:, :, left] * (1 - across) + rows[:, :, right] * across
    return enlarged


def _blocks(
    read: Reader,
    shape: tuple[int, ...],
    model: SegmentationModel,
    *,
    steps: int,
    samples: int,
    seed: int,
    evidence: Sequence[float],
    callback: Callback | None,
) -> Iterator[SampledBlock]:
    """The samples of one look at a raster, with the evidence of NDWI where that is wanted, and doubt where it is due.

    All blocks share one grid of tiles, and each reads two strides of tiles around its core: so there is no seam.
    """
    side = model.network.spec.sample_size
    stride = side - _overlap(model)
    blocks = blocks_over((shape[0], shape[1]), block=BLOCK_TILES * stride, halo=HALO_STRIDES * stride)
    for number, block in enumerate(blocks):

        def report(done: int, total: int, number: int = number) -> None:
            if callback:
                callback(100 * number + 100 * done // total, 100 * len(blocks))

        planes = read(block.outer)
        drawn, cover = _segment_window(
            planes,
            model,
            steps=steps,
            samples=samples,
            seed=seed,
            origin=(block.outer.row, block.outer.col),
            callback=report,
        )
        if evidence:
            drawn = expit(_logit(drawn) + ndwi_evidence(planes, *evidence))
        if model.card.ranges:
            unknown = beyond(planes, model.card.ranges).any(axis=0)
            drawn = np.where(unknown, expit(BEYOND_SHARE * _logit(drawn)), drawn)
        yield SampledBlock(block.core, drawn[:, *block.inner.slices], cover[:, *block.inner.slices])
        report(1, 1)


def _overlap(model: SegmentationModel) -> int:
    return model.network.spec.sample_size // OVERLAP_SHARE
