"""The report on how good fills are: scores in, figures and one self-contained HTML page out."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from lacunar.evaluate.cases import Case
from lacunar.evaluate.measure import DISTANCES, ONE_SAMPLE, stratum_names
from lacunar.evaluate.report import Report
from lacunar.evaluate.report_figures import Point, evaluations_panels, reliability_panels, strata_panels
from lacunar.evaluate.scores import Kind, Reliability, Score
from lacunar.evaluate.tables import number, percent, with_interval

# Table 1 and section 4.1 of Bezerra et al. (2024): rate -> MSE as printed, PSNR (dB), SSIM, greatest error (°C).
PAPER = {0.15: (0.0019, 47.1894, 0.9874, 4), 0.22: (0.0001, 39.9359, 0.9763, 7), 0.50: (0.0002, 35.9113, 0.9478, 6)}
STRATA_TITLES: Mapping[Kind, str] = {
    "distance": "by distance to the nearest known pixel",
    "gap size": "by size of the connected gap, in pixels",
    "reference": "by what the reference date is to the date that is filled",
    "place": "by place",
    "scene": "by date",
}
EVALUATIONS_CAPTION = (
    "Evaluations are those for one tile, all samples together. Bars are the 95 % interval of the ratio to {baseline}, "
    "times the RMSE of {baseline}: how sure the difference to that line is, not how much dates differ."
)
UNCERTAINTY_NOTE = (
    "The claimed RMSE is the root of the mean of sigma squared. CRPS takes mean and sigma as a normal distribution; "
    "that of the samples takes the samples themselves, as if there were infinitely many (fair score)."
)
IMAGE_NOTE = (
    "Known pixels are exact, so these figures flatter, and more so the less is missing. They depend on the data range, "
    "here each date's own extremes. Rows named 'published' are Table 1 and section 4.1 of Bezerra et al. (2024), one "
    "scene of western Amazonia for each rate, by RePaint. They are NOT comparable with the other rows: other images, "
    "other clouds, another data range, an MSE whose unit is not stated."
)
RMSE_LABEL = "RMSE in the gap (K)"
MAX_CURVES = 8  # that a figure holds and is still read


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything that the report tells.

    Parameters
    ----------
    scores, reliability
        Pooled, of every kind.
    cases
        What was filled.
    networks
        Fillers that are networks: name -> the curve of quality against evaluations that each is a point of.
    chosen
        Names of the fillers, best known first, that figures and strata show besides the networks.
    headline, baseline
        The filler that the summary is about, and what the RMSE is divided by.
    data, made
        Lines on the data, and on the machine, versions and settings: label -> text.
    command
        What reproduces the page.
    """

    scores: Sequence[Score]
    reliability: Sequence[Reliability]
    cases: Sequence[Case]
    networks: Mapping[str, str]
    chosen: Sequence[str]
    headline: str
    baseline: str
    data: Mapping[str, str]
    made: Mapping[str, str]
    command: str

    @property
    def overall(self) -> list[Score]:
        """The scores over everything."""
        return [score for score in self.scores if score.kind == "all"]

    @property
    def rates(self) -> list[float]:
        """The missing rates."""
        return list(dict.fromkeys(score.rate for score in self.overall))

    @property
    def shown(self) -> list[str]:
        """Fillers of the figures and of the strata: classical ones, then networks."""
        there = {score.filler for score in self.overall}
        return [name for name in [*self.chosen, *self.networks] if name in there and ONE_SAMPLE not in name][
            :MAX_CURVES
        ]

    def score(self, filler: str, rate: float, kind: Kind = "all", stratum: str = "all") -> Score | None:
        """One score, if there is one."""
        wanted = (filler, rate, kind, stratum)
        found = (s for s in self.scores if (s.filler, s.rate, s.kind, s.stratum) == wanted)
        return next(found, None)


def panel(rate: float) -> str:
    """How a missing rate is written.

    Examples
    --------
    >>> panel(0.22)
    '22 % missing'
    """
    return f"{100 * rate:g} % missing"


def draw_figures(findings: Findings) -> dict[str, Figure]:
    """Draw what was found: ``reliability``, ``distance`` and, where there is a network, ``evaluations``."""
    curves: dict[str, dict[str, Sequence[float]]] = {panel(rate): {} for rate in findings.rates}
    nominal = findings.reliability[0].nominal
    for curve in findings.reliability:
        if curve.filler in findings.shown:
            curves[panel(curve.rate)][curve.filler] = curve.observed.tolist()
    strata, errors = stratum_names(DISTANCES), {}
    for rate in findings.rates:
        named = {
            name: [findings.score(name, rate, "distance", stratum) for stratum in strata] for name in findings.shown
        }
        errors[panel(rate)] = {name: [s.rmse if s else math.nan for s in found] for name, found in named.items()}
    reached = [any(math.isfinite(c[i]) for e in errors.values() for c in e.values()) for i in range(len(strata))]
    last = max(i for i, there in enumerate(reached) if there) + 1
    errors = {rate: {name: curve[:last] for name, curve in named.items()} for rate, named in errors.items()}
    figures = {
        "reliability": reliability_panels(nominal, curves),
        "distance": strata_panels(
            strata[:last], errors, x_label="distance to a known pixel (pixels)", y_label=RMSE_LABEL
        ),
    }
    if findings.networks:
        figures["evaluations"] = _draw_evaluations(findings)
    return figures


