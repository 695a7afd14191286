"""Evaluate methods on cases whose solution is known: one mechanism for LST, water and pictures."""

import json
import math
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from lacunar.errors import LacunarError
from lacunar.evaluate.lst import LstTask
from lacunar.evaluate.lst_archive import ArchiveTask
from lacunar.evaluate.pictures import PictureTask
from lacunar.evaluate.report import markdown_table, render, sentences, text_of
from lacunar.evaluate.restoration import RestorationTask
from lacunar.evaluate.task import Estimate, Found, Lineup, Plot, Task, TaskName
from lacunar.evaluate.water import WaterTask
from lacunar.geo.staging import Staging
from lacunar.plotting import save_figure
from lacunar.versions import describe_machine, versions

TASKS: Mapping[TaskName, type[Task]] = {
    "lst": LstTask,
    "archive": ArchiveTask,
    "water": WaterTask,
    "pictures": PictureTask,
    "restoration": RestorationTask,
}

Callback = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found."""

    task: Task  # the options
    found: Found
    command: str = ""  # what the user typed
    seconds: float = 0.0

    @property
    def scores(self) -> pd.DataFrame:
        """The pooled scores: one row for each method in each group of cases."""
        return self.found.scores

    @property
    def cases(self) -> pd.DataFrame:
        """The scores of every method on every case."""
        return self.found.tables["cases"]

    def markdown(self) -> str:
        """The main scores as a Markdown table."""
        table = self._titled(text_of(self.task.main(self.scores), self.task.columns))
        return markdown_table([str(name) for name in table], table.itertuples(index=False, name=None))

    def _titled(self, text: pd.DataFrame) -> pd.DataFrame:
        baseline = self.found.lineup.baseline
        return text.rename(columns={name: it.format(baseline=baseline) for name, (it, _) in self.task.columns.items()})

    def record(self) -> dict[str, Any]:
        """Everything as plain values, as ``scores.json`` holds it; None where a score is not finite."""
        told = [item.name for item in fields(self.task) if item.name not in self.task.inputs]
        tables = {name: table.to_dict("records") for name, table in self.found.tables.items()}
        record = {
            "command": self.command,
            "versions": versions(),
            "machine": describe_machine(),
            "seconds": round(self.seconds, 1),
            "options": {name: getattr(self.task, name) for name in told},
            "data": self.task.data(self.found) | self.found.lineup.notes,
            "baseline": self.found.lineup.baseline,
            **tables,
            "reliability": list(self.found.reliability),
        }
        return {name: _plain(value) for name, value in record.items()}

    def save(self, folder: Path, *, overwrite: bool = False) -> None:
        """Write ``scores.csv``, ``cases.csv``, ``scores.json``, ``report.html`` and the figures as PNG into a folder.

        A file that may not be replaced or a disk that refuses is a `LacunarError`; nothing is written then.
        """
        with Staging(overwrite=overwrite) as staging:
            self._write(_staged(staging, folder, self.task, self.found.cases, self.found.lineup))

    def _write(self, places: Mapping[str, Path]) -> None:
        plots, pictures = self.task.plots(self.found.cases, self.found.lineup), {}
        for name, plot in plots.items():
            pictures[name] = save_figure(plot.draw(self.found), places[f"{name}.png"]).read_bytes()
        for name, table in self.found.tables.items():
            table.to_csv(places[f"{name}.csv"], index=False, na_rep="nan", lineterminator="\n")
        record = self.record()
        text = json.dumps(record, indent=1, allow_nan=False)
        places["scores.json"].write_text(f"{text}\n", encoding="utf-8")
        places["report.html"].write_text(self._page(record, plots, pictures), encoding="utf-8")

    def _page(self, record: Mapping[str, Any], plots: Mapping[str, Plot], pictures: Mapping[str, bytes]) -> str:
        lineup, main = self.found.lineup, text_of(self.task.main(self.scores), self.task.columns)
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, plot in plots.items():
            sections.setdefault(plot.section, []).append((name, plot.caption))
        versions_used = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
        options = ", ".join(f"{name} {value}" for name, value in record["options"].items())
        made = record["data"] | {"machine": record["machine"], "versions": versions_used, "options": options}
        return render(
            self.task.title,
            pictures,
            leads=sentences(main, self.task.lead, preferred=lineup.preferred, baseline=lineup.baseline),
            main=self._titled(main),
            strong=list(lineup.curves),
            note=self.task.note,
            unit=self.task.unit,
            sections=sections,
            tables=self.task.details(self.found),
            command=self.command,
            made=pd.DataFrame(made.items(), columns=["what", "value"]),
        )


def evaluate(
    task: TaskName,
    *,
    output: Path | str | None = None,
    overwrite: bool = False,
    command: str = "",
    callback: Callback | None = None,
    **options: Any,  # noqa: ANN401
) -> Evaluation:
    """Run every method on every case, measure, and pool the scores.

    Parameters
    ----------
    task
        ``lst``, ``archive`` (LST beside many dates), ``water``, ``pictures`` or ``restoration``.
    output, overwrite
        Folder to save to (see `Evaluation.save`), checked before any work is done; whether files may be replaced.
    command
        What the user typed, to be told in the report.
    callback
        Called with (answers, all).
    **options
        Of `LstTask`, `ArchiveTask`, `WaterTask`, `PictureTask` or `RestorationTask`: among them the data (``rasters``
        and ``clouds``, ``scenes``, ``faces``, or ``pictures``), ``models``, ``methods`` and ``seed``.

    Raises
    ------
    LacunarError
        Bad input; nothing is written then.

    Examples
    --------
    >>> found = evaluate("lst", rasters=Path("clear"), masks="blobs", models=())  # doctest: +SKIP
    >>> found.scores[["rate", "method", "rmse"]]  # doctest: +SKIP
    """
    chosen, started = _task(task, options), time.monotonic()
    cases, lineup = chosen.cases(), chosen.lineup()
    read = [getattr(chosen, name) for name in chosen.inputs]
    with Staging(overwrite=overwrite, inputs=[path for path in read if path is not None]) as staging:
        places = {} if output is None else _staged(staging, Path(output), chosen, cases, lineup)
        found = run(chosen, cases, lineup, callback=callback)
        evaluation = Evaluation(chosen, found, command, time.monotonic() - started)
        if places:
            evaluation._write(places)
    return evaluation


def run(task: Task, cases: Any, lineup: Lineup, *, callback: Callback | None = None) -> Found:  # noqa: ANN401
    """Run every method of a lineup on every case of a task, measure every answer, and pool the scores.

    No case, no method, or an answer that cannot be scored is a `LacunarError`.
    """
    if not cases or not lineup.methods:
        raise LacunarError(f"got {len(cases)} cases and {len(lineup.methods)} methods; wanted one or more of both")
    drawn, examples, rows, done = task.examples(cases), [], [], 0
    for item in cases:
        case = task.load(item)
        answers: dict[str, Estimate] = {}
        given, seed = case.given, zlib.crc32(f"{task.seed} {case.name}".encode())
        for method in lineup.methods.values():
            before = time.perf_counter()
            found = method(*given, seed)
            seconds = time.perf_counter() - before
            for name, estimate in found.items():
                told = {"method": name, "evaluations": estimate.evaluations, "seconds": seconds * estimate.share}
                rows += [case.identity | told | row for row in task.measure(case, estimate)]
            answers |= found
            done += 1
            if callback:
                callback(done, len(cases) * len(lineup.methods))
        if any(item is one for one in drawn):
            examples.append((case, answers))
    sums = pd.DataFrame(rows)
    return Found(cases, lineup, task.score(sums, lineup), task.reliability(sums), examples)


def _task(name: str, options: Mapping[str, Any]) -> Task:
    if name not in TASKS:
        raise LacunarError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    kind = TASKS[name]  # type: ignore[index]
    known = {item.name for item in fields(kind)}
    for option in options:
        if option not in known:
            raise LacunarError(
                f"unknown option {option!r} of evaluate {name}: choose out of {', '.join(sorted(known))}"
            )
    paths = {item: Path(options[item]) for item in kind.inputs if options.get(item) is not None}
    if kind.inputs[0] not in paths:
        raise LacunarError(f"evaluate {name} wants {kind.inputs[0]}=FOLDER, the data whose truth is known")
    several = {item.name for item in fields(kind) if str(item.type).startswith("tuple")}
    lists = {}
    for option in several.intersection(options):  # a single value stands for a list of one
        value = options[option]
        lists[option] = (value,) if isinstance(value, str | int | float) else tuple(value)
    return kind(**{**options, **lists, **paths})


def _staged(staging: Staging, folder: Path, task: Task, cases: Any, lineup: Lineup) -> dict[str, Path]:  # noqa: ANN401
    """Where every output is written first, by name."""
    tables = [f"{name}.csv" for name in ("scores", "cases", *task.more_tables(cases))]
    names = [*tables, "scores.json", "report.html", *(f"{name}.png" for name in task.plots(cases, lineup))]
    return {name: staging.stage(folder / name, make_folder=True) for name in names}


def _plain(value: Any) -> Any:  # noqa: ANN401
    """A value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
