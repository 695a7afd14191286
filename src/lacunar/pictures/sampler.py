"""Draw samples of what is missing in a picture on one grid.

The state of a conditional network is the residual over a mean, ``picture = mean + sigma * z`` in [-1, 1]; it starts
from noise, or from a coarser fill that it refines. A Gaussian prior of the model's own size (aligned faces) gives the
mean and the start. An unconditional network draws the picture itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lacunar.diffusion.operators import Mask
from lacunar.diffusion.samplers import Preset, refiner, refining_schedule
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.diffusion.solvers import ddim_sample, with_progress
from lacunar.geo.windows import Tile, tiles_over, tiles_touching
from lacunar.interpolate.membrane import RESIDUAL_SIGMA, membrane_fill
from lacunar.interpolate.pca_prior import GaussianPrior, background_mean
from lacunar.models.checkpoint import Model
from lacunar.models.tiled import TiledGapNetwork, TiledNetwork, TiledPrior, overlap_of
from lacunar.pictures.missing_regions import BoolArray, FloatArray

COLOURS = 3  # a grey picture is filled as red, green and blue alike
MOST_HIDDEN = 0.7  # share of a tile that is refined: the networks are trained on no more
GUESS_STREAM = 1  # of random numbers, apart from those of the noise


def is_prior(model: Model) -> bool:
    """Whether a model is an unconditional prior of RGB pictures, which knows no mask, such as a converted DDPM."""
    return bool(model.network.in_channels == COLOURS)


def is_guessed(model: Model, preset: Preset) -> bool:
    """Whether samples in the frame of a model's prior start from a guess of one evaluation, and are then refined."""
    return model.prior is not None and preset.conditional and preset.steps > 1


def frame_evaluations(model: Model, preset: Preset) -> int:
    """Network evaluations of one sample on the grid of the model's own size."""
    return 1 + refiner(preset).evaluations if is_guessed(model, preset) else preset.evaluations


class PictureDenoiser(TiledGapNetwork):
    """The network on the tiles of a picture, one mean for all samples or one for each."""

    def __init__(
        self, model: Model, tiles: Sequence[Tile], means: FloatArray, missing: BoolArray, *, conditional: bool
    ) -> None:
        super().__init__(model, tiles, (missing.shape[0], missing.shape[1]))
        device = self.norm.device
        mean = torch.from_numpy(means).movedim(3, 1).to(device)
        sigma = torch.full_like(mean[:, :1], RESIDUAL_SIGMA if conditional else 1.0)
        self.condition = torch.cat([mean if conditional else torch.zeros_like(mean), sigma], dim=1)
        hidden = missing if conditional else np.ones_like(missing)
        self.missing = torch.from_numpy(hidden).float().to(device)[None, None]

    def given(self, first: int, last: int, count: int) -> tuple[Tensor, Tensor]:
        """Condition and missing of some tiles, for each sample."""
        tiles = self.tiles[first:last]
        condition = torch.cat([self.condition[:, :, *tile.slices].expand(count, -1, -1, -1) for tile in tiles])
        return condition, torch.cat([self.missing[:, :, *tile.slices].expand(count, -1, -1, -1) for tile in tiles])


