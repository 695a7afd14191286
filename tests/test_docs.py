"""Figures of the documentation: what was measured stands in a table file that a command wrote, or has a source here."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS, TABLES = ROOT / "docs", ROOT / "docs" / "evidence" / "tables"
MADE = {"_build", "generated", "auto_tutorials", "tutorial_run", "tables"}
PAGES = [ROOT / "README.md", *(page for page in sorted(DOCS.rglob("*.md")) if not MADE & set(page.parts))]

NUMBER = r"(?<![\w.,])[-+]?\d[\d,]*(?:\.\d+)?(?![\w]|[.,]\d)"
UNIT = r"(?:dB|K|km²|s|ms|h|GiB|MiB|CPU s|CPU seconds|images/s|tiles/s)\b"
SCORE = r"(?:IoU|F1|SSIM|PSNR|AUROC|CRPS|RMSE|MSE|loss|cosine|accuracy)"
MEASURED = re.compile(rf"({NUMBER}) {UNIT}|{SCORE}(?: \w+){{0,4}} ({NUMBER})")
# What a paragraph or table of numbers that were not measured here holds -> where they come from.
SOURCES = {
    "| hidden | MSE | PSNR, dB | SSIM |": "Bezerra et al. 2024, Tables 2 and 3",
    "Bezerra et al. (2024, Table 1": "Bezerra et al. 2024, Table 1 and section 4.1",
    "Bezerra et al. (2024, Table 4)": "Bezerra et al. 2024, Table 4",
    "| product | `--scale` | `--offset` |": "ESA's Sentinel-2 and USGS's Landsat product guides",
    "150 and 400 K": "limits of a temperature that is believed: a constant of the code",
    "150 to 400 K": "the same",
    "float32 step at 300 K": "2^-15 K, the spacing of float32 there",
    "was to take 180 s": "what was aimed for",
    "Python 3.11": "a version",
    "1000 steps": "the schedule's length",
}


def paragraphs(page: Path) -> list[str]:
    """Paragraphs and tables, without code, formulas and addresses."""
    text = re.sub(r"^ *(```|~~~).*?^ *\1$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    known = [part for part in re.split(r"\n\s*\n", text) if not any(source in part for source in SOURCES)]
    return [re.sub(r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)", " ", part) for part in known]


def written() -> list[float]:
    """Every number of every table file."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(TABLES.glob("*.md")))
    return [float(found.replace(",", "")) for found in re.findall(NUMBER, text)]


def is_written(number: str, table: list[float]) -> bool:
    """Whether a table holds the number, or one that is rounded to it."""
    value, digits = abs(float(number.replace(",", ""))), len(number.partition(".")[2])
    return any(round(abs(other), digits) == value for other in table)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_measured_figures_are_those_of_the_tables(page):
    table = written()
    found = [match[1] or match[2] for part in paragraphs(page) for match in MEASURED.finditer(part)]
    if page.name == "README.md":  # its one table of results
        found += [number for part in paragraphs(page) for number in re.findall(NUMBER, part) if "." in number]
    assert [number for number in found if not is_written(number, table)] == []


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_of_measurements_are_included_from_files(page):
    for part in paragraphs(page):
        cells = [cell.strip() for row in part.splitlines()[2:] if row.startswith("|") for cell in row.split("|")[2:-1]]
        decimals = [cell for cell in cells if re.match(rf"[*\s]*{NUMBER}", cell) and "." in cell]
        assert len(decimals) <= len(cells) / 3, part.splitlines()[0]


def test_a_figure_without_a_table_is_found():
    table = [16.804, 0.918]
    assert [match[1] or match[2] for match in MEASURED.finditer("an IoU of 0.92, 16.9 dB")] == ["0.92", "16.9"]
    assert is_written("0.92", table)
    assert not is_written("16.9", table)
