"""Tables of the documentation out of folders that `lacunar evaluate lst` wrote.

python benchmarks/lst_tables.py quality FOLDER > docs/evidence/tables/lst_quality.md
python benchmarks/lst_tables.py pairs FOLDER > docs/evidence/tables/lst_pairs.md
python benchmarks/lst_tables.py archive FOLDER > docs/evidence/tables/lst_archive.md
"""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from lacunar.evaluate.report import cells, markdown_table, share

NAMES = {
    "mean": "mean of the known pixels",
    "idw": "inverse distance",
    "laplace": "Laplace",
    "kriging": "kriging (exponential covariance)",
    "kriging (averaged)": "kriging (averaged over covariances)",
    "lacunar": "**`lacunar`**, the default",
    "lacunar, one sample": "one sample of it",
    "lacunar, with reference": "**`lacunar --reference`**, the default",
    "lacunar, with reference, one sample": "one sample of it",
    "lst-small, fast": "`--model lst-small`",
    "lst-small, fast, one sample": "one sample of it",
}
ARCHIVE = ("lacunar", "ridge on dates", "EM alone (as DINEOF)", "annual cycle", "laplace")
FIELD = "lacunar"


def main() -> None:
    """Read the scores and write the table."""
    options = parse()
    scores = pd.read_csv(options.folder / "scores.csv")
    record = json.loads((options.folder / "scores.json").read_text(encoding="utf-8"))
    made = datetime.fromtimestamp((options.folder / "scores.json").stat().st_mtime, UTC)
    text = {"quality": by_rate, "pairs": by_rate, "archive": by_count}[options.what](scores)
    print(f"{text}\n\n{record['data']['cases']}; lacunar {record['versions']['lacunar']}, {made:%Y-%m-%d}.")


def by_rate(scores: pd.DataFrame) -> str:
    """A row for each method and a column for each missing rate: RMSE, then CRPS and coverage where there is a sigma."""
    scores = scores[scores["kind"] == "all"]
    own = {rate: part.set_index("method") for rate, part in scores.groupby("rate")}
    methods = list(dict.fromkeys(scores["method"]))
    errors = [(NAMES.get(name, name), *(cell(part, name, "rmse", ".2f") for part in own.values())) for name in methods]
    rates = [f"{share(rate)} missing" for rate in own]
    base = NAMES.get(scores["baseline"].iloc[0], scores["baseline"].iloc[0])
    unsure = [name for name in methods if all(pd.notna(part["coverage_68"].get(name)) for part in own.values())]
    doubts = [(NAMES.get(name, name), *(part_of(part, name) for part in own.values())) for name in unsure]
    first = markdown_table(("RMSE, K", *rates), errors)
    return f"{first}\n\n{markdown_table((f'over {base}; CRPS, K; in 68 % / 95 %', *rates), doubts)}"


def part_of(part: pd.DataFrame, name: str) -> str:
    """Ratio to the baseline, CRPS and coverage of a method."""
    inside = " / ".join(cell(part, name, score, ".0%", interval=False) for score in ("coverage_68", "coverage_95"))
    return f"{cell(part, name, 'ratio', '.2f')}; {cell(part, name, 'crps', '.2f', interval=False)}; {inside}"


def by_count(scores: pd.DataFrame) -> str:
    """A table for each missing rate, with a row for each number of dates."""
    scores = scores[scores["kind"] == "references"]
    methods = [name for name in ARCHIVE if name in set(scores["method"])]
    header = ("dates", *(f"{NAMES.get(name, name)}, K" for name in methods), "CRPS, K", "in 68 %", "in 95 %")
    tables = []
    for rate, part in scores.groupby("rate"):
        rows = []
        for count, own in part.assign(count=part["stratum"].astype(int)).groupby("count"):
            by = own.set_index("method")
            errors = [cell(by, name, "rmse", ".2f") if name in by.index else "-" for name in methods]
            doubts = [cell(by, FIELD, "crps", ".2f", interval=False)]
            doubts += [cell(by, FIELD, score, ".0%") for score in ("coverage_68", "coverage_95")]
            rows.append((str(count), *errors, *doubts))
        tables.append(f"{share(rate)} missing:\n\n{markdown_table(header, rows)}")
    return "\n\n".join(tables)


def cell(part: pd.DataFrame, name: str, score: str, form: str, *, interval: bool = True) -> str:
    """A score of a method as text."""
    if name not in part.index or pd.isna(part.loc[name, score]):
        return "-"
    row = part.loc[[name]] if interval else part.loc[[name], [score]]
    return str(cells(row, score, form).iloc[0])


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("quality", "pairs", "archive"))
    parser.add_argument("folder", type=Path, help="that `lacunar evaluate lst -o` wrote")
    return parser.parse_args()


if __name__ == "__main__":
    main()
