"""The commands: parse, call, present; nothing else."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, NoReturn, Self

import typer
from click import ClickException

from lacunar import __version__
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from lacunar.training import Progress

app = typer.Typer(
    help="Restore what images miss, with denoising diffusion models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

BAD_INPUT = 2  # exit code of bad input or use
INTERRUPTED = 130  # exit code after Ctrl-C: 128 + SIGINT


def _version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"lacunar {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Restore what images miss, with denoising diffusion models."""


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
    from lacunar.recipes import recipe_named, run_recipe

    recipe_named(recipe)
    if not pack.exists():
        if data is None:
            raise LacunarError(f"no file {pack} and no --data to write it from: give the folder of LST rasters")
        pack_lst(data, clouds, pack)
        typer.echo(f"packed {data} into {pack} ({pack.stat().st_size / 2**20:.1f} MiB)")
    run = run or Path("runs") / recipe
    with _Bars() as bars:
        model, history = run_recipe(
            recipe, pack, run, steps=steps, workers=workers, callback=bars.training, drawing=bars.drawing
        )
    typer.echo(f"{model}: held out {history.held_out[-1][1]}")


class _Bars:
    """Progress bars on the error stream."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = RichProgress(*columns, console=Console(stderr=True), refresh_per_second=1)
        self._bars.start()
        self._tasks: dict[str, TaskID] = {}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def update(self, label: str, done: int, total: int, note: str = "") -> None:
        """Show that ``done`` of ``total`` are done."""
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=total)
        self._bars.update(self._tasks[label], completed=done, total=total, description=f"{label}{note}")

    def drawing(self, done: int, total: int) -> None:
        """Show the drawing of examples."""
        self.update("drawing examples", done, total)

    def training(self, progress: "Progress") -> None:
        """Show the training, with its loss and rate."""
        note = f"  loss {progress.loss:.4f}, {progress.examples_per_second:.1f} examples/s"
        self.update("training", progress.step, progress.steps, note)


def main() -> None:
    """Run the command line: bad input is one line and exit code 2, Ctrl-C is 130."""
    try:
        app(standalone_mode=False)
    except LacunarError as error:
        _leave(f"lacunar: {error}", BAD_INPUT)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _leave("lacunar: interrupted; what was finished is kept, nothing half-written is left", INTERRUPTED)
    except ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)


def _leave(message: str, code: int) -> NoReturn:
    """Say it in one line on the error stream and stop."""
    typer.echo(" ".join(message.split()), err=True)
    sys.exit(code)
