"""Restore a picture that a known operator and noise degraded: a network as an unconditional prior, held to it.

The prior is a model of whole pictures, a converted checkpoint, or a gap-filling network that is told that everything is
missing. It sees overlapping tiles whose predictions are averaged at every step; the operator sees the whole picture.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from lacunar.diffusion.operators import Measurement, Operator
from lacunar.diffusion.samplers import SAMPLERS, Preset, plan
from lacunar.diffusion.solvers import Denoiser
from lacunar.errors import PictureError
from lacunar.geo.masks import read_mask
from lacunar.geo.picture import Picture, check_format, format_notes, read_picture, write_picture
from lacunar.geo.staging import Staging
from lacunar.geo.windows import tiles_over
from lacunar.interpolate.gmrf import MarkovField
from lacunar.models.backend import load_filler
from lacunar.models.checkpoint import Model
from lacunar.models.tiled import TiledNetwork, TiledPrior, overlap_of
from lacunar.pictures.degradation import (
    LUMA,
    Degradation,
    RestoreTask,
    border_of,
    decoded,
    encoded,
    rounded_blocks,
)
from lacunar.pictures.fill import check_model
from lacunar.pictures.job import PictureOptions, numbered
from lacunar.pictures.sampler import COLOURS, PictureDenoiser, is_prior
from lacunar.versions import versions

RESTORE_MODEL = "picture-prior"
RESTORE_SAMPLER, RESTORE_EVALUATIONS = "diffpir", 20
FLOAT_ENDINGS = (".hdr", ".tif", ".tiff")  # of what holds linear light beyond white
HIGHLIGHT_SIDE, HIGHLIGHT_RANGE, HIGHLIGHT_STIFFNESS = 256, 64.0, 4.0  # pixels
DARKEST = 1e-2  # of white: below, light says nothing of highlights
SATURATED = 1 - 1 / 255  # of white: from here on a highlight counts as clipped; JPEG rounds

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float32]
Callback = Callable[[int, int], None]


def restore(
    picture: NDArray[Any],
    degradation: Degradation | RestoreTask | Operator,
    *,
    missing: BoolArray | None = None,
    model: str | Path | Model = RESTORE_MODEL,
    sampler: str = RESTORE_SAMPLER,
    evaluations: int = RESTORE_EVALUATIONS,
    samples: int = 1,
    seed: int = 0,
) -> NDArray[Any]:
    """Restore a picture that was shrunk, blurred, made grey, covered with noise, masked or overexposed.

    Parameters
    ----------
    picture
        (H, W) grey or (H, W, C), C = 1 or 3: 8 or 16 bits, or floats from 0 to 1.
    degradation
        What was done to it: a `lacunar.pictures.degradation.Degradation`, the name of a task with its usual values, or
        an operator of `lacunar.diffusion.operators` over pictures in [-1, 1].
    missing
        (H, W) booleans, True = to be filled, of ``inpaint``.
    model
        A shipped model's name, a model folder, or what `lacunar.load_model` gave.
    sampler, evaluations
        ``ddrm``, ``ddnm``, ``diffpir``, or ``repaint`` where there is no noise; how often it asks the network.
    samples, seed
        How many answers, and their seed; a sample does not depend on how many there are.

    Returns
    -------
    numpy.ndarray
        The restored picture in the type that was given; of ``hdr`` float32 linear light with 1 = the given white.
        Several samples are stacked, (K, H, W) or (K, H, W, C). Without noise, what was measured is kept: the block
        means of a picture restored from fewer pixels are the given pixels, exactly.

    Raises
    ------
    LacunarError
        Another shape or type, a degradation that does not fit, or a model or sampler that cannot serve it.

    References
    ----------
    Kawar et al. 2022 (DDRM, arXiv 2201.11793); Wang et al. 2022 (DDNM, arXiv 2212.00490); Zhu et al. 2023 (DiffPIR,
    arXiv 2305.08995).
    """
    given = np.asarray(picture)
    values, white = _as_floats(given)
    network = model if isinstance(model, Model) else load_filler(model)
    degraded = Degradation(task=degradation) if isinstance(degradation, str) else degradation
    drawn = [
        restored(values, degraded, network, missing=missing, preset=plan(sampler, evaluations), seed=(seed, number))
        for number in range(samples)
    ]
    answers = np.stack([_as_given(one, given, white, degraded) for one in drawn])
    return answers[0] if samples == 1 else answers


def restored(
    values: FloatArray,
    degradation: Degradation | Operator,
    model: Model,
    *,
    missing: BoolArray | None = None,
    preset: Preset,
    seed: tuple[int, ...] = (0,),
    callback: Callback | None = None,
) -> FloatArray:
    """Draw one sample (H, W, 3) from measurements (h, w, 3), both from 0 to 1; `highlights` for ``hdr``."""
    if isinstance(degradation, Degradation) and degradation.task == "hdr":
        return highlights(values, degradation.stops)
    if SAMPLERS[preset.sampler].conditional:
        held = ", ".join(name for name, sampler in SAMPLERS.items() if not sampler.conditional)
        raise PictureError(f"sampler {preset.sampler} cannot hold a picture to a measurement: choose one of {held}")
    check_model(model, preset)
    measurement, border = _measurement(values, degradation, missing)
    words = np.random.SeedSequence(seed).generate_state(1)
    generator = torch.Generator().manual_seed(int(words[0]))
    with torch.inference_mode():
        x_T = torch.randn(measurement.pseudo_inverse.shape, generator=generator)
        x = preset.draw(
            _whole_denoiser(model, (x_T.shape[2], x_T.shape[3])),
            x_T,
            preset.thinned(model.schedule),
            measurement=measurement,
            prediction=model.prediction,
            clip_x_0=(-1.0, 1.0),
            generator=generator,
            callback=callback,
        )
        if measurement.sigma == 0:  # float32 has rounded it
            x = measurement.operator.project(x.double(), measurement.y.double())
    found = np.moveaxis(x[0].numpy(), 0, 2)
    found = found[border : found.shape[0] - border, border : found.shape[1] - border].astype(np.float32)
    return np.asarray((found + 1) / 2)


def _measurement(
    values: FloatArray, degradation: Degradation | Operator, missing: BoolArray | None
) -> tuple[Measurement, int]:
    """What was measured, in [-1, 1], and how many pixels around the picture are restored with it."""
    border, noise, y = 0, 0.0, 2 * values - 1
    if isinstance(degradation, Degradation):
        border, noise = border_of(degradation), degradation.noise
        operator = degradation.operator(degradation.shape_of((values.shape[0], values.shape[1])), missing)
        y = degradation.measured(y)
    else:
        operator = degradation
    measured = torch.from_numpy(np.ascontiguousarray(np.moveaxis(y, 2, 0)[None], dtype=np.float32))
    return Measurement(operator, torch.nn.functional.pad(measured, (border,) * 4), 2 * noise), border


def highlights(values: FloatArray, stops: float) -> FloatArray:
    """Linear light (H, W, 3) of an overexposed picture from 0 to 1, with 1 = its white, at most ``stops`` above.

    What is clipped goes on from its surroundings by a Gaussian Markov field of the logarithm of light, stiff over
    `HIGHLIGHT_STIFFNESS` pixels of a picture of `HIGHLIGHT_SIDE`, and is never darker than white.
    """
    step = -(-max(values.shape[:2]) // HIGHLIGHT_SIDE)
    light, clipped = decoded(values), values >= SATURATED
    for channel in range(values.shape[2]):
        seen = clipped[::step, ::step, channel]
        if not seen.any() or seen.all():
            continue
        log_light = np.log2(np.maximum(light[::step, ::step, channel], DARKEST))
        field = MarkovField(~seen, seen, correlation_range=HIGHLIGHT_RANGE, smoothness=HIGHLIGHT_STIFFNESS**2)
        level = log_light[~seen].mean()
        coarse = (field.completed((log_light - level)[None])[0] + level).repeat(step, axis=0).repeat(step, axis=1)
        found = 2 ** gaussian_filter(coarse, step / 2)[: values.shape[0], : values.shape[1]].clip(0, stops)
        light[..., channel] = np.where(clipped[..., channel], found, light[..., channel])
    light[clipped] = np.maximum(light[clipped], 1.0)
    return np.asarray(light, dtype=np.float32)


def _whole_denoiser(model: Model, shape: tuple[int, int]) -> Denoiser:
    """The network on tiles of a picture, which is mirrored up to a tile where it is smaller."""
    side = model.network.config.sample_size
    padded = (max(side, shape[0]), max(side, shape[1]))
    tiles = tiles_over(padded, tile=side, overlap=overlap_of(side))
    if is_prior(model):
        network: TiledNetwork = TiledPrior(model, tiles, padded)
    else:
        nothing = np.zeros((1, *padded, COLOURS), dtype=np.float32)
        network = PictureDenoiser(model, tiles, nothing, np.ones(padded, dtype=bool), conditional=False)
    rows, cols = (
        torch.from_numpy(np.pad(np.arange(n), (0, m - n), mode="symmetric")) for n, m in zip(shape, padded, strict=True)
    )

    def denoiser(x_t: Tensor, t: Tensor, /) -> Tensor:
        whole = x_t.float()[..., rows, :][..., cols].to(network.norm.device)
        return network(whole, t.to(whole.device))[..., : shape[0], : shape[1]].to(x_t.device)

    return denoiser


def _as_floats(given: NDArray[Any]) -> tuple[FloatArray, int]:
    """A picture as (H, W, 3) from 0 to 1, and its white."""
    channels = np.atleast_3d(given)
    if given.ndim not in (2, 3) or channels.shape[2] not in (1, COLOURS):
        raise PictureError(f"the picture has shape {given.shape}: wanted (height, width) or (height, width, 1 or 3)")
    if given.dtype.kind == "f":
        if not (np.isfinite(given).all() and 0 <= given.min() and given.max() <= 1):
            raise PictureError("the picture holds floats beyond 0 to 1: wanted that range, or 8 or 16 bits")
        white = 1
    elif given.dtype in (np.uint8, np.uint16):
        white = int(np.iinfo(given.dtype).max)
    else:
        raise PictureError(f"the picture holds {given.dtype} values: wanted uint8, uint16, or floats of 0 to 1")
    values = (channels / white).astype(np.float32)
    return np.repeat(values, COLOURS // values.shape[2], axis=2), white


def _as_given(found: FloatArray, given: NDArray[Any], white: int, degradation: Degradation | Operator) -> NDArray[Any]:
    """A restored picture (H, W, 3) in the type of what was given; grey stays grey but where it is colourised."""
    task = degradation.task if isinstance(degradation, Degradation) else ""
    channels = np.atleast_3d(given)
    if channels.shape[2] == 1 and task != "colourise":
        found = found.mean(axis=2, keepdims=True)
    if task == "hdr":
        answer: NDArray[Any] = found
    elif given.dtype.kind == "f":
        answer = found.clip(0, 1).astype(given.dtype)
    elif isinstance(degradation, Degradation) and degradation.task == "superres" and _keeps_means(degradation):
        answer = rounded_blocks(found * white, channels, white)
    else:
        answer = np.rint(found.clip(0, 1) * white).astype(given.dtype)
    return answer[..., 0] if given.ndim == 2 and answer.shape[2] == 1 else answer


def _keeps_means(degradation: Degradation) -> bool:
    return degradation.kernel == "box" and degradation.noise == 0


def restore_file(
    path: Path,
    output: Path,
    *,
    degradation: Degradation,
    mask: Path | None = None,
    options: PictureOptions | None = None,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Restore a picture file, as `restore` does, and give a record of it; bad input is a ``LacunarError``.

    Files are read and written as `inpaint_file` does; ``hdr`` writes linear light as Radiance (.hdr, which wants
    OpenCV) or a TIFF of floats, and a tone-mapped PNG beside it.
    """
    options = options or PictureOptions(model=RESTORE_MODEL, sampler=RESTORE_SAMPLER, evaluations=RESTORE_EVALUATIONS)
    begun, picture, hdr = time.perf_counter(), read_picture(path), degradation.task == "hdr"
    told = None if mask is None else read_mask(mask, picture, of=path, invert=options.invert)
    missing = None if told is None else told.missing
    if hdr and output.suffix.lower() not in FLOAT_ENDINGS:
        raise PictureError(f"{output}: linear light wants {', '.join(FLOAT_ENDINGS)}: rename it")
    if not hdr:
        check_format(output, picture)
    inputs = [path, Path(options.model), *([] if mask is None else [mask])]
    with Staging(overwrite=options.overwrite, inputs=inputs) as staging:
        targets = numbered(output, options)
        staged = [
            (staging.stage(target), staging.stage(target.with_suffix(".png")) if hdr else None) for target in targets
        ]
        model = load_filler(options.model, device=options.device, backend=options.backend)
        values, white = _as_floats(picture.colours)
        drawn, steps = [], options.samples * options.chosen.evaluations
        for number in range(options.samples):

            def tell(done: int, total: int, first: int = number) -> None:
                if callback is not None:
                    callback(first * total + done, steps)

            seed = (options.seed, number)
            given = {"missing": missing, "preset": options.chosen, "seed": seed, "callback": tell}
            drawn.append(restored(values, degradation, model, **given))  # type: ignore[arg-type]
        found = [np.mean(drawn, axis=0)] if options.mean else drawn
        for (hidden, png), one in zip(staged, found, strict=True):
            pixels = _as_given(one, picture.colours, white, degradation)
            if png is not None:
                _write_light(hidden, pixels)
                write_picture(png, Picture(np.rint(255 * tone_mapped(pixels)).astype(np.uint8)))
            else:
                write_picture(hidden, Picture(pixels, _enlarged_alpha(picture, pixels.shape), picture.icc_profile))
    notes = [*(told.notes if told else ()), *([] if hdr else format_notes(output, picture))]
    if hdr and not (values >= SATURATED).any():
        notes.append("no pixel of the picture is clipped: the result is the picture in linear light")
    return {
        "input": str(path),
        "task": degradation.task,
        "outputs": [str(target) for target in targets],
        "notes": notes,
        "sampler": "Gaussian field" if hdr else options.chosen.sampler,
        "evaluations_per_sample": 0 if hdr else options.chosen.evaluations,
        "samples": options.samples,
        "mean": options.mean,
        "seed": options.seed,
        "device": options.device,
        "engine": model.backend,
        "model": {"name": model.name, "sha256": model.card.sha256},
        "seconds": round(time.perf_counter() - begun, 2),
        "versions": versions(),
        "command": options.command,
    }


