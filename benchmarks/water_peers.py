"""Maps of water beside indices and a published network: pooled IoU where water is known, and seconds on one thread.

    pip install --no-deps ukis-csmask==0.2.1
    python benchmarks/water_peers.py --scenes DATA/water/test --set multispectral6 --model water-classes

The peer is `model_6b.onnx` of ukis-csmask (Apache-2.0), a network for clouds and shadows whose class 1 is water; it
wants six bands of reflectance, in tiles of 256 pixels: smaller scenes are mirrored at their edges. Where bands lack, a
method is left out. IoU is pooled over all pixels; intervals come from resampling scenes. Give a plain U-Net, or any
other, as `--model FOLDER`.
"""

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lacunar.evaluate.report import markdown_table
from lacunar.evaluate.scores import interval_95, resampling_weights
from lacunar.evaluate.water import WaterCase
from lacunar.metrics import confusion
from lacunar.models.backend import load_segmenter
from lacunar.segment.array import segment_array
from lacunar.segment.indices import INDEX_NAMES, IndexName, index_names, threshold_water
from lacunar.sensors.bands import BANDS
from lacunar.train.water_data import water_scenes

REFLECTANCE = 10_000  # what a stored value is divided by
SIDE = 256
SHADOW, WATER_CLASS, SNOW, LAND, CLOUD = range(5)  # the peer's classes; its code does not say so
MEAN = (0.19312, 0.18659, 0.18899, 0.30362, 0.23085, 0.16216)  # the peer's own standardisation
DEVIATION = (0.16431, 0.16762, 0.18230, 0.17409, 0.16020, 0.14164)

Planes = NDArray[np.float32]
# Bands over their common scale, and reflectance, to water; None where the bands do not serve.
Mapper = Callable[[Planes, Planes], NDArray[np.bool_] | None]


def main() -> None:
    """Map every scene by every method and print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--set", action="append", help="name of a set; repeatable; all by default")
    parser.add_argument("--model", action="append", help="model name or folder; repeatable")
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods: dict[str, Mapper] = {name: network(name) for name in options.model or ["water-classes"]}
    methods |= {"ukis-csmask 0.2.1, six bands": peer(), "MNDWI > 0": mndwi(0), "MNDWI > 0.05": mndwi(0.05)}
    methods |= {f"{name} + Otsu": otsu(name) for name in INDEX_NAMES}
    scenes = water_scenes(options.scenes)
    for name in options.set or dict.fromkeys(scene.set_name for scene in scenes):
        own = [WaterCase.of(scene) for scene in scenes if scene.set_name == name]
        rows = [row for method, mapper in methods.items() if (row := scored(method, mapper, own))]
        print(f"{len(own)} scenes of {name}\n")
        print(markdown_table(["method", "IoU of water", f"s per {SIDE} x {SIDE}"], rows), flush=True)


def scored(method: str, mapper: Mapper, cases: list[WaterCase]) -> list[str]:
    """A row of the table; empty where the bands do not serve."""
    seconds, pixels, pairs = 0.0, 0, []
    for case in cases:
        begun = time.process_time()
        found = mapper(case.bands, case.bands * case.scene.scale / REFLECTANCE)
        seconds, pixels = seconds + time.process_time() - begun, pixels + case.truth.size
        if found is None:
            return []
        counts = confusion(found, case.truth, region=case.valid)
        pairs.append((int(counts.both), int(counts.both) + int(counts.only_estimate) + int(counts.only_truth)))
    both, either = np.array(pairs).T
    weights = resampling_weights(len(cases), seed=0)
    low, high = interval_95((weights @ both) / (weights @ either), units=len(cases))
    return [method, f"{both.sum() / either.sum():.3f} [{low:.3f}, {high:.3f}]", f"{seconds / pixels * SIDE**2:.3f}"]


def network(name: str) -> Mapper:
    """A segmenter of this package."""
    model = load_segmenter(name)
    return lambda bands, _: segment_array(bands, model).samples.mean(axis=0) >= 0.5


def mndwi(threshold: float) -> Mapper:
    """Green against the first short-wave infrared (Xu 2006)."""
    green, swir = BANDS.index("green"), BANDS.index("swir1")

    def mapper(bands: Planes, _: Planes) -> NDArray[np.bool_] | None:
        if "MNDWI" not in index_names(bands):
            return None
        return np.asarray(bands[green] - bands[swir] > threshold * (bands[green] + bands[swir]))

    return mapper


def otsu(name: IndexName) -> Mapper:
    """An index with Otsu's threshold of each image."""
    return lambda bands, _: threshold_water(name, bands).water if name in index_names(bands) else None


def peer() -> Mapper:
    """The published network, on the most likely of its five classes."""
    probabilities = teacher()

    def mapper(_: Planes, reflectance: Planes) -> NDArray[np.bool_] | None:
        if not np.isfinite(reflectance).any(axis=(1, 2)).all():
            return None
        return np.asarray(probabilities(reflectance).argmax(axis=-1) == WATER_CLASS)

    return mapper


def teacher() -> Callable[[Planes], Planes]:
    """The published network: reflectance (6, H, W), up to 256 x 256, to probabilities (H, W, 5)."""
    import onnxruntime

    found = find_spec("ukis_csmask")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("wanted the peer: pip install --no-deps ukis-csmask==0.2.1")
    file = Path(found.submodule_search_locations[0]) / "model_6b.onnx"
    one_thread = onnxruntime.SessionOptions()
    one_thread.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), one_thread, providers=["CPUExecutionProvider"])

    def probabilities(reflectance: Planes) -> Planes:
        height, width = reflectance.shape[1:]
        if max(height, width) > SIDE:
            raise SystemExit(f"a scene of {height} x {width}: the peer is asked for one tile of {SIDE}")
        around = [(0, 0), (0, SIDE - height), (0, SIDE - width)]
        tile = np.moveaxis(np.pad(reflectance, around, mode="symmetric"), 0, 2)
        given = ((tile - MEAN) / DEVIATION).astype(np.float32)[None]
        return np.asarray(session.run(None, {"input_1": given})[0])[0][:height, :width]

    return probabilities


if __name__ == "__main__":
    main()
