"""Dates in texts."""

from datetime import date

import pytest

from lacunar.sensors.scene import date_in


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("LC09_L1TP_063046_20230714_20230715_02_T1", date(2023, 7, 14)),
        ("lake 2024-08-13.tif", date(2024, 8, 13)),
        ("lake_2024_08_13", date(2024, 8, 13)),
        ("2024-0813", None),
        ("120240813", None),
        ("20240231", None),
        ("20241301", None),
        ("", None),
    ],
)
def test_the_first_date_counts(text, found):
    assert date_in(text) == found
