"""The report on how good maps of water are: scores in, figures and one self-contained HTML page out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from lacunar.report import Report
from lacunar.report_figures import Point, evaluations_panels, strata_panels
from lacunar.tables import markdown_table, number
from lacunar.water_evaluation import Run
from lacunar.water_measures import WaterRow
from lacunar.water_report_figures import probability_panels, scatter_panels
from lacunar.water_scores import FAR, LAKE_CLASSES, LakeScore, WaterReliability, WaterScore, image_scores

# Table 4 of Bezerra et al. (2024), WaterSegDiff on three scenes of mountain lakes: IoU, pixel accuracy, F1.
PAPER = ((0.956, 0.998, 0.978), (0.968, 0.990, 0.984), (0.950, 0.997, 0.975))
PAPER_SET = "glacial_nrg"  # the set of the paper's kind of scene
MAX_CURVES = 8  # that a figure holds and is still read
DIGITS = 3

PAPER_NOTE = (
    "Rows named 'published' are Table 4 of Bezerra et al. (2024), one scene each. They are NOT comparable with the "
    "other rows: other images, other labels. Ours are three typical scenes of {set}, chosen by their water alone: "
    "nearest the quartiles of the true area, whatever the scores."
)
LAKES_NOTE = (
    "A lake is a body of true water, joined by sides or corners; sizes are pixels inside the image. False water counts "
    "against the nearest lake up to 10 pixels away, and beyond that as far from lakes. Brackets are missing where a "
    "resample may hold no lake of the class."
)
GAIN_CAPTION = (
    "Bars are the 95 % interval of the difference to {against}, drawn around the score: how sure that difference is, "
    "not how much images differ. Horizontal lines are methods without steps."
)


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
        figures["evaluations"] = _draw_gains(
            findings,
            lambda run, score: (f"{run.model}, K = {run.samples}", score.evaluations // run.samples),
            "network evaluations of each sample",
        )
    if len({run.samples for run in sampled}) > 1:
        figures["samples"] = _draw_gains(
            findings, lambda run, _: (f"{run.model}, {run.steps} steps", run.samples), "samples that are fused (K)"
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


def _draw_gains(findings: WaterFindings, place: Callable[[Run, WaterScore], tuple[str, int]], x_label: str) -> Figure:
    """IoU of the networks against what they took: curve and place on the axis are said by `place`."""
    points: dict[str, dict[str, list[Point]]] = {name: {} for name in findings.sets}
    levels: dict[str, dict[str, float]] = {name: {} for name in findings.sets}
    for score in findings.scores:
        run = findings.runs.get(score.method)
        if run is None or not run.samples:
            levels[score.set_name][score.method] = score.iou
            continue
        curve, x = place(run, score)
        base = score.iou - score.iou_gain
        point = Point(x, score.iou, base + score.iou_gain_low, base + score.iou_gain_high)
        points[score.set_name].setdefault(curve, []).append(point)
    ordered = {
        name: {curve: sorted(own, key=lambda point: point.evaluations) for curve, own in curves.items()}
        for name, curves in points.items()
    }
    return evaluations_panels(ordered, levels, x_label=x_label, y_label="IoU of water")


def write_water_report(findings: WaterFindings, pictures: Mapping[str, bytes]) -> str:
    """Write the page.

    Parameters
    ----------
    findings
        What was found.
    pictures
        PNG files of `draw_water_figures` by their names, and ``examples_SET`` for each set.

    Returns
    -------
    str
        HTML that refers to nothing outside itself.
    """
    page = Report("How good are the maps of water?")
    _add_summary(page, findings)
    _add_scores(page, findings)
    _add_paper(page, findings)
    page.section("Typical scenes")
    for name in findings.sets:
        caption = "Chosen by their water alone: nearest the quartiles of the true area. White: not known, not scored."
        page.picture(pictures[f"examples_{name}"], alt=f"typical scenes of {name}", caption=caption)
    _add_lakes(page, findings, pictures)
    _add_cost(page, findings, pictures)
    _add_probability(page, findings, pictures)
    _add_images(page, findings, pictures)
    page.section("How this page was made")
    page.code("Command:", findings.command)
    page.table(("what", "value"), [*findings.data.items(), *findings.made.items()], text_columns=2)
    return page.html()


def _add_summary(page: Report, findings: WaterFindings) -> None:
    """What came out, in a sentence for each set."""
    for name in findings.sets:
        ours, base = findings.score(name, findings.headline(name)), findings.score(name, findings.against)
        if ours is None:
            continue
        text = (
            f"{name} ({ours.images} images): {ours.method} maps water with an IoU of "
            f"{share(ours.iou, ours.iou_low, ours.iou_high)}, pixel accuracy {share(ours.pixel_accuracy)}, F1 "
            f"{share(ours.f1)}, boundary F1 {share(ours.boundary_f1)}."
        )
        if base is not None and base is not ours:
            gain = share(ours.iou_gain, ours.iou_gain_low, ours.iou_gain_high, signed=True)
            text += f" {base.method} has an IoU of {share(base.iou)}: {gain}."
        page.paragraph(text, kind="lead")
    page.paragraph("All pixels of a set pooled. Brackets: 95 % intervals from resampling whole images.", kind="note")


def _add_scores(page: Report, findings: WaterFindings) -> None:
    """The headline table."""
    page.section("Scores by set and method")
    header = ["set", "method", "IoU of water", "mean IoU", "pixel accuracy", "precision", "recall", "F1"]
    header += ["boundary F1 (2 px)", "evaluations", "s / image"]
    rows = [
        (
            s.set_name,
            s.method,
            share(s.iou, s.iou_low, s.iou_high),
            *(share(figure) for figure in (s.mean_iou, s.pixel_accuracy, s.precision, s.recall, s.f1)),
            share(s.boundary_f1, s.boundary_f1_low, s.boundary_f1_high),
            s.evaluations or "-",
            number(s.seconds, 2),
        )
        for s in findings.scores
    ]
    strong = [i for i, s in enumerate(findings.scores) if s.method in findings.runs]
    caption = "All pixels whose truth is known, pooled over the images of a set. Networks are set off."
    page.table(header, rows, caption=caption, text_columns=2, strong=strong, group=True)
    _add_gains(page, findings)


def _add_gains(page: Report, findings: WaterFindings) -> None:
    """Differences to one method, and means of the images' own scores."""
    others = [s for s in findings.scores if s.method != findings.against]
    rows = [
        (
            s.set_name,
            s.method,
            share(s.iou_gain, s.iou_gain_low, s.iou_gain_high, signed=True),
            share(s.boundary_gain, s.boundary_gain_low, s.boundary_gain_high, signed=True),
        )
        for s in others
    ]
    if rows:
        caption = f"Scores minus those of {findings.against}, the same images resampled together."
        header = ("set", "method", "IoU", "boundary F1")
        strong = [i for i, s in enumerate(others) if s.method in findings.runs]
        page.table(header, rows, caption=caption, text_columns=2, strong=strong, group=True)
    means = [
        (s.set_name, s.method, share(s.image_iou), share(s.image_f1), share(s.image_boundary_f1))
        for s in findings.scores
    ]
    own_header = ("set", "method", "IoU", "F1", "boundary F1")
    page.table(own_header, means, text_columns=2, group=True, folded="Means of the images' own scores")


