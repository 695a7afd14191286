"""Fill many scenes, one after another here or on a cluster; one that fails does not stop the rest."""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from lacunar.errors import LacunarError, RasterError
from lacunar.fill.job import fill_inputs
from lacunar.fill.options import FillOptions
from lacunar.fill.scene_list import Outcome, Scene, Status, failed
from lacunar.geo.staging import write_text

SUMMARY = "lacunar_summary.json"

Callback = Callable[[int, int], None]


def fill_scenes(
    scenes: Sequence[Scene],
    *,
    options: FillOptions,
    cluster: str | None = None,
    callback: Callback | None = None,
) -> list[Outcome]:
    """Fill scenes; those that fail are told from the others in what is returned.

    Parameters
    ----------
    scenes
        What is filled, and which raster each becomes.
    options
        How, the same for all; figure and truth belong to one scene.
    cluster
        As the address of `lacunar.fill.cluster.fill_on_cluster`; None fills one scene after another in this process.
    callback
        Called with (hundredths of a scene done, all).

    Returns
    -------
    list of Outcome
        One for each scene, in their order.

    Raises
    ------
    LacunarError
        Several scenes with one figure or truth; a cluster that cannot be used.
    """
    if len(scenes) > 1 and (options.figure or options.truth or any(scene.bands_folder for scene in scenes)):
        raise LacunarError(
            f"{len(scenes)} scenes with one figure, truth or folder of bands: these are for one scene, leave them out"
        )
    if cluster is not None:
        from lacunar.fill.cluster import fill_on_cluster

        return fill_on_cluster(scenes, cluster, options=options, callback=callback)
    outcomes: list[Outcome] = []

    def report(done: int, total: int) -> None:
        if callback:
            callback(100 * len(outcomes) + 100 * done // max(1, total), 100 * len(scenes))

    for scene in scenes:
        outcomes.append(_fill_one(scene, options, report))
        report(0, 1)
    return outcomes


def _fill_one(scene: Scene, options: FillOptions, callback: Callback) -> Outcome:
    """Fill a scene in this process."""
    begun = time.perf_counter()
    try:
        record = fill_inputs(
            scene.inputs, scene.output, bands_folder=scene.bands_folder, options=options, callback=callback
        )
    except Exception as error:  # whatever it is, the other scenes go on
        return failed(scene, time.perf_counter() - begun, error)
    status: Status = "kept" if "whole_already" in record else "filled"
    return Outcome(scene=scene, status=status, seconds=time.perf_counter() - begun, record=record)


def write_summary(folder: Path, outcomes: Sequence[Outcome], *, seconds: float, command: str) -> dict[str, Any]:
    """Write ``lacunar_summary.json`` about the last run into a folder, in place of that of an earlier run.

    Parameters
    ----------
    folder
        Where the outputs are.
    outcomes, seconds, command
        What came of each scene, the time that all took, and what the user typed.

    Returns
    -------
    dict
        What is written: counts, time and, for each scene, input, output, status, seconds, filled pixels, and why not.

    Raises
    ------
    RasterError
        The disk refuses.
    """
    counts = {status: sum(outcome.status == status for outcome in outcomes) for status in get_args(Status)}
    summary = {
        "command": command,
        "seconds": round(seconds, 2),
        "scenes": counts,
        "pixels_filled": sum(outcome.filled for outcome in outcomes if outcome.status == "filled"),
        "outcomes": [
            {
                "input": str(outcome.scene.inputs.path),
                "output": str(outcome.scene.output),
                "status": outcome.status,
                "seconds": round(outcome.seconds, 2),
                "pixels_filled": outcome.filled,
                "why": outcome.why,
            }
            for outcome in outcomes
        ],
    }
    target = folder / SUMMARY
    hidden = target.with_name(f".{SUMMARY}.partial")
    try:
        write_text(hidden, json.dumps(summary, indent=2) + "\n")
        hidden.replace(target)
    except OSError as error:
        raise RasterError(f"{target}: cannot take its name ({error.strerror}): choose another folder") from error
    finally:
        hidden.unlink(missing_ok=True)
    return summary
