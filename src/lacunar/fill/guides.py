"""Guides of a fill: other dates of the same place and static covariates, on the grid of the input, with their own gaps.

Values stay as they were measured; only degrees Celsius become kelvin.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError, RasterError
from lacunar.fill.blocks import GuideCounts
from lacunar.geo.raster import RasterWriter, read_raster
from lacunar.geo.staging import resolved
from lacunar.geo.warp import Warped
from lacunar.geo.windows import Tile, blocks_over
from lacunar.interpolate.radar import REACH, WIDTHS, in_decibels, is_linear, smoothed
from lacunar.sensors.plausible import (
    CELSIUS,
    CELSIUS_ZERO,
    KELVIN,
    PLAUSIBLE_LST,
    ValueJudge,
    are_temperatures,
    unit_of,
)
from lacunar.sensors.scene import LstOptions, Scene, open_scene
from lacunar.sensors.sebal import digital_numbers_hint

MAX_REFERENCES = 16  # rasters beside the input, covariates included
MAX_PLANES = 64  # guides in all: bands of these rasters, and smoothed bands of radar
KEPT_BLOCK = 1024  # side of the blocks in which LST is kept
COARSE_FACTOR = 10.0  # pixels this many times the input's are another sensor's: the record says so

Kind = Literal["reference", "covariate", "radar"]


@dataclass(frozen=True)
class _Guide:
    """One raster beside the input, how it is seen on the input's grid, and what to say about it."""

    kind: Kind
    scene: Scene
    warped: Warped
    date: date | None
    notes: list[str]  # those on pixels come as they are read
    read: Callable[[Tile], NDArray[np.float32]]  # windows of its own grid
    part: str = ""  # which band of a raster of several, and how it was smoothed


class Guides:
    """References, then covariates, window by window on the grid of the input; made by `open_guides`."""

    def __init__(
        self, guides: Sequence[_Guide], target_date: date | None, choice: Mapping[str, Any] | None = None
    ) -> None:
        self._guides, self._target_date, self._choice = tuple(guides), target_date, choice
        self.inputs: list[Path] = [file for guide in guides for file in guide.scene.inputs]

    def __len__(self) -> int:
        return len(self._guides)

    def read(self, window: Tile) -> NDArray[np.float32]:
        """Values (K, H, W) of a window of the input's grid; NaN where a raster is not measured or does not reach."""
        parts = [guide.warped.read(window) for guide in self._guides]
        return np.stack(parts) if parts else np.empty((0, *window.shape), dtype=np.float32)

    def check(self, found: Sequence[GuideCounts]) -> None:
        """Refuse, with a `RasterError`, a guide that shares no measured pixel with the input, as `survey` counted."""
        for guide, counted in zip(self._guides, found, strict=True):
            if counted.common == 0:
                raise RasterError(
                    f"{guide.kind} {guide.scene.path} has {counted.measured} measured pixels on the grid of the input "
                    "and none in common with it (all cloud, or nodata?): wanted some, to match the two; leave it out"
                )

    def record(self, found: Sequence[GuideCounts]) -> dict[str, Any]:
        """What the sidecar says: for each raster its file, date, days from the input, and the shares it measures."""
        entries: dict[str, list[dict[str, Any]]] = {kind: [] for kind in get_args(Kind)}
        for guide, counted in zip(self._guides, found, strict=True):
            known = guide.date is not None and self._target_date is not None
            entries[guide.kind].append(
                {
                    "path": str(guide.scene.path),
                    "name": f"{guide.scene.title} {guide.part}".strip(),
                    "units": guide.scene.units,
                    "date": guide.date.isoformat() if guide.date else None,
                    "days_apart": abs((guide.date - self._target_date).days) if known else None,  # type: ignore[operator]
                    "share_of_grid": round(counted.share, 6),
                    "share_of_gap": None if counted.missing_share is None else round(counted.missing_share, 6),
                    "warped": not guide.warped.same_grid,
                    "notes": list(guide.notes),
                }
            )
        chosen = {} if self._choice is None else {"reference_choice": dict(self._choice)}
        radar = {"radar": entries["radar"]} if entries["radar"] else {}
        return {"references": entries["reference"], "covariates": entries["covariate"], **radar, **chosen}