def _add_paper(page: Report, findings: WaterFindings) -> None:
    """Table 4 of the paper beside three scenes of ours."""
    name = PAPER_SET if PAPER_SET in findings.typical else findings.sets[0]
    page.section("Beside the paper's Table 4")
    page.paragraph(PAPER_NOTE.format(set=name))
    rows: list[tuple[object, ...]] = []
    strong = []
    for scene in findings.typical[name]:
        for row in findings.rows:
            if (row.set_name, row.name) == (name, scene) and row.method in findings.shown:
                image = image_scores(row)
                strong += [len(rows)] if row.method == findings.headline(name) else []
                cells = (share(image[key]) for key in ("iou", "pixel_accuracy", "f1", "boundary_f1"))
                rows.append((scene, row.method, *cells))
    for place, figures in enumerate(PAPER, start=1):
        rows.append((f"published, scene {place}", "NOT comparable", *(share(figure) for figure in figures), "-"))
    header = ("scene", "method", "IoU", "pixel accuracy", "F1", "boundary F1 (2 px)")
    page.table(header, rows, text_columns=2, strong=strong, group=True)


def _add_lakes(page: Report, findings: WaterFindings, pictures: Mapping[str, bytes]) -> None:
    """Scores by lake size."""
    page.section("By size of the lake")
    page.paragraph(LAKES_NOTE, kind="note")
    page.picture(pictures["lakes"], alt="IoU by size of the lake", caption="IoU of the water of lakes of each size.")
    near = [score for score in findings.lakes if score.size != FAR]
    far = [score for score in findings.lakes if score.size == FAR]
    _add_lake_table(page, findings, near, "IoU", lambda s: share(s.iou, s.iou_low, s.iou_high), folded=False)
    _add_lake_table(page, findings, near, "Recall", lambda s: share(s.recall, s.recall_low, s.recall_high))
    _add_lake_table(page, findings, near, "Lakes found (half of their pixels or more)", lambda s: str(s.found))
    _add_lake_table(page, findings, far, "False water far from all lakes, in pixels", lambda s: str(s.false_pixels))


