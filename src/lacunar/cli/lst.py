"""Land surface temperature and rasters: `lst`, `fill`, `demo`, `simulate`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lacunar.cli.options import (
    CovariateOption,
    Device,
    EvaluationsOption,
    FigureOption,
    GapMask,
    Model,
    Output,
    Overwrite,
    PresetOption,
    PrintJson,
    Quantiles,
    ReferenceOption,
    SamplerOption,
    Samples,
    Seed,
    TruthOption,
    levels_of,
    resolve_device,
    samples_of,
    typed_command,
)
from lacunar.errors import LacunarError
from lacunar.progress import Bars

if TYPE_CHECKING:
    from lacunar.presets import PresetName
    from lacunar.quality import QaClass
    from lacunar.radiometry import Atmosphere, ReflectanceForm
    from lacunar.samplers import SamplerName

DEFAULT_CLASSES = "cloud,dilated_cloud,cloud_shadow,cirrus"


def lst_command(
    product: Annotated[Path, typer.Argument(help="Landsat 8/9 product folder or .tar, Level 1 or 2.")],
    output: Output,
    reference: ReferenceOption = None,
    covariate: CovariateOption = None,
    gap_mask: GapMask = None,
    gap_classes: Annotated[str, typer.Option(help="Quality classes to fill, by comma.")] = DEFAULT_CLASSES,
    preset: PresetOption = "fast",
    sampler: SamplerOption = None,
    evaluations: EvaluationsOption = None,
    samples: Samples = None,
    quantiles: Quantiles = "",
    seed: Seed = 0,
    model: Model = "lst-small",
    device: Device = "auto",
    savi_l: Annotated[float, typer.Option(help="Soil adjustment L of SAVI, 0 to 1.")] = 0.5,
    reflectance: Annotated[str, typer.Option(help="usgs, or dr for the variant divided by dr = 1/d^2.")] = "usgs",
    path_radiance: Annotated[float | None, typer.Option(help="Of the air, W m-2 sr-1 um-1.")] = None,
    transmissivity: Annotated[float | None, typer.Option(help="Of the air in the thermal band.")] = None,
    sky_radiance: Annotated[float | None, typer.Option(help="Of the clear sky, W m-2 sr-1 um-1.")] = None,
    save_bands: Annotated[Path | None, typer.Option(help="Folder for every intermediate band.")] = None,
    figure: FigureOption = None,
    truth: TruthOption = None,
    print_json: PrintJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Land surface temperature of a Landsat product, its cloud gaps filled, with an uncertainty.

    Bands of the output: lst (K), source (0 nodata, 1 measured, 2 filled), sigma (K), quantiles.
    """
    from lacunar.apps.lst import FillOptions, fill_lst
    from lacunar.gaps import LstOptions

    lst_options = LstOptions(
        gap_classes=cast("list[QaClass]", [name.strip() for name in gap_classes.split(",") if name.strip()]),
        soil_l=savi_l,
        reflectance=cast("ReflectanceForm", reflectance),
        atmosphere=_atmosphere(path_radiance, transmissivity, sky_radiance),
    )
    options = FillOptions(
        model=model,
        preset=cast("PresetName", preset),
        sampler=cast("SamplerName | None", sampler),
        evaluations=evaluations,
        samples=samples_of(preset, samples),
        quantiles=levels_of(quantiles),
        seed=seed,
        device=resolve_device(device),
        overwrite=overwrite,
        figure=figure,
        truth=truth,
        command=typed_command(),
    )
    with Bars() as bars:
        record = fill_lst(
            product,
            output,
            lst_options=lst_options,
            gap_mask=gap_mask,
            bands_folder=save_bands,
            references=reference or (),
            covariates=covariate or (),
            options=options,
            callback=bars.filling,
        )
    _present(record, output, figure, print_json=print_json)


