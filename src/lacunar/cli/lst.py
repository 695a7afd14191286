"""Land surface temperature and rasters: `lst`, `fill`, `demo`, `simulate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lacunar.cli.options import (
    BackgroundOption,
    Cluster,
    CovariateOption,
    Device,
    EngineOption,
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
    Resume,
    SamplerOption,
    Samples,
    Seed,
    TruthOption,
    levels_of,
    resolve_device,
    samples_of,
    typed_command,
)
from lacunar.cli.scenes import fill_named
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.fill.options import BackgroundName
    from lacunar.models.backend import EngineName
    from lacunar.sensors.landsat_qa import QaClass
    from lacunar.sensors.scene import LstOptions
    from lacunar.sensors.sebal import Atmosphere, ReflectanceForm

_OR_MANY = "patterns, or @LIST with one a line."
DEFAULT_CLASSES = "cloud,dilated_cloud,cloud_shadow,cirrus"


def lst_command(
    product: Annotated[list[str], typer.Argument(help=f"Landsat 8/9 folders or .tar, Level 1 or 2; {_OR_MANY}")],
    output: Output,
    reference: ReferenceOption = None,
    covariate: CovariateOption = None,
    gap_mask: GapMask = None,
    gap_classes: Annotated[str, typer.Option(help="Quality classes to fill, by comma.")] = DEFAULT_CLASSES,
    preset: PresetOption = "fast",
    sampler: SamplerOption = None,
    background: BackgroundOption = "auto",
    evaluations: EvaluationsOption = None,
    samples: Samples = None,
    quantiles: Quantiles = "",
    seed: Seed = 0,
    model: Model = "lst-small",
    device: Device = "auto",
    engine: EngineOption = "auto",
    savi_l: Annotated[float, typer.Option(help="Soil adjustment L of SAVI, 0 to 1.")] = 0.5,
    reflectance: Annotated[str, typer.Option(help="usgs, or dr for the variant divided by dr = 1/d^2.")] = "usgs",
    path_radiance: Annotated[float | None, typer.Option(help="Of the air, W m-2 sr-1 um-1.")] = None,
    transmissivity: Annotated[float | None, typer.Option(help="Of the air in the thermal band.")] = None,
    sky_radiance: Annotated[float | None, typer.Option(help="Of the clear sky, W m-2 sr-1 um-1.")] = None,
    save_bands: Annotated[Path | None, typer.Option(help="Folder for every intermediate band.")] = None,
    figure: FigureOption = None,
    truth: TruthOption = None,
    cluster: Cluster = None,
    resume: Resume = False,
    print_json: PrintJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Land surface temperature of a Landsat product, its cloud gaps filled, with an uncertainty.

    Bands of the output: lst (K), source (0 nodata, 1 measured, 2 filled), sigma (K), quantiles. Of several products one
    that fails does not stop the rest; the exit code is 1 then.
    """
    from lacunar.fill.inputs import FillInputs
    from lacunar.fill.options import FillOptions

    atmosphere = _atmosphere(path_radiance, transmissivity, sky_radiance)
    lst_options = _physics(gap_classes, savi_l, reflectance, atmosphere)
    options = FillOptions(
        model=model,
        preset=preset,
        sampler=sampler,
        background=cast("BackgroundName", background),
        evaluations=evaluations,
        samples=samples_of(preset, samples),
        quantiles=levels_of(quantiles),
        seed=seed,
        device=device if cluster else resolve_device(device),
        engine=cast("EngineName", engine),
        overwrite=overwrite,
        figure=figure,
        truth=truth,
        resume=resume,
        command=typed_command(),
    )
    files = _beside(gap_mask, reference, covariate)
    fill_named(
        product,
        output,
        lambda path: FillInputs(path=path, kind="product", lst_options=lst_options, **files),
        options,
        suffix="lst",
        bands_folder=save_bands,
        cluster=cluster,
        print_json=print_json,
    )


