"""Segmenters without training: water is where green outshines infrared, or where a picture is dark."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.geo.windows import blocks_over
from lacunar.models.card import Card
from lacunar.models.checkpoint import SegmentationModel, save_model
from lacunar.networks.segdiff import SegmenterConfig, build_segmenter
from lacunar.sensors.bands import BANDS

SIDE = 48  # of a block, so that small images have several
STEEPNESS = 40.0  # of the probability across the border
JITTER = 0.2  # of the samples, in units of the probability's argument
CLASSES = ("water", "land", "cloud", "cloud shadow", "snow or ice")
CLOUD, SHADOW, SNOW = 0.55, 0.03, 0.9  # red, in units of the common scale: at and above cloud, below shadow, from snow


@dataclass(frozen=True, eq=False)
class Block:
    """What the segmenter yields."""

    window: object
    samples: np.ndarray
    cover: np.ndarray


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
        yield Block(block.core, (1 / (1 + np.exp(-argument))).astype(np.float32), cover_of(there["red"], model))
        if callback:
            callback(number, len(blocks))


def cover_of(red, model):
    """What is not water, by how bright red is: land, cloud, cloud shadow, snow or ice."""
    kinds = np.select([red >= SNOW, red >= CLOUD, red < SHADOW], [3, 1, 2], 0)
    known = len(model.network.spec.classes) - 1
    return (np.arange(known)[:, None, None] == kinds).astype(np.float32)


def plain_model(name, device="cpu", backend="eager"):
    """Stands in for `lacunar.models.backend.load_segmenter`."""
    network = SimpleNamespace(spec=SimpleNamespace(diffusion=True, classes=("water",)))
    return SimpleNamespace(
        name=str(name),
        network=network,
        card=SimpleNamespace(sha256="0" * 64, looks={}, ndwi=(), ranges={}),
        backend=backend,
    )


def model_of_classes(name, device="cpu", backend="eager"):
    """As `plain_model`, of a model that tells land, cloud, cloud shadow and snow apart."""
    model = plain_model(name, device, backend)
    model.network.spec.classes = CLASSES
    return model


def stand_in(monkeypatch, model=plain_model):
    """Let `lacunar water` use the two."""
    from lacunar.segment import job as water

    monkeypatch.setattr(water, "segment_blocks", plain_segmenter)
    monkeypatch.setattr(water, "load_segmenter", model)


def save_random(folder, *, classes=CLASSES, side=32, **card):
    """A tiny model folder with random weights that tells classes apart."""
    import torch

    torch.manual_seed(0)
    spec = SegmenterConfig(
        sample_size=side,
        diffusion=False,
        encoder="efficientnet-lite0",
        condition_widths=(8, 8, 8, 8, 8),
        widths=(8, 8, 8, 8, 8),
        classes=classes,
    )
    network = build_segmenter(spec).eval()
    card = Card(summary="random weights", licence="none", **card)
    schedule = NoiseSchedule.cosine(100)
    model = SegmentationModel(name=folder.name, network=network, schedule=schedule, prediction="x_0", card=card)
    save_model(folder, model)
    return folder


def lake_scene(shape=(60, 70), seed=0, *, rows=slice(15, 40), cols=slice(20, 50)):
    """Reflectance blue, green, red, nir (4, H, W): land, and a lake with an island."""
    rng = np.random.default_rng(seed)
    lake = np.zeros(shape, bool)
    lake[rows, cols] = True
    lake[25:29, 30:34] = False
    land, water = np.array([0.06, 0.10, 0.12, 0.32]), np.array([0.06, 0.07, 0.05, 0.01])
    values = np.where(lake, water[:, None, None], land[:, None, None]) + rng.uniform(-0.005, 0.005, (4, *shape))
    return np.clip(values, 0.002, None), lake
