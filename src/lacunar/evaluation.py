"""Judge fillers on truth that is hidden from them: fillers, scores with intervals, tables.

A filler sees a case with NaN in the gap. Errors count over the gap, pooled over all pixels; whole-image figures stand
beside them because papers print those, and flatter: known pixels are exact. Intervals resample whole scenes, since
tiles of one date err together.
"""

import csv
import io
import math
import os
import platform
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from lacunar import metrics
from lacunar.cases import BoolArray, Case, FloatArray
from lacunar.checkpoint import Model
from lacunar.errors import LacunarError
from lacunar.filling import Preset, fill_array
from lacunar.interpolation import FILL_NAMES, FillName, fill, fit_covariance, krige

REFERENCE: FillName = "kriging"  # what the others are compared with, pair by pair
SMOOTHED = "kriging (smoothed)"  # with the covariance that the network starts from
ONE_SAMPLE = "one sample"
RESAMPLES = 2000  # bootstrap resamples of the scenes
SIGMAS_OF_95 = 1.959964  # half-width of the central 95 % of a normal distribution in standard deviations


@dataclass(frozen=True, eq=False)
class Fill:
    """What a filler gives, each (H, W): its best estimate, its standard deviation, and one posterior sample."""

    mean: NDArray[np.floating]
    sigma: NDArray[np.floating] | None = None
    sample: NDArray[np.floating] | None = None


class Filler(Protocol):
    """Anything that fills a gap: values (H, W) with NaN in the gap, known (H, W), and a seed."""

    def __call__(self, values: FloatArray, known: BoolArray, seed: int, /) -> Fill:
        """Fill the gap."""


def classical_fillers() -> dict[str, Filler]:
    """Every classical method by name, kriging with its own sigma, and kriging as the network starts from it."""
    fillers: dict[str, Filler] = {name: _classical(name) for name in FILL_NAMES if name != "kriging"}
    fillers["kriging"] = _kriging(smoothings=(0.0,))
    fillers[SMOOTHED] = _kriging()
    return fillers


def _classical(name: FillName) -> Filler:
    """A method that gives no uncertainty."""
    return lambda values, known, seed: Fill(fill(name, values, known))


def _kriging(**options: tuple[float, ...]) -> Filler:
    """Kriging with a covariance fitted under these options."""

    def filler(values: FloatArray, known: BoolArray, _: int, /) -> Fill:
        return Fill(*krige(values, known, covariance=fit_covariance(values, known, **options)))

    return filler


def model_filler(model: Model, *, preset: Preset, samples: int) -> Filler:
    """A diffusion model: the mean of `samples`, their sigma, and the first of them.

    Of one sample alone there is no sigma, and the mean is that sample.
    """

    def filler(values: FloatArray, known: BoolArray, seed: int, /) -> Fill:
        filled = fill_array(values, known, ~known, model, preset=preset, samples=samples, seed=seed)
        return Fill(filled.mean, filled.sigma, filled.samples[0]) if samples > 1 else Fill(filled.mean)

    return filler


@dataclass(frozen=True)
class Score:
    """One filler at one missing rate, in the unit of the values (K for LST).

    Parameters
    ----------
    filler, rate, scenes, cases
        Who, at which missing rate, over how much.
    rmse, rmse_low, rmse_high
        Over all gap pixels, with the 95 % bootstrap interval over scenes (NaN where there is but one scene).
    ratio, ratio_low, ratio_high
        RMSE over that of the reference on the same cases, resampled together.
    mae, bias, max_abs
        Over all gap pixels; bias is estimate minus truth.
    coverage_68, coverage_95
        Share of gap pixels whose truth lies within 1 and 1.96 sigma; NaN where there is no sigma.
    image_mse, psnr, ssim
        Means over the cases of whole-image scores, known pixels included; data range: the scene's own extremes.
    """

    filler: str
    rate: float
    scenes: int
    cases: int
    rmse: float
    rmse_low: float
    rmse_high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    mae: float
    bias: float
    max_abs: float
    coverage_68: float
    coverage_95: float
    image_mse: float
    psnr: float
    ssim: float


@dataclass(frozen=True)
class _Measured:
    """Scores of one case."""

    scene: str
    pixels: int
    mse: float
    mae: float
    bias: float
    max_abs: float
    coverage_68: float
    coverage_95: float
    image_mse: float
    psnr: float
    ssim: float


