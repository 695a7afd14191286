"""What a fill reads, as a value that another process can open: the input, its gap mask, other dates, covariates."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from lacunar.errors import LacunarError
from lacunar.fill.archive_choice import choose_references
from lacunar.fill.guides import MAX_REFERENCES, Guides, open_guides
from lacunar.geo.gate import allowing_vrt
from lacunar.geo.staging import resolved
from lacunar.sensors.delivery import product_beside
from lacunar.sensors.scene import LstOptions, Scene, open_scene

InputKind = Literal["product", "raster"]


@dataclass(frozen=True, kw_only=True)
class FillInputs:
    """The files of one fill, and how LST is computed from them."""

    path: Path  # a Landsat product (folder or .tar), or a single-band raster
    kind: InputKind | None  # which of the two; None takes either
    lst_options: LstOptions = field(default_factory=LstOptions)  # the physics and the gap classes of products
    gap_mask: Path | None = None  # raster on the same grid whose non-zero pixels are to be filled, or None
    invert: bool = False  # its zeros are, not what is non-zero
    references: tuple[Path, ...] = ()  # other dates of the same place
    covariates: tuple[Path, ...] = ()  # static rasters
    radar: tuple[Path, ...] = ()  # backscatter, every band of which guides once its speckle is smoothed
    every_band: bool = False  # every band of a reference or covariate is a guide, not only that of one with one band
    # dates among which references are chosen (`lacunar.fill.archive_choice`), how many at most, and the folder where
    # the LST of products is kept from one scene to the next
    candidates: tuple[Path, ...] | None = None
    most_references: int = 0
    lst_cache: Path | None = None
    allow_vrt: bool = False  # whether any of them may be a VRT, of plain rasters beside it
    # of a raster: see `lacunar.sensors.scene.open_scene`
    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None
    band: int | str | None = None
    clip: str | None = None  # only this part: see `lacunar.sensors.scene.open_scene`

    @property
    def files(self) -> tuple[Path, ...]:
        """Every path that was named."""
        mask = (self.gap_mask,) if self.gap_mask else ()
        return (self.path, *mask, *self.references, *self.covariates, *self.radar)

    def resolved(self) -> "FillInputs":
        """The same with absolute paths, for a process that works in another folder."""
        return replace(
            self,
            path=resolved(self.path),
            gap_mask=resolved(self.gap_mask) if self.gap_mask else None,
            references=tuple(resolved(path) for path in self.references),
            covariates=tuple(resolved(path) for path in self.covariates),
            radar=tuple(resolved(path) for path in self.radar),
            candidates=None if self.candidates is None else tuple(resolved(path) for path in self.candidates),
            lst_cache=resolved(self.lst_cache) if self.lst_cache else None,
        )


@contextmanager
def open_inputs(inputs: FillInputs) -> Iterator[tuple[Scene, Guides]]:
    """Open what is filled and its guides, and check what can be checked without reading them whole."""
    said = {
        name: getattr(inputs, name)
        for name in ("lst_options", "gap_mask", "invert", "nodata", "scale", "offset", "band", "clip")
    }
    if inputs.kind == "product" and product_beside(inputs.path):
        raise LacunarError(f"{inputs.path} is one file of a Landsat product: give its folder, {inputs.path.parent}")
    with allowing_vrt(inputs.allow_vrt), open_scene(inputs.path, **said) as scene:
        if inputs.kind is not None and (scene.kind == "product") != (inputs.kind == "product"):
            wanted = "a single-band raster" if inputs.kind == "raster" else "a Landsat product, its folder or its .tar"
            raise LacunarError(
                f"{inputs.path} is a {scene.kind}, wanted {wanted}: `lacunar lst` takes products, "
                "`lacunar fill` rasters"
            )
        scene.check_lst()
        references, choice = inputs.references, None
        how: dict[str, Any] = {"cache": inputs.lst_cache}
        if inputs.candidates is not None:
            named = {path.resolve() for path in references}
            left = min(inputs.most_references, MAX_REFERENCES - len(references) - len(inputs.covariates))
            others = [path for path in inputs.candidates if path.resolve() not in named]
            choice = choose_references(scene, others, left, lst_options=inputs.lst_options, **how)
            references += choice.paths
        said_of = None if choice is None else choice.record
        how |= {"choice": said_of, "radar": inputs.radar, "every_band": inputs.every_band}
        with open_guides(references, inputs.covariates, scene, inputs.lst_options, **how) as beside:
            yield scene, beside