def tone_mapped(light: NDArray[np.floating]) -> NDArray[np.floating]:
    """Linear light as sRGB from 0 to 1: L (1 + L / L_max²) / (1 + L) (Reinhard et al. 2002, Eq. 4)."""
    luminance = light @ np.array(LUMA) if light.shape[-1] == COLOURS else light[..., 0]
    most = max(1.0, float(luminance.max()))
    mapped = (1 + luminance / most**2) / (1 + luminance)
    shown: NDArray[np.floating] = encoded((light * mapped[..., None]).clip(0, 1))
    return shown


def _write_light(path: Path, light: NDArray[np.floating]) -> None:
    """Linear light as floats, in the format of the name's ending."""
    if path.suffix.lower() != ".hdr":
        import tifffile

        tifffile.imwrite(
            path, light.astype(np.float32), photometric="rgb" if light.shape[2] == COLOURS else "minisblack"
        )
        return
    try:
        import cv2
    except ImportError as error:
        raise PictureError("a .hdr file wants OpenCV: pip install opencv-python-headless, or write a .tif") from error
    cv2.imwrite(str(path), np.ascontiguousarray(np.repeat(light, COLOURS // light.shape[2], axis=2)[..., ::-1]))


def _enlarged_alpha(picture: Picture, shape: tuple[int, ...]) -> NDArray[Any] | None:
    if picture.alpha is None:
        return None
    factor = shape[0] // picture.alpha.shape[0]
    return np.kron(picture.alpha, np.ones((factor, factor), picture.alpha.dtype))
