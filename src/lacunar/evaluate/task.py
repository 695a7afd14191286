"""What lst, water and pictures have in common when they are evaluated.

A task says how its cases are made, which methods answer them, what is measured, and what its report shows;
`lacunar.evaluate.job.evaluate` does the rest. A case has a ``name`` (its seed is made from it), an ``identity`` (its
columns in tables) and what is ``given`` to methods, which is never the truth.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lacunar.diffusion.samplers import Preset, runs_of
from lacunar.errors import LacunarError
from lacunar.evaluate.report import Columns
from lacunar.models.backend import BackendName, check_backend, load_filler
from lacunar.models.checkpoint import Model

ONE_SAMPLE = "one sample"  # scored beside the mean of all samples, as "NAME, one sample"
MAX_CURVES = 8  # of a figure that can still be read

TaskName = Literal["lst", "archive", "water", "pictures", "restoration"]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a method answers to a case."""

    value: NDArray[Any]  # what is scored: (H, W) or (H, W, 3), or boolean (H, W)
    sigma: NDArray[np.floating] | None = None
    samples: NDArray[np.floating] | None = None  # (K, ...)
    limits: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None  # of the central 95 %; without: 1.96 sigma
    antithetic: bool = False  # samples i and i + K/2 come from opposite noise
    probability: NDArray[np.floating] | None = None  # of a boolean answer
    kinds: Mapping[str, BoolArray] = field(default_factory=dict)  # where each class is, of a map of several
    evaluations: int = 0  # of the network, for one tile and all samples together
    share: float = 1.0  # of the method's time that this answer took; NaN where it cannot be told


Method = Callable[..., Mapping[str, Estimate]]
"""Called with what a case gives and a seed; answers by name, none where it cannot serve the case."""


@dataclass(eq=False)
class Lineup:
    """Who answers, and whom the report shows."""

    methods: dict[str, Method]
    baseline: str  # what others are compared with
    preferred: list[str] = field(default_factory=list)  # summary and examples are about the first that answered
    shown: list[str] = field(default_factory=list)  # in figures, and in tables with one column for each method
    curves: dict[str, str] = field(default_factory=dict)  # answer of a network -> its curve of quality by evaluations
    notes: dict[str, str] = field(default_factory=dict)  # what was left out or added: label -> text


