"""Progress of the commands on the error stream."""

import math
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

if TYPE_CHECKING:
    from lacunar.train.loop import Progress

LOG_EVERY = 30.0  # seconds between two lines of a log whose error stream is no terminal


class Bars:
    """Bars on a terminal; in a log, of what takes long, a plain line now and then."""

    def __enter__(self) -> Self:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = RichProgress(*columns, console=console, refresh_per_second=1, disable=not console.is_terminal)
        self._bars.start()
        self._tasks: dict[str, Any] = {}
        self._logged, self._begun = -math.inf, math.inf
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def filling(self, done: int, total: int) -> None:
        """Show the filling, in hundredths of a block."""
        self._show("filling", done, total)
        self._log_later(f"filling: {done / max(1, total):.0%}", ended=done == total)

    def filling_scenes(self, done: int, total: int) -> None:
        """Show how far several scenes are, in hundredths of a scene."""
        self._show("filling scenes", done, total)
        self._log(f"filling scenes: {done / 100:.2f} of {total // 100}", last=done == total)

    def segmenting(self, done: int, total: int) -> None:
        """Show the segmentation, in the parts that it counts."""
        self._show("finding water", done, total)
        self._log_later(f"finding water: {done / max(1, total):.0%}", ended=done == total)

    def evaluating(self, done: int, total: int) -> None:
        """Show how many answers of an evaluation are there."""
        self._show("answering cases", done, total)
        self._log(f"answering cases: {done} of {total}", last=done == total)

    def drawing(self, done: int, total: int) -> None:
        """Show the drawing of examples."""
        self._show("drawing examples", done, total)
        self._log_later(f"drawing examples: {done} of {total}", ended=done == total)

    def training(self, progress: "Progress") -> None:
        """Show the training, with its loss and rate."""
        note = f"loss {progress.loss:.4f}, {progress.examples_per_second:.1f} examples/s"
        self._show("training", progress.step, progress.steps, f"  {note}")
        step, left = f"step {progress.step} of {progress.steps}", f"{progress.seconds_left / 60:.0f} min left"
        self._log(f"training: {step}, {note}, {left}", last=progress.step == progress.steps)

    def _log_later(self, line: str, *, ended: bool) -> None:
        """Write a line about what began a while ago; what is soon over needs none."""
        self._begun = min(self._begun, time.monotonic())
        if not ended and time.monotonic() - self._begun >= LOG_EVERY:
            self._log(line, last=False)

    def _show(self, label: str, done: int, total: int, note: str = "") -> None:
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=total)
        self._bars.update(self._tasks[label], completed=done, total=total, description=f"{label}{note}")

    def _log(self, line: str, *, last: bool) -> None:
        """Write a line where no bar can be seen: the first, the last, and one every half minute."""
        now = time.monotonic()
        if self._bars.disable and (last or now - self._logged >= LOG_EVERY):
            self._logged = now
            typer.echo(line, err=True)
