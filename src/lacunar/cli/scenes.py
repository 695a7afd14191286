"""Fill what a command names, one scene or many, and tell what came of it."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lacunar.cli.progress import Bars
from lacunar.errors import LacunarError

if TYPE_CHECKING:
    from lacunar.fill.batch import Job, Outcome
    from lacunar.fill.inputs import FillInputs
    from lacunar.fill.options import FillOptions
    from lacunar.fill.outputs import OutputFiles

SOME_FAILED = 1  # exit code where some scenes of several failed
CACHE = ".lst_of_references"  # in the folder of outputs, while scenes are filled
_TIFF = (".tif", ".tiff")


def fill_named(
    named: Sequence[str],
    inputs: "FillInputs",
    files: "OutputFiles",
    options: "FillOptions",
    *,
    suffix: str,
    cluster: str | None = None,
    archive: str | None = None,
    print_json: bool = False,
) -> None:
    """Fill one scene into a file or a folder, or several into a folder as ``NAME_SUFFIX.tif``.

    ``inputs`` and ``files`` are those of every scene, but for the path and the raster. Where some of several scenes
    failed, the exit code is 1.
    """
    from lacunar.fill.archive_choice import candidates_named
    from lacunar.fill.batch import Job
    from lacunar.fill.scene_list import LIST_MARK, listed_paths, names_several, outputs_in
    from lacunar.geo.staging import resolved

    output = files.raster
    paths = listed_paths(named)
    several = len(paths) > 1 or any(map(names_several, named))
    targets = outputs_in(output, paths, suffix) if several or output.is_dir() else [output]
    if archive is not None:
        candidates, most = candidates_named(archive, paths)
        cache = output / CACHE if several else None  # one scene reads each date once
        inputs = replace(inputs, candidates=candidates, most_references=most, lst_cache=cache)
    jobs = []
    for path, target in zip(paths, targets, strict=True):
        others = tuple(one for one in inputs.references if not several or resolved(one) != resolved(path))
        if len(others) < len(inputs.references):
            typer.echo(f"note: {path} is among its own references: left out there", err=True)
        jobs.append(Job(inputs=replace(inputs, path=path, references=others), files=replace(files, raster=target)))
    lists = {resolved(Path(name.removeprefix(LIST_MARK))) for name in named if name.startswith(LIST_MARK)}
    if taken := lists.intersection(resolved(path) for job in jobs for path in (job.files.raster, job.files.sidecar)):
        raise LacunarError(f"{taken.pop()} is the list that this very run reads, wanted another output: rename it")
    with _telling_what_is_kept(jobs):
        if several:
            _fill_several(jobs, output, options, cluster, print_json=print_json)
        elif cluster is not None:
            raise LacunarError(
                f"--cluster {cluster} with one scene: whole scenes are shared among workers; leave it out"
            )
        else:
            _fill_one(jobs[0], options, print_json=print_json)


def _fill_one(job: "Job", options: "FillOptions", *, print_json: bool) -> None:
    from lacunar.fill.job import fill_scene

    with Bars() as bars:
        record = fill_scene(job.inputs, job.files, options, callback=bars.filling)
    if record.get("whole_already"):
        typer.echo(f"{job.files.raster} is whole already, from the same inputs and options", err=print_json)
    if print_json:
        typer.echo(json.dumps(record, indent=2, default=str))
    else:
        _present(record, job.files)


def _fill_several(
    jobs: Sequence["Job"], folder: Path, options: "FillOptions", cluster: str | None, *, print_json: bool
) -> None:
    from lacunar.fill.batch import SUMMARY, fill_scenes, write_summary

    _refuse_what_is_for_one(jobs, folder)
    begun = time.perf_counter()
    with _made(folder), Bars() as bars:
        try:
            outcomes = fill_scenes(jobs, options, cluster=cluster, callback=bars.filling_scenes)
        finally:
            shutil.rmtree(folder / CACHE, ignore_errors=True)
    command = jobs[0].files.command
    summary = write_summary(folder, outcomes, seconds=time.perf_counter() - begun, command=command)
    if print_json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _present_several(outcomes, summary, folder / SUMMARY)
    if summary["scenes"]["failed"]:
        raise typer.Exit(SOME_FAILED)


def _refuse_what_is_for_one(jobs: Sequence["Job"], folder: Path) -> None:
    """Refuse a file as output, and files that belong to one scene."""
    files = jobs[0].files
    if folder.suffix.lower() in _TIFF or folder.is_file():
        raise LacunarError(f"-o {folder} with {len(jobs)} scenes: wanted a folder, which gets NAME_*.tif for each")
    if jobs[0].inputs.gap_mask:
        raise LacunarError(f"one gap mask with {len(jobs)} scenes: it is for one scene, on its grid; leave it out")
    if len(jobs) > 1 and (files.figure or files.truth or files.bands_folder):
        raise LacunarError(
            f"{len(jobs)} scenes with one figure, truth or folder of bands: these are for one scene, leave them out"
        )


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
def _telling_what_is_kept(jobs: Sequence["Job"]) -> Iterator[None]:
    """After Ctrl-C, say how many finished blocks the same command would go on from."""
    from lacunar.fill.block_store import folder_of_blocks

    try:
        yield
    except KeyboardInterrupt:
        folders = [folder_of_blocks(job.files.raster) for job in jobs if job.files.resume]
        if blocks := sum(len(list(folder.glob("*.npz"))) for folder in folders):
            typer.echo(f"{blocks} finished blocks are kept: the same command goes on from them", err=True)
        raise


def _present(record: dict[str, Any], files: "OutputFiles") -> None:
    pixels = record["pixels"]
    if pixels["filled"] == 0:
        typer.echo("no gap to fill: the output equals the input")
    else:
        total = pixels["measured"] + pixels["filled"]
        share, seconds = record["gap_share"], record["seconds"]
        typer.echo(f"filled {pixels['filled']} of {total} pixels ({share:.1%}) in {seconds:.0f} s")
    if choice := record.get("reference_choice"):
        chosen, all_dates = len(choice["chosen"]), choice["candidates"]
        typer.echo(f"{chosen} of {all_dates} other dates chosen; the record says why others were left out")
    for guide in (*record["references"], *record["covariates"], *record.get("radar", [])):
        typer.echo(_guided_by(guide))
    if coarse := record["kriging_tiles_from_coarser_level"]:
        typer.echo(f"note: {coarse} tiles start from a coarser level, far from any measured pixel; see sigma there")
    if note := record.get("sampler_note"):
        typer.echo(f"note: {note}")
    for note in [*record.get("product", {}).get("notes", []), *record.get("notes", [])]:
        typer.echo(f"note: {note}")
    if record.get("atmospherically_corrected") is False:
        typer.echo("note: LST is not corrected for the atmosphere; filled pixels hold the clear-sky-equivalent LST")
    if score := record.get("truth"):
        for note in score.get("notes", []):
            typer.echo(f"note: of the truth {note}")
        typer.echo(f"against the truth: RMSE {score['rmse']:.3f}, MAE {score['mae']:.3f}, bias {score['bias']:+.3f}")
    typer.echo(f"raster:  {files.raster}\nrecord:  {files.sidecar}")
    if (suspect := record.get("suspect")) and suspect["pixels"]:
        done = "filled" if suspect["choice"] == "fill" else "kept; --suspect fill fills them"
        of = f"{suspect['pixels']} measured pixels ({suspect['share_of_measured']:.2%})"
        typer.echo(f"note: {of} look like cloud that the quality band missed, {done}: {suspect['raster']}")
    if "realisations" in record:
        typer.echo(f"samples: {record['realisations']}")
    if files.figure is not None:
        typer.echo(f"picture: {files.figure}")
    if files.qgis_style:
        typer.echo(f"style:   {files.style}")


def _present_several(outcomes: Sequence["Outcome"], summary: dict[str, Any], path: Path) -> None:
    typer.echo("| scene | seconds | pixels filled | status |\n| --- | --- | --- | --- |")
    for outcome in outcomes:
        status = f"{outcome.status}: {outcome.why}" if outcome.why else outcome.status
        typer.echo(f"| {outcome.job.inputs.path.name} | {outcome.seconds:.1f} | {outcome.filled} | {status} |")
    counts = ", ".join(f"{count} {status}" for status, count in summary["scenes"].items() if count)
    typer.echo(f"\n{counts} in {summary['seconds']:.0f} s\nsummary: {path}")


def _guided_by(entry: dict[str, Any]) -> str:
    """One line on a reference or covariate: how far apart in days, how much of the gap it measures, and its notes."""
    days = entry["days_apart"]
    parts = [entry["name"], *([] if days is None else [f"{days} day{'' if days == 1 else 's'} apart"])]
    if entry["share_of_gap"] is not None:
        parts.append(f"measured in {entry['share_of_gap']:.1%} of the gap")
    return "guided by " + "; ".join([", ".join(parts), *entry["notes"]])
