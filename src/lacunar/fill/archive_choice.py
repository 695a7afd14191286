"""Which dates of an archive guide a fill: those that show the gap and look like the input where both are measured.

Every candidate is opened by itself, and only some windows of it are read: memory does not grow with the archive. A date
is ranked by the share of the gap that it measures times the share of variance that it tells, r^2 over the pixels in
common, shrunk towards what its season lets expect where they are few.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from lacunar.errors import LacunarError
from lacunar.fill.guides import MAX_REFERENCES, reference_on
from lacunar.geo.grid import same_grid
from lacunar.geo.warp import Warped
from lacunar.geo.windows import Tile, blocks_over
from lacunar.sensors.scene import ARCHIVES, LstOptions, Measured, Scene, open_scene

AUTO, NEAREST = "auto", "nearest:"
USUAL_REFERENCES = 11  # of an archive; see the table of docs/lst.md
SIDE, WINDOWS, LOOKED_AT = 64, 16, 256  # of the windows that are compared: side, number, and of how many chosen
LEAST_COMMON = 50  # pixels
PRIOR_PIXELS = 2000  # whose r^2 the season's stands for
SAME_VALUES = 0.005  # K, and units of other rasters
YEAR = 365.25
GOLDEN = (5**0.5 - 1) / 2

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The references that were chosen, best first, and what the record says of them and of the others."""

    paths: tuple[Path, ...]
    record: dict[str, Any]


def candidates_named(text: str, inputs: Sequence[Path]) -> tuple[tuple[Path, ...], int]:
    """What ``auto``, ``nearest:N`` or a folder names: candidates, and how many of them are chosen at most.

    Of a folder all products and GeoTIFFs in it; else those beside the inputs, and the inputs.
    """
    most = USUAL_REFERENCES
    if text.startswith(NEAREST):
        number = text.removeprefix(NEAREST)
        most = int(number) if number.isdecimal() else 0
        if not 1 <= most <= MAX_REFERENCES:
            raise LacunarError(f"--references {text}: wanted {NEAREST}N with N from 1 to {MAX_REFERENCES}")
    elif text != AUTO:
        if not Path(text).is_dir():
            raise LacunarError(f"--references {text!r}: wanted {AUTO}, {NEAREST}N or a folder of other dates")
        return tuple(_scenes_in(Path(text))), most
    folders = dict.fromkeys(path.resolve().parent for path in inputs)
    found = [*inputs, *(path for folder in folders for path in _scenes_in(folder))]
    return tuple({path.resolve(): path for path in found}.values()), most


def choose_references(
    target: Scene, candidates: Sequence[Path], most: int, *, lst_options: LstOptions, cache: Path | None = None
) -> Choice:
    """Choose at most ``most`` candidates; one that cannot be used is left out, and the record says why."""
    sample = list(_sample(target))
    seen = {file.resolve(): "the input" for file in (target.path, *target.inputs)}
    values_seen, passes = dict[str, str](), {_acquisition(target.product_id): "the input"}
    ranked, left_out = list[tuple[float, Path, dict[str, Any]]](), list[dict[str, str]]()
    for path in candidates:
        try:
            if path.resolve() in seen:
                raise LacunarError(f"it is {seen[path.resolve()]}")
            with open_scene(path, lst_options=replace(lst_options, atmosphere=None)) as scene:
                scene.check_lst(needs_qa=False)
                if (same := passes.get(_acquisition(scene.product_id))) and _acquisition(scene.product_id):
                    raise LacunarError(f"it is of the same pass as {same}")
                shown = _shown(scene, target, sample, lst_options, cache)
                told = _told(sample, shown, _days_of_year(scene.date, target.date))
                same_as = values_seen.setdefault(hashlib.sha256(shown.tobytes()).hexdigest(), str(path))
                if same_as != str(path):
                    raise LacunarError(f"it holds the values of {same_as}")
                passes.setdefault(_acquisition(scene.product_id), str(path))
                both = scene.date is not None and target.date is not None
                days = abs((scene.date - target.date).days) if both else None  # type: ignore[operator]
        except LacunarError as error:
            left_out.append({"path": str(path), "why": str(error)})
            continue
        ranked.append((told["score"], path, {"path": str(path), "days_apart": days, **told}))
    ranked.sort(key=lambda one: -one[0])
    left_out += [{"path": str(path), "why": f"{most} others tell more"} for _, path, _ in ranked[most:]]
    record = {"candidates": len(candidates), "most": most, "chosen": [told for *_, told in ranked[:most]]}
    return Choice(tuple(path for _, path, _ in ranked[:most]), record | {"left_out": left_out})


