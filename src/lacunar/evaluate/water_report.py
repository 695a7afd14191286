"""The report on how good maps of water are: findings and figures in, one self-contained HTML page out."""

import math
from collections.abc import Callable, Mapping, Sequence

from lacunar.evaluate.report import Report
from lacunar.evaluate.tables import number
from lacunar.evaluate.water_findings import WaterFindings, share
from lacunar.evaluate.water_measures import WaterRow
from lacunar.evaluate.water_scores import FAR, LakeScore, WaterScore, image_scores

# Table 4 of Bezerra et al. (2024), WaterSegDiff on three scenes of mountain lakes: IoU, pixel accuracy, F1.
PAPER = ((0.956, 0.998, 0.978), (0.968, 0.990, 0.984), (0.950, 0.997, 0.975))
PAPER_SET = "glacial_nrg"  # the set of the paper's kind of scene

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
COST_CAPTION = (
    "Bars are 95 % intervals from resampling images. All points are of the same images, which move them together; how "
    "sure differences are, the table of gains says. Horizontal lines are networks without steps, or the best index "
    "where there is none."
)


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
    """The headline table, what is gained over one method, and every run."""
    page.section("Scores by set and method")
    chosen = [score for score in findings.scores if score.method in {*findings.shown, findings.against}]
    caption = "All pixels whose truth is known, pooled over the images of a set. Networks are set off."
    _add_score_table(page, findings, chosen, caption=caption)
    _add_gain_table(page, findings, chosen)
    if len(chosen) < len(findings.scores):
        _add_score_table(page, findings, findings.scores, folded="Every run")
        _add_gain_table(page, findings, findings.scores, folded=f"Every run minus {findings.against}")
    means = [
        (s.set_name, s.method, share(s.image_iou), share(s.image_f1), share(s.image_boundary_f1))
        for s in findings.scores
    ]
    header = ("set", "method", "IoU", "F1", "boundary F1")
    page.table(header, means, text_columns=2, group=True, folded="Means of the images' own scores")


def _add_score_table(
    page: Report, findings: WaterFindings, scores: Sequence[WaterScore], *, caption: str = "", folded: str = ""
) -> None:
    """One row for each set and method."""
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
        for s in scores
    ]
    strong = [i for i, s in enumerate(scores) if s.method in findings.runs]
    page.table(header, rows, caption=caption, text_columns=2, strong=strong, group=True, folded=folded)


def _add_gain_table(page: Report, findings: WaterFindings, scores: Sequence[WaterScore], *, folded: str = "") -> None:
    """Differences to one method."""
    others = [score for score in scores if score.method != findings.against]
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
        caption = "" if folded else f"Scores minus those of {findings.against}, the same images resampled together."
        header = ("set", "method", "IoU", "boundary F1")
        strong = [i for i, s in enumerate(others) if s.method in findings.runs]
        page.table(header, rows, caption=caption, text_columns=2, strong=strong, group=True, folded=folded)


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
        page.picture(pictures[name], alt=f"IoU against {words[name]}", caption=COST_CAPTION)


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