@contextmanager
def open_guides(
    paths: Sequence[Path],
    covariates: Sequence[Path],
    target: Scene,
    lst_options: LstOptions | None = None,
    *,
    cache: Path | None = None,
    choice: Mapping[str, Any] | None = None,
    radar: Sequence[Path] = (),
    every_band: bool = False,
) -> Iterator[Guides]:
    """Open other dates and covariates, and check all that can be checked without reading them whole.

    References are Landsat products or single-band rasters; degrees Celsius by their unit tag become kelvin where the
    target is in kelvin. Rasters on another grid are warped bilinearly to the target's. The atmosphere in
    ``lst_options`` is that of the target's date and not applied to others. LST of products is kept in
    the folder ``cache``, if there is one, and read from there. ``choice`` is told in the record. Every band of
    ``radar`` is a guide, smoothed in decibels (`lacunar.interpolate.radar`); with ``every_band`` every band of the
    others is one too. Raises `LacunarError`: too many; one that is the input, or given twice; without overlap or a CRS;
    of several bands; not in kelvin.
    """
    count = len(paths) + len(covariates) + len(radar)
    if count > MAX_REFERENCES:
        raise LacunarError(
            f"got {count} references and covariates: wanted {MAX_REFERENCES} at most; choose the nearest"
        )
    options = lst_options or LstOptions()
    with ExitStack() as stack:
        seen = {resolved(file): "the input" for file in (target.path, *target.inputs)}

        def opened(kind: Kind, path: Path, *, each: bool) -> list[Scene]:
            apart = replace(options, atmosphere=None)
            whole = stack.enter_context(open_scene(path, lst_options=apart))
            scenes = [whole]
            if each and len(whole.channels) > 1:
                scenes = [stack.enter_context(open_scene(path, band=number)) for number in whole.channels]
            for scene in scenes:
                scene.check_lst(needs_qa=False)
            _refuse_twice(kind, whole, target, seen)
            return scenes

        guides: list[_Guide] = []
        for path in paths:
            scenes = opened("reference", path, each=every_band)
            guides += _numbered([reference_on(scene, target, options, cache) for scene in scenes])
        for path in covariates:
            guides += _numbered([_covariate(scene, target) for scene in opened("covariate", path, each=every_band)])
        for path in radar:
            for number, scene in enumerate(opened("radar", path, each=True), start=1):
                guides += [_radar(scene, target, number, width) for width in WIDTHS]
        if len(guides) > MAX_PLANES:
            raise LacunarError(f"got {len(guides)} bands of guides: wanted {MAX_PLANES} at most; leave dates out")
        yield Guides(guides, target.date, choice)


def _numbered(guides: list[_Guide]) -> list[_Guide]:
    """Guides from one file, told apart where they are several."""
    if len(guides) == 1:
        return guides
    return [replace(guide, part=f"band {number}") for number, guide in enumerate(guides, start=1)]


def _reader(
    scene: Scene, notes: list[str], *, offset: float = 0.0, judge: ValueJudge | None = None
) -> Callable[[Tile], NDArray[np.float32]]:
    """Gives windows of a scene, NaN where not measured; what is no measurement is noted."""

    def note(reason: str) -> None:
        if reason not in notes:
            notes.append(reason)

    def read(window: Tile) -> NDArray[np.float32]:
        part = scene.measured(window)
        values = np.where(part.known, part.values + np.float32(offset), np.nan).astype(np.float32)
        for reason, where in part.remarks.items():
            if where.any():
                note(f"some pixels {reason.partition(':')[0]}: not measured there")
        for reason, where in ({} if judge is None else judge.faults(values)).items():
            values[where] = np.nan
            note(f"some pixels {reason}: not measured there")
        return values

    return read


def _kept(
    scene: Scene, read: Callable[[Tile], NDArray[np.float32]], folder: Path
) -> Callable[[Tile], NDArray[np.float32]]:
    """A reader of LST that is computed once, into a raster in a folder; several processes may do so at a time."""
    place = f"{scene.path.resolve()} {scene.path.stat().st_mtime_ns}"
    path = folder / f"{scene.name}_{hashlib.sha256(place.encode()).hexdigest()[:12]}.tif"

    def kept(window: Tile) -> NDArray[np.float32]:
        if not path.exists():
            folder.mkdir(exist_ok=True)
            grid: dict[str, Any] = {"shape": scene.shape, "transform": scene.transform, "crs": scene.crs}
            with RasterWriter(path, **grid, band_names=("lst",), overwrite=True) as writer:
                for block in blocks_over(scene.shape, block=KEPT_BLOCK, halo=0):
                    writer.write(read(block.core)[None], block.core)
        return np.asarray(read_raster(path, window=window).data[0])

    return kept


