"""The card of a model: what it was made from and how good it is."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from lacunar.errors import ModelError
from lacunar.sensors.bands import BANDS


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model was made from and how good it is; travels with the weights. A wrong type is a `ModelError`."""

    summary: str  # one or two sentences: what it does, on which data, at which size
    licence: str  # the licence of the weights
    # data, places: the data sets and the places (or image sets) that it was trained on
    data: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    command: str = ""  # the command that made it
    steps: int = 0  # optimiser steps, 0 where it is not known
    seeds: tuple[int, ...] = ()
    scores: Mapping[str, Any] = field(default_factory=dict)  # scores by name; may be nested
    # for each preset that was calibrated on held-out places: what the standard deviation of this model's samples is
    # multiplied by, above 0
    sigma_factor: Mapping[str, float] = field(default_factory=dict)
    # for each such preset: level (as text, such as "0.025") -> quantile of the held-out errors in units of the
    # calibrated standard deviation; they rise with the level
    error_quantiles: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    # of a plain segmenter, on images of few bands: how coarsely it looks at them, as text ("1": as they are, "2": half
    # as many pixels along a side) -> weight of the logit that it gives there, and "shift" of their sum
    looks: Mapping[str, float] = field(default_factory=dict)
    # of a segmenter, on images of more bands: what NDWI adds to its logits; see
    # `lacunar.segment.indices.ndwi_evidence`
    ndwi: tuple[float, ...] = ()
    # of a segmenter: band -> least and most of nearly all its values in training, divided by the image's common scale
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # limits, and whatever a user has to know
    sha256: str = ""  # of ``model.safetensors``; `save_model` fills it in

    def __post_init__(self) -> None:
        for name in ("summary", "licence", "command", "sha256"):
            _require(isinstance(getattr(self, name), str), name, getattr(self, name), "text")
        lists: tuple[tuple[str, tuple[type, ...], str], ...] = (
            *((name, (str,), "str") for name in ("data", "places", "notes")),
            ("seeds", (int,), "int"),
            ("ndwi", (int, float), "numbers"),
        )
        for name, kinds, called in lists:
            value = getattr(self, name)
            fits = isinstance(value, tuple | list) and all(isinstance(item, kinds) for item in value)
            _require(fits, name, value, f"a list of {called}")
            object.__setattr__(self, name, tuple(value))
        _require(isinstance(self.steps, int), "steps", self.steps, "a whole number")
        factors = self.sigma_factor.values() if isinstance(self.sigma_factor, Mapping) else [None]
        fits = all(isinstance(factor, int | float) and 0 < factor < math.inf for factor in factors)
        _require(fits, "sigma_factor", self.sigma_factor, "numbers above 0 by preset")
        _require(isinstance(self.scores, Mapping), "scores", self.scores, "a mapping")
        looks = self.looks.items() if isinstance(self.looks, Mapping) else [("", None)]
        fits = all((key == "shift" or str(key).isdecimal()) and isinstance(value, int | float) for key, value in looks)
        _require(fits, "looks", self.looks, "numbers by how coarse a look is, and by shift")
        _require(len(self.ndwi) in (0, 4), "ndwi", self.ndwi, "four numbers or none")
        spans = self.ranges.items() if isinstance(self.ranges, Mapping) else [("", None)]
        fits = all(band in BANDS and _is_span(span) for band, span in spans)
        _require(fits, "ranges", self.ranges, f"two rising numbers by band, of {', '.join(BANDS)}")
        tables = self.error_quantiles.values() if isinstance(self.error_quantiles, Mapping) else [None]
        fits = all(isinstance(table, Mapping) and _rises(table) for table in tables)
        _require(fits, "error_quantiles", self.error_quantiles, "for each preset numbers that rise with the level")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Card":
        """Read the mapping that ``dataclasses.asdict`` wrote; an unknown or a missing key is a ``ModelError``."""
        known = {item.name for item in fields(cls)}
        unknown, missing = sorted(set(values) - known), sorted({"summary", "licence"} - set(values))
        if unknown or missing:
            raise ModelError(f"model card: unknown keys {unknown}, missing keys {missing}; known are {sorted(known)}")
        return cls(**values)

    def to_markdown(self, name: str, *, parameters: int, dtype: str, classes: Sequence[str] = ()) -> str:
        """Return the card as Markdown, for the model called `name` with so many parameters stored as `dtype`.

        ``classes`` are what a segmenter tells apart, where that is more than water.
        """
        facts = {
            "parameters": f"{parameters:,} ({dtype})",
            "classes": ", ".join(classes),
            "licence": self.licence,
            "data": "; ".join(self.data),
            "places": ", ".join(self.places),
            "steps": str(self.steps or ""),
            "seeds": ", ".join(map(str, self.seeds)),
            "sigma factor": ", ".join(f"{preset} {factor}" for preset, factor in self.sigma_factor.items()),
            "looks": ", ".join(f"{look}: {weight}" for look, weight in self.looks.items()),
            "ndwi": ", ".join(map(str, self.ndwi)),
            "ranges": ", ".join(f"{band} {low} to {high}" for band, (low, high) in self.ranges.items()),
            "command": f"`{self.command}`" if self.command else "",
            "sha256": f"`{self.sha256}`" if self.sha256 else "",
        }
        lines = [f"# {name}", "", self.summary, "", "| | |", "|---|---|"]
        lines += [f"| {key} | {value} |" for key, value in facts.items() if value]
        if self.scores:
            lines += ["", "## Scores", "", "| score | value |", "|---|---|"]
            lines += [f"| {key} | {value} |" for key, value in _flat(self.scores)]
        if self.notes:
            lines += ["", "## Notes", "", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def _flat(scores: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested scores as 'outer / inner' with their values."""
    for key, value in scores.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} / ")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _require(fits: bool, name: str, value: object, wanted: str) -> None:
    if not fits:
        raise ModelError(f"model card: {name} is {value!r}, wanted {wanted}")


def _is_span(span: object) -> bool:
    fits = isinstance(span, list | tuple) and len(span) == 2 and all(isinstance(end, int | float) for end in span)
    return fits and -math.inf < span[0] < span[1] < math.inf  # type: ignore[index]


def _rises(table: Mapping[Any, Any]) -> bool:
    """Tell whether it maps levels in (0, 1), as text, to finite numbers that do not fall."""
    try:
        pairs = sorted((float(level), float(value)) for level, value in table.items())
    except (TypeError, ValueError):
        return False
    values = [value for _, value in pairs]
    inside = all(0 < level < 1 for level, _ in pairs) and all(math.isfinite(value) for value in values)
    return bool(pairs) and inside and values == sorted(values)
