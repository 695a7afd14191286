"""Maps of water beside indices, k-means and a published network, on the images of an evaluation.

    pip install --no-deps ukis-csmask==0.2.1
    python benchmarks/water_peers.py quality lakes --scenes DATA/water > docs/evidence/tables/water_peers.md

`quality` and `lakes` are folders that `lacunar evaluate water` wrote: the rows of this package's networks and of Otsu's
thresholds come from there. The peers are run here, on the images that these folders name, and scored by the same code:

- Indices: MNDWI (Xu 2006) with the usual thresholds; WI2015 (Fisher et al. 2016, Remote Sens. Environ. 175) and AWEI
  (Feyisa et al. 2014, Remote Sens. Environ. 140: for scenes without and with shadow) above 0; NDTI (Lacaux et al. 2007,
  Remote Sens. Environ. 106) by Otsu's threshold, water being less red.
- k-means of the pixels of an image: water is the cluster of largest NDWI, without infrared the darkest. How many
  clusters was chosen on training scenes.
- `model_6b.onnx` and `model_4b.onnx` of ukis-csmask (Apache-2.0), networks for clouds and shadows whose class 1 is
  water; they want reflectance in tiles of 256 pixels: smaller images are mirrored at their edges.

Seconds are CPU seconds on one thread for one image of 256 x 256 pixels with all bands that a method takes.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2, vq
from skimage.filters import threshold_otsu

from lacunar.evaluate.job import run
from lacunar.evaluate.report import Columns, markdown_table, text_of
from lacunar.evaluate.task import Estimate, Lineup
from lacunar.evaluate.water import OTSU, WaterCase, WaterTask
from lacunar.models.backend import load_segmenter
from lacunar.models.checkpoint import shipped_models
from lacunar.segment.array import segment_array
from lacunar.segment.indices import IndexName, threshold_water
from lacunar.sensors.bands import BANDS
from lacunar.train.water_data import WaterScene, water_scenes
from lacunar.versions import describe_machine
from water_tables import read

REFLECTANCE = 10_000  # what a stored value is divided by
SIDE = 256
SHADOW, WATER_CLASS, SNOW, LAND, CLOUD = range(5)  # the peer's classes; its code does not say so
MEAN = (0.19312, 0.18659, 0.18899, 0.30362, 0.23085, 0.16216)  # the peer's own standardisation
DEVIATION = (0.16431, 0.16762, 0.18230, 0.17409, 0.16020, 0.14164)
KMEANS, CLUSTERS = "k-means", 4
FITTED = 20_000  # pixels of an image that k-means is fitted to
COLUMNS: Columns = {name: WaterTask.columns[name] for name in ("method", "iou", "f1", "boundary_f1")}
TIMED = f"s per {SIDE} x {SIDE}"
MNDWI = ("green", "swir1")

Planes = NDArray[np.float32]
Mapper = Callable[[Planes], NDArray[np.bool_]]  # reflectance (6, H, W) to water


def main() -> None:
    """Run the peers, time every method, and print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="+", help="that `lacunar evaluate water -o` wrote")
    parser.add_argument("--scenes", type=Path, required=True, help="folder with the images of these evaluations")
    options = parser.parse_args()
    torch.set_num_threads(1)
    named = set(read(options.folder, "cases")[["set", "image"]].astype(str).itertuples(index=False, name=None))
    scenes = [scene for scene in water_scenes(options.scenes) if (scene.set_name, scene.name) in named]
    task = PeerTask(scenes=options.scenes)
    found = run(task, scenes, task.lineup()).scores
    scores = pd.concat([read(options.folder, "scores"), found], ignore_index=True).drop(
        columns=["f1_low", "f1_high"], errors="ignore"
    )
    image = np.random.default_rng(0).uniform(0.01, 0.5, (len(BANDS), SIDE, SIDE)).astype(np.float32)
    seconds = {method: seconds_of(method, image, task.peers) for method in dict.fromkeys(scores["method"])}
    for name, own in scores.groupby("set", sort=False):
        table = text_of(own, COLUMNS).assign(seconds=[seconds[method] for method in own["method"]])
        print(f"{own['images'].iloc[0]} of `{name}`\n")
        print(markdown_table([*(title for title, _ in COLUMNS.values()), TIMED], table.to_numpy().tolist()) + "\n")
    print(f"{describe_machine()}.")