def reference_on(scene: Scene, target: Scene, options: LstOptions, cache: Path | None = None) -> _Guide:
    """A scene as a reference of a target; raises as `open_guides` does."""
    notes: list[str] = []
    offset = 0.0
    kelvin = target.in_kelvin
    if scene.quantity == "lst":
        notes += scene.lst_notes()
        if options.atmosphere is not None:
            notes.append("not corrected for the atmosphere, which was given for the date of the input")
    if kelvin and scene.quantity != "lst":
        offset = _offset_to_kelvin(scene)
        if offset:
            notes.append(f"converted from {scene.units} to K")
    elif not kelvin and scene.units and target.units and unit_of(scene.units) != unit_of(target.units):
        notes.append(f"in {scene.units}, the input in {target.units}")
    judge = ValueJudge.of(scene.some_lst() + np.float32(offset), units="K") if kelvin else None
    read = _reader(scene, notes, offset=offset, judge=judge)
    if cache is not None and scene.kind == "product":
        read = _kept(scene, read, cache)
    warped = Warped(scene, target, read, name=f"reference {scene.path}")
    ratio = (warped.step[0] * warped.step[1]) ** -0.5  # sides of their pixels on the ground
    if ratio > COARSE_FACTOR:
        size = f"{abs(scene.transform.a):.6g} x {abs(scene.transform.e):.6g}"
        notes.append(f"another sensor: pixels of {size} in its own CRS, {ratio:.0f} times those of the input")
    return _Guide("reference", scene, warped, scene.date, notes, read)


def _covariate(scene: Scene, target: Scene) -> _Guide:
    if scene.kind == "product":
        raise LacunarError(f"covariate {scene.path} is a Landsat product: wanted a single-band raster, or --reference")
    notes: list[str] = []
    read = _reader(scene, notes)
    warped = Warped(scene, target, read, name=f"covariate {scene.path}")
    return _Guide("covariate", scene, warped, None, notes, read)


def _radar(scene: Scene, target: Scene, number: int, width: float) -> _Guide:
    """A band of backscatter, smoothed in decibels on its own grid."""
    if scene.kind == "product":
        raise LacunarError(f"radar {scene.path} is a Landsat product: wanted backscatter, such as VV and VH")
    notes: list[str] = []
    stored, linear = _reader(scene, notes), is_linear(scene.some_lst())
    if linear:
        notes.append("linear power, taken in decibels")

    def read(window: Tile) -> NDArray[np.float32]:
        top, left = min(window.row, REACH), min(window.col, REACH)
        bottom = min(scene.shape[0] - window.row - window.height, REACH)
        right = min(scene.shape[1] - window.col - window.width, REACH)
        wide = Tile(window.row - top, window.col - left, window.height + top + bottom, window.width + left + right)
        values = smoothed(in_decibels(stored(wide), linear=linear), width)
        return values[top : top + window.height, left : left + window.width].astype(np.float32)

    warped = Warped(scene, target, read, name=f"radar {scene.path}")
    return _Guide("radar", scene, warped, scene.date, notes, read, f"band {number}, smoothed over {width:g} pixels")


def _refuse_twice(kind: Kind, scene: Scene, target: Scene, seen: dict[Path, str]) -> None:
    """Refuse what is read already; a product also in another form than the input's (folder and archive)."""
    files = {resolved(file) for file in (scene.path, *scene.inputs)}
    same = next((seen[file] for file in files if file in seen), None)
    if same is None and scene.product_id is not None and scene.product_id == target.product_id:
        same = "the input"
    if same is not None:
        raise LacunarError(f"{kind} {scene.path} is {same} too: wanted another date or raster; leave it out")
    seen.update(dict.fromkeys(files, f"{kind} {scene.path}"))


def _offset_to_kelvin(scene: Scene) -> float:
    """What is added to make a raster kelvin, by its unit tag; its values must agree.

    Without a tag they must be kelvin already. A 0 is left out: many files fill with it and do not say so.
    """
    unit = unit_of(scene.units)
    if unit and unit not in KELVIN | CELSIUS:
        raise LacunarError(
            f"reference {scene.path} is in {scene.units!r}: wanted K as the input has, or degC, which is converted; "
            "another quantity goes in as --covariate"
        )
    offset = CELSIUS_ZERO if unit in CELSIUS else 0.0
    seen = scene.some_lst()
    if not are_temperatures(seen + offset, PLAUSIBLE_LST):
        said = f"tagged {scene.units!r}" if unit else "without a unit tag"
        wanted = digital_numbers_hint(seen) or "wanted K as the input has; tag degrees Celsius with the unit degC"
        raise LacunarError(
            f"reference {scene.path} holds values from {seen.min():.4g} to {seen.max():.4g} {said}, which are no land "
            f"surface temperatures of {PLAUSIBLE_LST[0]:.0f} to {PLAUSIBLE_LST[1]:.0f} K: {wanted}"
        )
    return offset
