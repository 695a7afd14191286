"""Other people's checkpoints -> model folders: OpenAI guided-diffusion and RePaint, and diffusers' DDPM folders."""

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.schedule import LINEAR_BETA_END, LINEAR_BETA_START, NoiseSchedule
from lacunar.errors import ModelError, first_line
from lacunar.geo.staging import resolved
from lacunar.interpolate.scaling import RangeScaling
from lacunar.limits import TIMESTEPS, check_limit
from lacunar.models.card import Card
from lacunar.models.checkpoint import Model, assemble, read_json, save_model
from lacunar.models.guided_diffusion import diffusers_settings, infer_shape, read_options, renamed
from lacunar.models.weights import is_pickle, read_safetensors
from lacunar.networks.unet import DiffusersConfig, UNet

DiffusersSchedule = Literal["linear", "scaled_linear", "squaredcos_cap_v2"]

DIFFUSERS_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x_0"}
DIFFUSERS_VARIANCES = ("fixed_small", "fixed_small_log", "fixed_large", "learned_range")  # the first two are the same
DIFFUSERS_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
# diffusers before 0.15 called the parts of an attention so.
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def convert_checkpoint(
    source: str | Path,
    destination: str | Path,
    *,
    architecture: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Turn a checkpoint of somebody else into a model folder, and return that; no code of the checkpoint is ever run.

    ``source`` is a file, the state dict of an OpenAI guided-diffusion (Dhariwal & Nichol 2021) or RePaint network, or a
    diffusers DDPM folder in the layout of google/ddpm-celebahq-256, with or without ``unet/`` and ``scheduler/``.
    ``architecture`` is for a file: guided-diffusion's settings (`GuidedOptions`), by default those of RePaint's
    CelebA-HQ network; what the weights show is checked against them. A source of neither kind, a pickle of more than
    tensors, settings that contradict the weights or a class-conditional network are a `ModelError`.
    """
    path = Path(source)
    places = resolved(path), resolved(Path(destination))
    if places[0] == places[1] or places[1] in places[0].parents:
        raise ModelError(f"{destination} holds the checkpoint itself, wanted a new model folder: choose another name")
    if path.is_dir():
        if architecture:
            raise ModelError(f"{path} is a folder, which says its own architecture: leave the architecture out")
        network, schedule, prediction = _from_diffusers(path)
    else:
        network, schedule, prediction = _from_guided_diffusion(path, architecture or {})
    card = Card(
        summary=f"Converted from {path.name}.",
        licence="unknown: ask who published the checkpoint",
        command=f"lacunar convert {path.name} {Path(destination).name}",
    )
    model = Model(
        name=Path(destination).name,
        network=network,
        schedule=schedule,
        prediction=prediction,
        scaling=RangeScaling(),  # both kinds were trained on 8-bit pictures as [-1, 1]
        card=card,
    )
    return save_model(destination, model, overwrite=overwrite)


def _from_guided_diffusion(path: Path, architecture: Mapping[str, Any]) -> tuple[UNet, NoiseSchedule, Prediction]:
    state = _read_state(path)
    shape = infer_shape(state)
    options = read_options(architecture, shape)
    learned = options.learn_sigma if options.learn_sigma is not None else shape.out_channels == 2 * shape.in_channels
    config = DiffusersConfig(settings=diffusers_settings(shape, options), learned_variance=learned)
    ours = {f"unet.{key}": tensor for key, tensor in renamed(state, shape, options)}
    schedule = NoiseSchedule.named(options.noise_schedule, options.diffusion_steps)
    return assemble(config, ours, source=path), schedule, "x_0" if options.predict_xstart else "epsilon"


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"no checkpoint {path}, wanted a .pt or .safetensors file or a diffusers folder")
    if not is_pickle(path):
        return read_safetensors(path)
    try:
        with warnings.catch_warnings():
            # An old file in a newer pickle protocol: torch says that it may fail, and if so it does below.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, and unpickling it could run code: wanted a plain state dict, saved by "
            "torch.save(network.state_dict(), file)"
        ) from error
    except Exception as error:  # torch meets damaged bytes with whatever its parser stumbles upon
        raise ModelError(f"{path} is not a whole checkpoint ({first_line(error)}): download it again") from error
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items())
    ):
        raise ModelError(f"{path} holds no state dict, wanted a mapping of names to tensors: save network.state_dict()")
    return cast(dict[str, Tensor], state)


def _from_diffusers(folder: Path) -> tuple[UNet, NoiseSchedule, Prediction]:
    inner = folder / "unet" if (folder / "unet" / "config.json").is_file() else folder
    settings = read_json(inner / "config.json")
    kind = settings.get("_class_name", "UNet2DModel")
    if kind != "UNet2DModel":
        raise ModelError(f"{inner / 'config.json'} describes a {kind}, wanted an unconditional UNet2DModel")
    nested = folder / "scheduler" / "scheduler_config.json"
    scheduler = read_json(nested if nested.is_file() else folder / "scheduler_config.json")
    predicted = scheduler.get("prediction_type", "epsilon")
    if not isinstance(predicted, str) or predicted not in DIFFUSERS_PREDICTIONS:
        names = ", ".join(DIFFUSERS_PREDICTIONS)
        raise ModelError(f"{folder}: prediction_type is {predicted!r}, wanted one of {names}")
    prediction = DIFFUSERS_PREDICTIONS[predicted]
    variance = scheduler.get("variance_type", "fixed_small")
    if not isinstance(variance, str) or variance not in DIFFUSERS_VARIANCES:
        names = ", ".join(DIFFUSERS_VARIANCES)
        raise ModelError(f"{folder}: variance_type is {variance!r}, wanted one of {names}")
    learned, large = variance == "learned_range", variance == "fixed_large"
    config = DiffusersConfig(settings=settings, learned_variance=learned, large_variance=large)
    weights = next((inner / name for name in DIFFUSERS_WEIGHTS if (inner / name).is_file()), None)
    if weights is None:
        raise ModelError(f"{inner} holds no weights, wanted {' or '.join(DIFFUSERS_WEIGHTS)}")
    state = {f"unet.{_new_attention_name(key)}": tensor for key, tensor in _read_state(weights).items()}
    return assemble(config, state, source=weights), _diffusers_schedule(scheduler, folder), prediction


def _new_attention_name(key: str) -> str:
    """Rename a weight of an attention as diffusers does since 0.15."""
    match = re.fullmatch(r"(.*\.attentions\.\d+\.)(query|key|value|proj_attn)(\.\w+)", key)
    return f"{match[1]}{OLD_ATTENTION[match[2]]}{match[3]}" if match else key


def _diffusers_schedule(scheduler: Mapping[str, Any], folder: Path) -> NoiseSchedule:
    """Read a noise schedule from the settings of a diffusers scheduler, whose defaults are those of DDPMScheduler."""
    name, steps = scheduler.get("beta_schedule", "linear"), scheduler.get("num_train_timesteps", 1000)
    start, end = scheduler.get("beta_start", LINEAR_BETA_START), scheduler.get("beta_end", LINEAR_BETA_END)
    if scheduler.get("rescale_betas_zero_snr"):
        raise ModelError(f"{folder}: rescale_betas_zero_snr is set, wanted a schedule that keeps some signal")
    if name not in get_args(DiffusersSchedule):
        raise ModelError(f"{folder}: beta_schedule is {name!r}, wanted one of {', '.join(get_args(DiffusersSchedule))}")
    try:
        if scheduler.get("trained_betas") is not None:
            return NoiseSchedule.from_betas(np.asarray(scheduler["trained_betas"], dtype=np.float64))
        check_limit(steps, TIMESTEPS, "timesteps", "1000 are usual", error=ModelError)
        if name == "squaredcos_cap_v2":
            return NoiseSchedule.cosine(steps)
        power = 0.5 if name == "scaled_linear" else 1.0  # even steps in the square root of beta, or in beta itself
        return NoiseSchedule.from_betas(np.linspace(start**power, end**power, steps) ** (1 / power))
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{folder}: the scheduler's settings are not numbers that make a schedule: {error}") from error
