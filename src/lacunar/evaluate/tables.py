"""Scores as text: markdown tables and CSV."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from lacunar.evaluate.measure import SUMS, Measured
from lacunar.evaluate.scores import Score


def to_table(scores: Sequence[Score], *, unit: str = "K") -> str:
    """Scores as a markdown table, one row for each filler, rate and stratum (named where there are several)."""
    several = len({score.stratum for score in scores}) > 1
    baseline = scores[0].baseline if scores else "baseline"
    header = ["missing", *(["stratum"] if several else []), "method"]
    header += [f"RMSE, {unit} [95 %]", f"RMSE / {baseline} [95 %]", f"MAE, {unit}"]
    header += [f"bias, {unit}", f"max, {unit}", f"CRPS, {unit}", "in 68 %", "in 95 %"]
    header += [f"image MSE, {unit}²", "PSNR, dB", "SSIM"]
    rows = [
        (
            f"{100 * s.rate:g} %",
            *([s.stratum] if several else []),
            s.filler,
            with_interval(s.rmse, s.rmse_low, s.rmse_high),
            with_interval(s.ratio, s.ratio_low, s.ratio_high),
            f"{s.mae:.2f}",
            f"{s.bias:+.2f}",
            f"{s.max_abs:.1f}",
            f"{s.crps:.2f}",
            *(percent(share) for share in (s.coverage_68, s.coverage_95)),
            *(number(value, digits) for value, digits in ((s.image_mse, 3), (s.psnr, 2), (s.ssim, 4))),
        )
        for s in scores
    ]
    return markdown_table(header, rows)


def to_csv(scores: Iterable[Score]) -> str:
    """Scores as CSV with the names of `Score` in its first line."""
    return csv_text([item.name for item in fields(Score)], (asdict(score) for score in scores))


def cases_to_csv(rows: Iterable[Measured]) -> str:
    """What was measured as CSV: one line for each filler on each case, errors over its whole gap."""
    lines = [case_scores(row) for row in rows]
    return csv_text(list(lines[0]) if lines else [], lines)


def case_scores(row: Measured) -> dict[str, float | int | str | None]:
    """One filler on one case by names: the case, errors over its gap, whole-image scores."""
    case, sums = row.case, dict(zip(SUMS, row.sums["all", "all"].tolist(), strict=True))
    pixels = sums["pixels"]
    return {
        "scene": case.scene,
        "row": case.row,
        "col": case.col,
        "rate": case.rate,
        "reference": case.reference,
        "days_apart": case.days_apart,
        "group": case.group,
        "filler": row.filler,
        "evaluations": row.evaluations,
        "pixels": int(pixels),
        "rmse": math.sqrt(sums["squares"] / pixels),
        "mae": sums["absolute"] / pixels,
        "bias": sums["errors"] / pixels,
        "max_abs": row.greatest["all", "all"],
        "crps": sums["crps"] / pixels,
        "crps_samples": sums["crps_samples"] / pixels,
        "coverage_68": sums["in_68"] / pixels,
        "coverage_95": sums["in_95"] / pixels,
        "sigma": math.sqrt(sums["variance"] / pixels),
        "image_mse": row.image_mse,
        "psnr": row.psnr,
        "ssim": row.ssim,
    }


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table.

    Examples
    --------
    >>> print(markdown_table(("a", "b"), [(1, 2)]))
    | a | b |
    |---|---|
    | 1 | 2 |
    """
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def number(value: float, digits: int) -> str:
    """A number with these digits, or a dash where there is none.

    Examples
    --------
    >>> number(1.234, 2), number(math.nan, 2)
    ('1.23', '-')
    """
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share in per cent, or a dash where there is none.

    Examples
    --------
    >>> percent(0.683), percent(math.nan)
    ('68 %', '-')
    """
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def with_interval(value: float, low: float, high: float) -> str:
    """A number with its interval where it has one.

    Examples
    --------
    >>> with_interval(1.0, 0.5, 1.25), with_interval(1.0, math.nan, math.nan)
    ('1.00 [0.50, 1.25]', '1.00')
    """
    return f"{value:.2f}" if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def csv_text(names: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    r"""CSV with a line of names.

    Examples
    --------
    >>> csv_text(["a", "b"], [{"a": 1, "b": 2}])
    'a,b\n1,2\n'
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def plain_values(record: Mapping[str, Any]) -> dict[str, Any]:
    """The same for JSON, which knows neither NaN nor infinity: both become null.

    Examples
    --------
    >>> plain_values({"a": (1.0, math.nan)})
    {'a': [1.0, None]}
    """
    return {key: _plain(part) for key, part in record.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401
    """One value of a record."""
    if isinstance(value, dict):
        return plain_values(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
