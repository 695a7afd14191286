"""Options that several commands share, and what their values mean here."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lacunar.diffusion.samplers import preset_help, preset_named, sampler_help
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.fill.options import FillOptions

Model = Annotated[str, typer.Option(help="A shipped model's name (see `lacunar models`) or a model folder.")]
PresetOption = Annotated[str, typer.Option(help=f"{preset_help()}.")]
SamplerOption = Annotated[str | None, typer.Option("--sampler", help=f"In place of the preset's: {sampler_help()}.")]
_BACKGROUNDS = "kriging (the network on top), archive (other dates alone, without the network), or auto"
BackgroundOption = Annotated[str, typer.Option("--background", help=f"{_BACKGROUNDS}: archive from 4 references.")]
EvaluationsOption = Annotated[
    int | None,
    typer.Option("--evaluations", min=1, help="Network evaluations for each sample at most, in place of the preset's."),
]
Samples = Annotated[
    int | None, typer.Option(min=1, help="Samples drawn; their spread is sigma. 8, or 1 with instant, if not given.")
]
Realisations = Annotated[
    int | None, typer.Option(min=2, help="Draw so many samples and write them too, a band each: *_realisations.tif.")
]
Quantiles = Annotated[str, typer.Option(help="Levels by comma, such as 0.05,0.95: one more band for each.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend", help="auto, eager, onnx (CPU), bf16 or compiled (GPU); auto takes onnx where it pays off."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
FigureOption = Annotated[Path | None, typer.Option(help="Picture to draw: .png, .pdf or .svg.")]
TruthOption = Annotated[Path | None, typer.Option(help="Raster of true values to score the fill against.")]
GapMask = Annotated[Path | None, typer.Option(help="Raster on the same grid; non-zero = to be filled.")]
ReferenceOption = Annotated[
    list[Path] | None,
    typer.Option("--reference", help="Other date of the same place: product or raster on any grid; repeatable."),
]
CovariateOption = Annotated[
    list[Path] | None,
    typer.Option("--covariate", help="Static single-band raster, such as an elevation model; repeatable."),
]
Output = Annotated[
    Path,
    typer.Option("-o", "--output", help="GeoTIFF to write, its record beside it as .json; of several inputs a folder."),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster", help="Share several scenes among workers: local, local:N (processes), or a Dask scheduler."
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Keep finished blocks until the output is whole, and go on from them.")
]
PrintJson = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]


def fill_options(
    preset: str,
    *,
    samples: int | None,
    realisations: int | None = None,
    device: str,
    quantiles: str = "",
    cluster: str | None = None,
    **others: Any,  # noqa: ANN401
) -> "FillOptions":
    """How rasters are filled; on a cluster the workers choose the device. ``others`` are fields of `FillOptions`."""
    from lacunar.fill.options import FillOptions

    if realisations and samples not in (None, realisations):
        raise LacunarError(f"--realisations {realisations} with --samples {samples}: all samples are written; give one")
    samples = samples or realisations
    return FillOptions(
        preset=preset,
        samples=preset_named(preset).usual_samples if samples is None else samples,
        realisations=realisations is not None,
        device=device if cluster else resolve_device(device),
        quantiles=levels_of(quantiles),
        **others,
    )


def resolve_device(name: str) -> str:
    """The device to use; ``auto`` takes the best there is."""
    from lacunar.models.backend import resolve_device as resolve

    return resolve(name)


def typed_command() -> str:
    """The command line as it was typed."""
    return shlex.join(["lacunar", *sys.argv[1:]])


def parts_of(text: str) -> list[str]:
    """What stands between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def levels_of(text: str) -> tuple[float, ...]:
    """Levels of quantiles, by comma."""
    try:
        return tuple(map(float, parts_of(text)))
    except ValueError as error:
        raise LacunarError(
            f"--quantiles {text!r}: wanted numbers between 0 and 1 by comma, such as 0.05,0.95"
        ) from error
