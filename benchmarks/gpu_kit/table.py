"""Tables of what runs of the kit brought back.

PYTHONPATH=benchmarks python -m gpu_kit.table FOLDER > docs/evidence/tables/gpu_kit.md                speeds
PYTHONPATH=benchmarks python -m gpu_kit.table FOLDER scores > docs/evidence/tables/gpu_kit_scores.md
"""

import json
import sys
from pathlib import Path

COLUMNS = (
    "recipe",
    "batch",
    "training, images/s",
    "share of what 40 % of the peak would give",
    "the network alone, forward and backward, images/s",
    "images trained on",
    "of these drawn anew",
    "losses/s by batch, forward",
)


def row(record: dict, timing: dict | None) -> list[str]:
    """One recipe; a run whose batch was given, or that was not timed, tells less."""
    size, peak = record["batch_size"], record["per_minute_expected_of_an_h100"]
    compiled = f" ({record['compiled']} when compiled)" if "compiled" in record else ""
    return [
        f"`{record['recipe']}`",
        str(size),
        f"{record['images_per_second']:,.0f}",
        f"{60 * record['images_per_second'] / peak:.1%}",
        f"{record['probe'][str(size)]:,.0f}{compiled}" if "probe" in record else "",
        f"{record['images']:,}",
        f"{record['images_drawn']:,}",
        ", ".join(f"{batch}: {one['evaluations_per_second']:,.0f}" for batch, one in timing["by_batch"].items())
        if timing
        else "",
    ]


def scores(folder: Path) -> None:
    """Print what the weights scored: ``scores.json`` holds scores by recipe and data, or by recipe, data and group."""
    print("| weights | on | scores |\n| --- | --- | --- |")
    for recipe, measured in json.loads((folder / "scores.json").read_text()).items():
        for data, found in measured.items():
            groups = found if all(isinstance(value, dict) for value in found.values()) else {"": found}
            for group, values in groups.items():
                told = ", ".join(f"{name} {value:g}" for name, value in values.items())
                print(f"| {recipe} | {data}{f': {group}' if group else ''} | {told} |")


def speeds(folder: Path) -> None:
    """Print how fast they were trained."""
    timings = json.loads((folder / "timings.json").read_text())
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    for recipe, record in sorted(json.loads((folder / "records.json").read_text()).items()):
        rows.append(row(record, timings.get(recipe)))
    print(f"{timings['machine']}, PyTorch {timings['torch']}:\n")
    print("\n".join("| " + " | ".join(cells) + " |" for cells in rows))


if __name__ == "__main__":
    (scores if sys.argv[2:] == ["scores"] else speeds)(Path(sys.argv[1]))
