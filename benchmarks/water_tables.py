"""Tables of docs/water.md out of folders that `lacunar evaluate water` wrote.

    python benchmarks/water_tables.py FOLDER FOLDER -o docs/evidence/tables

Writes ``water_quality.md`` (every set), ``water_aims.md`` (what was aimed for, and what the first model reaches),
``water_scenes.md`` (the hand-labelled scenes by kind, and the five worst of the first model), ``water_typical.md``
(three mountain lakes) and, where masks tell of classes, ``water_covers.md``. Of a network the run with most samples is
told, under its own name; darkness only where a set allows no other index. A set may be spread over several folders.
"""

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from lacunar.evaluate.report import Columns, markdown_table, text_of
from lacunar.evaluate.water import DARKNESS, OTSU, QUARTILES, WaterTask
from lacunar.evaluate.water_covers import knows_classes
from lacunar.metrics import Confusion

SHOWN = ("method", "iou", "mean_iou", "pixel_accuracy", "precision", "recall", "thin_recall", "f1", "boundary_f1")
COLUMNS: Columns = {
    "scenes": ("scenes", ""),
    **{name: WaterTask.columns[name] for name in SHOWN},
    "calibration_error": ("calibration error", ".3f"),
    "error_auroc": ("error AUROC", ".3f"),
    "area_in_sigma": ("area in 1 sigma", ".0%"),
    "area_in_95": ("in 1.96 sigma", ".0%"),
    "seconds": ("s / image", ".2f"),
}
COVERS = ("water", "land", "cloud", "cloud shadow", "snow or ice")
HAND_LABELLED, MOUNTAIN_LAKES = "esw_rgb", "glacial_nrg"
# Water about as bright as the land: turbid, milky, or under haze.
BRIGHT = ("tif4", "tif19", "tif24", "tif25", "tif57", "tif58")
WORST = 5
# Least IoU of water on each set that was aimed for; largest calibration error, least error AUROC on all.
AIMS = {MOUNTAIN_LAKES: 0.93, "waterbodies_rgb_a": 0.9, HAND_LABELLED: 0.6, "multispectral6": 0.93}
CALIBRATION, AUROC = 0.03, 0.85


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="+", help="that `lacunar evaluate water -o` wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the tables")
    options = parser.parse_args()
    made = "\n\n" + " ".join(dict.fromkeys(told_of(folder) for folder in options.folder)) + "\n"
    scores, cases = read(options.folder, "scores"), read(options.folder, "cases")
    tables = {"quality": quality(scores), "aims": aims(scores), "scenes": scenes(cases), "typical": typical(cases)}
    if any((folder / "covers.csv").exists() for folder in options.folder):
        tables["covers"] = covers(read(options.folder, "covers"))
    for name, text in tables.items():
        if text:
            print(text)
            (options.output / f"water_{name}.md").write_text(text + made, encoding="utf-8")


def read(folders: list[Path], name: str) -> pd.DataFrame:
    """A table of all folders, each network with its last run alone and under its own name."""
    parts = [pd.read_csv(folder / f"{name}.csv") for folder in folders if (folder / f"{name}.csv").exists()]
    table = pd.concat(parts, ignore_index=True)
    network = table["method"].str.split(", ").str[0]
    last = {own: run for own, run in zip(network, table["method"], strict=True)}
    table = table[table["method"] == network.map(last)]
    others = table.groupby("set")["method"].transform(lambda own: sum(name.endswith(OTSU) for name in set(own)) > 1)
    table = table[~(others & (table["method"] == DARKNESS))]
    table = table.assign(method=table["method"].str.split(", ").str[0])
    table = table.drop_duplicates([key for key in ("set", "image", "class", "method") if key in table])
    return table.sort_values("set", key=lambda own: own.map(list(dict.fromkeys(own)).index), kind="stable")


def quality(scores: pd.DataFrame) -> str:
    """Every method on every set, with 95 % intervals."""
    told = [f"{score}_low" for score in ("iou", "boundary_f1")]
    scores = scores.drop(columns=[name for name in scores if name.endswith("_low") and name not in told])
    counted = scores["images"].astype(str) + " of `" + scores["set"] + "`"
    text = text_of(scores.assign(scenes=counted.where(~counted.duplicated(), "")), COLUMNS)
    return markdown_table([title for title, _ in COLUMNS.values()], text.itertuples(index=False, name=None))


def ours(table: pd.DataFrame) -> str:
    """The first network, else the first method."""
    methods = list(table["method"])
    return next((name for name in methods if not name.endswith(OTSU)), methods[0])


