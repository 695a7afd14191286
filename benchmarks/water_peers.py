"""Maps of water of six bands beside a published network: pooled IoU on scenes whose water is known.

    pip install --no-deps ukis-csmask==0.2.1
    python benchmarks/water_peers.py --scenes DATA/water/test --set multispectral6

The peer is `model_6b.onnx` of ukis-csmask (Apache-2.0), a network for clouds and their shadows whose class 1 is water.
It wants reflectance and tiles of 256 pixels: smaller scenes are mirrored at their edges. IoU is pooled over all pixels;
intervals come from resampling scenes. Beside the peer: MNDWI above 0 and above 0.05.
"""

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lacunar.evaluate.report import markdown_table
from lacunar.evaluate.scores import interval_95, resampling_weights
from lacunar.evaluate.water import WaterCase
from lacunar.metrics import confusion
from lacunar.models.backend import load_segmenter
from lacunar.segment.array import segment_array
from lacunar.sensors.bands import BANDS
from lacunar.train.water_data import water_scenes

REFLECTANCE = 10_000  # what a stored value is divided by
SIDE = 256
SHADOW, WATER_CLASS, SNOW, LAND, CLOUD = range(5)  # the peer's classes; its code does not say so
MEAN = (0.19312, 0.18659, 0.18899, 0.30362, 0.23085, 0.16216)  # the peer's own standardisation
DEVIATION = (0.16431, 0.16762, 0.18230, 0.17409, 0.16020, 0.14164)

Planes = NDArray[np.float32]
Mapper = Callable[[Planes, Planes], NDArray[np.bool_]]  # bands over their common scale, and reflectance


def main() -> None:
    """Map every scene of six bands by every method and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--set", default="multispectral6")
    parser.add_argument("--model", action="append", help="model name or folder; repeatable")
    options = parser.parse_args()
    methods: dict[str, Mapper] = {name: network(name) for name in options.model or ["water-lite"]}
    methods |= {"ukis-csmask 0.2.1, six bands": peer(), "MNDWI > 0": mndwi(0), "MNDWI > 0.05": mndwi(0.05)}
    scenes = [scene for scene in water_scenes(options.scenes) if scene.set_name == options.set]
    counts: dict[str, list[tuple[int, int]]] = {name: [] for name in methods}
    seconds = dict.fromkeys(methods, 0.0)
    for scene in scenes:
        case = WaterCase.of(scene)
        bands, truth, valid = case.bands, case.truth, case.valid
        for name, mapper in methods.items():
            begun = time.perf_counter()
            found = confusion(mapper(bands, bands * scene.scale / REFLECTANCE), truth, region=valid)
            seconds[name] += time.perf_counter() - begun
            both, either = int(found.both), int(found.both) + int(found.only_estimate) + int(found.only_truth)
            counts[name].append((both, either))
    weights = resampling_weights(len(scenes), seed=0)
    rows = []
    for name, pairs in counts.items():
        both, either = np.array(pairs).T
        low, high = interval_95((weights @ both) / (weights @ either), units=len(scenes))
        iou = f"{both.sum() / either.sum():.3f} [{low:.3f}, {high:.3f}]"
        rows.append([name, iou, f"{seconds[name] / len(scenes):.2f}"])
    print(f"{len(scenes)} scenes of {options.set}\n")
    print(markdown_table(["method", "IoU of water", "seconds a scene"], rows))


def network(name: str) -> Mapper:
    """A segmenter of this package."""
    model = load_segmenter(name)
    return lambda bands, _: segment_array(bands, model).samples.mean(axis=0) >= 0.5


def mndwi(threshold: float) -> Mapper:
    """Green against the first short-wave infrared (Xu 2006)."""
    green, swir = BANDS.index("green"), BANDS.index("swir1")
    return lambda bands, _: bands[green] - bands[swir] > threshold * (bands[green] + bands[swir])


def peer() -> Mapper:
    """The published network, on the most likely of its five classes."""
    probabilities = teacher()
    return lambda _, reflectance: probabilities(reflectance).argmax(axis=-1) == WATER_CLASS


def teacher() -> Callable[[Planes], Planes]:
    """The published network: reflectance (6, H, W), up to 256 x 256, to probabilities (H, W, 5)."""
    import onnxruntime

    found = find_spec("ukis_csmask")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("wanted the peer: pip install --no-deps ukis-csmask==0.2.1")
    file = Path(found.submodule_search_locations[0]) / "model_6b.onnx"
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

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