@dataclass(frozen=True, kw_only=True)
class PeerTask(WaterTask):
    """The maps of peers."""

    def load(self, case: WaterScene) -> WaterCase:
        """A scene in reflectance; of a picture, in an unknown unit."""
        loaded = super().load(case)
        return replace(loaded, bands=loaded.bands * np.float32(case.scale / REFLECTANCE))

    def lineup(self) -> Lineup:
        """Every peer."""
        return Lineup({name: partial(self.answer, name) for name in self.peers}, KMEANS)

    def answer(self, name: str, bands: Planes, *_: object) -> dict[str, Estimate]:
        """The map of a peer; none where bands lack."""
        wanted, mapper = self.peers[name]
        present = {band for band, plane in zip(BANDS, bands, strict=True) if np.isfinite(plane).any()}
        return {name: Estimate(mapper(bands))} if present.issuperset(wanted) else {}

    @cached_property
    def peers(self) -> dict[str, tuple[Sequence[str], Mapper]]:
        """Each peer by name: the bands that it wants, and how it maps them."""
        return {
            "MNDWI > 0": (MNDWI, lambda bands: ratio(bands, *MNDWI) > 0),
            "MNDWI > 0.05": (MNDWI, lambda bands: ratio(bands, *MNDWI) > 0.05),
            "WI2015 > 0": (BANDS, lambda bands: weighed(bands, 0, 171, 3, -70, -45, -71) > -1.7204),
            "AWEI, no shadow > 0": (BANDS, lambda bands: weighed(bands, 0, 4, 0, -0.25, -4, -2.75) > 0),
            "AWEI, shadow > 0": (BANDS, lambda bands: weighed(bands, 1, 2.5, 0, -1.5, -1.5, -0.25) > 0),
            "ukis-csmask 0.2.1, six bands": (BANDS, likeliest(6)),
            "ukis-csmask 0.2.1, four bands": (BANDS[:4], likeliest(4)),
            "NDTI + Otsu": (("green", "red"), less_red),
            KMEANS: (("green", "red"), clustered),
        }


def seconds_of(method: str, image: Planes, peers: dict[str, tuple[Sequence[str], Mapper]]) -> str:
    """CPU seconds of a method for an image, the second time; of a network that is not shipped, a dash."""
    if method in peers:
        call = partial(peers[method][1], image)
    elif method.endswith(OTSU):
        call = partial(threshold_water, cast("IndexName", method.removesuffix(OTSU)), image)
    elif method in shipped_models():
        call = partial(segment_array, image, load_segmenter(method))
    else:
        return "-"
    call()
    begun = time.process_time()
    call()
    taken = time.process_time() - begun
    return f"{taken:.3f}" if taken >= 0.001 else "< 0.001"


def ratio(bands: Planes, one: str, other: str) -> Planes:
    """A normalised difference, 0 where both are 0."""
    x, y = (np.maximum(bands[BANDS.index(band)], 0) for band in (one, other))
    return np.divide(x - y, x + y, out=np.zeros_like(x), where=x + y > 0)


def weighed(bands: Planes, *weights: float) -> Planes:
    """A weighted sum of the bands."""
    return np.tensordot(weights, bands, axes=1)


def less_red(bands: Planes) -> NDArray[np.bool_]:
    """-NDTI above Otsu's threshold."""
    index = ratio(bands, "green", "red")
    return index > threshold_otsu(index)


def clustered(bands: Planes) -> NDArray[np.bool_]:
    """The cluster of pixels that is most like water."""
    present = np.isfinite(bands).any(axis=(1, 2))
    pixels = np.nan_to_num(bands[present]).reshape(present.sum(), -1).T.astype(np.float64)
    centres, _ = kmeans2(pixels[:: -(-len(pixels) // FITTED)], CLUSTERS, minit="++", seed=0)
    planes = np.full((len(BANDS), 1, CLUSTERS), np.nan)
    planes[present, 0] = centres.T
    index = "NDWI" if present[BANDS.index("nir")] else "darkness"
    water = threshold_water(index, planes).index[0].argmax()
    return (vq(pixels, centres)[0] == water).reshape(bands.shape[1:])


def likeliest(count: int) -> Mapper:
    """Where water is the most likely class of the published network of so many bands."""
    probabilities = teacher(count)
    return lambda bands: probabilities(bands[:count]).argmax(axis=-1) == WATER_CLASS


def teacher(count: int = 6) -> Callable[[Planes], Planes]:
    """The published network of 6 or 4 bands: reflectance (6 or 4, H, W) up to 256 x 256 to probabilities (H, W, 5)."""
    import onnxruntime

    found = find_spec("ukis_csmask")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("wanted the peer: pip install --no-deps ukis-csmask==0.2.1")
    file = Path(found.submodule_search_locations[0]) / f"model_{count}b.onnx"
    one_thread = onnxruntime.SessionOptions()
    one_thread.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), one_thread, providers=["CPUExecutionProvider"])

    def probabilities(reflectance: Planes) -> Planes:
        height, width = reflectance.shape[1:]
        if max(height, width) > SIDE:
            raise SystemExit(f"a scene of {height} x {width}: the peer is asked for one tile of {SIDE}")
        around = [(0, 0), (0, SIDE - height), (0, SIDE - width)]
        tile = np.moveaxis(np.pad(reflectance, around, mode="symmetric"), 0, 2)
        given = ((tile - MEAN[:count]) / DEVIATION[:count]).astype(np.float32)[None]
        return np.asarray(session.run(None, {"input_1": given})[0])[0][:height, :width]

    return probabilities


if __name__ == "__main__":
    main()
