"""Segment water in an image of any size by diffusion: samples of its mask, tile by tile without seams.

Each tile's image is read once; its condition is used at every step and for every sample. Overlapping tiles are
denoised together: their predictions are averaged at every step, so there is one mask and no seam.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lacunar.diffusion.noise import pixel_noise
from lacunar.diffusion.solvers import ddim_sample, with_progress
from lacunar.errors import LacunarError
from lacunar.geo.windows import Block, Tile, blocks_over, tiles_over, tiles_touching
from lacunar.models.checkpoint import SegmentationModel
from lacunar.models.tiled import TiledNetwork
from lacunar.networks.segmenter import Condition
from lacunar.segment.fusion import mean_and_spread
from lacunar.sensors.bands import BANDS

SEGMENTER_STEPS = 2  # network evaluations of each sample; on held-out scenes 1 and 2 give the same map
SEGMENTER_SAMPLES = 4
OVERLAP_SHARE = 4  # neighbouring tiles share one part in so many of their side
BATCH = 8  # tiles and samples in one call of the network
BLOCK_TILES = 5  # strides of tiles along the side of a block's core
HALO_STRIDES = 2  # beyond it: the tiles moved back from the end of what is read then touch no core

# The symmetries of the square: quarter turns, and whether mirrored; the first four differ most.
VIEWS = ((0, False), (2, False), (0, True), (2, True), (1, False), (3, False), (1, True), (3, True))

BoolArray = NDArray[np.bool_]
Reader = Callable[[Tile], NDArray[np.float32]]  # bands (6, h, w) of a window


@dataclass(frozen=True)
class Segmented:
    """Samples of a mask.

    Parameters
    ----------
    samples
        (K, H, W) float32: probability of water of each sample, 0 to 1; NaN where the image is not valid.
    evaluations
        Network evaluations of each sample of each tile.
    """

    samples: NDArray[np.float32]
    evaluations: int

    @cached_property
    def probability(self) -> NDArray[np.float32]:
        """Mean over the samples (H, W)."""
        return mean_and_spread(self.samples)[0]

    @cached_property
    def disagreement(self) -> NDArray[np.float32]:
        """Standard deviation over the samples (H, W)."""
        return mean_and_spread(self.samples)[1]


@dataclass(frozen=True)
class SegmentedBlock:
    """One block of the result: where it lies, and its samples (K, h, w) as in `Segmented`."""

    window: Tile
    samples: NDArray[np.float32]


class TiledSegmenter(TiledNetwork):
    """A segmenter on tiles, each of whose images is read once."""

    def __init__(self, model: SegmentationModel, bands: Tensor, tiles: tuple[Tile, ...], overlap: int) -> None:
        shape = (int(bands.shape[-2]), int(bands.shape[-1]))
        super().__init__(tiles, shape, device=bands.device, overlap=overlap, batch=BATCH)
        self.network = model.network
        read = [self.network.condition(bands[None, :, *tile.slices]) for tile in tiles]
        self.conditions = Condition(*(torch.cat(parts) for parts in zip(*read, strict=True)))

    def predict(self, patches: Tensor, t: Tensor, first: int, last: int) -> Tensor:
        """Predict x_0 for the patches of some tiles."""
        condition = Condition(*(part[first:last] for part in self.conditions))
        pred_x_0: Tensor = self.network.restore(patches, t, condition.repeated(len(patches) // (last - first)))
        return pred_x_0


class TiledViews(TiledNetwork):
    """A plain segmenter on tiles: each sample is its answer to a tile as another symmetry of the square shows it."""

    def __init__(self, model: SegmentationModel, bands: Tensor, tiles: tuple[Tile, ...], overlap: int) -> None:
        shape = (int(bands.shape[-2]), int(bands.shape[-1]))
        super().__init__(tiles, shape, device=bands.device, overlap=overlap, batch=BATCH)
        self.network, self.bands = model.network, bands

    def predict(self, patches: Tensor, t: Tensor, first: int, last: int) -> Tensor:
        """Answer for some tiles; what stands in the patches plays no part."""
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
    callback: Callable[[int, int], None] | None = None,
) -> Segmented:
    """Draw samples of the water mask of one image that fits in memory.

    Parameters
    ----------
    bands
        (6, H, W) in the order of `lacunar.sensors.bands.BANDS`, divided by the image's common scale; NaN planes for
        bands
        that it lacks, NaN pixels where it is not valid.
    model
        A segmenter; its device is where the work is done. A plain one (without diffusion) answers once to each of up
        to eight views of the image, turned and mirrored; these are its samples.
    steps, samples, seed
        Network evaluations of each sample, number of samples, and the seed; noise belongs to pixels of the absolute
        grid.
    origin
        Row and column of the image's first pixel on the absolute grid.
    callback
        Called with (evaluations done, all).

    Raises
    ------
    LacunarError
        Another number of bands, or fewer than one step or sample.
    """
    if bands.ndim != 3 or len(bands) != len(BANDS) or steps < 1 or samples < 1:
        raise LacunarError(
            f"got bands {bands.shape}, {steps} steps and {samples} samples; wanted ({len(BANDS)}, height, width) with "
            "NaN for absent bands, and one or more of both"
        )
    spec, shape = model.network.spec, bands.shape[1:]
    valid = np.isfinite(bands).any(axis=0)
    pads = [(0, -length % spec.stride if length < spec.sample_size else 0) for length in shape]
    padded = np.pad(bands, [(0, 0), *pads], constant_values=np.nan).astype(np.float32)
    overlap = spec.sample_size // OVERLAP_SHARE
    tiles = tiles_over((padded.shape[1], padded.shape[2]), tile=spec.sample_size, overlap=overlap)
    tiles = tiles_touching(tiles, np.pad(valid, pads))
    count, steps = drawn(model, steps, samples)
    probability = np.full((count, *padded.shape[1:]), np.nan, dtype=np.float32)
    if tiles:
        probability = _sampled(model, padded, tiles, overlap, steps, count, seed, origin, callback)
    return Segmented(np.where(valid, probability[:, : shape[0], : shape[1]], np.nan).astype(np.float32), steps)


def drawn(model: SegmentationModel, steps: int, samples: int) -> tuple[int, int]:
    """Samples that are really drawn, and evaluations of each: a plain segmenter has one answer to each view."""
    return (samples, steps) if model.network.spec.diffusion else (min(samples, len(VIEWS)), 1)


def _sampled(
    model: SegmentationModel,
    bands: NDArray[np.float32],
    tiles: tuple[Tile, ...],
    overlap: int,
    steps: int,
    samples: int,
    seed: int,
    origin: tuple[int, int],
    callback: Callable[[int, int], None] | None,
) -> NDArray[np.float32]:
    """Probabilities (K, H, W) from pure noise by DDIM."""
    device, scale = next(model.network.parameters()).device, model.network.spec.mask_scale
    with torch.inference_mode():
        tiled = TiledSegmenter if model.network.spec.diffusion else TiledViews
        denoiser = tiled(model, torch.from_numpy(bands).to(device), tiles, overlap)
        mask = ddim_sample(
            with_progress(denoiser, steps, callback),
            pixel_noise(bands.shape[1:], origin, samples, seed).to(device),
            model.schedule.respaced(steps),
            prediction=model.prediction,
            clip_x_0=(-scale, scale),
        )
        probability = (mask[:, 0] / scale + 1) / 2
    return np.asarray(probability.clamp(0, 1).float().cpu().numpy())


def segment_blocks(
    read: Reader,
    shape: tuple[int, int],
    model: SegmentationModel,
    *,
    steps: int = SEGMENTER_STEPS,
    samples: int = SEGMENTER_SAMPLES,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> Iterator[SegmentedBlock]:
    """Yield the samples of a raster of any size in blocks that part it without overlap.

    Memory is that of one block. A block reads two strides of tiles beyond its core on every side, and all blocks share
    one grid of tiles, so every tile that touches a core is the same tile in both of its blocks.

    Parameters
    ----------
    read
        Gives the bands (6, h, w) of any window, as `segment_array` takes them.
    shape
        Rows and columns.
    model, steps, samples, seed
        As in `segment_array`.
    callback
        Called with (hundredths of a block done, all).
    """
    side = model.network.spec.sample_size
    stride = side - side // OVERLAP_SHARE
    blocks = blocks_over(shape, block=BLOCK_TILES * stride, halo=HALO_STRIDES * stride)
    for number, block in enumerate(blocks):

        def report(done: int, total: int, number: int = number) -> None:
            if callback:
                callback(100 * number + 100 * done // total, 100 * len(blocks))

        yield _segment_block(read, block, model, steps=steps, samples=samples, seed=seed, callback=report)
        report(1, 1)


def _segment_block(
    read: Reader,
    block: Block,
    model: SegmentationModel,
    *,
    steps: int,
    samples: int,
    seed: int,
    callback: Callable[[int, int], None],
) -> SegmentedBlock:
    """Segment the core of one block from all that its halo shows."""
    segmented = segment_array(
        read(block.outer),
        model,
        steps=steps,
        samples=samples,
        seed=seed,
        origin=(block.outer.row, block.outer.col),
        callback=callback,
    )
    return SegmentedBlock(block.core, segmented.samples[:, *block.inner.slices])
