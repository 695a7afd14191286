"""The commands: parse, call, present; nothing else."""

import json
import math
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from lacunar import __version__
from lacunar.errors import LacunarError
from lacunar.progress import Bars

if TYPE_CHECKING:
    from lacunar.filling import PresetName
    from lacunar.quality import QaClass
    from lacunar.radiometry import Atmosphere, ReflectanceForm

app = typer.Typer(
    invoke_without_command=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)

BAD_INPUT = 2  # exit code of bad input or use
INTERRUPTED = 130  # exit code after Ctrl-C: 128 + SIGINT
DEFAULT_CLASSES = "cloud,dilated_cloud,cloud_shadow,cirrus"
# Typer brings its own copy of click in some versions: its errors are reached through Typer's own names.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def _version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"lacunar {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Restore what images miss, with denoising diffusion models."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


Model = Annotated[str, typer.Option(help="A shipped model's name (see `lacunar models`) or a model folder.")]
PresetOption = Annotated[str, typer.Option(help="fast (10 evaluations), balanced (25) or paper (RePaint, 2410).")]
Samples = Annotated[int, typer.Option(min=1, help="Samples drawn; their spread is sigma.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same result.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
FigureOption = Annotated[Path | None, typer.Option(help="Picture to draw: .png, .pdf or .svg.")]
TruthOption = Annotated[Path | None, typer.Option(help="Raster of true values to score the fill against.")]
GapMask = Annotated[Path | None, typer.Option(help="Raster on the same grid; non-zero = to be filled.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="GeoTIFF to write; its record goes beside it as .json.")]
PrintJson = Annotated[bool, typer.Option("--json", help="Print the record as JSON.")]


@app.command("lst")
def lst_command(
    product: Annotated[Path, typer.Argument(help="Landsat 8/9 product folder or .tar, Level 1 or 2.")],
    output: Output,
    gap_mask: GapMask = None,
    gap_classes: Annotated[str, typer.Option(help="Quality classes to fill, by comma.")] = DEFAULT_CLASSES,
    preset: PresetOption = "fast",
    samples: Samples = 8,
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

    Bands of the output: lst (K), source (0 nodata, 1 measured, 2 filled), sigma (K).
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
        samples=samples,
        seed=seed,
        device=_device(device),
        overwrite=overwrite,
        figure=figure,
        truth=truth,
        command=_typed(),
    )
    with Bars() as bars:
        record = fill_lst(
            product,
            output,
            lst_options=lst_options,
            gap_mask=gap_mask,
            bands_folder=save_bands,
            options=options,
            callback=bars.filling,
        )
    _present(record, output, figure, print_json=print_json)


@app.command("fill")
def fill_command(
    raster: Annotated[Path, typer.Argument(help="Single-band raster; its nodata and NaN are the gap.")],
    output: Output,
    gap_mask: GapMask = None,
    preset: PresetOption = "fast",
    samples: Samples = 8,
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
        samples=samples,
        seed=seed,
        device=_device(device),
        overwrite=overwrite,
        figure=figure,
        truth=truth,
        command=_typed(),
    )
    with Bars() as bars:
        record = fill_raster(raster, output, gap_mask=gap_mask, options=options, callback=bars.filling)
    _present(record, output, figure, print_json=print_json)


@app.command("demo")
def demo_command(
    folder: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path("lacunar-demo"),
    size: Annotated[int, typer.Option(help="Side of the simulated product in pixels.")] = 256,
    model: Model = "lst-small",
    samples: Samples = 8,
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Run the main job offline on a simulated cloudy Landsat product whose truth is known."""
    from lacunar.apps.lst import FillOptions, demonstrate

    options = FillOptions(
        model=model, samples=samples, seed=seed, device=_device(device), overwrite=overwrite, command=_typed()
    )
    with Bars() as bars:
        shown = demonstrate(folder, options=options, size=size, callback=bars.filling)
    record = shown["record"]
    filled, share = record["pixels"]["filled"], record["gap_share"]
    typer.echo(f"simulated Landsat-8 product, {size} x {size} pixels, {share:.0%} under cloud: {filled} pixels filled")
    typer.echo("gap RMSE against the hidden truth (K):")
    for name, score in shown["rmse"].items():
        typer.echo(f"  {name:<10} {score:6.3f}")
    within = record["truth"]["within_one_sigma"]
    typer.echo(f"within one sigma: {within:.0%} of the filled pixels (68 % wanted); {record['seconds']:.0f} s")
    typer.echo(f"raster:  {shown['output']}\npicture: {shown['figure']}")


@app.command("simulate")
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


@app.command("models")
def models_command() -> None:
    """List the models that come with the package."""
    from lacunar.card import Card
    from lacunar.checkpoint import CARD_FILE, read_json, shipped_models

    shipped = shipped_models()
    for name, folder in shipped.items():
        card = Card.from_dict(read_json(folder / CARD_FILE))
        typer.echo(f"{name}: {card.summary} Licence: {card.licence}.")
    if not shipped:
        typer.echo("no model comes with this installation: `lacunar train` makes one, --model takes its folder")


@app.command("convert")
def convert_command(
    source: Annotated[Path, typer.Argument(help=".pt or .safetensors of guided-diffusion, or a diffusers folder.")],
    destination: Annotated[Path, typer.Argument(help="New model folder.")],
    architecture: Annotated[Path | None, typer.Option(help="JSON of a guided-diffusion network's settings.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn a published DDPM checkpoint into a model folder; nothing in it is executed."""
    from lacunar.checkpoint import read_json
    from lacunar.conversion import convert_checkpoint

    settings = read_json(architecture) if architecture else None
    made = convert_checkpoint(source, destination, architecture=settings, overwrite=overwrite)
    typer.echo(f"model: {made}")


@app.command("train")
def train_command(
    recipe: Annotated[str, typer.Argument(help="Recipe, such as lst-small.")],
    pack: Annotated[Path, typer.Option(help="Packed data file; written first from --data where it does not exist.")],
    data: Annotated[Path | None, typer.Option(help="Folder of LST GeoTIFFs named PLACE_*.tif, in kelvin.")] = None,
    clouds: Annotated[Path | None, typer.Option(help="Folder of Landsat QA_PIXEL rasters or cloud masks.")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; one that exists goes on.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in place of the recipe's.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw the examples.")] = os.cpu_count() or 1,
) -> None:
    """Train a model from one of the frozen recipes; Ctrl-C stops cleanly and the same command goes on."""
    from lacunar.datasets import pack_lst
    from lacunar.figures import save_figure, training_curve_figure
    from lacunar.recipes import recipe_named, run_recipe

    recipe_named(recipe)
    if not pack.exists():
        if data is None:
            raise LacunarError(f"no file {pack} and no --data to write it from: give the folder of LST rasters")
        pack_lst(data, clouds, pack)
        typer.echo(f"packed {data} into {pack} ({pack.stat().st_size / 2**20:.1f} MiB)")
    run = run or Path("runs") / recipe
    try:
        with Bars() as bars:
            model, history = run_recipe(
                recipe, pack, run, steps=steps, workers=workers, callback=bars.training, drawing=bars.drawing
            )
    except KeyboardInterrupt:
        typer.echo(f"lacunar: the run is kept in {run}, the same command goes on from there", err=True)
        raise
    trained, scored = dict(history.train), {step: scores["loss"] for step, scores in history.held_out}
    taken = sorted({*trained, *scored})
    losses = ([known.get(step, math.nan) for step in taken] for known in (trained, scored))
    curve = training_curve_figure(taken, *losses)
    save_figure(curve, run / "loss.png")
    typer.echo(f"model: {model}\nloss:  {run / 'loss.png'}")


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


def _device(name: str) -> str:
    """The device to use; ``auto`` takes the best there is."""
    import torch

    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    there += ["mps"] if torch.backends.mps.is_available() else []
    if name == "auto":
        return [*there, "cpu"][0]
    try:
        torch.zeros(1, device=name).item()  # "meta" makes a tensor, but holds no value
    except Exception as error:  # RuntimeError, AssertionError, NotImplementedError, ImportError: each backend its own
        raise LacunarError(f"no device {name!r} here: choose one of {', '.join(['auto', 'cpu', *there])}") from error
    return name


def _typed() -> str:
    """The command line as it was typed."""
    return shlex.join(["lacunar", *sys.argv[1:]])


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
    if coarse := record["kriging_tiles_from_coarser_level"]:
        typer.echo(f"note: {coarse} tiles start from a coarser level, far from any measured pixel; see sigma there")
    for note in record.get("product", {}).get("notes", []):
        typer.echo(f"note: {note}")
    if record.get("atmospherically_corrected") is False:
        typer.echo("note: LST is not corrected for the atmosphere; filled pixels hold the clear-sky-equivalent LST")
    if score := record.get("truth"):
        typer.echo(f"against the truth: RMSE {score['rmse']:.3f}, MAE {score['mae']:.3f}, bias {score['bias']:+.3f}")
    typer.echo(f"raster:  {output}\nrecord:  {output.with_suffix('.json')}")
    if figure is not None:
        typer.echo(f"picture: {figure}")


def main() -> None:
    """Run the command line: bad input or use is one line and exit code 2, Ctrl-C is 130."""
    try:
        # Typer turns Ctrl-C into a code or into an Abort, depending on its version.
        code = app(standalone_mode=False, prog_name="lacunar")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (LacunarError, OSError, UsageError) as error:
        _leave(f"lacunar: {_usage(error) if isinstance(error, UsageError) else error}", BAD_INPUT)
    if code == INTERRUPTED:
        _leave("lacunar: interrupted; what was finished is kept, nothing half-written is left", INTERRUPTED)
    sys.exit(code or 0)


def _usage(error: Exception) -> str:
    """What is wrong with the command, and where its options are listed."""
    said = cast(Any, error)
    return f"{said.format_message()} (`{said.ctx.command_path} --help` lists what there is)"


def _leave(message: str, code: int) -> NoReturn:
    """Say it in one line on the error stream and stop."""
    typer.echo(" ".join(message.split()), err=True)
    sys.exit(code)