@dataclass(frozen=True)
class PictureSampler:
    """Draws some of the samples: their numbers and the seed, which is another on each grid, decide their noise."""

    model: Model
    preset: Preset
    drawn: range
    seed: tuple[int, ...]
    callback: Callable[[], None] | None  # called after each evaluation

    def sample(self, pictures: FloatArray, missing: BoolArray, started: FloatArray | None) -> FloatArray:
        """Fill the missing (H, W) of pictures (1 or K, H, W, 3) in [-1, 1]; a start (K, H, W, 3) is refined."""
        shape, side = missing.shape, self.model.network.config.sample_size
        pads = [(0, max(0, side - length)) for length in shape]
        pictures = np.pad(pictures, [(0, 0), *pads, (0, 0)], mode="symmetric")
        missing = np.pad(missing, pads, mode="symmetric")
        with torch.inference_mode():
            if started is None:
                x = self._first_fill(pictures, missing)
            else:
                x = self._refined(pictures, missing, np.pad(started, [(0, 0), *pads, (0, 0)], mode="symmetric"))
        filled = np.where(missing[..., None], x.clip(-1, 1), pictures)
        return filled[:, : shape[0], : shape[1]].astype(np.float32)

    def _first_fill(self, pictures: FloatArray, missing: BoolArray) -> FloatArray:
        """Samples (K, H, W, 3) where nothing is filled yet."""
        if not self.preset.conditional:
            return self._by_prior(pictures, missing, None)
        prior = self.model.prior
        means = np.stack([background_mean(prior, picture, missing) for picture in pictures])
        denoiser = PictureDenoiser(self.model, self._tiles(missing), means, missing, conditional=True)
        noise = self._noise(missing).to(denoiser.norm.device)
        begun = None
        if prior is not None and prior.mean.shape == means.shape[1:] and is_guessed(self.model, self.preset):
            begun = self._first_guess(denoiser, prior, missing, noise)
        return np.asarray(means + RESIDUAL_SIGMA * self._residuals(denoiser, noise, begun))

    def _refined(self, pictures: FloatArray, missing: BoolArray, started: FloatArray) -> FloatArray:
        """Refine a coarser fill (K, H, W, 3) with what this grid can show, in tiles that see enough known pixels.

        A conditional network takes the enlarged fill for a noisy one. Noise on top, not all removed, would stay as
        grain.
        """
        if is_prior(self.model):
            return self._by_prior(pictures, missing, started)
        tiles = self._tiles(missing)
        seeing = [tile for tile in tiles if missing[tile.slices].mean() <= MOST_HIDDEN]
        if not seeing:
            for done in range(refiner(self.preset).evaluations):
                self._tell(done, done)
            return started
        means = np.stack([membrane_fill(picture, missing) for picture in pictures])
        denoiser = PictureDenoiser(self.model, seeing, means, missing, conditional=True)
        total = torch.zeros_like(denoiser.norm)
        for tile in tiles:
            total[tile.slices] += denoiser.weight
        share = (denoiser.norm / total.clamp(min=torch.finfo(torch.float32).tiny)).cpu().numpy()[..., None]
        quiet = torch.zeros(len(self.drawn), COLOURS, *missing.shape, device=denoiser.norm.device)
        x = means + RESIDUAL_SIGMA * self._residuals(denoiser, quiet, started - means)
        return np.asarray(started + share * (x - started))

    def _tiles(self, missing: BoolArray) -> Sequence[Tile]:
        side = self.model.network.config.sample_size
        tiles = tiles_over((missing.shape[0], missing.shape[1]), tile=side, overlap=overlap_of(side))
        return tiles_touching(tiles, missing)

    def _first_guess(
        self, denoiser: PictureDenoiser, prior: GaussianPrior, missing: BoolArray, noise: Tensor
    ) -> FloatArray:
        """Residuals (K, H, W, 3) to refine: what the network expects, in one evaluation, and how faces may deviate.

        What is coarse comes from the Gaussian distribution: drawn by the network from noise, it would be blotched.
        """
        nothing = torch.zeros_like(noise[: len(denoiser.condition)])  # one answer for each mean
        asked, schedule = with_progress(denoiser, 1, self._tell), self.model.schedule.respaced(1)
        z = ddim_sample(asked, nothing, schedule, prediction=self.model.prediction)
        expected = RESIDUAL_SIGMA * _array(z)
        rows = []
        for number in self.drawn:
            rng = np.random.default_rng((*self.seed, number // 2, GUESS_STREAM))
            rows.append((1 - 2 * (number % 2)) * rng.standard_normal(len(prior.components)))
        return np.asarray(expected + prior.deviations(missing, np.stack(rows).astype(np.float32)), dtype=np.float32)

    def _residuals(self, denoiser: PictureDenoiser, noise: Tensor, begun: FloatArray | None) -> FloatArray:
        """Residuals (K, H, W, 3) by the conditional network, from noise or from a start with that noise."""
        begun = None if begun is None else begun / RESIDUAL_SIGMA
        preset, schedule, x = self._start(noise, begun, prior=False)
        return _array(preset.draw(denoiser, x, schedule, prediction=self.model.prediction, callback=self._tell))

    def _by_prior(self, pictures: FloatArray, missing: BoolArray, started: FloatArray | None) -> FloatArray:
        """Pictures (K, H, W, 3) by the network as an unconditional prior, held to the known pixels."""
        tiles = self._tiles(missing)
        if is_prior(self.model):
            denoiser: TiledNetwork = TiledPrior(self.model, tiles, (missing.shape[0], missing.shape[1]))
        else:
            denoiser = PictureDenoiser(self.model, tiles, pictures, missing, conditional=False)
        noise = self._noise(missing).to(denoiser.norm.device)
        preset, schedule, x = self._start(noise, started, prior=True)
        words = np.random.SeedSequence((*self.seed, self.drawn.start)).generate_state(1)
        known = Mask(torch.from_numpy(~missing).to(noise.device)[None, None])
        drawn = preset.draw(
            denoiser,
            x,
            schedule,
            measurement=known.measure(_tensor(pictures, noise).expand_as(noise)),
            prediction=self.model.prediction,
            clip_x_0=(-1.0, 1.0),
            generator=torch.Generator().manual_seed(int(words[0])),
            callback=self._tell,
        )
        return _array(drawn)

    def _start(self, noise: Tensor, begun: FloatArray | None, *, prior: bool) -> tuple[Preset, NoiseSchedule, Tensor]:
        """The sampler, its schedule and x_t: from noise, or to refine a start with that noise on it."""
        if begun is None:
            schedule = self.preset.thinned(self.model.schedule)
            return self.preset, schedule, torch.zeros_like(noise) if self.preset.mean_only else noise
        schedule = refining_schedule(self.model.schedule, self.preset, prior=prior)
        kept = float(schedule.alphas_cumprod[-1])
        x_t = kept**0.5 * _tensor(begun, noise) + (1 - kept) ** 0.5 * noise
        return refiner(self.preset, prior=prior), schedule, x_t

    def _noise(self, missing: BoolArray) -> Tensor:
        """Standard normal noise (K, 3, H, W); samples 2 j and 2 j + 1 have opposite noise (antithetic variates)."""
        drawn = []
        for number in self.drawn:
            words = np.random.SeedSequence((*self.seed, number // 2)).generate_state(2, dtype=np.uint32)
            generator = torch.Generator().manual_seed(int(words[0]) << 31 ^ int(words[1]))
            drawn.append((1 - 2 * (number % 2)) * torch.randn(COLOURS, *missing.shape, generator=generator))
        return torch.stack(drawn)

    def _tell(self, done: int, total: int) -> None:
        if self.callback is not None:
            self.callback()


def _tensor(pictures: FloatArray, like: Tensor) -> Tensor:
    return torch.from_numpy(pictures).movedim(3, 1).to(like)


def _array(x: Tensor) -> FloatArray:
    return np.asarray(x.movedim(1, 3).cpu().numpy())
