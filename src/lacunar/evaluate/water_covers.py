"""What lies where there is no water: how networks tell land, cloud, cloud shadow and snow apart, where masks say so.

Pixels whose mask says only that they are no water (0) are not counted here.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lacunar.evaluate.report import Columns, by_method, text_of
from lacunar.evaluate.scores import FloatArray, Scheme, Sums, pool, shares
from lacunar.train.water_data import COVER, WATER, WaterScene

NAMES: Mapping[str, int] = {
    "water": WATER,
    **dict(zip(("land", "cloud", "cloud shadow", "snow or ice"), COVER, strict=True)),
}  # class -> value of a mask

BoolArray = NDArray[np.bool_]


def _called(name: str, own: Sums) -> FloatArray:
    return shares(own[f"called {name}"], own["pixels"])


SCHEME = Scheme(
    unit="image",
    by=("set", "class"),
    counts=("pixels",),
    ratios={
        "recall": lambda own: shares(own["right"], own["pixels"]),
        "iou": lambda own: shares(own["right"], own["pixels"] + own["wrong"]),
        **{f"as {name}": partial(_called, name) for name in NAMES},
    },
    intervals=("recall", "iou"),
)


def tell_covers(scenes: Sequence[WaterScene]) -> bool:
    """Whether any mask says what the land is."""
    return any(scene.tells_cover for scene in scenes)


def cover_rows(kinds: Mapping[str, BoolArray], mask: NDArray[np.uint8], valid: BoolArray) -> list[dict[str, Any]]:
    """Counts over the pixels of each class of a mask: how many a method calls what; none where the mask says nothing.

    ``kinds`` are where a method sees each of its classes. ``right`` has the own name, ``wrong`` is of another class;
    both are NaN of a class that the method does not know. A method that knows water alone calls all else land.
    """
    if not np.isin(mask, COVER).any():
        return []
    known = valid & np.isin(mask, list(NAMES.values()))
    rows = []
    for name, value in NAMES.items():
        own = known & (mask == value)
        called = {f"called {kind}": int((kinds[kind] & own).sum()) if kind in kinds else 0 for kind in NAMES}
        row: dict[str, Any] = {"class": name, "pixels": int(own.sum()), "right": np.nan, "wrong": np.nan, **called}
        # "land" of a method that knows nothing but water is whatever is dry
        if name == "water" or (name in kinds and len(kinds) > 2):
            row |= {"right": called[f"called {name}"], "wrong": int((kinds[name] & known & ~own).sum())}
        rows.append(row)
    return rows


def score_covers(sums: pd.DataFrame, *, baseline: str, seed: int) -> pd.DataFrame:
    """Recall, IoU and what is called what, of each class in each set."""
    told = ["set", "image", "method", "evaluations", "seconds", "class", "pixels", "right", "wrong"]
    ordered = sums[[*told, *(f"called {name}" for name in NAMES)]].copy()
    ordered["class"] = pd.Categorical(sums["class"], list(NAMES), ordered=True)
    pooled = pool(ordered, SCHEME, baseline=baseline, seed=seed)
    return pooled[pooled["pixels"] > 0]


def knows_classes(covers: pd.DataFrame) -> bool:
    """Whether the rows of a method are of one that tells more than water."""
    return covers.dropna(subset=["recall"])["class"].nunique() > 1


def cover_tables(covers: pd.DataFrame, methods: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Tables of the report, as text."""
    index: Columns = {"set": ("set", ""), "class": ("class", ""), "pixels": ("pixels", "d")}
    told = [name for name in methods if knows_classes(covers[covers["method"] == name])]
    confusion: Columns = {
        **{name: (name, "") for name in ("set", "method", "class")},
        **{f"as {name}": (f"as {name}", ".1%") for name in NAMES},
    }
    tables = {"Called water, share of each class": by_method(covers, "as water", ".1%", index=index, methods=methods)}
    if told:
        for name, title in (("recall", "Recall"), ("iou", "IoU")):
            tables[f"{title} of each class"] = by_method(covers, name, ".3f", index=index, methods=told)
        tables["What each class is called"] = text_of(covers[covers["method"].isin(told)], confusion)
    return tables
