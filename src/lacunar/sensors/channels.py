"""What the channels of an image file are and what their values mean: said, declared by the file, or asked for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lacunar.errors import RasterError
from lacunar.geo.raster import RasterSource
from lacunar.sensors.reflectance import Encoding, recognise
from lacunar.sensors.spectra import BANDS, DROPPED, RGB, check_channels

FloatArray = NDArray[np.floating[Any]]


def channel_names(
    source: RasterSource, chosen: Sequence[int], bands: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tell what each channel of a file is, and notes on it.

    Parameters
    ----------
    source
        The open file.
    chosen
        Its channels, counted from 1, but for alpha.
    bands
        What they are in the user's words (`lacunar.sensors.spectra.parse_bands`); empty asks the file.

    Raises
    ------
    LacunarError
        Channels that nobody named, another number of names, or names that do not serve.
    """
    name, count = source.path.name, len(chosen)
    described = tuple(source.band_names[index - 1].strip().lower() for index in chosen)
    known = all(text in (*BANDS, *DROPPED) for text in described)
    choice = f"from {', '.join((*DROPPED, *BANDS))} ('other' is left out)"
    if bands:
        check_channels(bands)
        if len(bands) != count:
            raise RasterError(
                f"{name} has {count} channel{'' if count == 1 else 's'}, --bands names {len(bands)} "
                f"({','.join(bands)}): wanted one name for each channel in the file's order, {choice}; bands that the "
                "file lacks are not named"
            )
        differ = known and described != tuple(bands)
        return tuple(bands), (f"the file calls its channels {','.join(described)}",) if differ else ()
    if known:
        check_channels(described)
        return described, ()
    if count == len(RGB):
        return RGB, () if set(source.colours) >= set(RGB) else ("three channels, taken as red, green, blue",)
    example = {1: "nir", 4: "blue,green,red,nir", 6: ",".join(BANDS)}.get(count, "coastal,blue,green,red,nir,...")
    what = "1 channel (grey)" if count == 1 else f"{count} channels"
    raise RasterError(
        f"{name} has {what} and nothing says which: name each in the file's order with --bands, such as {example}, "
        f"{choice}"
    )


def encoding_of(
    source: RasterSource,
    chosen: Sequence[int],
    sample: FloatArray,
    scale: float | None,
    offset: float | None,
    *,
    picture: bool,
) -> Encoding:
    """Tell how what `RasterSource.read` gives, which applies what the file declares, becomes reflectance.

    Parameters
    ----------
    source, chosen
        As in `channel_names`.
    sample
        (6, N) valid pixels as they are read.
    scale, offset
        Reflectance = stored value x scale + offset in the user's words, or None.
    picture
        Whether the file is a picture: one or three channels of 8 or 16 bits without a position on earth.

    Raises
    ------
    RasterError
        Values that nobody explained and that may be anything, or channels whose declared scales differ.
    """
    declared = {(source.scales[index - 1], source.offsets[index - 1]) for index in chosen}
    if scale is None and offset is None:
        if declared != {(1.0, 0.0)}:
            return Encoding(1.0, 0.0, "reflectance by the scale and offset that the file declares")
        values = sample[~np.isnan(sample).all(axis=1)]
        return recognise(values, dtype=source.dtypes[chosen[0] - 1], picture=picture, name=source.path.name)
    given = Encoding(1.0 if scale is None else scale, 0.0 if offset is None else offset, "")
    if len(declared) > 1:
        raise RasterError(
            f"{source.path.name} declares different scales or offsets for its channels: leave out --scale and --offset"
        )
    factor, addend = declared.pop()
    meaning = f"value x {given.scale:g} + {given.offset:g}, as --scale and --offset say"
    return Encoding(given.scale / factor, given.offset - given.scale * addend / factor, meaning)