def evaluate(
    cases: Sequence[Case],
    fillers: Mapping[str, Filler],
    *,
    reference: str = REFERENCE,
    seed: int = 0,
    callback: Callable[[int, int], None] | None = None,
) -> list[Score]:
    """Run every filler on every case.

    Parameters
    ----------
    cases
        From `lst_cases`, for example.
    fillers
        By name. One that gives a sample besides its mean is scored twice: ``NAME`` and ``NAME, one sample``.
    reference
        The filler whose RMSE the others' is divided by.
    seed
        Of the fillers (each case has its own seed, made from this and its name) and of the bootstrap.
    callback
        Called with (fills done, all).

    Returns
    -------
    list of Score
        Rate by rate, in the order of the fillers.

    Raises
    ------
    LacunarError
        No case, an unknown reference, or a filler that leaves NaN in the gap.
    """
    if not cases or reference not in fillers:
        raise LacunarError(
            f"got {len(cases)} cases and the reference {reference!r}; wanted a case or more and one of {list(fillers)}"
        )
    measured: dict[tuple[float, str], list[_Measured]] = {}
    for number, case in enumerate(cases):
        hidden = np.where(case.gap, np.nan, case.values)
        case_seed = zlib.crc32(f"{seed} {case.name}".encode())
        for place, (name, filler) in enumerate(fillers.items()):
            filled = filler(hidden, ~case.gap, case_seed)
            measured.setdefault((case.rate, name), []).append(_measure(case, filled.mean, filled.sigma))
            if filled.sample is not None:
                key = (case.rate, f"{name}, {ONE_SAMPLE}")
                measured.setdefault(key, []).append(_measure(case, filled.sample, None))
            if callback:
                callback(number * len(fillers) + place + 1, len(cases) * len(fillers))
    rates = dict.fromkeys(case.rate for case in cases)
    return [
        _score(name, rate, rows, measured[rate, reference], seed)
        for rate in rates
        for (at, name), rows in measured.items()
        if at == rate
    ]


def _measure(case: Case, estimate: NDArray[np.floating], sigma: NDArray[np.floating] | None) -> _Measured:
    """Scores over the gap, and over the image with the known pixels as they are."""
    truth, gap, span = case.values, case.gap, case.high - case.low
    image = np.where(gap, estimate, truth)
    shares = [math.nan, math.nan]
    if sigma is not None:
        shares = [metrics.coverage(estimate, sigma, truth, n_sigma=n, region=gap) for n in (1.0, SIGMAS_OF_95)]
    return _Measured(
        scene=case.scene,
        pixels=int(gap.sum()),
        mse=metrics.mse(estimate, truth, region=gap),
        mae=metrics.mae(estimate, truth, region=gap),
        bias=metrics.bias(estimate, truth, region=gap),
        max_abs=metrics.max_abs_error(estimate, truth, region=gap),
        coverage_68=shares[0],
        coverage_95=shares[1],
        image_mse=metrics.mse(image, truth),
        psnr=metrics.psnr(image, truth, data_range=span),
        # SSIM compares means too: 0 is the scene's coldest pixel, as 0 is black in the pictures it was made for.
        ssim=metrics.ssim(image - case.low, truth - case.low, data_range=span),
    )


def _score(name: str, rate: float, rows: Sequence[_Measured], reference: Sequence[_Measured], seed: int) -> Score:
    """Pool the cases of one filler and one rate; the same seed resamples the same scenes for all."""
    scenes = sorted({row.scene for row in rows})
    squares, pixels = _by_scene(rows, scenes)
    reference_squares, _ = _by_scene(reference, scenes)
    drawn = np.random.default_rng(seed).multinomial(len(scenes), np.full(len(scenes), 1 / len(scenes)), size=RESAMPLES)
    weight = np.array([row.pixels for row in rows], dtype=np.float64)

    def pooled(column: str) -> float:
        return float(np.average([getattr(row, column) for row in rows], weights=weight))

    def mean(column: str) -> float:
        return float(np.mean([getattr(row, column) for row in rows]))

    rmse_low, rmse_high = _interval(np.sqrt((drawn @ squares) / (drawn @ pixels)), len(scenes))
    ratio_low, ratio_high = _interval(np.sqrt((drawn @ squares) / (drawn @ reference_squares)), len(scenes))
    return Score(
        filler=name,
        rate=rate,
        scenes=len(scenes),
        cases=len(rows),
        rmse=math.sqrt(pooled("mse")),
        rmse_low=rmse_low,
        rmse_high=rmse_high,
        ratio=math.sqrt(squares.sum() / reference_squares.sum()),
        ratio_low=ratio_low,
        ratio_high=ratio_high,
        mae=pooled("mae"),
        bias=pooled("bias"),
        max_abs=max(row.max_abs for row in rows),
        coverage_68=pooled("coverage_68"),
        coverage_95=pooled("coverage_95"),
        image_mse=mean("image_mse"),
        psnr=mean("psnr"),
        ssim=mean("ssim"),
    )


