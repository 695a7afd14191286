"""Fill the masked part of a picture in memory: the public function of this room."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lacunar.diffusion.samplers import chosen_preset
from lacunar.errors import PictureError
from lacunar.geo.picture import Picture
from lacunar.models.backend import load_filler
from lacunar.models.checkpoint import Model
from lacunar.pictures.fill import Drawing, fill_regions, paste
from lacunar.pictures.job import PICTURE_MODEL

DEEP_WHITE = 2**16 - 1  # floats of 0 to 1 are filled with the steps of 16 bits


def inpaint(
    picture: NDArray[Any],
    missing: NDArray[np.bool_],
    *,
    model: str | Path | Model = PICTURE_MODEL,
    preset: str = "fast",
    sampler: str | None = None,
    evaluations: int | None = None,
    samples: int = 1,
    seed: int = 0,
) -> NDArray[Any]:
    """Fill the masked part of a picture; all other pixels stay bit by bit.

    Parameters
    ----------
    picture
        (H, W) grey or (H, W, C): 1 grey, 3 RGB, 2 or 4 with alpha last, opaque where filled. 8 or 16 bits, or floats
        from 0 to 1.
    missing
        (H, W) booleans, True = to be filled.
    model
        A shipped model's name, a model folder, or what `lacunar.load_model` gave (on its device).
    preset
        ``fast``, ``balanced``, ``paper`` (RePaint), or ``instant`` (the mean, from one evaluation).
    sampler, evaluations
        In place of the preset's. A converted DDPM, which knows no mask, wants ``paper``, or the sampler ``repaint``,
        ``ddnm`` or ``diffpir``.
    samples, seed
        How many answers, and their seed. Their mean is nearer to the truth than each, and smoother.

    Returns
    -------
    numpy.ndarray
        The picture with the shape and type that it had; several samples are stacked, (K, H, W) or (K, H, W, C).

    Raises
    ------
    LacunarError
        Another shape or type, nothing or everything to be filled, or a model of other pictures.

    References
    ----------
    Lugmayr et al. 2022 (RePaint, arXiv 2201.09865); Meng et al. 2022 (SDEdit, arXiv 2108.01073).

    Examples
    --------
    >>> import numpy as np, lacunar as lc
    >>> picture = np.tile(np.linspace(60, 200, 64).astype(np.uint8)[:, None, None], (1, 64, 3))
    >>> missing = np.zeros((64, 64), dtype=bool)
    >>> missing[20:30, 20:30] = True
    >>> filled = lc.inpaint(picture, missing, preset="instant")
    >>> filled.shape, filled.dtype, bool((filled == picture)[~missing].all())
    ((64, 64, 3), dtype('uint8'), True)
    """
    given, hidden = np.asarray(picture), np.asarray(missing)
    if hidden.dtype != np.bool_ or hidden.shape != given.shape[:2]:
        raise PictureError(
            f"missing is {hidden.dtype} of shape {hidden.shape}, the picture has shape {given.shape}: wanted booleans "
            "(height, width), True = to be filled"
        )
    drawing = Drawing(chosen_preset(preset, sampler, evaluations), samples, seed)
    whole = _as_picture(given)
    network = model if isinstance(model, Model) else load_filler(model)
    regions = fill_regions(whole, hidden, network, drawing)
    answers = [_as_given(paste(whole, regions, sample=number), given, hidden) for number in range(samples)]
    return answers[0] if samples == 1 else np.stack(answers)


def _as_picture(given: NDArray[Any]) -> Picture:
    channels = np.atleast_3d(given)
    if given.ndim not in (2, 3) or channels.shape[2] > 4:
        raise PictureError(f"the picture has shape {given.shape}: wanted (height, width) or (height, width, 1 to 4)")
    if given.dtype.kind == "f":
        if not (np.isfinite(given).all() and 0 <= given.min() and given.max() <= 1):
            raise PictureError("the picture holds floats beyond 0 to 1: wanted that range, or 8 or 16 bits")
        channels = np.rint(channels * DEEP_WHITE).astype(np.uint16)
    elif given.dtype not in (np.uint8, np.uint16):
        raise PictureError(f"the picture holds {given.dtype} values: wanted uint8, uint16, or floats of 0 to 1")
    colours = channels.shape[2] - (channels.shape[2] % 2 == 0)
    return Picture(channels[..., :colours], channels[..., -1] if channels.shape[2] > colours else None)


def _as_given(filled: Picture, given: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
    """A filled picture in the shape and type of the array that was given, whose other pixels it keeps."""
    answer = np.atleast_3d(given).copy()
    values = filled.colours[missing]
    answer[..., : filled.colours.shape[2]][missing] = values / DEEP_WHITE if given.dtype.kind == "f" else values
    if filled.alpha is not None:
        answer[..., -1][missing] = 1 if given.dtype.kind == "f" else filled.white
    return answer.reshape(given.shape)
