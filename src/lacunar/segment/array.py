"""Segment water in an image of any size by diffusion: samples of its mask, tile by tile without seams.

Each tile's image is read once; what the network finds in it serves every step and every sample. Overlapping tiles are
denoised together: their predictions are averaged at every step, so there is one mask and no seam.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lacunar.diffusion.noise import pixel_noise
from lacunar.diffusion.solvers import ddim_sample, with_progress
from lacunar.errors import LacunarError
from lacunar.geo.windows import Tile, blocks_over, tiles_over, tiles_touching
from lacunar.models.checkpoint import SegmentationModel
from lacunar.models.tiled import TiledNetwork
from lacunar.networks.layers import Condition
from lacunar.segment.fusion import SampledBlock, Values
from lacunar.sensors.bands import BANDS

SEGMENTER_STEPS = 2  # network evaluations of each sample; on held-out scenes 1 and 2 give the same map
SEGMENTER_SAMPLES = 4
OVERLAP_SHARE = 4  # neighbouring tiles share one part in so many of their side
BATCH = 8  # tiles and samples in one call of the network
BLOCK_TILES = 5  # strides of tiles along the side of a block's core
HALO_STRIDES = 2  # read around the core: tiles that the end of the halo moves inwards then touch no core

# The symmetries of the square: quarter turns, and whether mirrored; the first four differ most.
VIEWS = ((0, False), (2, False), (0, True), (2, True), (1, False), (3, False), (1, True), (3, True))

Reader = Callable[[Tile], Values]  # bands (6, h, w) of a window
Callback = Callable[[int, int], None]


@dataclass(frozen=True)
class Segmented:
    """Samples of a mask: probability of water (K, H, W) in each, NaN where the image is not valid."""

    samples: Values
    evaluations: int  # of the network, for each sample of each tile


class TiledSegmenter(TiledNetwork):
    """A diffusion segmenter on tiles, each of whose images is read once."""

    def __init__(self, model: SegmentationModel, bands: Tensor, tiles: tuple[Tile, ...]) -> None:
        shape = (bands.shape[-2], bands.shape[-1])
        super().__init__(tiles, shape, device=bands.device, overlap=_overlap(model), batch=BATCH)
        self.network = model.network
        read = [self.network.condition(bands[None, :, *tile.slices]) for tile in tiles]
        self.conditions = Condition(*(torch.cat(parts) for parts in zip(*read, strict=True)))

    def predict(self, patches: Tensor, t: Tensor, first: int, last: int) -> Tensor:
        """Predict x_0 for the patches of some tiles."""
        condition = Condition(*(part[first:last] for part in self.conditions))
        pred_x_0: Tensor = self.network.restore(patches, t, condition.repeated(len(patches) // (last - first)))
        return pred_x_0


class TiledViews(TiledNetwork):
    """A plain segmenter on tiles: each sample is its answer to another turned or mirrored view of a tile."""

    def __init__(self, model: SegmentationModel, bands: Tensor, tiles: tuple[Tile, ...]) -> None:
        shape = (bands.shape[-2], bands.shape[-1])
        super().__init__(tiles, shape, device=bands.device, overlap=_overlap(model), batch=BATCH)
        self.network, self.bands = model.network, bands

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
        answer: Tensor = self.network.restore(turned[:, :1], t, self.network.condition(turned.contiguous()))
        return torch.rot90(answer.flip(3) if mirrored else answer, -quarters, (2, 3))


def segment_array(
    bands: NDArray[np.floating],
    model: SegmentationModel,
    *,
    steps: int = SEGMENTER_STEPS,
    samples: int = SEGMENTER_SAMPLES,
    seed: int = 0,
    origin: tuple[int, int] = (0, 0),
    callback: Callback | None = None,
) -> Segmented:
    """Draw samples of the water mask of an image that fits in memory, on the model's device.

    ``bands`` (6, H, W) are in the order of `lacunar.sensors.bands.BANDS`, divided by the image's common scale; NaN
    planes for absent bands, NaN pixels where not valid. A plain model (without diffusion) has no samples of its own: it
    answers once to each of up to eight turned and mirrored views. ``origin`` is the row and column of the first pixel
    in the whole raster, to which the noise belongs; ``callback`` gets (evaluations done, all). Another number of bands,
    or fewer than one step or sample, is a ``LacunarError``.
    """
    if bands.ndim != 3 or len(bands) != len(BANDS) or steps < 1 or samples < 1:
        raise LacunarError(
            f"got bands {bands.shape}, {steps} steps and {samples} samples; wanted ({len(BANDS)}, height, width) with "
            "NaN for absent bands, and one or more of both"
        )
    spec, (height, width) = model.network.spec, bands.shape[1:]
    valid = np.isfinite(bands).any(axis=0)
    pads = [(0, -length % spec.stride if length < spec.sample_size else 0) for length in (height, width)]
    padded = np.pad(bands, [(0, 0), *pads], constant_values=np.nan).astype(np.float32)
    tiles = tiles_over((padded.shape[1], padded.shape[2]), tile=spec.sample_size, overlap=_overlap(model))
    tiles = tiles_touching(tiles, np.pad(valid, pads))
    count, steps = samples_and_steps(model, samples, steps)
    if not tiles:
        return Segmented(np.full((count, height, width), np.nan, dtype=np.float32), steps)
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
        drawn = ((mask[:, 0] / scale + 1) / 2).clamp(0, 1).float().cpu().numpy()
    return Segmented(np.where(valid, drawn[:, :height, :width], np.nan).astype(np.float32), steps)


def samples_and_steps(model: SegmentationModel, samples: int, steps: int) -> tuple[int, int]:
    """Samples that are really drawn, and evaluations of each: a plain segmenter answers once to each view."""
    return (samples, steps) if model.network.spec.diffusion else (min(samples, len(VIEWS)), 1)


def segment_blocks(
    read: Reader,
    shape: tuple[int, int],
    model: SegmentationModel,
    *,
    steps: int = SEGMENTER_STEPS,
    samples: int = SEGMENTER_SAMPLES,
    seed: int = 0,
    callback: Callback | None = None,
) -> Iterator[SampledBlock]:
    """Yield the samples of a raster of any size in blocks that part it without overlap, in the memory of one block.

    ``read`` gives the bands of any window; the rest is as in `segment_array`, with progress in hundredths of a block.
    All blocks share one grid of tiles, and each reads two strides of tiles around its core: so there is no seam.
    """
    side = model.network.spec.sample_size
    stride = side - _overlap(model)
    blocks = blocks_over(shape, block=BLOCK_TILES * stride, halo=HALO_STRIDES * stride)
    for number, block in enumerate(blocks):

        def report(done: int, total: int, number: int = number) -> None:
            if callback:
                callback(100 * number + 100 * done // total, 100 * len(blocks))

        segmented = segment_array(
            read(block.outer),
            model,
            steps=steps,
            samples=samples,
            seed=seed,
            origin=(block.outer.row, block.outer.col),
            callback=report,
        )
        yield SampledBlock(block.core, segmented.samples[:, *block.inner.slices])
        report(1, 1)


def _overlap(model: SegmentationModel) -> int:
    return model.network.spec.sample_size // OVERLAP_SHARE
