"""Judge maps of water: the methods, and every one of them on every scene.

A network sees the planes of a scene, never its mask. Pixels that the mask ignores (black corners) count neither for
the number by which a scene is divided nor for the threshold of an index. What comes out is pooled by
`lacunar.evaluate.water_scores`.
"""

import time
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lacunar.errors import LacunarError
from lacunar.evaluate.water_measures import BoolArray, Method, Planes, Prediction, WaterRow, measure_water, truth_of
from lacunar.models.checkpoint import SegmentationModel
from lacunar.segment.array import VIEWS, segment_array
from lacunar.segment.fusion import THRESHOLD
from lacunar.segment.indices import INDEX_NAMES, IndexName, index_names, threshold_water
from lacunar.train.water_data import WATER, WaterScene

OTSU = " + Otsu"
QUARTILES = (0.25, 0.5, 0.75)
BASELINES: tuple[str, ...] = tuple(f"{name}{OTSU}" for name in INDEX_NAMES)
DARKNESS = BASELINES[-1]  # what every set allows


@dataclass(frozen=True)
class Run:
    """One way to use a network: its name, steps of the sampler, samples fused; none for a plain one's first answer."""

    model: str
    steps: int = 0
    samples: int = 0

    @property
    def name(self) -> str:
        """How tables call it.

        Examples
        --------
        >>> Run("water-small", 2, 4).name, Run("unet").name
        ('water-small, 2 steps, K = 4', 'unet')
        """
        return f"{self.model}, {self.pace}, K = {self.samples}" if self.samples else self.model

    @property
    def pace(self) -> str:
        """Its steps in words."""
        return f"{self.steps} step{'s' if self.steps > 1 else ''}"


def index_methods(names: Collection[str] = INDEX_NAMES) -> dict[str, Method]:
    """Spectral indices with Otsu's threshold, by name; each serves the images that have its bands.

    Raises
    ------
    LacunarError
        A name that is not in `INDEX_NAMES`.
    """
    unknown = [name for name in names if name not in INDEX_NAMES]
    if unknown:
        raise LacunarError(f"unknown method {unknown[0]!r}: choose out of {', '.join(INDEX_NAMES)}")
    return {f"{name}{OTSU}": _index_method(name) for name in INDEX_NAMES if name in names}


def _index_method(name: IndexName) -> Method:
    """One index."""

    def method(bands: Planes, valid: BoolArray, _: int) -> dict[str, Prediction]:
        if name not in index_names(bands):
            return {}
        started = time.perf_counter()
        water = threshold_water(name, np.where(valid, bands, np.nan)).water
        return {f"{name}{OTSU}": Prediction(water, seconds=time.perf_counter() - started)}

    return method


def model_runs(model: SegmentationModel, *, steps: Sequence[int], samples: Sequence[int]) -> list[Run]:
    """Every way to use a network; a plain one answers once, and once to each of several views."""
    if not model.network.spec.diffusion:
        views = dict.fromkeys(min(count, len(VIEWS)) for count in samples)
        return [Run(model.name), *(Run(model.name, 1, count) for count in views if count > 1)]
    return [Run(model.name, step, count) for step in steps for count in samples]


def model_method(model: SegmentationModel, runs: Sequence[Run]) -> Method:
    """A network used in several ways; of one number of steps the most samples are drawn once, fewer are the first."""
    diffuses = model.network.spec.diffusion

    def method(bands: Planes, _: BoolArray, seed: int) -> dict[str, Prediction]:
        predictions: dict[str, Prediction] = {}
        for steps in dict.fromkeys(run.steps for run in runs):
            own = [run for run in runs if run.steps == steps]
            most = max(run.samples for run in own)
            started = time.perf_counter()
            segmented = segment_array(bands, model, steps=max(steps, 1), samples=max(most, 1), seed=seed)
            seconds = time.perf_counter() - started
            for run in own:
                count = max(run.samples, 1)
                chosen = _paired(len(segmented.samples), count) if diffuses else list(range(count))
                probability = segmented.samples[chosen].mean(axis=0)
                predictions[run.name] = Prediction(
                    probability >= THRESHOLD,
                    probability,
                    evaluations=segmented.evaluations * count,
                    seconds=seconds if run.samples == most else float("nan"),
                )
        return predictions

    return method