def _scenes_in(folder: Path) -> list[Path]:
    """Products and GeoTIFFs in a folder."""
    endings = (*ARCHIVES, ".tif", ".tiff")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in entries if path.name.lower().endswith(endings) or (path.is_dir() and _is_product(path))]


def _is_product(folder: Path) -> bool:
    return any(folder.glob("*[mM][tT][lL].*"))


def _sample(target: Scene) -> Iterator[tuple[Tile, Measured]]:
    """Windows spread over the target that show something, all of it where it is small."""
    blocks, taken = blocks_over(target.shape, block=SIDE, halo=0), 0
    order = sorted(range(len(blocks)), key=lambda number: number * GOLDEN % 1)
    for number in order[:LOOKED_AT]:
        part = target.measured(blocks[number].core)
        if part.known.any():
            yield blocks[number].core, part
            taken += 1
        if taken == WINDOWS:
            return


def _shown(
    scene: Scene, target: Scene, sample: Sequence[tuple[Tile, Measured]], options: LstOptions, cache: Path | None
) -> FloatArray:
    """What a scene shows of the sample's pixels, flat; NaN where nothing."""
    guide = reference_on(scene, target, options, cache)
    parts = []
    for window, _ in sample:
        if same_grid(scene, target):
            parts.append(guide.read(window))
            continue
        from lacunar.geo.labelled import Grid  # loads xarray, which other fills do without

        place = Grid(window.shape, target.transform @ Affine.translation(window.col, window.row), target.crs)
        try:  # only what this window needs is copied and warped
            warped = Warped(scene, place, guide.read, name=str(scene.path))
            parts.append(warped.read(Tile(0, 0, *window.shape)))
        except LacunarError:
            parts.append(np.full(window.shape, np.nan))
    return np.concatenate([part.ravel() for part in parts]).astype(np.float64)


def _told(sample: Sequence[tuple[Tile, Measured]], shown: FloatArray, season: float | None) -> dict[str, Any]:
    """Shares and similarity of what is shown, and the score of it."""
    values, known, missing = (
        np.concatenate([np.ravel(getattr(part, name)) for _, part in sample]) for name in ("values", "known", "missing")
    )
    both, seen = known & np.isfinite(shown), np.isfinite(shown)
    count = int(both.sum())
    if count < LEAST_COMMON:
        raise LacunarError(f"{count} measured pixels in common with the input, of {known.sum()} compared")
    mine, other = values[both].astype(np.float64), shown[both]
    if np.abs(mine - other).max() < SAME_VALUES:
        raise LacunarError("it holds the values of the input")
    spread = mine.std() * other.std()
    similarity = float(((mine - mine.mean()) * (other - other.mean())).mean() / spread) if spread > 0 else 0.0
    expected = 0.25 if season is None else (1 + np.cos(2 * np.pi * season / YEAR)) / 2
    told = (count * max(similarity, 0.0) ** 2 + PRIOR_PIXELS * expected) / (count + PRIOR_PIXELS)
    gap = float(seen[missing].mean()) if missing.any() else float(seen.mean())
    return {
        "overlap": round(float(seen[known | missing].mean()), 4),
        "share_of_gap": round(gap, 4),
        "similarity": round(similarity, 4),
        "season_days_apart": season,
        "score": round(float(told) * gap, 4),
    }


def _days_of_year(one: date | None, other: date | None) -> int | None:
    """Days between two days of the year, whatever the year."""
    if one is None or other is None:
        return None
    apart = abs(one.timetuple().tm_yday - other.timetuple().tm_yday)
    return min(apart, 365 - apart)


def _acquisition(product_id: str | None) -> tuple[str, ...]:
    """Satellite, path and row, date of a product's name, which are equal in all its levels; empty where unknown."""
    parts = (product_id or "").split("_")
    return (parts[0], parts[2], parts[3]) if len(parts) > 3 else ()
