"""The quality bands of Landsat 8 and 9: from bits to classes, for QA_PIXEL, BQA and the BQA before the collections.

References: LSDS-1822, data format control book of Landsat 8-9 Collection 2 Level 1 (QA_PIXEL); LSDS-1656,
product definition of Landsat Collection 1 Level 1 (BQA); LSDS-1574, data users handbook of Landsat 8 (BQA before the
collections). Does not load numpy: the command line names these classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

from lacunar.errors import ProductError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QaClass = Literal["fill", "dilated_cloud", "cirrus", "cloud", "cloud_shadow", "snow", "water", "clear"]
QaForm = Literal["collection_2", "collection_1", "pre_collection"]

# What hides the surface or changes its temperature: filled by default.
GAP_CLASSES: tuple[QaClass, ...] = ("cloud", "dilated_cloud", "cloud_shadow", "cirrus")

_HIGH = 3  # of a two-bit confidence: 0 not determined, 1 low, 2 medium, 3 high

# Class -> (first bit, number of bits, value there).
_BITS: dict[QaForm, dict[QaClass, tuple[int, int, int]]] = {
    "collection_2": {
        "dilated_cloud": (1, 1, 1),
        "cirrus": (2, 1, 1),
        "cloud": (3, 1, 1),
        "cloud_shadow": (4, 1, 1),
        "snow": (5, 1, 1),
        "clear": (6, 1, 1),
        "water": (7, 1, 1),
    },
    "collection_1": {
        "cloud": (4, 1, 1),
        "cloud_shadow": (7, 2, _HIGH),
        "snow": (9, 2, _HIGH),
        "cirrus": (11, 2, _HIGH),
    },
    "pre_collection": {
        "water": (4, 2, _HIGH),
        "snow": (10, 2, _HIGH),
        "cirrus": (12, 2, _HIGH),
        "cloud": (14, 2, _HIGH),
    },
}


def qa_flags(qa: NDArray[np.integer], classes: Sequence[QaClass], *, form: QaForm) -> NDArray[np.bool_]:
    """Where a quality band (any shape; signed files hold the same 16 bits) says one of these classes; bool.

    A class that is told by a confidence counts where that is high; one that the form lacks is nowhere. In both forms of
    BQA "clear" means neither fill nor cloud, as the bit of QA_PIXEL does. The value 0, which no delivered product
    holds, is fill (of a crop). An unknown class is a `ProductError`.

    >>> import numpy as np
    >>> qa_flags(np.array([21824, 22280, 23888, 1]), ["cloud", "cloud_shadow"], form="collection_2").tolist()
    [False, True, True, False]
    """
    unknown = [name for name in classes if name not in get_args(QaClass)]
    if unknown:
        raise ProductError(f"quality class {unknown[0]!r}: wanted some of {', '.join(get_args(QaClass))}")
    bits = qa.astype("int64") & 0xFFFF
    flags = bits < 0  # nowhere
    for name in classes:
        flags = flags | _flag(bits, name, _BITS[form])
    return flags


def _flag(qa: NDArray[np.int64], name: QaClass, bits: Mapping[QaClass, tuple[int, int, int]]) -> NDArray[np.bool_]:
    """Where the bits say this class; nowhere if the form lacks it."""
    flags: NDArray[np.bool_] = qa < 0  # nowhere
    if name == "fill":
        flags = (qa & 1 == 1) | (qa == 0)
    elif name in bits:
        first, width, value = bits[name]
        flags = (qa >> first) & ((1 << width) - 1) == value
    elif name == "clear":
        flags = ~_flag(qa, "fill", bits) & ~_flag(qa, "cloud", bits)
    return flags
