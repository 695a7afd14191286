"""All three jobs at once, on input that the package makes or carries: `demo`."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast, get_args

import typer

from lacunar.cli.options import (
    Device,
    EngineOption,
    Model,
    Overwrite,
    Samples,
    Seed,
    resolve_device,
    samples_of,
    typed_command,
)
from lacunar.cli.progress import Bars
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.models.backend import EngineName

PartName = Literal["lst", "water", "face"]
PARTS: tuple[PartName, ...] = get_args(PartName)
FACE_SAMPLES = 4  # different answers on the contact sheet; their mean is written


def demo_command(
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("lacunar-demo"),
    size: Annotated[int, typer.Option(help="Side of the simulated product in pixels.")] = 256,
    only: Annotated[str, typer.Option(help="Parts of the demo, by comma: lst, water, face.")] = ",".join(PARTS),
    model: Model = "lst-small",
    samples: Samples = 8,
    seed: Seed = 0,
    device: Device = "auto",
    engine: EngineOption = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Run offline: a simulated cloudy Landsat product whose truth is known, its lakes, and an occluded face.

    Model and samples are those of the temperature.
    """
    parts = [part.strip() for part in only.split(",") if part.strip()]
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise LacunarError(f"--only has {only!r}: wanted one or more of {', '.join(PARTS)}, by comma")
    if "water" in parts and "lst" not in parts:
        raise LacunarError("the demo maps the water of the product that lst makes: add lst to --only")
    where, how = resolve_device(device), cast("EngineName", engine)
    if "lst" in parts:
        with Bars() as bars:
            drawn = samples_of("fast", samples)
            lines = _lst(folder, size, model, drawn, seed, where, how, overwrite=overwrite, bars=bars)
        for line in lines:
            typer.echo(line)
    if "water" in parts:
        with Bars() as bars:
            lines = _water(folder, seed, where, how, overwrite=overwrite, bars=bars)
        for line in lines:
            typer.echo(line)
    if "face" in parts:
        with Bars() as bars:
            lines = _face(folder, seed, where, how, overwrite=overwrite, bars=bars)
        for line in lines:
            typer.echo(line)


def _lst(
    folder: Path,
    size: int,
    model: str,
    samples: int,
    seed: int,
    device: str,
    engine: "EngineName",
    *,
    overwrite: bool,
    bars: Bars,
) -> list[str]:
    """Simulate a product and fill what its clouds hide."""
    from lacunar.fill.job import FillOptions, demonstrate

    options = FillOptions(
        model=model,
        samples=samples,
        seed=seed,
        device=device,
        engine=engine,
        overwrite=overwrite,
        command=typed_command(),
    )
    shown = demonstrate(folder, options=options, size=size, callback=bars.filling)
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


def _water(folder: Path, seed: int, device: str, engine: "EngineName", *, overwrite: bool, bars: Bars) -> list[str]:
    """Map the lakes of the simulated product."""
    from lacunar.segment.job import WaterOptions, segment_file

    options = WaterOptions(seed=seed, device=device, backend=engine, overwrite=overwrite, command=typed_command())
    options = replace(options, polygons=folder / "water.gpkg", figure=folder / "water.png")
    record = segment_file(folder / "product", folder / "water.tif", options=options, callback=bars.segmenting)
    return [
        f"water of the same product: {record['water']['bodies']} water bodies; {record['seconds']:.0f} s",
        f"raster:  {folder / 'water.tif'}",
        f"polygons: {options.polygons}",
        f"picture: {options.figure}",
    ]


def _face(folder: Path, seed: int, device: str, engine: "EngineName", *, overwrite: bool, bars: Bars) -> list[str]:
    """Hide a part of the face in a photograph that scikit-image carries, and reconstruct it."""
    from lacunar.pictures.job import FACE_MODEL, PictureOptions, demonstrate_face

    options = PictureOptions(
        model=FACE_MODEL,
        samples=FACE_SAMPLES,
        mean=True,
        seed=seed,
        device=device,
        backend=engine,
        overwrite=overwrite,
        sheet=folder / "face.png",
        command=typed_command(),
    )
    record = demonstrate_face(folder, options=options, callback=bars.filling)
    return [
        f"occluded face of the astronaut: {record['pixels_filled']} pixels filled; {record['seconds']:.0f} s",
        f"mean of {FACE_SAMPLES} samples: {record['outputs'][0]}",
        f"picture: {options.sheet}",
    ]