def _draw_evaluations(findings: Findings) -> Figure:
    """RMSE against evaluations: networks as points, all else as levels."""
    points: dict[str, dict[str, list[Point]]] = {}
    levels: dict[str, dict[str, float]] = {}
    for rate in findings.rates:
        curves = points.setdefault(panel(rate), {})
        own = [score for score in findings.overall if score.rate == rate and score.filler in findings.networks]
        for score in sorted(own, key=lambda score: score.evaluations):
            base = score.rmse / score.ratio  # so that the bars tell methods apart, not hard dates from easy ones
            point = Point(score.evaluations, score.rmse, base * score.ratio_low, base * score.ratio_high)
            curves.setdefault(findings.networks[score.filler], []).append(point)
        found = {name: findings.score(name, rate) for name in findings.chosen}
        levels[panel(rate)] = {name: score.rmse for name, score in found.items() if score}
    return evaluations_panels(points, levels, x_label="network evaluations for each tile", y_label=RMSE_LABEL)


def write_report(findings: Findings, pictures: Mapping[str, bytes]) -> str:
    """Write the page.

    Parameters
    ----------
    findings
        What was found.
    pictures
        PNG files of `draw_figures` by their names, and ``examples_...`` for each missing rate.

    Returns
    -------
    str
        HTML that refers to nothing outside itself.
    """
    page = Report("How good are the fills?")
    _add_summary(page, findings)
    _add_gap(page, findings)
    _add_uncertainty(page, findings, pictures)
    _add_strata(page, findings, pictures)
    if "evaluations" in pictures:
        page.section("Quality against network evaluations")
        page.picture(
            pictures["evaluations"],
            alt="RMSE against network evaluations",
            caption=EVALUATIONS_CAPTION.format(baseline=findings.baseline),
        )
    page.section("Examples")
    for name in (name for name in pictures if name.startswith("examples")):
        caption = "Temperatures of a row share one scale; errors and sigmas of all rows share the other."
        page.picture(pictures[name], alt=f"example fills, {name}", caption=caption)
    _add_image_scores(page, findings)
    page.section("How this page was made")
    page.code("Command:", findings.command)
    page.table(("what", "value"), [*findings.data.items(), *findings.made.items()], text_columns=2)
    return page.html()


def _add_summary(page: Report, findings: Findings) -> None:
    """What came out, in a sentence for each rate."""
    for rate in findings.rates:
        ours, base = findings.score(findings.headline, rate), findings.score(findings.baseline, rate)
        if ours is None or base is None:
            continue
        text = (
            f"{panel(rate)}: {ours.filler} errs by {with_interval(ours.rmse, ours.rmse_low, ours.rmse_high)} K (RMSE "
            f"over the gap), {findings.baseline} by {with_interval(base.rmse, base.rmse_low, base.rmse_high)} K: "
            f"{with_interval(ours.ratio, ours.ratio_low, ours.ratio_high)} of it."
        )
        if not math.isnan(ours.coverage_68):
            shares = percent(ours.coverage_68), percent(ours.coverage_95)
            text += f" Its 68 % intervals hold {shares[0]} of the truths, its 95 % intervals {shares[1]}."
        page.paragraph(text, kind="lead")
    page.paragraph("Brackets hold 95 % intervals from resampling whole dates.", kind="note")


def _add_gap(page: Report, findings: Findings) -> None:
    """The headline table."""
    page.section("Errors over the gap")
    header = ["missing", "method", "RMSE, K", f"RMSE / {findings.baseline}", "MAE, K", "bias, K", "max, K", "CRPS, K"]
    header += ["in 68 %", "in 95 %", "evaluations"]
    rows = [
        (
            f"{100 * s.rate:g} %",
            s.filler,
            with_interval(s.rmse, s.rmse_low, s.rmse_high),
            with_interval(s.ratio, s.ratio_low, s.ratio_high),
            number(s.mae, 2),
            f"{s.bias:+.2f}",
            number(s.max_abs, 1),
            with_interval(s.crps, s.crps_low, s.crps_high),
            percent(s.coverage_68),
            percent(s.coverage_95),
            s.evaluations or "-",
        )
        for s in findings.overall
    ]
    strong = [i for i, s in enumerate(findings.overall) if s.filler in findings.networks]
    caption = "All pixels of all gaps pooled; known pixels do not count. Networks are set off."
    page.table(header, rows, caption=caption, text_columns=2, strong=strong, group=True)


