"""What an evaluation of water found: all that its report tells, as a table to print and as figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from lacunar.evaluate.report_figures import Point, evaluations_panels, strata_panels
from lacunar.evaluate.tables import markdown_table
from lacunar.evaluate.water_evaluation import Run
from lacunar.evaluate.water_measures import WaterRow
from lacunar.evaluate.water_report_figures import probability_panels, scatter_panels
from lacunar.evaluate.water_scores import FAR, LAKE_CLASSES, LakeScore, WaterReliability, WaterScore, image_scores

MAX_CURVES = 8  # that a figure holds and is still read
DIGITS = 3


@dataclass(frozen=True, eq=False)
class WaterFindings:
    """Everything that the report tells.

    Parameters
    ----------
    scores, lakes, reliability, rows
        Pooled scores, those of lakes by size, reliability curves, and every method on every image.
    runs
        Methods that are networks.
    shown
        Methods of figures and of tables with one column each.
    preferred
        Methods by preference: summary and pictures of a set are about the first that maps it.
    against
        What gains are counted from.
    typical
        Set -> names of its typical images.
    data, made
        Lines on the data, and on machine, versions and settings: label -> text.
    command
        What reproduces the page.
    """

    scores: Sequence[WaterScore]
    lakes: Sequence[LakeScore]
    reliability: Sequence[WaterReliability]
    rows: Sequence[WaterRow]
    runs: Mapping[str, Run]
    shown: Sequence[str]
    preferred: Sequence[str]
    against: str
    typical: Mapping[str, Sequence[str]]
    data: Mapping[str, str]
    made: Mapping[str, str]
    command: str

    @property
    def sets(self) -> list[str]:
        """The sets, as they come."""
        return list(dict.fromkeys(score.set_name for score in self.scores))

    def headline(self, set_name: str) -> str:
        """The method that summary and pictures of a set are about."""
        return next(method for method in self.preferred if self.score(set_name, method))

    def score(self, set_name: str, method: str) -> WaterScore | None:
        """One score, if there is one."""
        return next((s for s in self.scores if (s.set_name, s.method) == (set_name, method)), None)


def share(value: float, low: float = math.nan, high: float = math.nan, *, signed: bool = False) -> str:
    """A share of 1 with its interval where it has one, a dash where it is none.

    Examples
    --------
    >>> share(0.95, 0.9, 0.975), share(0.01, signed=True), share(math.nan)
    ('0.950 [0.900, 0.975]', '+0.010', '-')
    """
    if math.isnan(value):
        return "-"
    sign = "+" if signed else ""
    text = f"{value:{sign}.{DIGITS}f}"
    return text if math.isnan(low) else f"{text} [{low:{sign}.{DIGITS}f}, {high:{sign}.{DIGITS}f}]"


def scores_table(scores: Sequence[WaterScore]) -> str:
    """Scores as a markdown table, one row for each set and method."""
    header = ("set", "method", "IoU [95 %]", "mean IoU", "pixel accuracy", "precision", "recall", "F1")
    rows = [
        (
            s.set_name,
            s.method,
            share(s.iou, s.iou_low, s.iou_high),
            *(share(figure) for figure in (s.mean_iou, s.pixel_accuracy, s.precision, s.recall, s.f1, s.boundary_f1)),
        )
        for s in scores
    ]
    return markdown_table((*header, "boundary F1"), rows)


def draw_water_figures(findings: WaterFindings) -> dict[str, Figure]:
    """Draw ``images``, ``lakes`` and, where there is something, ``reliability``, ``evaluations``, ``samples``."""
    figures = {"images": _draw_images(findings), "lakes": _draw_lakes(findings)}
    curves: dict[str, dict[str, tuple[Sequence[float], Sequence[float]]]] = {name: {} for name in findings.sets}
    for curve in findings.reliability:
        if curve.method in findings.shown:
            curves[curve.set_name][curve.method] = (curve.claimed.tolist(), curve.observed.tolist())
    if any(curves.values()):
        figures["reliability"] = probability_panels(curves)
    sampled = [run for run in findings.runs.values() if run.samples]
    if len({run.steps for run in sampled}) > 1:
        figures["evaluations"] = _draw_costs(
            findings,
            lambda run, score: (f"{run.model}, K = {run.samples}", score.evaluations // run.samples),
            "network evaluations of each sample",
        )
    if len({run.samples for run in sampled}) > 1:
        figures["samples"] = _draw_costs(
            findings, lambda run, _: (f"{run.model}, {run.pace}", run.samples), "samples that are fused (K)"
        )
    return figures


def _draw_images(findings: WaterFindings) -> Figure:
    """IoU of every image against its water."""
    points: dict[str, dict[str, tuple[list[float], list[float]]]] = {name: {} for name in findings.sets}
    for method in findings.shown:
        for row in findings.rows:
            if row.method == method:
                image = image_scores(row)
                x, y = points[row.set_name].setdefault(method, ([], []))
                x.append(image["water"])
                y.append(image["iou"])
    return scatter_panels(points)


def _draw_lakes(findings: WaterFindings) -> Figure:
    """IoU of lakes by size."""
    sizes = [size for size in LAKE_CLASSES if size != FAR]
    found = {(s.set_name, s.method, s.size): s.iou for s in findings.lakes}
    curves: dict[str, dict[str, list[float]]] = {}
    for name in findings.sets:
        there = [method for method in findings.shown if findings.score(name, method)]
        curves[name] = {method: [found.get((name, method, size), math.nan) for size in sizes] for method in there}
    return strata_panels(sizes, curves, x_label="size of the lake (pixels)", y_label="IoU of its water")


def _draw_costs(findings: WaterFindings, place: Callable[[Run, WaterScore], tuple[str, int]], x_label: str) -> Figure:
    """IoU of the networks against what they took: curve and place on the axis are said by `place`."""
    points: dict[str, dict[str, list[Point]]] = {name: {} for name in findings.sets}
    levels = {name: _levels(findings, name) for name in findings.sets}
    for score in findings.scores:
        run = findings.runs.get(score.method)
        if run is None or not run.samples:
            continue  # one of the levels
        curve, x = place(run, score)
        points[score.set_name].setdefault(curve, []).append(Point(x, score.iou, score.iou_low, score.iou_high))
    ordered = {
        name: {curve: sorted(own, key=lambda point: point.evaluations) for curve, own in curves.items()}
        for name, curves in points.items()
    }
    return evaluations_panels(ordered, levels, x_label=x_label, y_label="IoU of water")


def _levels(findings: WaterFindings, set_name: str) -> dict[str, float]:
    """IoU of the networks without steps, or of the best index where there is none."""
    own = [score for score in findings.scores if score.set_name == set_name]
    plain = [s for s in own if s.method in findings.runs and not findings.runs[s.method].samples]
    indices = [s for s in own if s.method not in findings.runs]
    best = [max(indices, key=lambda score: score.iou)] if indices else []
    return {score.method: score.iou for score in plain or best}
