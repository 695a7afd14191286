"""Tables of what a run of the kit brought back: `PYTHONPATH=benchmarks python -m gpu_kit.table FOLDER`."""

import json
import sys
from pathlib import Path

COLUMNS = (
    "recipe",
    "batch",
    "training, images/s",
    "images trained on",
    "of these drawn anew",
    "share of what 40 % of the peak would give",
    "evaluations/s by batch",
    "share of the bf16 peak at the largest",
)


def row(record: dict, timing: dict) -> list[str]:
    """One recipe."""
    batches, size = timing["by_batch"], record["batch_size"]
    compiled = f" ({record['compiled']} when compiled)" if "compiled" in record else ""
    largest = batches[max(batches, key=int)]
    expected = record["probe"][str(size)] * 60 / record["per_minute_expected_of_an_h100"]
    return [
        f"`{record['recipe']}`",
        str(size),
        f"{record['probe'][str(size)]:,.0f}{compiled}",
        f"{record['images']:,}",
        f"{record['images_drawn']:,}",
        f"{expected:.1%}",
        ", ".join(f"{batch}: {one['evaluations_per_second']:,.0f}" for batch, one in batches.items()),
        f"{largest.get('share_of_peak', 0):.1%}",
    ]


def main(folder: Path) -> None:
    """Print the table."""
    timings = json.loads((folder / "timings.json").read_text())
    rows = [COLUMNS, ["---"] * len(COLUMNS)]
    for recipe, record in sorted(json.loads((folder / "records.json").read_text()).items()):
        rows.append(row(record, timings[recipe]))
    print(f"{timings['machine']}, PyTorch {timings['torch']}:\n")
    print("\n".join("| " + " | ".join(cells) + " |" for cells in rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
