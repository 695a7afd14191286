"""What an evaluation of filled pictures found: one page of tables and pictures, and its figures."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from lacunar.evaluate.picture_evaluation import ONE_SAMPLE
from lacunar.evaluate.picture_scores import ALL, PictureScore
from lacunar.evaluate.report import Report
from lacunar.evaluate.report_figures import Point, evaluations_panels
from lacunar.evaluate.tables import markdown_table, number, with_interval

# Tables 2 and 3 of Bezerra et al. (2024), two faces: rate -> MSE, PSNR (dB), SSIM of the whole image.
PAPER = {
    0.15: ((0.0044, 29.57, 0.930), (0.0017, 33.67, 0.938)),
    0.20: ((0.0412, 29.87, 0.913), (0.0014, 34.66, 0.929)),
    0.50: ((0.0214, 22.72, 0.777), (0.0123, 25.13, 0.811)),
}
IMAGE_NOTE = (
    "Known pixels are exact, so these figures flatter, and more so the less is missing. Rows named 'published' are "
    "Tables 2 and 3 of Bezerra et al. (2024), two faces of CelebA-HQ by RePaint. They are NOT comparable with the "
    "other rows: other faces, other masks, another size."
)
SAMPLE_NOTE = (
    "A single sample has about twice the squared error of the mean of many: it shows one face that may be there, the "
    "mean shows what all have in common. Seconds are those of all samples of a picture, on the machine named below."
)
EVALUATIONS_CAPTION = (
    "Evaluations are those of all samples of a picture. Bars are the 95 % interval of the gain over {baseline}, added "
    "to the PSNR of {baseline}: how sure the difference to that line is, not how much faces differ."
)


@dataclass(frozen=True, eq=False)
class PictureFindings:
    """Everything that the report tells.

    Parameters
    ----------
    scores
        Pooled, of every rate and kind of occlusion.
    networks
        Methods that are networks: name -> the curve of quality against evaluations that each is a point of.
    headline, baseline
        The method that the summary is about, and the one from which gains are counted.
    data, made
        Lines on the data, and on the machine, versions and settings: label -> text.
    command
        What reproduces the page.
    """

    scores: Sequence[PictureScore]
    networks: Mapping[str, str]
    headline: str
    baseline: str
    data: Mapping[str, str]
    made: Mapping[str, str]
    command: str

    @property
    def overall(self) -> list[PictureScore]:
        """The scores over every kind of occlusion."""
        return [score for score in self.scores if score.hidden_by == ALL]

    @property
    def rates(self) -> list[float]:
        """The missing rates."""
        return list(dict.fromkeys(score.rate for score in self.scores))

    def score(self, method: str, rate: float) -> PictureScore:
        """One score over every kind of occlusion."""
        return next(score for score in self.overall if (score.method, score.rate) == (method, rate))


def hidden(rate: float) -> str:
    """How a missing rate is written.

    Examples
    --------
    >>> hidden(0.15)
    '15 % hidden'
    """
    return f"{100 * rate:g} % hidden"


def scores_table(findings: PictureFindings) -> str:
    """The scores over every kind of occlusion as a markdown table."""
    header = ["hidden", "method", "MSE", "PSNR, dB", f"dB over {findings.baseline}", "SSIM"]
    header += ["image MSE", "image PSNR, dB", "image SSIM", "evaluations", "s / picture"]
    return markdown_table(header, [_cells(score) for score in findings.overall])


def _cells(score: PictureScore) -> tuple[object, ...]:
    """Rate, method, scores over the hole and over the image, cost."""
    return (
        f"{100 * score.rate:g} %",
        score.method,
        number(score.mse, 4),
        with_interval(score.psnr, score.psnr_low, score.psnr_high),
        with_interval(score.gain, score.gain_low, score.gain_high),
        number(score.ssim, 3),
        number(score.image_mse, 4),
        number(score.image_psnr, 2),
        f"{score.image_ssim:.3f}",
        score.evaluations or "-",
        number(score.seconds, 2),
    )


def draw_evaluations(findings: PictureFindings) -> Figure:
    """PSNR over the hole against evaluations: networks as points, all else as levels."""
    points: dict[str, dict[str, list[Point]]] = {}
    levels: dict[str, dict[str, float]] = {}
    for rate in findings.rates:
        panel = hidden(rate)
        base = findings.score(findings.baseline, rate).psnr
        curves = points.setdefault(panel, {})
        own = [score for score in findings.overall if score.rate == rate]
        for score in sorted(own, key=lambda score: score.evaluations):
            if score.method in findings.networks:
                point = Point(score.evaluations, score.psnr, base + score.gain_low, base + score.gain_high)
                curves.setdefault(findings.networks[score.method], []).append(point)
            else:
                levels.setdefault(panel, {})[score.method] = score.psnr
    return evaluations_panels(
        points, levels, x_label="network evaluations for a picture", y_label="PSNR in the hole (dB)"
    )


def write_picture_report(findings: PictureFindings, pictures: Mapping[str, bytes]) -> str:
    """Write the page.

    Parameters
    ----------
    findings
        What was found.
    pictures
        PNG files: ``evaluations`` where there is a network, and ``examples_...`` for each missing rate.

    Returns
    -------
    str
        HTML that refers to nothing outside itself.
    """
    page = Report("How good are the filled faces?")
    _add_summary(page, findings)
    _add_hole(page, findings)
    page.section("Faces")
    for name in (name for name in pictures if name.startswith("examples")):
        caption = "Spread over the kinds of occlusion and chosen by their names alone, not by how well they came out."
        page.picture(pictures[name], alt=f"filled faces, {name}", caption=caption)
    if "evaluations" in pictures:
        page.section("Quality against network evaluations")
        caption = EVALUATIONS_CAPTION.format(baseline=findings.baseline)
        page.picture(pictures["evaluations"], alt="PSNR against network evaluations", caption=caption)
    _add_kinds(page, findings)
    _add_image(page, findings)
    page.section("How this page was made")
    page.code("Command:", findings.command)
    page.table(("what", "value"), [*findings.data.items(), *findings.made.items()], text_columns=2)
    return page.html()


def _add_summary(page: Report, findings: PictureFindings) -> None:
    """What came out, in a sentence for each rate."""
    for rate in findings.rates:
        ours, base = findings.score(findings.headline, rate), findings.score(findings.baseline, rate)
        page.paragraph(
            f"{hidden(rate)}: {ours.method} reaches {with_interval(ours.psnr, ours.psnr_low, ours.psnr_high)} dB over "
            f"the hole, {base.method} {number(base.psnr, 2)} dB: "
            f"{with_interval(ours.gain, ours.gain_low, ours.gain_high)} dB more. SSIM of the whole image: "
            f"{ours.image_ssim:.3f}.",
            kind="lead",
        )
    page.paragraph("Brackets hold 95 % intervals from resampling whole pictures.", kind="note")


def _add_hole(page: Report, findings: PictureFindings) -> None:
    """The headline table."""
    page.section("Errors over the hole")
    header = [
        "hidden",
        "method",
        "MSE",
        "PSNR, dB",
        f"dB over {findings.baseline}",
        "SSIM",
        "evaluations",
        "s / picture",
    ]
    rows = [(*_cells(score)[:6], *_cells(score)[-2:]) for score in findings.overall]
    strong = [i for i, score in enumerate(findings.overall) if score.method in findings.networks]
    caption = "Means over the pictures; values from 0 to 1; known pixels do not count. Networks are set off."
    page.table(header, rows, caption=caption, text_columns=2, strong=strong, group=True)
    page.paragraph(SAMPLE_NOTE, kind="note")


def _add_kinds(page: Report, findings: PictureFindings) -> None:
    """PSNR for each kind of occlusion."""
    page.section("By what hides the face")
    methods = [m for m in dict.fromkeys(score.method for score in findings.scores) if ONE_SAMPLE not in m]
    found = {(score.rate, score.hidden_by, score.method): score for score in findings.scores}
    kinds = dict.fromkeys((score.rate, score.hidden_by, score.cases) for score in findings.scores)
    rows = [
        (f"{100 * rate:g} %", kind, cases, *(number(found[rate, kind, method].psnr, 2) for method in methods))
        for rate, kind, cases in kinds
    ]
    page.table(
        ("hidden", "by", "pictures", *methods), rows, caption="PSNR over the hole, dB.", text_columns=2, group=True
    )


def _add_image(page: Report, findings: PictureFindings) -> None:
    """The whole-image table beside the paper's."""
    page.section("Whole-image scores, as papers print them")
    page.paragraph(IMAGE_NOTE)
    rows: list[tuple[object, ...]] = []
    strong = []
    for rate in findings.rates:
        for s in (s for s in findings.overall if s.rate == rate):
            strong += [len(rows)] if s.method in findings.networks else []
            similar = with_interval(s.image_ssim, s.image_ssim_low, s.image_ssim_high)
            if not math.isnan(s.image_ssim_low):
                similar = f"{s.image_ssim:.3f} [{s.image_ssim_low:.3f}, {s.image_ssim_high:.3f}]"
            decibels = with_interval(s.image_psnr, s.image_psnr_low, s.image_psnr_high)
            rows.append((f"{100 * rate:g} %", s.method, number(s.image_mse, 4), decibels, similar))
        for place, (error, decibel, similarity) in enumerate(PAPER.get(rate, ()), start=1):
            name = f"published, face {place} (NOT comparable)"
            rows.append((f"{100 * rate:g} %", name, f"{error:.4f}", f"{decibel:.2f}", f"{similarity:.3f}"))
    header = ("hidden", "method", "MSE", "PSNR, dB", "SSIM")
    caption = "Means over the pictures, values from 0 to 1; PSNR is the mean of the pictures' decibels."
    page.table(header, rows, caption=caption, text_columns=2, strong=strong, group=True)