def _paired(drawn: int, count: int) -> list[int]:
    """Numbers of the samples that are drawn where ``count`` are wanted: sample i and i + half have opposite noise.

    Examples
    --------
    >>> _paired(8, 4), _paired(8, 1), _paired(4, 4)
    ([0, 4, 1, 5], [0], [0, 2, 1, 3])
    """
    half = (drawn + 1) // 2
    pairs = [number for first in range(half) for number in (first, first + half) if number < drawn]
    return pairs[:count]


def restrict(
    scenes: Sequence[WaterScene], *, names: Path | None = None, sets: Collection[str] = ()
) -> list[WaterScene]:
    """The scenes of these sets, and of the names that a file lists, one on a line.

    Raises
    ------
    LacunarError
        A set that does not exist, a file that is not there or empty, a name that no scene has, or nothing left.
    """
    there = list(dict.fromkeys(scene.set_name for scene in scenes))
    unknown = [name for name in sets if name not in there]
    if unknown:
        raise LacunarError(f"no set {unknown[0]!r}: choose out of {', '.join(there)}")
    chosen = [scene for scene in scenes if not sets or scene.set_name in sets]
    if names is not None:
        wanted = _lines(names)
        missing = sorted(set(wanted) - {scene.name for scene in chosen})
        if missing:
            raise LacunarError(
                f"{names}: {len(missing)} of {len(wanted)} names match no scene, the first is {missing[0]!r}; wanted "
                "names of images without ending, one on a line"
            )
        chosen = [scene for scene in chosen if scene.name in wanted]
    return chosen


def typical_scenes(scenes: Sequence[WaterScene]) -> dict[str, list[WaterScene]]:
    """Three scenes of each set, chosen by their water alone: nearest the quartiles of the true water's area.

    A set of fewer scenes gives all it has.
    """
    chosen: dict[str, list[WaterScene]] = {}
    for name in dict.fromkeys(scene.set_name for scene in scenes):
        left = {scene.name: scene for scene in scenes if scene.set_name == name}
        areas = {own: int(np.count_nonzero(scene.mask() == WATER)) for own, scene in left.items()}
        wanted = np.quantile(list(areas.values()), QUARTILES)
        chosen[name] = [
            left.pop(min(left, key=lambda own: abs(areas[own] - area))) for area in wanted[: len(left)].tolist()
        ]
    return chosen


def _lines(path: Path) -> list[str]:
    """Lines of a text file that hold something."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise LacunarError(f"{path}: cannot be read as text ({error}); wanted names, one on a line") from error
    names = [line for line in lines if line]
    if not names:
        raise LacunarError(f"{path} is empty; wanted names of images, one on a line")
    return names


def evaluate_water_maps(
    scenes: Sequence[WaterScene],
    methods: Mapping[str, Method],
    *,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
    watch: Callable[[WaterScene, Planes, BoolArray, BoolArray, Mapping[str, Prediction]], None] | None = None,
) -> list[WaterRow]:
    """Run every method on every scene.

    Parameters
    ----------
    scenes
        For example from `lacunar.train.water_data.water_scenes`.
    methods
        By name; each may give several predictions, or none where a scene lacks its bands.
    seed
        Each scene has its own seed, made from this and its names.
    callback
        Called with (scenes done, all).
    watch
        Called with (scene, bands, truth, valid, predictions by name) after every scene: to draw it, for example.

    Returns
    -------
    list of WaterRow
        Scene by scene, to be pooled by `lacunar.evaluate.water_scores`.

    Raises
    ------
    LacunarError
        No scene or no method, or a scene that does not fit its mask.
    """
    if not scenes or not methods:
        raise LacunarError(f"got {len(scenes)} scenes and {len(methods)} methods; wanted one or more of both")
    rows: list[WaterRow] = []
    for number, scene in enumerate(scenes):
        bands = scene.bands()
        truth, valid = truth_of(scene, bands)
        scene_seed = zlib.crc32(f"{seed} {scene.set_name}/{scene.name}".encode())
        predictions: dict[str, Prediction] = {}
        for method in methods.values():
            predictions |= method(bands, valid, scene_seed)
        rows += [measure_water(scene, name, found, truth=truth, valid=valid) for name, found in predictions.items()]
        if watch:
            watch(scene, bands, truth, valid, predictions)
        if callback:
            callback(number + 1, len(scenes))
    return rows
