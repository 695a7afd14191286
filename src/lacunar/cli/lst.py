"""Land surface temperature and rasters: `lst`, `fill`, `simulate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lacunar.cli import options as opt
from lacunar.cli.scenes import fill_named
from lacunar.errors import LacunarError
from lacunar.sensors.landsat_qa import GAP_CLASSES

if TYPE_CHECKING:
    from lacunar.fill.inputs import InputKind
    from lacunar.sensors.landsat_qa import QaClass
    from lacunar.sensors.sebal import Atmosphere, ReflectanceForm

_OR_MANY = "patterns, or @LIST with one a line."
_BACKGROUNDS = "field (no network), kriging (the network on top), or auto"


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The options of both commands."""

    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="GeoTIFF to write, its record beside it as .json; of several inputs a folder."
        ),
    ]
    reference: Annotated[
        list[Path] | None,
        typer.Option("--reference", help="Other date of the same place: product or raster on any grid; repeatable."),
    ] = None
    references: Annotated[
        str | None,
        typer.Option(
            "--references",
            help="Choose other dates: auto or nearest:N among the inputs and what lies beside them, or among a FOLDER.",
        ),
    ] = None
    covariate: Annotated[
        list[Path] | None,
        typer.Option("--covariate", help="Static single-band raster, such as an elevation model; repeatable."),
    ] = None
    radar: Annotated[
        list[Path] | None,
        typer.Option("--radar", help="Radar of the same place (VV, VH; power or dB), speckle smoothed; repeatable."),
    ] = None
    gap_mask: Annotated[Path | None, typer.Option(help="Raster on the same grid; non-zero = to be filled.")] = None
    invert: Annotated[bool, typer.Option("--invert", help="Zero of the gap mask is filled, not non-zero.")] = False
    bbox: opt.BoxOption = ""
    clip: opt.ClipOption = None
    preset: opt.PresetOption = "fast"
    sampler: opt.SamplerOption = None
    background: Annotated[str, typer.Option(help=f"{_BACKGROUNDS}: field unless a network is named.")] = "auto"
    evaluations: opt.EvaluationsOption = None
    samples: opt.Samples = None
    realisations: Annotated[
        int | None,
        typer.Option(min=2, help="Draw so many samples and write them too, a band each: *_realisations.tif."),
    ] = None
    quantiles: Annotated[str, typer.Option(help="Levels by comma, such as 0.05,0.95: one more band for each.")] = ""
    seed: opt.Seed = 0
    model: opt.Network = None
    device: opt.Device = "auto"
    backend: opt.BackendOption = "auto"
    celsius: Annotated[bool, typer.Option("--celsius", help="Write degrees Celsius, not kelvin.")] = False
    figure: opt.FigureOption = None
    qgis_style: Annotated[
        bool, typer.Option("--qgis-style", help="Write a style beside the raster (.qml), which QGIS loads by itself.")
    ] = False
    truth: Annotated[Path | None, typer.Option(help="Raster of true values to score the fill against.")] = None
    cluster: Annotated[
        str | None,
        typer.Option(help="Share several scenes among workers: local, local:N (processes), or a Dask scheduler."),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished blocks until the output is whole, and go on from them.")
    ] = False
    allow_vrt: opt.AllowVrt = False
    print_json: opt.PrintJson = False
    overwrite: opt.Overwrite = False

    def fill(
        self,
        named: Sequence[str],
        kind: "InputKind",
        *,
        suffix: str,
        suspect: str,
        bands_folder: Path | None = None,
        **how_read: Any,  # noqa: ANN401
    ) -> None:
        """Fill what is named; ``how_read`` are fields of `FillInputs`."""
        from lacunar.fill.inputs import FillInputs
        from lacunar.fill.outputs import OutputFiles

        inputs = FillInputs(
            path=Path(),
            kind=kind,
            gap_mask=self.gap_mask,
            invert=self.invert,
            clip=opt.region(self.bbox, self.clip),
            references=tuple(self.reference or ()),
            covariates=tuple(self.covariate or ()),
            radar=tuple(self.radar or ()),
            allow_vrt=self.allow_vrt,
            **how_read,
        )
        files = opt.given_to(OutputFiles, self, raster=self.output, bands_folder=bands_folder)
        names = (
            "samples",
            "realisations",
            "device",
            "quantiles",
            "cluster",
            "sampler",
            "background",
            "evaluations",
            "seed",
            "model",
        )
        how = opt.fill_options(
            self.preset, backend=self.backend, suspect=suspect, **{name: getattr(self, name) for name in names}
        )
        fill_named(
            named,
            inputs,
            files,
            how,
            suffix=suffix,
            cluster=self.cluster,
            archive=self.references,
            print_json=self.print_json,
        )