def _add_lake_table(
    page: Report,
    findings: WaterFindings,
    scores: Sequence[LakeScore],
    title: str,
    cell: Callable[[LakeScore], str],
    *,
    folded: bool = True,
) -> None:
    """One row for each set and size, one column for each method."""
    places: dict[tuple[str, str], dict[str, LakeScore]] = {}
    for score in scores:
        places.setdefault((score.set_name, score.size), {})[score.method] = score
    rows = []
    for (name, size), found in places.items():
        first = next(iter(found.values()))
        cells = [cell(found[method]) if method in found else "-" for method in findings.shown]
        rows.append((name, size, first.lakes, first.pixels, *cells))
    header = ["set", "lake", "lakes", "pixels", *findings.shown]
    folded_title, caption = (title, "") if folded else ("", title)
    page.table(header, rows, text_columns=2, group=True, folded=folded_title, caption=caption)


def _add_cost(page: Report, findings: WaterFindings, pictures: Mapping[str, bytes]) -> None:
    """IoU against evaluations and samples, where several were tried."""
    words = {"evaluations": "network evaluations", "samples": "the number of samples"}
    there = [name for name in words if name in pictures]
    if there:
        page.section(f"IoU against {' and '.join(words[name] for name in there)}")
    for name in there:
        caption = GAIN_CAPTION.format(against=findings.against)
        page.picture(pictures[name], alt=f"IoU against {words[name]}", caption=caption)


def _add_probability(page: Report, findings: WaterFindings, pictures: Mapping[str, bytes]) -> None:
    """Whether the probability is honest."""
    sure = [score for score in findings.scores if not math.isnan(score.brier)]
    if not sure:
        return
    page.section("Is the probability honest?")
    if "reliability" in pictures:
        caption = "Ten bins of the claimed probability, each at its mean; on the diagonal the claim is honest."
        page.picture(pictures["reliability"], alt="share of water against claimed probability", caption=caption)
    rows = [(s.set_name, s.method, number(s.calibration_error, 4), number(s.brier, 4)) for s in sure]
    caption = (
        "Expected calibration error: mean gap between claim and share; Brier score: mean squared error; 0 is best."
    )
    page.table(("set", "method", "calibration error", "Brier score"), rows, caption=caption, text_columns=2, group=True)


def _add_images(page: Report, findings: WaterFindings, pictures: Mapping[str, bytes]) -> None:
    """Every image."""
    page.section("Image by image")
    caption = "Each mark is one image. Without water, an IoU is 1 where none was found, else 0."
    page.picture(pictures["images"], alt="IoU of each image against its water", caption=caption)
    found: dict[tuple[str, str], dict[str, WaterRow]] = {}
    for row in findings.rows:
        found.setdefault((row.set_name, row.name), {})[row.method] = row
    rows = []
    for (name, image), own in found.items():
        water = image_scores(next(iter(own.values())))["water"]
        cells = [share(float(own[method].pixels.iou)) if method in own else "-" for method in findings.shown]
        rows.append((name, image, share(water), *cells))
    header = ("set", "image", "share of water", *findings.shown)
    page.table(header, rows, text_columns=2, group=True, folded="IoU of every image")
