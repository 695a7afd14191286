"""Fixtures that every test may use."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden files that stands beside a checkout."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"real data and golden files are not here: no folder {SHARED}")
    return SHARED