def aims(scores: pd.DataFrame) -> str:
    """What was aimed for on each set, and what is reached."""
    own = scores[scores["method"] == ours(scores)].set_index("set")
    rows = []
    for name, aim in AIMS.items():
        if name in own.index:
            iou, error, auroc = (float(own.loc[name, score]) for score in ("iou", "calibration_error", "error_auroc"))
            told = [by(iou, aim, ".3f"), by(error, CALIBRATION, ".3f", most=True), by(auroc, AUROC, ".3f")]
            rows.append([f"`{name}`", *told])
    return (
        markdown_table((f"{ours(scores)} on", "IoU of water", "calibration error", "error AUROC"), rows) if rows else ""
    )


def by(value: float, aim: float, form: str, *, most: bool = False) -> str:
    """A score and its aim; by how much it is missed."""
    off = value - aim if most else aim - value
    if pd.isna(value):
        return "-"
    verdict = f", missed by {off:{form}}" if off > 0 else ""
    return f"{value:{form}} (aim: {'at most' if most else 'from'} {aim:g}{verdict})"


def scenes(cases: pd.DataFrame) -> str:
    """The hand-labelled scenes: pooled IoU by kind, and the worst of the first network."""
    own = cases[cases["set"] == HAND_LABELLED]
    if own.empty:
        return ""
    bright, rows = own["image"].isin(BRIGHT), []
    for method, part in own.groupby("method", sort=False):
        kinds = [pooled(part[bright[part.index]]), pooled(part[~bright[part.index]]), pooled(part)]
        rows.append([method, *(f"{iou:.3f}" for iou in kinds)])
    first = own[own["method"] == rows[0][0]]
    count = int(bright[first.index].sum())
    header = ("method", f"IoU, {count} scenes of bright water", f"{len(first) - count} others", "all")
    worst_of = own[own["method"] == ours(own)].nsmallest(WORST, "iou")
    shown = worst_of[["image", "iou", "precision", "recall"]].itertuples(index=False, name=None)
    worst = [[f"`{name}`", *(f"{value:.3f}" for value in values)] for name, *values in shown]
    title = f"The {WORST} worst of {ours(own)}"
    return f"{markdown_table(header, rows)}\n\n{markdown_table((title, 'IoU', 'precision', 'recall'), worst)}"


def typical(cases: pd.DataFrame) -> str:
    """Three mountain lakes, those nearest the quartiles of the true area, in the order of the quartiles."""
    own = cases[cases["set"] == MOUNTAIN_LAKES]
    once = own.drop_duplicates("image").set_index("image")
    area = (once["water"] * once["pixels"]).round().sort_index()
    chosen: list[str] = []
    for wanted in area.quantile(QUARTILES)[: len(area)]:
        chosen.append(str((area.drop(chosen) - wanted).abs().idxmin()))
    shown, rows = ("iou", "pixel_accuracy", "f1"), []
    for method, part in own.groupby("method", sort=False):
        of_image = part.set_index("image").loc[chosen]
        rows.append([method, *(" / ".join(f"{value:.3f}" for value in of_image[score]) for score in shown)])
    titles = [WaterTask.columns[score][0] for score in shown]
    return markdown_table([", ".join(f"`{name}`" for name in chosen), *titles], rows) if rows else ""


def pooled(cases: pd.DataFrame) -> float:
    """IoU of water over all pixels of some scenes."""
    counts = cases[["both", "only_estimate", "only_truth", "neither"]].sum()
    return float(Confusion(*counts.to_numpy()).iou)


def covers(table: pd.DataFrame) -> str:
    """What each class of a mask is called by networks of classes, and what share of it all others call water."""
    names = [name for name, rows in table.groupby("method") if knows_classes(rows)]
    knows = table["method"].isin(names)
    parts = []
    columns: Columns = {
        "set": ("set", ""),
        "method": ("method", ""),
        "class": ("class", ""),
        "pixels": ("pixels", ",d"),
    }
    scores: Mapping[str, tuple[str, str]] = {"recall": ("recall", ".3f"), "iou": ("IoU", ".3f")}
    for chosen, called in ((table[knows], COVERS), (table[~knows], COVERS[:1])):
        if chosen.empty:
            continue
        shown = {
            **columns,
            **(scores if called == COVERS else {}),
            **{f"as {n}": (f"called {n}", ".1%") for n in called},
        }
        text = text_of(chosen, shown)
        parts.append(markdown_table([title for title, _ in shown.values()], text.itertuples(index=False, name=None)))
    return "\n\n".join(parts)


def told_of(folder: Path) -> str:
    """What made the numbers of a folder."""
    record = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    made = datetime.fromtimestamp((folder / "scores.json").stat().st_mtime, UTC)
    counted = record["data"]["scenes"].split(": ", 1)[-1]
    return f"{counted}; lacunar {record['versions']['lacunar']}, {made:%Y-%m-%d}, {record['machine']}."


if __name__ == "__main__":
    main()