@dataclass(frozen=True, eq=False)
class Found:
    """What was measured."""

    cases: Sequence[Any]
    lineup: Lineup
    tables: Mapping[str, pd.DataFrame]  # "scores" (pooled), "cases" (each by itself) and others of the task
    reliability: Sequence[Row]  # one entry for each curve
    examples: Sequence[tuple[Any, Mapping[str, Estimate]]]  # the cases that are drawn, with the answers by name

    @property
    def scores(self) -> pd.DataFrame:
        """The table ``scores``."""
        return self.tables["scores"]

    def costs(self, scores: pd.DataFrame) -> pd.DataFrame:
        """The scores of networks, with their curves and evaluations ``x``, and of the other methods that are shown."""
        costs = scores.assign(curve=scores["method"].map(self.lineup.curves), x=scores["evaluations"])
        return costs[costs["curve"].notna() | costs["method"].isin(self.lineup.shown)]


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure of the report: the section that it stands in, its caption, and what draws it when all is measured."""

    section: str
    caption: str
    draw: Callable[[Found], Figure]


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Options of an evaluation, checked when they are given, and what belongs to one kind of task."""

    models: tuple[str, ...] = ()  # names or folders of networks
    seed: int = 0  # of everything drawn
    device: str = "cpu"
    backend: BackendName = "eager"

    title: ClassVar[str]  # of the report
    unit: ClassVar[str]  # what is drawn again as a whole for intervals
    lead: ClassVar[str]  # sentence for each group: {ours.SCORE}, {base.SCORE}
    note: ClassVar[str]  # what a reader of the scores has to know
    columns: ClassVar[Columns]  # of the main table; the first tells the group, the second is the method
    inputs: ClassVar[tuple[str, ...]]  # options that name the data; the first is needed

    def __post_init__(self) -> None:
        self.at_least(seed=0)

    def at_least(self, **limits: int) -> None:
        """Refuse options below their limits; those that are None or empty are not given."""
        for name, limit in limits.items():
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None and number < limit:
                    raise LacunarError(f"got {name.replace('_', ' ')} {number}; wanted {limit} or more")

    def once_each(self, *names: str) -> None:
        """Refuse options that are empty or name something twice."""
        for name in names:
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise LacunarError(f"got {name} {list(values)}; wanted one or more, each once")

    @abstractmethod
    def cases(self) -> Sequence[Any]:
        """The cases, or what `load` makes them from."""

    def load(self, case: Any) -> Any:  # noqa: ANN401
        """A case with its arrays."""
        return case

    @abstractmethod
    def lineup(self) -> Lineup:
        """The methods, networks loaded."""

    @abstractmethod
    def measure(self, case: Any, estimate: Estimate) -> list[Row]:  # noqa: ANN401
        """Sums of one answer: one row for each stratum of the case."""

    @abstractmethod
    def score(self, sums: pd.DataFrame, lineup: Lineup) -> dict[str, pd.DataFrame]:
        """Tables of scores: ``scores``, ``cases`` and `more_tables`."""

    def more_tables(self, cases: Sequence[Any]) -> tuple[str, ...]:
        """Names of further tables of scores."""
        del cases
        return ()

    def reliability(self, sums: pd.DataFrame) -> list[Row]:
        """Reliability curves: columns as lists."""
        del sums
        return []

    @abstractmethod
    def examples(self, cases: Sequence[Any]) -> list[Any]:
        """The cases that are drawn."""

    @abstractmethod
    def plots(self, cases: Sequence[Any], lineup: Lineup) -> dict[str, Plot]:
        """Figures by file name without ending."""

    def main(self, scores: pd.DataFrame) -> pd.DataFrame:
        """The scores that summary and main table tell."""
        return scores

    @abstractmethod
    def details(self, found: Found) -> dict[str, pd.DataFrame]:
        """More tables of the report, as text, by title."""

    @abstractmethod
    def data(self, found: Found) -> dict[str, str]:
        """Lines on the data: label -> text."""


@dataclass(frozen=True, kw_only=True)
class FillTask(Task):
    """A task whose methods fill what is missing, at several missing rates; each network is run in several ways."""

    rates: tuple[float, ...]
    presets: tuple[str, ...] = ("fast",)  # NAME, or NAME:K for K samples
    steps: tuple[int, ...] = ()  # of conditional DDIM
    samplers: tuple[str, ...] = ()  # NAME:N for N evaluations
    samples: int = 8  # of a network's fill: their mean is scored, and one of them

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ways()
        self.once_each("rates")
        self.at_least(samples=1, steps=1)

    def ways(self) -> list[tuple[Preset, int]]:
        """Every way to run a network, and how many samples it draws."""
        ways = runs_of(self.presets, self.steps, self.samplers, samples=self.samples)
        for preset, _ in ways:
            check_backend(self.backend, preset)
        return ways

    def networks(self) -> Iterator[Model]:
        """The networks, one after the other."""
        names = set()
        for folder in self.models:
            model = self.network(folder)
            if model.name in names:
                raise LacunarError(f"two models are named {model.name}: rename one of the folders")
            names.add(model.name)
            yield model

    def network(self, folder: str) -> Model:
        """A network by name or folder."""
        return load_filler(folder, device=self.device, backend=self.backend)


def enter(lineup: Lineup, name: str, method: Method, *, model: Model, way: tuple[Preset, int], note: str = "") -> None:
    """Add a run of a network to a lineup; its mean and its one sample are points of different curves."""
    preset, samples = way
    lineup.methods[name] = method
    lineup.curves[name] = f"{model.name}, {preset.describe(samples)}{note}"
    if samples > 1:
        lineup.curves[f"{name}, {ONE_SAMPLE}"] = f"{model.name}, {preset.describe(1)}{note}"


def chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names in the order of those known; an unknown one is a `LacunarError`."""
    for name in names:
        if name not in known:
            raise LacunarError(f"unknown method {name!r}: choose out of {', '.join(known)}")
    return [name for name in known if name in names]
