"""Tables of docs/faces.md and docs/restore.md out of folders that `lacunar evaluate face|pictures` wrote.

    python benchmarks/picture_tables.py FOLDER [FOLDER ...] -o docs/evidence/tables

Of faces writes ``faces_SIZE.md`` (every method at every rate) and ``faces_SIZE_kinds.md`` (the gain of the network's
mean by what hides the face); of restorations a table and a figure named as the folder, two pictures of each task.
"""

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from lacunar.evaluate.pictures import ALL, PictureTask
from lacunar.evaluate.report import Columns, by_method, markdown_table, share, text_of
from lacunar.evaluate.restoration import RestorationTask
from lacunar.evaluate.task import ONE_SAMPLE

LEFT_OUT = ("mse", "image_mse", "seconds")  # of faces; seconds are told by face_speed.py
FACES: Columns = {name: column for name, column in PictureTask.columns.items() if name not in LEFT_OUT}
RESTORED: Columns = dict(RestorationTask.columns)
WITH_INTERVAL = ("gain",)
FIGURE_WIDTH = 1100  # pixels


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="+", help="that `lacunar evaluate face|pictures -o` wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the tables")
    options = parser.parse_args()
    for folder in options.folder:
        record = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        scores = pd.read_csv(folder / "scores.csv")
        tables = faces(scores, record) if "hidden_by" in scores else {folder.name: table_of(scores, RESTORED, record)}
        for name, text in tables.items():
            (options.output / f"{name}.md").write_text(f"{text}\n\n{told_of(folder, record)}\n", encoding="utf-8")
        if "task" in scores:
            figure(folder, scores["task"].unique()).save(options.output / f"{folder.name}.png", optimize=True)


def faces(scores: pd.DataFrame, record: Mapping[str, Any]) -> dict[str, str]:
    """The scores over all kinds of occlusion, and gains by kind."""
    size, own = record["options"]["size"], scores[scores["hidden_by"] == ALL]
    tables = {f"faces_{size}": table_of(own, FACES, record)}
    network = next(name for name in own["method"] if f"{name}, {ONE_SAMPLE}" in set(own["method"]))
    kinds = scores[(scores["hidden_by"] != ALL) & (scores["method"] == network)].drop(columns=["gain_low", "gain_high"])
    wide = by_method(
        kinds.assign(method=kinds["hidden_by"]),
        "gain",
        ".2f",
        index={"rate": ("hidden", share)},
        methods=list(dict.fromkeys(kinds["hidden_by"])),
    )
    tables[f"faces_{size}_kinds"] = markdown_table(list(wide), wide.itertuples(index=False, name=None))
    return tables


def table_of(scores: pd.DataFrame, columns: Columns, record: Mapping[str, Any]) -> str:
    """Scores as Markdown, with intervals of the gain alone."""
    ends = [f"{name}_{end}" for name in columns for end in ("low", "high") if name not in WITH_INTERVAL]
    text = text_of(scores.drop(columns=ends, errors="ignore"), columns)
    titles = [title.format(baseline=record["baseline"]) for title, _ in columns.values()]
    return markdown_table(titles, text.itertuples(index=False, name=None))


def told_of(folder: Path, record: Mapping[str, Any]) -> str:
    """What made the numbers of a folder."""
    made = datetime.fromtimestamp((folder / "scores.json").stat().st_mtime, UTC)
    counted = next(iter(record["data"].values())).split(": ", 1)[-1]
    return f"{counted}; lacunar {record['versions']['lacunar']}, {made:%Y-%m-%d}, {record['machine']}."


def figure(folder: Path, tasks: np.ndarray) -> Image.Image:
    """The examples of every task, one below the other."""
    shown = []
    for task in tasks:
        with Image.open(folder / f"examples_{task}.png") as drawn:
            shown.append(drawn.convert("RGB"))
    shown = [one.resize((FIGURE_WIDTH, round(one.height * FIGURE_WIDTH / one.width))) for one in shown]
    whole = Image.new("RGB", (FIGURE_WIDTH, sum(one.height for one in shown)), "white")
    top = 0
    for one in shown:
        whole.paste(one, (0, top))
        top += one.height
    return whole.quantize(128)


if __name__ == "__main__":
    main()