def fill_command(
    raster: Annotated[
        list[str], typer.Argument(help=f"Single-band rasters, whose nodata and NaN are the gap; {_OR_MANY}")
    ],
    output: Output,
    reference: ReferenceOption = None,
    covariate: CovariateOption = None,
    gap_mask: GapMask = None,
    preset: PresetOption = "fast",
    sampler: SamplerOption = None,
    background: BackgroundOption = "auto",
    evaluations: EvaluationsOption = None,
    samples: Samples = None,
    quantiles: Quantiles = "",
    seed: Seed = 0,
    model: Model = "lst-small",
    device: Device = "auto",
    engine: EngineOption = "auto",
    figure: FigureOption = None,
    truth: TruthOption = None,
    cluster: Cluster = None,
    resume: Resume = False,
    print_json: PrintJson = False,
    overwrite: Overwrite = False,
) -> None:
    """Fill the gaps of any single-band raster. Bands of the output: value, source (0, 1, 2), sigma."""
    from lacunar.fill.inputs import FillInputs
    from lacunar.fill.options import FillOptions

    options = FillOptions(
        model=model,
        preset=preset,
        sampler=sampler,
        background=cast("BackgroundName", background),
        evaluations=evaluations,
        samples=samples_of(preset, samples),
        quantiles=levels_of(quantiles),
        seed=seed,
        device=device if cluster else resolve_device(device),
        engine=cast("EngineName", engine),
        overwrite=overwrite,
        figure=figure,
        truth=truth,
        resume=resume,
        command=typed_command(),
    )
    files = _beside(gap_mask, reference, covariate)
    fill_named(
        raster,
        output,
        lambda path: FillInputs(path=path, kind="raster", **files),
        options,
        suffix="filled",
        cluster=cluster,
        print_json=print_json,
    )


def simulate_command(
    folder: Annotated[Path, typer.Argument(help="New folder of the product.")],
    size: Annotated[int, typer.Option(help="Side in pixels of 30 m.")] = 256,
    cloud: Annotated[float, typer.Option(help="Share of pixels under cloud, its rim or its shadow.")] = 0.22,
    seed: Seed = 0,
) -> None:
    """Write a simulated Landsat-8 Collection-2 product folder, and the temperature that its clouds hide."""
    from lacunar.sensors.simulated import simulate_product

    made = simulate_product(folder, size=size, seed=seed, cloud_fraction=cloud)
    typer.echo(f"product: {made.folder} ({made.gap_fraction:.1%} gap)\ntruth:   {made.truth_path}")


def _beside(gap_mask: Path | None, references: list[Path] | None, covariates: list[Path] | None) -> dict[str, Any]:
    """Files beside the input, as `lacunar.fill.inputs.FillInputs` takes them."""
    return {"gap_mask": gap_mask, "references": tuple(references or ()), "covariates": tuple(covariates or ())}


def _physics(gap_classes: str, soil_l: float, reflectance: str, atmosphere: "Atmosphere | None") -> "LstOptions":
    """How LST is computed and what of it is a gap."""
    from lacunar.sensors.scene import LstOptions

    return LstOptions(
        gap_classes=cast("list[QaClass]", [name.strip() for name in gap_classes.split(",") if name.strip()]),
        soil_l=soil_l,
        reflectance=cast("ReflectanceForm", reflectance),
        atmosphere=atmosphere,
    )


def _atmosphere(
    path_radiance: float | None, transmissivity: float | None, sky_radiance: float | None
) -> "Atmosphere | None":
    """The atmosphere, where all three are given; some of the three is a mistake."""
    from lacunar.sensors.sebal import Atmosphere

    given = [value for value in (path_radiance, transmissivity, sky_radiance) if value is not None]
    if not given:
        return None
    if path_radiance is None or transmissivity is None or sky_radiance is None:
        raise LacunarError(
            f"got {len(given)} of --path-radiance, --transmissivity and --sky-radiance: the correction wants all three"
        )
    return Atmosphere(path_radiance=path_radiance, transmissivity=transmissivity, sky_radiance=sky_radiance)
