"""What a map tells apart: the classes of a model by name, their numbers in files, their colours.

0 is land and 1 water in every map; what else a model knows is numbered from 2 in the order of its card. Every pixel has
one class: water from the threshold of its probability on, else the likeliest of the others.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import LacunarError

WATER_NAME, LAND_NAME = "water", "land"
LAND, WATER = 0, 1
FIRST_OTHER = 2
NOT_VALID = 255
HIDING = ("cloud",)  # it is not known what is under them; in a shadow the ground is dark, but seen

COLOURS: Mapping[str, str] = {
    LAND_NAME: "#c9b990",
    WATER_NAME: "#1f78b4",
    "cloud": "#f5f5f5",
    "cloud shadow": "#5a5a66",
    "snow or ice": "#a6e3f0",
}
_OTHER_COLOURS = ("#e6a0c4", "#7fbf7b", "#d8b365", "#998ec3")  # of classes that are not foreseen


def class_numbers(classes: Sequence[str]) -> dict[str, int]:
    """Number of each class of a model, land first; a model of water alone knows land too.

    >>> class_numbers(("water",))
    {'land': 0, 'water': 1}
    >>> class_numbers(("water", "land", "cloud"))
    {'land': 0, 'water': 1, 'cloud': 2}
    """
    others = [name for name in classes if name not in (WATER_NAME, LAND_NAME)]
    return {LAND_NAME: LAND, WATER_NAME: WATER} | {name: FIRST_OTHER + place for place, name in enumerate(others)}


def decided(water: NDArray[np.uint8], cover: NDArray[np.floating], classes: Sequence[str]) -> NDArray[np.uint8]:
    """Number of the class of each pixel (H, W), from the water (1, 0, 255) and the likeliest other class.

    ``cover`` (C, H, W) are the probabilities of the model's classes after water.
    """
    if not len(cover):
        return water
    numbers = class_numbers(classes)
    other = np.array([numbers[name] for name in classes[1:]], dtype=np.uint8)[cover.argmax(axis=0)]
    return np.where(water == LAND, other, water)


def clouds_of(classes: Sequence[str]) -> list[int]:
    """Numbers of the classes that hide the ground."""
    return [number for name, number in class_numbers(classes).items() if name in HIDING]


def known_classes(asked: Sequence[str], classes: Sequence[str], model: str) -> list[str]:
    """Names of classes as the model writes them; one that it does not know is a `LacunarError`.

    >>> known_classes(["Cloud-Shadow"], ("water", "land", "cloud", "cloud shadow"), "a model")
    ['cloud shadow']
    """
    known, found = list(class_numbers(classes)), []
    if not asked:
        raise LacunarError(f"no class is named: {model} knows {', '.join(known)}")
    for name in asked:
        plain = _plain(name)
        if plain not in known:
            raise LacunarError(f"no class {name!r}: {model} knows {', '.join(known)}")
        found.append(plain)
    return list(dict.fromkeys(found))


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", " ").replace("_", " ")


def number_of(asked: str | int, meanings: str, values: Sequence[int]) -> int:
    """Number of a class among the attributes that `flags` made; one that is not there is a `LacunarError`.

    >>> number_of("cloud shadow", "land water cloud_shadow", [0, 1, 3])
    3
    """
    known = dict(zip(meanings.split(), (int(value) for value in values), strict=True))
    number = asked if isinstance(asked, int) else known.get(_plain(asked).replace(" ", "_"))
    if number is None or number not in known.values():
        raise LacunarError(f"no class {asked!r}: there are {', '.join(known)}")
    return number


def flags(numbers: Mapping[str, int]) -> dict[str, Any]:
    """Attributes of a variable of classes (CF conventions 1.11, section 3.5).

    >>> flags({"land": 0, "cloud shadow": 3})
    {'flag_values': [0, 3, 255], 'flag_meanings': 'land cloud_shadow not_valid'}
    """
    names = [name.replace(" ", "_") for name in numbers]
    return {"flag_values": [*numbers.values(), NOT_VALID], "flag_meanings": " ".join([*names, "not_valid"])}


def class_colours(numbers: Mapping[str, int]) -> dict[str, tuple[float, float, float]]:
    """Red, green and blue (0 to 1) of each class."""
    others = iter(_OTHER_COLOURS * len(numbers))
    return {name: _parts(COLOURS.get(name) or next(others)) for name in numbers}


def _parts(colour: str) -> tuple[float, float, float]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red / 255, green / 255, blue / 255


def in_bytes(colour: tuple[float, float, float]) -> tuple[int, int, int]:
    """A colour of 0 to 1 in 8 bits."""
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue


def told(numbers: Mapping[str, int]) -> str:
    """Numbers and names in a line.

    >>> told({"land": 0, "water": 1})
    '0 land, 1 water'
    """
    return ", ".join(f"{number} {name}" for name, number in numbers.items())


def category_names(numbers: Mapping[str, int]) -> str:
    """What GDAL reads beside a GeoTIFF (``.aux.xml``): names of its values, for the legends of GIS programs."""
    by_number = {number: name for name, number in numbers.items()}
    names = [by_number.get(number, "") for number in range(max(by_number) + 1)]
    listed = "".join(f"<Category>{escape(name)}</Category>" for name in names)
    return f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{listed}</CategoryNames></PAMRasterBand></PAMDataset>\n'
