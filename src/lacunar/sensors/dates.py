"""The date of an image, from its metadata or its file's name."""

import re
from datetime import date

_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)([-_]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])(?!\d)")


def date_in(text: str) -> date | None:
    """The first date in a text, such as 20240813, 2024-08-13 or 2024_08_13; None where there is none.

    Examples
    --------
    >>> date_in("S2_lake_2024-08-13_B04.tif")
    datetime.date(2024, 8, 13)
    >>> date_in("20240231") is None  # February has no 31st
    True
    """
    if (match := _DATE.search(text)) is None:
        return None
    try:
        return date(int(match[1]), int(match[3]), int(match[4]))
    except ValueError:
        return None
