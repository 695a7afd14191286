"""What tools and sensors call bands, in the names of `lacunar.sensors.bands`."""

import re
from collections.abc import Iterable, Mapping, Sequence

from lacunar.errors import LacunarError

OTHER = "other"  # left out

_OLI = {"1": "coastal", "2": "blue", "3": "green", "4": "red", "5": "nir", "6": "swir1", "7": "swir2"}
_TM = {"1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir1", "7": "swir2"}
_MSI = {"1": "coastal", "2": "blue", "3": "green", "4": "red", "8": "nir", "11": "swir1", "12": "swir2"}
_MSI |= dict.fromkeys(("5", "6", "7", "8a", "9", "10"), OTHER)
# Sensor -> what its band numbers mean: of Landsat's surface reflectance (SR_B2), and of any (B2, B02, band 2).
_SURFACE = {"Landsat 8 or 9": _OLI, "Landsat 4 to 7": _TM}
_ANY = {
    "Sentinel-2": _MSI,
    "Landsat 8 or 9": _OLI | dict.fromkeys(("8", "9", "10", "11"), OTHER),
    "Landsat 4 to 7": _TM | dict.fromkeys(("6", "8"), OTHER),
}
_WORDS = {
    "blue": "blue",
    "green": "green",
    "red": "red",
    **dict.fromkeys(("coastal", "coastalaerosol", "coastalblue", "ultrablue", "aerosol"), "coastal"),
    **dict.fromkeys(("nir", "nir1", "nir08", "nearinfrared"), "nir"),
    **dict.fromkeys(("swir1", "swir16", "shortwaveinfrared1"), "swir1"),
    **dict.fromkeys(("swir2", "swir22", "shortwaveinfrared2"), "swir2"),
    **dict.fromkeys(("other", "cirrus", "pan", "panchromatic", "yellow", "greeni", "scl", "nir09", "nir8a"), OTHER),
}
_NUMBER = re.compile(r"(?:b|band)0*(\d{1,2}a?)")
_SURFACE_NUMBER = re.compile(r"srb(?:and)?0*(\d)")
_UNSEEN = re.compile(r"rededge.*|st(?:b10|b6|qa|trad|urad|drad|atran|emis|emsd|cdist)|qa.*|srqa.*|lwir.*|wvp|aot")
_NO_NAME = re.compile(r"(?:(?:band|layer|channel|lyr)?\d*|gr[ae]y|undefined|alpha|palette)")

# --bands NAME: what the channels of a file are, by how many there are.
LAYOUTS: Mapping[str, Mapping[int, tuple[str, ...]]] = {
    "sentinel2": {
        4: ("blue", "green", "red", "nir"),  # the bands of 10 m
        6: ("blue", "green", "red", "nir", "swir1", "swir2"),
        10: ("blue", "green", "red", OTHER, OTHER, OTHER, "nir", OTHER, "swir1", "swir2"),  # of 10 and 20 m
        12: ("coastal", "blue", "green", "red", *(OTHER,) * 3, "nir", OTHER, OTHER, "swir1", "swir2"),  # Level 2A
        13: ("coastal", "blue", "green", "red", *(OTHER,) * 3, "nir", *(OTHER,) * 3, "swir1", "swir2"),  # Level 1C
    },
    "landsat": {
        6: ("blue", "green", "red", "nir", "swir1", "swir2"),
        7: ("coastal", "blue", "green", "red", "nir", "swir1", "swir2"),  # Landsat 8 and 9
    },
    "planet4": {4: ("blue", "green", "red", "nir")},
    "planet8": {8: ("coastal", "blue", OTHER, "green", OTHER, "red", OTHER, "nir")},
    "naip": {4: ("red", "green", "blue", "nir")},
}


def translated(names: Sequence[str]) -> tuple[str, ...] | None:
    """Names that tools write in those of `lacunar.sensors.bands`; None where one of them is unknown.

    A `LacunarError` where two sensors call different bands so.

    >>> translated(["B02", "B03", "B04", "B08", "B11", "B12"])
    ('blue', 'green', 'red', 'nir', 'swir1', 'swir2')
    >>> translated(["B2", "lst"]) is None
    True
    """
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    numbered = {index: found for index, name in enumerate(plain) if (found := _number(name))}
    words = {index: OTHER if _UNSEEN.fullmatch(name) else _WORDS.get(name) for index, name in enumerate(plain)}
    if any(words[index] is None for index in range(len(names)) if index not in numbered):
        return None
    surface = any(on_ground for _, on_ground in numbered.values())
    meanings = {}
    for sensor, bands in (_SURFACE if surface else _ANY).items():
        if all(number in bands for number, _ in numbered.values()):
            meanings[sensor] = tuple(
                bands[numbered[index][0]] if index in numbered else str(words[index]) for index in range(len(names))
            )
    if len(set(meanings.values())) > 1:
        told = "; ".join(f"{sensor}: {','.join(found)}" for sensor, found in meanings.items())
        raise LacunarError(f"the bands {','.join(names)} may be of {told}: say what they are with --bands")
    return next(iter(meanings.values()), None)


def are_no_names(names: Iterable[str]) -> bool:
    """Whether descriptions say nothing, such as "Band 1"."""
    return all(_NO_NAME.fullmatch(re.sub(r"[^a-z0-9]", "", name.lower())) for name in names)


def laid_out(bands: Sequence[str], counts: Sequence[int]) -> tuple[str, ...]:
    """Bands of which the only one may be a name of `LAYOUTS`, for a file with one of so many channels."""
    if len(bands) != 1 or bands[0] not in LAYOUTS:
        return tuple(bands)
    known = LAYOUTS[bands[0]]
    if (count := next((count for count in counts if count in known), None)) is None:
        wanted = " or ".join(map(str, known))
        raise LacunarError(f"--bands {bands[0]} for {counts[0]} channels: wanted {wanted}; name each in its place")
    return known[count]


def _number(name: str) -> tuple[str, bool] | None:
    """The number of a band, and whether it is one of Landsat's surface reflectance."""
    if match := _SURFACE_NUMBER.fullmatch(name):
        return match[1], True
    match = _NUMBER.fullmatch(name.removeprefix("toa").removeprefix("l1c").removeprefix("l2a"))
    return (match[1], False) if match else None
