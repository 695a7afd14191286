"""Fill what a command names, one scene or many, and tell what came of it."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lacunar.cli.progress import Bars
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.fill.inputs import FillInputs
    from lacunar.fill.options import FillOptions
    from lacunar.fill.scene_list import Outcome, Scene

SOME_FAILED = 1  # exit code where some scenes of several failed
_TIFF = (".tif", ".tiff")


def fill_named(
    named: Sequence[str],
    output: Path,
    inputs_of: Callable[[Path], "FillInputs"],
    options: "FillOptions",
    *,
    suffix: str,
    bands_folder: Path | None = None,
    cluster: str | None = None,
    print_json: bool = False,
) -> None:
    """Fill one scene into a file or a folder, or several into a folder; exit with 1 where some of several failed.

    Parameters
    ----------
    named
        Paths, patterns and ``@LIST``.
    output
        What the user gave for it.
    inputs_of
        What is read for a path.
    options
        How gaps are filled.
    suffix
        Outputs in a folder are ``NAME_SUFFIX.tif``.
    bands_folder, cluster, print_json
        Folder for the intermediates; where the work is done, None = here; tell as JSON.

    Raises
    ------
    LacunarError
        Bad input, or one scene that failed.
    """
    from lacunar.fill.scene_list import Scene, listed_paths, names_several, outputs_in

    paths = listed_paths(named)
    several = len(paths) > 1 or any(map(names_several, named))
    targets = outputs_in(output, paths, suffix) if several or output.is_dir() else [output]
    scenes = [
        Scene(inputs=inputs_of(path), output=target, bands_folder=bands_folder)
        for path, target in zip(paths, targets, strict=True)
    ]
    with _telling_what_is_kept(scenes, options):
        if several:
            _fill_several(scenes, output, options, cluster, print_json=print_json)
        else:
            _fill_one(scenes[0], options, cluster, print_json=print_json)


def _fill_one(scene: "Scene", options: "FillOptions", cluster: str | None, *, print_json: bool) -> None:
    """Fill one scene and tell all about it."""
    with Bars() as bars:
        if cluster is None:
            from lacunar.fill.job import fill_inputs

            folder = scene.bands_folder
            record = fill_inputs(
                scene.inputs, scene.output, bands_folder=folder, options=options, callback=bars.filling
            )
        else:
            from lacunar.fill.batch import fill_scenes

            (outcome,) = fill_scenes([scene], options=options, cluster=cluster, callback=bars.filling)
            if outcome.record is None:
                raise LacunarError(outcome.why)
            record = outcome.record
    if record.get("whole_already"):
        typer.echo(f"{scene.output} is whole already, from the same inputs and options", err=print_json)
    _present(record, scene.output, options.figure, print_json=print_json)


def _fill_several(
    scenes: Sequence["Scene"], folder: Path, options: "FillOptions", cluster: str | None, *, print_json: bool
) -> None:
    """Fill several scenes into a folder and tell what came of each."""
    from lacunar.fill.batch import SUMMARY, fill_scenes, write_summary

    if folder.suffix.lower() in _TIFF or folder.is_file():
        raise LacunarError(f"-o {folder} with {len(scenes)} scenes: wanted a folder, which gets NAME_*.tif for each")
    if any(scene.inputs.gap_mask for scene in scenes):
        raise LacunarError(f"one gap mask with {len(scenes)} scenes: it is for one scene, on its grid; leave it out")
    begun = time.perf_counter()
    with _made(folder), Bars() as bars:
        outcomes = fill_scenes(scenes, options=options, cluster=cluster, callback=bars.filling_scenes)
    summary = write_summary(folder, outcomes, seconds=time.perf_counter() - begun, command=options.command)
    if print_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _present_several(outcomes, summary, folder / SUMMARY)
    if summary["scenes"]["failed"]:
        raise typer.Exit(SOME_FAILED)


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder where there is none; it goes again where an error ends the block before anything is in it."""
    new = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise LacunarError(
            f"-o {folder} cannot be made ({error.strerror}): wanted a folder inside one that exists; make that first"
        ) from error
    try:
        yield
    except BaseException:
        if new and not any(folder.iterdir()):
            folder.rmdir()
        raise


@contextmanager
def _telling_what_is_kept(scenes: Sequence["Scene"], options: "FillOptions") -> Iterator[None]:
    """After Ctrl-C, say which finished blocks the same command would go on from."""
    from lacunar.fill.block_store import folder_of_blocks

    try:
        yield
    except KeyboardInterrupt:
        folders = [folder_of_blocks(scene.output) for scene in scenes]
        blocks = sum(len(list(folder.glob("*.npz"))) for folder in folders)
        if options.resume and blocks:
            typer.echo(f"{blocks} finished blocks are kept: the same command goes on from them", err=True)
        raise


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
    for note in [*record.get("product", {}).get("notes", []), *record.get("notes", [])]:
        typer.echo(f"note: {note}")
    if record.get("atmospherically_corrected") is False:
        typer.echo("note: LST is not corrected for the atmosphere; filled pixels hold the clear-sky-equivalent LST")
    if score := record.get("truth"):
        typer.echo(f"against the truth: RMSE {score['rmse']:.3f}, MAE {score['mae']:.3f}, bias {score['bias']:+.3f}")
    typer.echo(f"raster:  {output}\nrecord:  {output.with_suffix('.json')}")
    if figure is not None:
        typer.echo(f"picture: {figure}")


def _present_several(outcomes: Sequence["Outcome"], summary: dict[str, Any], path: Path) -> None:
    """A table of the scenes, and where it is written in full."""
    from lacunar.evaluate.tables import markdown_table

    rows = [
        (
            outcome.scene.inputs.path.name,
            f"{outcome.seconds:.1f}",
            str(outcome.filled),
            f"{outcome.status}: {outcome.why}" if outcome.why else outcome.status,
        )
        for outcome in outcomes
    ]
    typer.echo(markdown_table(("scene", "seconds", "pixels filled", "status"), rows))
    counts = ", ".join(f"{count} {status}" for status, count in summary["scenes"].items() if count)
    typer.echo(f"\n{counts} in {summary['seconds']:.0f} s\nsummary: {path}")


def _beside(entry: dict[str, Any]) -> str:
    """One line on a reference or covariate: how far apart in days, how much of the gap it measures, and its notes."""
    days = entry["days_apart"]
    parts = [entry["name"], *([] if days is None else [f"{days} day{'' if days == 1 else 's'} apart"])]
    if entry["share_of_gap"] is not None:
        parts.append(f"measured in {entry['share_of_gap']:.1%} of the gap")
    return "guided by " + "; ".join([", ".join(parts), *entry["notes"]])
