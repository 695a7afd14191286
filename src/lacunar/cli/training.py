"""Models: `train`, `convert`, `models`."""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lacunar.cli.options import Overwrite
from lacunar.cli.progress import Bars
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.train.loop import History
    from lacunar.train.recipe import Recipe


def models_command() -> None:
    """List the models that come with the package."""
    from lacunar.models.card import Card
    from lacunar.models.checkpoint import CARD_FILE, read_json, shipped_models

    shipped = shipped_models()
    for name, folder in shipped.items():
        card = Card.from_dict(read_json(folder / CARD_FILE))
        typer.echo(f"{name}: {card.summary} Licence: {card.licence.rstrip('.')}.")
    if not shipped:
        typer.echo("no model comes with this installation: `lacunar train` makes one, --model takes its folder")


def convert_command(
    source: Annotated[Path, typer.Argument(help=".pt or .safetensors of guided-diffusion, or a diffusers folder.")],
    destination: Annotated[Path, typer.Argument(help="New model folder.")],
    architecture: Annotated[Path | None, typer.Option(help="JSON of a guided-diffusion network's settings.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Turn a published DDPM checkpoint into a model folder; nothing in it is executed."""
    from lacunar.models.checkpoint import read_json
    from lacunar.models.convert import convert_checkpoint

    settings = read_json(architecture) if architecture else None
    made = convert_checkpoint(source, destination, architecture=settings, overwrite=overwrite)
    typer.echo(f"model: {made}")


def train_command(
    recipe: Annotated[str, typer.Argument(help="Recipe, such as lst-small.")],
    pack: Annotated[Path, typer.Option(help="Packed data file; written first from --data where it does not exist.")],
    data: Annotated[
        Path | None, typer.Option(help="What it is trained from: a folder of LST GeoTIFFs, of water scenes, of faces.")
    ] = None,
    clouds: Annotated[Path | None, typer.Option(help="Of LST: folder of QA_PIXEL rasters or cloud masks.")] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of the run; one that exists goes on. runs/RECIPE, or runs/RECIPE-distilled-N."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps in place of the recipe's.")] = None,
    init_from: Annotated[
        str | None, typer.Option(help="Start from a shipped model, a model folder, or a .safetensors of weights.")
    ] = None,
    finish: Annotated[
        Path | None,
        typer.Option(help="Train nothing: score and calibrate these weights (.safetensors), write the model."),
    ] = None,
    distill: Annotated[
        str | None, typer.Option(help="Model to learn from, so that half its steps do; of LST and pictures.")
    ] = None,
    student_steps: Annotated[
        int | None, typer.Option(min=1, help="With --distill: steps N of the student, 4 where not given.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Of LST: processes that draw the examples; one for each core.")
    ] = None,
) -> None:
    """Train a model from one of the frozen recipes; Ctrl-C stops cleanly and the same command goes on."""
    from lacunar.geo.staging import Staging, resolved
    from lacunar.train.loop import this_process
    from lacunar.train.recipe import STUDENT_STEPS, finish_recipe, load_start, run_recipe

    chosen = _recipe_of(recipe, clouds=clouds, workers=workers, distill=distill)
    if student_steps is not None and distill is None:
        raise LacunarError(f"--student-steps {student_steps} without --distill: name its teacher, or leave it out")
    student_steps = student_steps or STUDENT_STEPS
    start = load_start(chosen, init_from, distill, student_steps)
    _pack(chosen, data, clouds, pack)
    if finish is not None:
        if init_from or distill or steps:
            raise LacunarError(f"--finish {finish} trains nothing: leave out --init-from, --distill and --steps")
        with Bars() as bars:
            made = finish_recipe(chosen, pack, run or Path("runs") / recipe, finish, drawing=bars.drawing)
        typer.echo(f"model: {made}")
        return
    run = run or Path("runs") / (f"{recipe}-distilled-{student_steps}" if distill else recipe)
    if any(name and resolved(Path(name)) == resolved(run / "model") for name in (init_from, distill)):
        raise LacunarError(f"--run {run} would replace the model that it starts from: give another --run folder")
    try:
        with Bars() as bars:
            model, history = run_recipe(
                chosen,
                pack,
                run,
                steps=steps,
                start=start,
                workers=workers or os.cpu_count() or 1,
                callback=bars.training,
                drawing=bars.drawing,
            )
    except KeyboardInterrupt:
        typer.echo(f"lacunar: the run is kept in {run}, the same command goes on from there", err=True)
        raise
    if this_process().is_main_process:
        with Staging(overwrite=True) as staging:
            _draw_losses(history, staging.stage(run / "loss.png"))
        typer.echo(f"model: {model}\nloss:  {run / 'loss.png'}")


def _recipe_of(name: str, **given: object) -> "Recipe":
    """The recipe of this name; options that have no meaning for it are refused."""
    from lacunar.train.recipes import RECIPES

    if name not in RECIPES:
        raise LacunarError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    for option, value in given.items():
        if value is not None and option not in RECIPES[name].options:
            takers = ", ".join(other for other, recipe in RECIPES.items() if option in recipe.options)
            raise LacunarError(f"--{option} {value} for {name}: it has a meaning for {takers} alone; leave it out")
    return RECIPES[name]


def _pack(recipe: "Recipe", data: Path | None, clouds: Path | None, pack: Path) -> None:
    """Write the packed data where there are none; of several processes the first does, and the others find them."""
    from lacunar.train.loop import this_process

    if data is None:
        if not pack.exists():
            raise LacunarError(f"no file {pack} and no --data to write it from: give what it is trained from")
        return
    with this_process().main_process_first():
        if not pack.exists():
            recipe.pack(data, clouds, pack)
            typer.echo(f"packed {data} into {pack} ({pack.stat().st_size / 2**20:.1f} MiB)")


def _draw_losses(history: "History", file: Path) -> None:
    from lacunar.plotting import save_figure, training_curve_figure

    trained, scored = dict(history.train), {step: scores["loss"] for step, scores in history.held_out}
    taken = sorted({*trained, *scored})
    losses = ([known.get(step, math.nan) for step in taken] for known in (trained, scored))
    save_figure(training_curve_figure(taken, *losses), file)