def _add_uncertainty(page: Report, findings: Findings, pictures: Mapping[str, bytes]) -> None:
    """Coverage, CRPS and the reliability figure."""
    page.section("Is sigma honest?")
    header = ["missing", "method", "in 68 % interval", "in 95 % interval", "RMSE, K", "claimed RMSE, K"]
    header += ["CRPS, K", "CRPS of the samples, K"]
    rows = [
        (
            f"{100 * s.rate:g} %",
            s.filler,
            _percent_interval(s.coverage_68, s.coverage_68_low, s.coverage_68_high),
            _percent_interval(s.coverage_95, s.coverage_95_low, s.coverage_95_high),
            number(s.rmse, 2),
            number(s.sigma, 2),
            number(s.crps, 3),
            number(s.crps_samples, 3),
        )
        for s in findings.overall
        if not math.isnan(s.coverage_68)
    ]
    page.table(header, rows, caption="Only methods that give a sigma.", text_columns=2, group=True)
    page.paragraph(UNCERTAINTY_NOTE, kind="note")
    caption = "On the diagonal sigma is honest; above it sigma is too wide, below it too narrow."
    page.picture(pictures["reliability"], alt="observed against nominal coverage", caption=caption)


def _add_strata(page: Report, findings: Findings, pictures: Mapping[str, bytes]) -> None:
    """Where the errors are."""
    page.section("Where the errors are")
    caption = "RMSE against the distance to the nearest known pixel; strata without a pixel are left out."
    page.picture(pictures["distance"], alt="RMSE against distance", caption=caption)
    for kind, title in STRATA_TITLES.items():
        own = [score for score in findings.scores if score.kind == kind and score.filler in findings.shown]
        if len({score.stratum for score in own}) > 1:
            sure = [score for score in own if not math.isnan(score.coverage_68)]
            _add_stratum_table(page, own, f"RMSE in kelvin {title}", _rmse_cell, folded=kind != "reference")
            _add_stratum_table(page, sure, f"Share of truths in the 68 % interval {title}", _share_cell)
            _add_stratum_table(page, sure, f"Claimed RMSE (from sigma) in kelvin {title}", _sigma_cell)


def _add_stratum_table(
    page: Report, scores: Sequence[Score], title: str, cell: Callable[[Score], str], *, folded: bool = True
) -> None:
    """One row for each rate and stratum, one column for each filler."""
    fillers = list(dict.fromkeys(score.filler for score in scores))
    places: dict[tuple[float, str], dict[str, Score]] = {}
    for score in scores:
        places.setdefault((score.rate, score.stratum), {})[score.filler] = score
    rows = []
    for (rate, stratum), found in places.items():
        first = next(iter(found.values()))
        cells = [cell(found[name]) if name in found else "-" for name in fillers]
        rows.append((f"{100 * rate:g} %", stratum, first.scenes, first.pixels, *cells))
    header = ["missing", "stratum", "dates", "pixels", *fillers]
    page.table(
        header, rows, text_columns=2, group=True, folded=title if folded else "", caption="" if folded else title
    )


def _rmse_cell(score: Score) -> str:
    """RMSE with its interval."""
    return with_interval(score.rmse, score.rmse_low, score.rmse_high)


def _share_cell(score: Score) -> str:
    """Coverage of one sigma, with its interval."""
    return _percent_interval(score.coverage_68, score.coverage_68_low, score.coverage_68_high)


def _sigma_cell(score: Score) -> str:
    """The RMSE that sigma claims."""
    return number(score.sigma, 2)


def _add_image_scores(page: Report, findings: Findings) -> None:
    """The whole-image table beside the paper's."""
    page.section("Whole-image scores, as papers print them")
    page.paragraph(IMAGE_NOTE)
    header = ("missing", "method", "MSE, K²", "PSNR, dB", "SSIM", "mean greatest error, K", "greatest error, K")
    rows: list[tuple[object, ...]] = []
    strong = []
    for rate in findings.rates:
        for s in (s for s in findings.overall if s.rate == rate):
            strong += [len(rows)] if s.filler in findings.networks else []
            image = [number(s.image_mse, 3), number(s.psnr, 2), number(s.ssim, 4)]
            rows.append((f"{100 * rate:g} %", s.filler, *image, number(s.image_max, 1), number(s.max_abs, 1)))
        if rate in PAPER:
            mse, psnr, ssim, most = PAPER[rate]
            published = "published (other images, NOT comparable)"
            rows.append((f"{100 * rate:g} %", published, f"{mse} (unit?)", f"{psnr:.2f}", f"{ssim:.4f}", "-", most))
    caption = "Means over the cases; PSNR is the mean of the cases' decibels."
    page.table(header, rows, caption=caption, text_columns=2, strong=strong, group=True)


def _percent_interval(share: float, low: float, high: float) -> str:
    """A share with its interval where it has one."""
    return percent(share) if math.isnan(low) else f"{percent(share)} [{percent(low)}, {percent(high)}]"