def _by_scene(rows: Sequence[_Measured], scenes: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Sum of squared errors and number of gap pixels of each scene."""
    sums = np.array([[row.mse * row.pixels, row.pixels] for row in rows])
    number = np.array([scenes.index(row.scene) for row in rows])
    squares, pixels = (np.bincount(number, column, len(scenes)).astype(np.float64) for column in sums.T)
    return squares, pixels


def _interval(resampled: FloatArray, scenes: int) -> tuple[float, float]:
    """The central 95 % of a bootstrap; one scene has none."""
    low, high = np.quantile(resampled, [0.025, 0.975]) if scenes > 1 else (math.nan, math.nan)
    return float(low), float(high)


def to_table(scores: Iterable[Score], *, unit: str = "K", reference: str = REFERENCE) -> str:
    """Scores as a markdown table, one row for each filler and rate."""
    header = ["missing", "method", f"RMSE, {unit} [95 %]", f"RMSE / {reference} [95 %]", f"MAE, {unit}"]
    header += [f"bias, {unit}", f"max, {unit}", "in 68 %", "in 95 %", f"image MSE, {unit}²", "PSNR, dB", "SSIM"]
    rows = [
        (
            f"{100 * s.rate:g} %",
            s.filler,
            _with_interval(s.rmse, s.rmse_low, s.rmse_high),
            _with_interval(s.ratio, s.ratio_low, s.ratio_high),
            f"{s.mae:.2f}",
            f"{s.bias:+.2f}",
            f"{s.max_abs:.1f}",
            *("-" if math.isnan(share) else f"{100 * share:.0f} %" for share in (s.coverage_68, s.coverage_95)),
            f"{s.image_mse:.3f}",
            f"{s.psnr:.2f}",
            f"{s.ssim:.4f}",
        )
        for s in scores
    ]
    return markdown_table(header, rows)


def to_csv(scores: Iterable[Score]) -> str:
    """Scores as CSV with the names of `Score` in its first line."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(Score)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(score) for score in scores)
    return text.getvalue()


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


def describe_machine() -> str:
    """CPU, cores, PyTorch's version and threads in one line, to be printed beside anything that was timed."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text(encoding="utf-8").splitlines() if cpu_info.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = models[0] if models else platform.processor() or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores; PyTorch {torch.__version__} on {torch.get_num_threads()} threads"


def seam_ratio(field: NDArray[np.floating], gap: BoolArray, *, rows: Collection[int], cols: Collection[int]) -> float:
    """Mean absolute step across the given borders over the mean absolute step elsewhere, inside the gap.

    Parameters
    ----------
    field, gap
        (H, W); only steps between two gap pixels count.
    rows, cols
        Borders: r lies between rows r - 1 and r.

    Returns
    -------
    float
        1 = no seam.

    Raises
    ------
    LacunarError
        No border inside the gap, or nothing but borders.

    Examples
    --------
    >>> steps = np.array([[0.0, 1.0, 3.0, 4.0]])
    >>> seam_ratio(steps, np.ones((1, 4), bool), rows=(), cols=(2,))
    2.0
    """
    across, elsewhere = [], []
    for axis, borders in enumerate((rows, cols)):
        values, inside = np.moveaxis(field, axis, 0), np.moveaxis(gap, axis, 0)
        steps, both = np.abs(np.diff(values, axis=0)), inside[1:] & inside[:-1]
        at_border = np.isin(np.arange(1, len(values)), list(borders))
        across.append(steps[at_border][both[at_border]])
        elsewhere.append(steps[~at_border][both[~at_border]])
    here, there = np.concatenate(across), np.concatenate(elsewhere)
    if not here.size or not there.size:
        raise LacunarError(f"got {here.size} steps across borders and {there.size} others in the gap; wanted both")
    return float(here.mean() / there.mean())


def _with_interval(value: float, low: float, high: float) -> str:
    """A number with its interval where it has one."""
    return f"{value:.2f}" if math.isnan(low) else f"{value:.2f} [{low:.2f}, {high:.2f}]"