def fill_command(
    raster: Annotated[Path, typer.Argument(help="Single-band raster; its nodata and NaN are the gap.")],
    output: Output,
    reference: ReferenceOption = None,
    covariate: CovariateOption = None,
    gap_mask: GapMask = None,
    preset: PresetOption = "fast",
    sampler: SamplerOption = None,
    evaluations: EvaluationsOption = None,
    samples: Samples = None,
    quantiles: Quantiles = "",
    seed: Seed = 0,
    model: Model = "lst-small",
    device: Device = "auto",
    figure: FigureOption = None,
    truth: TruthOption = None,
    print_json: PrintJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Fill the gaps of any single-band raster. Bands of the output: value, source (0, 1, 2), sigma."""
    from lacunar.apps.lst import FillOptions, fill_raster

    options = FillOptions(
        model=model,
        preset=cast("PresetName", preset),
        sampler=cast("SamplerName | None", sampler),
        evaluations=evaluations,
        samples=samples_of(preset, samples),
        quantiles=levels_of(quantiles),
        seed=seed,
        device=resolve_device(device),
        overwrite=overwrite,
        figure=figure,
        truth=truth,
        command=typed_command(),
    )
    with Bars() as bars:
        record = fill_raster(
            raster,
            output,
            gap_mask=gap_mask,
            references=reference or (),
            covariates=covariate or (),
            options=options,
            callback=bars.filling,
        )
    _present(record, output, figure, print_json=print_json)


def simulate_command(
    folder: Annotated[Path, typer.Argument(help="New folder of the product.")],
    size: Annotated[int, typer.Option(help="Side in pixels of 30 m.")] = 256,
    cloud: Annotated[float, typer.Option(help="Share of pixels under cloud, its rim or its shadow.")] = 0.22,
    seed: Seed = 0,
) -> None:
    """Write a simulated Landsat-8 Collection-2 product folder, and the temperature that its clouds hide."""
    from lacunar.simulation import simulate_product

    made = simulate_product(folder, size=size, seed=seed, cloud_fraction=cloud)
    typer.echo(f"product: {made.folder} ({made.gap_fraction:.1%} gap)\ntruth:   {made.truth_path}")


def _atmosphere(
    path_radiance: float | None, transmissivity: float | None, sky_radiance: float | None
) -> "Atmosphere | None":
    """The atmosphere, where all three are given; some of the three is a mistake."""
    from lacunar.radiometry import Atmosphere

    given = [value for value in (path_radiance, transmissivity, sky_radiance) if value is not None]
    if not given:
        return None
    if path_radiance is None or transmissivity is None or sky_radiance is None:
        raise LacunarError(
            f"got {len(given)} of --path-radiance, --transmissivity and --sky-radiance: the correction wants all three"
        )
    return Atmosphere(path_radiance=path_radiance, transmissivity=transmissivity, sky_radiance=sky_radiance)


def _present(record: dict[str, Any], output: Path, figure: Path | None, *, print_json: bool) -> None:
    """Tell what was done, for a person or as JSON."""
    if print_json:
        typer.echo(json.dumps(record, indent=2, default=str))
        return
    pixels = record["pixels"]
    if pixels["filled"] == 0:
        typer.echo("no gap to fill: the output equals the input")
    else:
        total = pixels["measured"] + pixels["filled"]
        share, seconds = record["gap_share"], record["seconds"]
        typer.echo(f"filled {pixels['filled']} of {total} pixels ({share:.1%}) in {seconds:.0f} s")
    for beside in (*record["references"], *record["covariates"]):
        typer.echo(_beside(beside))
    if coarse := record["kriging_tiles_from_coarser_level"]:
        typer.echo(f"note: {coarse} tiles start from a coarser level, far from any measured pixel; see sigma there")
    if note := record.get("sampler_note"):
        typer.echo(f"note: {note}")
    for note in record.get("product", {}).get("notes", []):
        typer.echo(f"note: {note}")
    if record.get("atmospherically_corrected") is False:
        typer.echo("note: LST is not corrected for the atmosphere; filled pixels hold the clear-sky-equivalent LST")
    if score := record.get("truth"):
        typer.echo(f"against the truth: RMSE {score['rmse']:.3f}, MAE {score['mae']:.3f}, bias {score['bias']:+.3f}")
    typer.echo(f"raster:  {output}\nrecord:  {output.with_suffix('.json')}")
    if figure is not None:
        typer.echo(f"picture: {figure}")


def _beside(entry: dict[str, Any]) -> str:
    """One line on a reference or covariate: how far apart in days, how much of the gap it measures, and its notes."""
    days = entry["days_apart"]
    parts = [entry["name"], *([] if days is None else [f"{days} day{'' if days == 1 else 's'} apart"])]
    if entry["share_of_gap"] is not None:
        parts.append(f"measured in {entry['share_of_gap']:.1%} of the gap")
    return "guided by " + "; ".join([", ".join(parts), *entry["notes"]])
