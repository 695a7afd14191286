"""The commands: parse, call, present; nothing else."""

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn, cast

import typer

from lacunar import __version__
from lacunar.cli import demo, evaluation, faces, lst, restoring, sampling, serving, sharpening, training, water
from lacunar.errors import LacunarError
from lacunar.versions import version_report

app = typer.Typer(
    invoke_without_command=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
)
app.command("lst")(lst.lst_command)
app.command("fill")(lst.fill_command)
app.command("zonal")(lst.zonal_command)
app.command("sharpen")(sharpening.sharpen_command)
app.command("inpaint")(faces.inpaint_command)
app.command("face")(faces.face_command)
app.command("restore")(restoring.restore_command)
app.command("sample")(sampling.sample_command)
app.command("water")(water.water_command)
app.command("demo")(demo.demo_command)
app.command("serve")(serving.serve_command)
app.command("simulate")(lst.simulate_command)
app.command("models")(training.models_command)
app.command("convert")(training.convert_command)
app.command("train")(training.train_command)
app.add_typer(evaluation.app, name="evaluate")

BAD_INPUT = 2  # exit code of bad input or use
STDERR = 2  # the error stream's number, which C libraries write to
INTERRUPTED = 130  # exit code after Ctrl-C: 128 + SIGINT
FAULT = 70  # exit code of what should not happen
TRACEBACK = "LACUNAR_TRACEBACK"  # environment variable: show where
# Typer brings its own copy of click in some versions: its errors are reached through Typer's own names.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="With --version: those of Python and the libraries too.")
    ] = False,
) -> None:
    """Restore what images miss, and map water, with denoising diffusion models."""
    if version:
        typer.echo(version_report() if verbose else f"lacunar {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line: bad input or use is one line and exit code 2; Ctrl-C, SIGTERM and SIGHUP are 130."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    try:
        with _quiet(), _stopping():
            # Typer turns Ctrl-C into a code or into an Abort, depending on its version.
            if "" in sys.argv[1:]:
                raise LacunarError("an argument is empty: wanted a name or a value; is a variable of the shell unset?")
            code = app(standalone_mode=False, prog_name="lacunar")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except (LacunarError, OSError, UsageError) as error:
        _leave(f"lacunar: {_usage(error) if isinstance(error, UsageError) else error}", BAD_INPUT)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        fault = f"lacunar: a fault of its own, {type(error).__name__}: {str(error)[:160]}"
        _leave(f"{fault} (please report it; {TRACEBACK}=1 in the environment shows where it is)", FAULT)
    if code == INTERRUPTED:
        _leave("lacunar: interrupted; what was finished is kept, nothing half-written is left", INTERRUPTED)
    sys.exit(code or 0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings, and what C libraries print themselves, off the error stream: their errors come as exceptions."""
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addHandler(logging.NullHandler())
    screen = sys.stderr
    with ExitStack() as stack:
        stack.callback(logging.captureWarnings, False)
        with suppress(OSError, ValueError):  # no stream of the system, as under a test
            if screen.fileno() == STDERR:
                screen.flush()
                kept = os.dup(STDERR)
                sys.stderr = stack.enter_context(os.fdopen(kept, "w", 1, screen.encoding, "backslashreplace"))
                stack.callback(setattr, sys, "stderr", screen)
                stack.callback(os.dup2, kept, STDERR)
                with Path(os.devnull).open("w") as nothing:
                    os.dup2(nothing.fileno(), STDERR)
        yield


@contextmanager
def _stopping() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does; where they are ignored, as by nohup, they stay so."""
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    here = threading.current_thread() is threading.main_thread()
    taken = [number for number in numbers if here and signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _usage(error: Exception) -> str:
    """What is wrong with the command, and where its options are listed."""
    said = cast(Any, error)
    command = said.ctx.command_path if said.ctx else "lacunar"
    return f"{said.format_message()} (`{command} --help` lists what there is)"


def _leave(message: str, code: int) -> NoReturn:
    typer.echo(" ".join(message.split()), err=True)
    sys.exit(code)