@dataclass(frozen=True, kw_only=True)
class _Read:
    """How the numbers of a raster are read."""

    band: Annotated[
        str | None, typer.Option(help="Of a raster of several: number or name of one; by comma, or all: together.")
    ] = None
    nodata: Annotated[
        float | None, typer.Option(help="Stored number that is missing too; nan: all are measured, -9999 too.")
    ] = None
    scale: Annotated[float | None, typer.Option(help="Value = stored number x scale + offset.")] = None
    offset: Annotated[float | None, typer.Option(help="See --scale.")] = None


@opt.expanded
def lst_command(
    product: Annotated[list[str], typer.Argument(help=f"Landsat 4 to 9 folders or .tar, Level 1 or 2; {_OR_MANY}")],
    asked: _Asked,
    gap_classes: Annotated[str, typer.Option(help="Quality classes to fill, by comma.")] = ",".join(GAP_CLASSES),
    max_st_qa: Annotated[
        float | None, typer.Option("--max-st-qa", help="Of Level 2, in K: fill pixels that are less certain by ST_QA.")
    ] = None,
    measured_sigma: Annotated[
        bool, typer.Option("--measured-sigma", help="Of Level 2: ST_QA as the sigma of measured pixels, else 0.")
    ] = False,
    suspect: opt.SuspectOption = "report",
    savi_l: Annotated[float, typer.Option(help="Soil adjustment L of SAVI, 0 to 1.")] = 0.5,
    reflectance: Annotated[str, typer.Option(help="usgs, or dr for the variant divided by dr = 1/d^2.")] = "usgs",
    path_radiance: Annotated[float | None, typer.Option(help="Of the air, W m-2 sr-1 um-1.")] = None,
    transmissivity: Annotated[float | None, typer.Option(help="Of the air in the thermal band.")] = None,
    sky_radiance: Annotated[float | None, typer.Option(help="Of the clear sky, W m-2 sr-1 um-1.")] = None,
    save_bands: Annotated[Path | None, typer.Option(help="Folder for every intermediate band.")] = None,
) -> None:
    """Land surface temperature of a Landsat product, its cloud gaps filled, with an uncertainty.

    Bands of the output: lst (K), source (0 nodata, 1 measured, 2 filled), sigma (K), quantiles. Of several products one
    that fails does not stop the rest; the exit code is 1 then.
    """
    from lacunar.sensors.scene import LstOptions

    how = LstOptions(
        gap_classes=cast("list[QaClass]", opt.parts_of(gap_classes)),
        soil_l=savi_l,
        reflectance=cast("ReflectanceForm", reflectance),
        atmosphere=_atmosphere(path_radiance, transmissivity, sky_radiance),
        max_st_qa=max_st_qa,
        measured_sigma=measured_sigma,
    )
    asked.fill(product, "product", suffix="lst", suspect=suspect, bands_folder=save_bands, lst_options=how)


@opt.expanded
def fill_command(
    raster: Annotated[list[str], typer.Argument(help=f"Rasters, whose nodata and NaN are the gap; {_OR_MANY}")],
    asked: _Asked,
    read: _Read,
    suspect: opt.SuspectOption = "keep",
) -> None:
    """Fill the gaps of any raster. Bands of the output: value, source (0, 1, 2), sigma.

    Of several bands (--band) there are a value and a sigma of each, and every band of a guide counts.
    """
    asked.fill(raster, "raster", suffix="filled", suspect=suspect, **vars(read))


def zonal_command(
    raster: Annotated[Path, typer.Argument(help="Raster filled with --realisations, whose file lies beside it.")],
    polygons: Annotated[Path, typer.Argument(help="Polygons in any CRS: .gpkg, .geojson, .shp.")],
    output: Annotated[Path, typer.Option("-o", "--output", help=".gpkg, .geojson, or .csv without the geometry.")],
    overwrite: opt.Overwrite = False,
) -> None:
    """Mean of a filled raster over polygons, with its sigma (errors of neighbours correlate) and the filled share."""
    from lacunar.fill.zonal import write_zones, zonal

    zones = zonal(raster, polygons)
    write_zones(output, zones, overwrite=overwrite, inputs=[raster, polygons])
    typer.echo(f"{len(zones)} polygons, {int((zones['pixels'] == 0).sum())} without a pixel: {output}")


def simulate_command(
    folder: Annotated[Path, typer.Argument(help="New folder of the product.")],
    size: Annotated[int, typer.Option(help="Side in pixels of 30 m.")] = 256,
    cloud: Annotated[float, typer.Option(help="Share of pixels under cloud, its rim or its shadow.")] = 0.22,
    seed: opt.Seed = 0,
) -> None:
    """Write a simulated Landsat-8 Collection-2 product folder, and the temperature that its clouds hide."""
    from lacunar.sensors.simulated import simulate_product

    made = simulate_product(folder, size=size, seed=seed, cloud_fraction=cloud)
    typer.echo(f"product: {made.folder} ({made.gap_fraction:.1%} gap)\ntruth:   {made.truth_path}")


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
