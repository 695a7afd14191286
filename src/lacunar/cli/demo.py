"""All three jobs at once, on input that the package makes or carries: `demo`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lacunar.cli import options as opt
from lacunar.cli.progress import Bars
from lacunar.errors import LacunarError

FACE_SAMPLES = 4  # different answers on the contact sheet; their mean is written


@dataclass(frozen=True, kw_only=True)
class _Demo:
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("lacunar-demo")
    size: Annotated[int, typer.Option(help="Side of the simulated product in pixels.")] = 256
    model: opt.Network = None
    samples: opt.Samples = 8
    seed: opt.Seed = 0
    device: opt.Device = "auto"
    backend: opt.BackendOption = "auto"
    overwrite: opt.Overwrite = False

    @property
    def _shared(self) -> dict[str, Any]:
        """Options that the three jobs have in common."""
        shared = {name: getattr(self, name) for name in ("seed", "backend", "overwrite")}
        return shared | {"device": opt.resolve_device(self.device), "command": opt.typed_command()}

    def lst(self, bars: Bars) -> list[str]:
        """Simulate a product and fill what its clouds hide."""
        from lacunar.fill.demo import demonstrate

        size, shared = self.size, self._shared
        files = {name: shared.pop(name) for name in ("overwrite", "command")}
        options = opt.fill_options("fast", samples=self.samples, model=self.model, **shared)
        shown = demonstrate(self.folder, options, size=size, callback=bars.filling, **files)
        record = shown["record"]
        filled, share = record["pixels"]["filled"], record["gap_share"]
        within = record["truth"]["within_one_sigma"]
        return [
            f"simulated Landsat-8 product, {size} x {size} pixels, {share:.0%} under cloud: {filled} pixels filled",
            "gap RMSE against the hidden truth (K):",
            *(f"  {name:<10} {score:6.3f}" for name, score in shown["rmse"].items()),
            f"within one sigma: {within:.0%} of the filled pixels (68 % wanted); {record['seconds']:.0f} s",
            f"raster:  {shown['output']}",
            f"picture: {shown['figure']}",
        ]

    def water(self, bars: Bars) -> list[str]:
        """Map the lakes of the simulated product."""
        from lacunar.segment.job import WaterOptions, segment_file

        folder = self.folder
        options = WaterOptions(polygons=folder / "water.gpkg", figure=folder / "water.png", **self._shared)
        record = segment_file(folder / "product", folder / "water.tif", options=options, callback=bars.segmenting)
        return [
            f"water of the same product: {record['water']['bodies']} water bodies; {record['seconds']:.0f} s",
            f"raster:  {folder / 'water.tif'}",
            f"polygons: {options.polygons}",
            f"picture: {options.figure}",
        ]

    def face(self, bars: Bars) -> list[str]:
        """Hide a part of the face in a photograph that scikit-image carries, and reconstruct it."""
        from lacunar.pictures.job import FACE_MODEL, PictureOptions, demonstrate_face

        sheet = self.folder / "face.png"
        options = PictureOptions(model=FACE_MODEL, samples=FACE_SAMPLES, mean=True, sheet=sheet, **self._shared)
        record = demonstrate_face(self.folder, options=options, callback=bars.filling)
        return [
            f"occluded face of the astronaut: {record['pixels_filled']} pixels filled; {record['seconds']:.0f} s",
            f"mean of {FACE_SAMPLES} samples: {record['outputs'][0]}",
            f"picture: {options.sheet}",
        ]


PARTS: dict[str, Callable[[_Demo, Bars], list[str]]] = {"lst": _Demo.lst, "water": _Demo.water, "face": _Demo.face}


@opt.expanded
def demo_command(
    demo: _Demo,
    only: Annotated[str, typer.Option(help=f"Parts of the demo, by comma: {', '.join(PARTS)}.")] = ",".join(PARTS),
) -> None:
    """Run offline: a simulated cloudy Landsat product whose truth is known, its lakes, and an occluded face.

    Model and samples are those of the temperature.
    """
    parts = opt.parts_of(only)
    if not parts or any(part not in PARTS for part in parts):
        raise LacunarError(f"--only has {only!r}: wanted one or more of {', '.join(PARTS)}, by comma")
    if "water" in parts and "lst" not in parts:
        raise LacunarError("the demo maps the water of the product that lst makes: add lst to --only")
    for name, part in PARTS.items():
        if name in parts:
            with Bars() as bars:
                lines = part(demo, bars)
            typer.echo("\n".join(lines))
