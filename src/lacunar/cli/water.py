"""Lakes and rivers: `water`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lacunar.cli import options as opt
from lacunar.cli.progress import Bars
from lacunar.errors import LacunarError

SQUARE_KM = 1e6  # square metres


@dataclass(frozen=True, kw_only=True)
class _Asked:
    output: Annotated[
        Path, typer.Option("-o", "--output", help="GeoTIFF; a .png mask for a picture; a folder with --change.")
    ]
    bands: Annotated[
        str,
        typer.Option(
            help="The file's channels in order, by comma: coastal, blue, green, red, nir, swir1, swir2, other; or "
            "sentinel2, landsat, planet4, planet8, naip."
        ),
    ] = ""
    scale: Annotated[float | None, typer.Option(help="Reflectance = value x scale + offset.")] = None
    offset: Annotated[float | None, typer.Option(help="Reflectance = value x scale + offset.")] = None
    nodata: Annotated[float | None, typer.Option(help="Pixels that hold this in all channels are not valid.")] = None
    keep_clouds: Annotated[
        bool,
        typer.Option("--keep-clouds", help="Map cloud and cloud shadow too, which are nodata where they are known."),
    ] = False
    bbox: opt.BoxOption = ""
    clip: opt.ClipOption = None
    samples: Annotated[int | None, typer.Option(min=1, help="Samples drawn and fused; 4 by default.")] = None
    steps: Annotated[int | None, typer.Option(min=1, help="Evaluations of the network for each sample.")] = None
    fusion: Annotated[str, typer.Option(help="mean of the samples, or staple.")] = "mean"
    threshold: Annotated[float, typer.Option(help="Probability from which a pixel is water.")] = 0.5
    polygons: Annotated[Path | None, typer.Option(help="Water bodies to write: .gpkg or .geojson.")] = None
    polygons_of: Annotated[
        str, typer.Option(help="Classes whose bodies are written, by comma: water, or what else the model knows.")
    ] = "water"
    classes: Annotated[
        Path | None,
        typer.Option(help="GeoTIFF of classes in 8 bits: 0 land, 1 water, 2 ... what else the model knows."),
    ] = None
    min_area: Annotated[
        float | None, typer.Option(help="Least area of a polygon in m2 (pixels without a CRS); 4 pixels by default.")
    ] = None
    simplify: Annotated[float, typer.Option(help="Simplify polygons by so many pixels: 1 smooths the stairs.")] = 0.0
    figure: opt.FigureOption = None
    change: Annotated[bool, typer.Option("--change", help="Compare several dates of one place.")] = False
    series: Annotated[bool, typer.Option("--series", help="As --change, with a figure of all dates.")] = False
    pixel_size: Annotated[float | None, typer.Option(help="Metres, for the figure of a --series without a CRS.")] = None
    model: opt.Model = "water-classes"
    seed: opt.Seed = 0
    device: opt.Device = "auto"
    backend: opt.BackendOption = "auto"
    allow_vrt: opt.AllowVrt = False
    print_json: opt.PrintJson = False
    overwrite: opt.Overwrite = False


@opt.expanded
def water_command(
    image: Annotated[list[Path], typer.Argument(help="Picture, raster, or Landsat product; several with --change.")],
    asked: _Asked,
) -> None:
    """Lakes and rivers in an image of any size, as a map, polygons, and their change.

    Bands of the output: water (1 water, 0 land), probability, disagreement; 255 is nodata.
    """
    from lacunar.segment.job import WaterOptions, compare_dates, segment_file
    from lacunar.sensors.bands import parse_bands

    bands = parse_bands(asked.bands) if asked.bands else ()
    said = {"bands": bands, "clip": opt.region(asked.bbox, asked.clip), "device": opt.resolve_device(asked.device)}
    options = opt.given_to(WaterOptions, asked, **said)
    change = asked.change or asked.series
    if len(image) > 1 and not change:
        raise LacunarError(f"{len(image)} images: wanted one, or --change to compare dates of one place")
    with Bars() as bars:
        if change:
            record = compare_dates(image, asked.output, options=options, callback=bars.segmenting)
        else:
            record = segment_file(image[0], asked.output, options=options, callback=bars.segmenting)
    if asked.print_json:
        typer.echo(json.dumps(record, indent=2))
    elif change:
        _present_change(record, asked)
    else:
        _present(record, asked)


def _present(record: dict[str, Any], asked: _Asked) -> None:
    water, pixels, output = record["water"], record["pixels"], asked.output
    share = pixels["water"] / (pixels["water"] + pixels["land"])
    bodies = f"{water['bodies']} water bod{'y' if water['bodies'] == 1 else 'ies'}"
    typer.echo(f"{bodies}, {_area(water, plus_minus='sigma')}, {share:.1%} of what is valid; {record['seconds']:.0f} s")
    typer.echo(f"bands {', '.join(record['bands'])}: {record['units']}")
    for note in record["notes"]:
        typer.echo(f"note: {note}")
    if output.suffix.lower() == ".png":
        typer.echo(f"mask:     {output}\noverlay:  {output.with_name(f'{output.stem}_overlay.png')}")
    else:
        typer.echo(f"raster:   {output}")
    typer.echo(f"record:   {output.with_suffix('.json')}")
    if asked.polygons is not None:
        typer.echo(f"polygons: {asked.polygons} ({water['bodies_in_polygons']})")
    if asked.classes is not None:
        typer.echo(f"classes:  {asked.classes}")
    if asked.figure is not None:
        typer.echo(f"picture:  {asked.figure}")


def _present_change(record: dict[str, Any], asked: _Asked) -> None:
    for one in record["dates"]:
        line = f"{one['date'] or one['image']}: {_area(one, 'water', plus_minus='sigma')}"
        unit = "m2" if "water_m2" in one else "pixels"
        if one[f"gained_{unit}"] is not None:
            line += f" (gained {_area(one, 'gained')}, lost {_area(one, 'lost')}{_moved(one)})"
        typer.echo(line)
    for note in dict.fromkeys(note for part in (*record["dates"], record) for note in part["notes"]):
        typer.echo(f"note: {note}")
    names = {"areas": "areas.csv", "polygons": "change.gpkg", "picture": "change.png", "record": "change.json"}
    names |= {"series": "series.png"} if asked.series else {}
    for label, name in names.items():
        typer.echo(f"{label + ':':<9} {asked.output / name}")


def _moved(one: dict[str, Any]) -> str:
    length = "m" if "shore_m" in one else "pixels"
    rate = one[f"migration_{length}_per_year"]
    return "" if rate is None else f"; shores moved {rate:.3g} {length} a year"


def _area(values: dict[str, Any], what: str = "area", *, plus_minus: str = "") -> str:
    if f"{what}_m2" in values:
        sigma = f" ± {values[f'{plus_minus}_m2'] / SQUARE_KM:,.2g}" if plus_minus else ""
        return f"{values[f'{what}_m2'] / SQUARE_KM:,.4g}{sigma} km2"
    sigma = f" ± {values[f'{plus_minus}_pixels']:,.0f}" if plus_minus else ""
    return f"{values[f'{what}_pixels']:,.0f}{sigma} pixels"
