"""A segmenter without training: water is where green outshines infrared, or where a picture is dark."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from lacunar.geo.windows import blocks_over
from lacunar.sensors.bands import BANDS

SIDE = 48  # of a block, so that small images have several
STEEPNESS = 40.0  # of the probability across the border
JITTER = 0.2  # of the samples, in units of the probability's argument


@dataclass(frozen=True, eq=False)
class Block:
    """What the segmenter yields."""

    window: object
    samples: np.ndarray


def plain_segmenter(read, shape, model, *, look, steps, samples, seed, callback=None):
    """Stands in for `lacunar.segment.array.segment_blocks`."""
    blocks = blocks_over(shape, block=SIDE, halo=0)
    for number, block in enumerate(blocks, start=1):
        planes = read(block.core)
        assert planes.shape == (6, *block.core.shape)
        assert planes.dtype == np.float32
        there = dict(zip(BANDS, planes, strict=True))
        infrared = there["nir"] if np.isfinite(there["nir"]).any() else there["red"]
        wetness = there["green"] - infrared if np.isfinite(there["nir"]).any() else 0.15 - infrared
        rng = np.random.default_rng([seed, block.core.row, block.core.col])
        argument = STEEPNESS * wetness + JITTER * rng.standard_normal((samples, *block.core.shape))
        yield Block(block.core, (1 / (1 + np.exp(-argument))).astype(np.float32))
        if callback:
            callback(number, len(blocks))


def plain_model(name, device="cpu", backend="eager"):
    """Stands in for `lacunar.models.backend.load_segmenter`."""
    network = SimpleNamespace(spec=SimpleNamespace(diffusion=True))
    return SimpleNamespace(
        name=str(name), network=network, card=SimpleNamespace(sha256="0" * 64, looks={}, ndwi=()), backend=backend
    )


def stand_in(monkeypatch):
    """Let `lacunar water` use the two."""
    from lacunar.segment import job as water

    monkeypatch.setattr(water, "segment_blocks", plain_segmenter)
    monkeypatch.setattr(water, "load_segmenter", plain_model)


def lake_scene(shape=(60, 70), seed=0, *, rows=slice(15, 40), cols=slice(20, 50)):
    """Reflectance blue, green, red, nir (4, H, W): land, and a lake with an island."""
    rng = np.random.default_rng(seed)
    lake = np.zeros(shape, bool)
    lake[rows, cols] = True
    lake[25:29, 30:34] = False
    land, water = np.array([0.06, 0.10, 0.12, 0.32]), np.array([0.06, 0.07, 0.05, 0.01])
    values = np.where(lake, water[:, None, None], land[:, None, None]) + rng.uniform(-0.005, 0.005, (4, *shape))
    return np.clip(values, 0.002, None), lake
