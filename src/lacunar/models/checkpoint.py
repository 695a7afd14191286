"""Model folders: a network with its weights, schedule, value scaling and card; and the models that are shipped.

A model folder holds ``config.json`` (the network), ``schedule.json`` (noise schedule and what is predicted),
``scaling.json`` (of models that fill; a segmenter has none), ``card.json`` (data, licence, command, scores, sha256 of
the weights), ``README.md`` (the card to read) and ``model.safetensors``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.schedule import NoiseSchedule, ScheduleName
from lacunar.errors import ModelError
from lacunar.geo.staging import Staging
from lacunar.limits import TEXT_BYTES, check_limit
from lacunar.models.card import Card
from lacunar.models.weights import WeightsDtype, as_dtype, fit_weights, read_safetensors, sha256_of
from lacunar.networks.segdiff import SegDiff, SegmenterConfig, SegmenterKind, WaterSegDiff, build_segmenter
from lacunar.networks.unet import NetworkConfig, UNet, config_from_dict

if TYPE_CHECKING:
    from lacunar.interpolate.pca_prior import GaussianPrior
    from lacunar.interpolate.scaling import Scaling

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE, SCHEDULE_FILE, SCALING_FILE, CARD_FILE = "config.json", "schedule.json", "scaling.json", "card.json"
README_FILE = "README.md"
_MODEL_FILES = {WEIGHTS_FILE, CONFIG_FILE, SCHEDULE_FILE, SCALING_FILE, CARD_FILE, README_FILE}
MODELS = Path(__file__).parent / "shipped"
Network = TypeVar("Network", bound=nn.Module)
PRIOR_SIZE, PRIOR_PREFIX = "prior_components", "prior_tensors."  # of a Gaussian prior: key of config.json, and weights


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """A model that fills: everything that is needed to use the network as it was trained."""

    name: str  # of its folder
    network: UNet  # in evaluation mode, float32
    schedule: NoiseSchedule  # that it was trained with; ``schedule.respaced(n)`` gives fewer steps
    prediction: Prediction  # what the network predicts
    scaling: Scaling  # from physical values to model values and back
    card: Card
    prior: GaussianPrior | None = None  # what its training pictures have in common: the diffusion starts from there
    backend: str = "eager"  # what computes the network's answers (`lacunar.models.backend`)


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentationModel:
    """A model that segments: as `Model`, without a scaling, because an image's own scale is divided out before."""

    name: str
    network: WaterSegDiff | SegDiff
    schedule: NoiseSchedule
    prediction: Prediction
    card: Card
    backend: str = "eager"


def shipped_models() -> dict[str, Path]:
    """The models that come with the package: name -> folder, in the order of their names."""
    if not MODELS.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(MODELS.iterdir()) if (folder / CONFIG_FILE).is_file()}


def read_model(folder_or_name: str | Path, *, device: str | torch.device = "cpu") -> Model | SegmentationModel:
    """Read a model folder, or a shipped model by its name, which is looked up first.

    No code of the folder is ever run. An unknown name, a missing or damaged file, weights whose sha256 is not the
    card's or that do not fit the network exactly are a `ModelError`. float16 becomes float32.
    """
    folder = _resolve(folder_or_name)
    name, weights = folder.resolve().name, folder / WEIGHTS_FILE
    described = read_json(folder / CONFIG_FILE)
    schedule, prediction = schedule_from_dict(read_json(folder / SCHEDULE_FILE))
    shared: dict[str, Any] = {"name": name, "schedule": schedule, "prediction": prediction}
    if described.get("kind") in get_args(SegmenterKind):
        spec = SegmenterConfig.from_dict(described)
        if (folder / SCALING_FILE).exists():
            raise ModelError(f"{folder / SCALING_FILE}: a segmenter has no value scaling that is honoured; remove it")
        card, state = _card_and_weights(folder)
        segmenter = _built(lambda: build_segmenter(spec), state, source=weights).to(device)
        return SegmentationModel(network=segmenter, card=card, **shared)
    from lacunar.interpolate.scaling import scaling_from_dict  # only what fills needs the room of classical fills

    components = described.pop(PRIOR_SIZE, 0)
    config = config_from_dict(described)
    scaling = scaling_from_dict(read_json(folder / SCALING_FILE))
    card, state = _card_and_weights(folder)
    prior = _pop_prior(state, folder) if components else None
    network = assemble(config, state, source=weights).to(device)
    return Model(network=network, scaling=scaling, card=card, prior=prior, **shared)


def save_model(
    folder: str | Path, model: Model | SegmentationModel, *, dtype: WeightsDtype = "float32", overwrite: bool = False
) -> Path:
    """Write a model folder and return it; it appears whole or not at all. The card's sha256 is filled in.

    ``dtype`` is that of the weights on disk: float16 halves the file, loading gives float32 again. Only a model folder
    is ever replaced, with ``overwrite``. A respaced schedule, a weight that overflows float16 or a folder that cannot
    be written is a `ModelError`.
    """
    target = Path(folder)
    schedule = schedule_to_dict(model.schedule, model.prediction)
    tensors = dict(model.network.state_dict())
    config = model.network.config.to_dict() if isinstance(model, Model) else model.network.spec.to_dict()
    if isinstance(model, Model) and model.prior is not None:
        config[PRIOR_SIZE] = len(model.prior.components)
        tensors |= {f"{PRIOR_PREFIX}{key}": torch.as_tensor(value) for key, value in vars(model.prior).items()}
    state = as_dtype(tensors, dtype)
    with _whole_folder(target, overwrite=overwrite) as temporary:
        weights = temporary / WEIGHTS_FILE
        save_file(state, weights, metadata={"format": "pt"})
        card = replace(model.card, sha256=sha256_of(weights))
        _write_json(temporary / CONFIG_FILE, config)
        _write_json(temporary / SCHEDULE_FILE, schedule)
        if isinstance(model, Model):
            _write_json(temporary / SCALING_FILE, model.scaling.to_dict())
        _write_json(temporary / CARD_FILE, asdict(card))
        parameters = sum(tensor.numel() for tensor in state.values())
        classes = () if isinstance(model, Model) or len(model.network.spec.classes) == 1 else model.network.spec.classes
        text = card.to_markdown(target.name, parameters=parameters, dtype=dtype, classes=classes)
        (temporary / README_FILE).write_text(text, encoding="utf-8")
    return target


def schedule_to_dict(schedule: NoiseSchedule, prediction: Prediction) -> dict[str, Any]:
    """Describe a training schedule by its name where it has one, else by its betas; ready for JSON.

    A respaced schedule or an unknown prediction is a ModelError.

    >>> schedule_to_dict(NoiseSchedule.cosine(1000), "v")
    {'prediction': 'v', 'name': 'cosine', 'num_timesteps': 1000}
    """
    steps = schedule.num_timesteps
    if steps != schedule.original_num_timesteps:
        raise ModelError(
            f"schedule has {steps} of {schedule.original_num_timesteps} steps: save the one it was trained with"
        )
    _require_prediction(prediction)
    for name in get_args(ScheduleName):
        with suppress(ModelError):  # a named schedule that cannot have so few steps is not the one
            if np.array_equal(NoiseSchedule.named(name, steps).betas, schedule.betas):
                return {"prediction": prediction, "name": name, "num_timesteps": steps}
    return {"prediction": prediction, "betas": schedule.betas.tolist()}


def schedule_from_dict(values: Mapping[str, Any]) -> tuple[NoiseSchedule, Prediction]:
    """Read the mapping that `schedule_to_dict` wrote; other keys or values out of range are a ModelError."""
    keys = set(values)
    if keys not in ({"prediction", "name", "num_timesteps"}, {"prediction", "betas"}):
        raise ModelError(f"schedule: keys {sorted(keys)}, wanted prediction with name and num_timesteps, or with betas")
    prediction = values["prediction"]
    _require_prediction(prediction)
    try:
        if "betas" not in keys:
            schedule = NoiseSchedule.named(values["name"], values["num_timesteps"])
        else:
            schedule = NoiseSchedule.from_betas(np.asarray(values["betas"], dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ModelError) else ModelError(f"schedule: {error}") from error
    return schedule, cast(Prediction, prediction)


def assemble(config: NetworkConfig, state: Mapping[str, Tensor], *, source: Path) -> UNet:
    """Build the U-Net with these weights, strictly, as float32 and in evaluation mode; misfits are a ModelError."""
    return _built(lambda: UNet(config), state, source=source)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping; anything else is a ModelError."""
    try:
        check_limit(path.stat().st_size, TEXT_BYTES, f"bytes in {path}", "this is no model's", error=ModelError)
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"wanted {path}, cannot read it ({error.strerror}): is this a model folder?") from error
    except ModelError:
        raise
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON ({error}): download or convert the model again") from error
    if not isinstance(values, dict):
        raise ModelError(
            f"{path} holds a {type(values).__name__}, wanted a mapping: download or convert the model again"
        )
    return values


def _built(build: Callable[[], Network], state: Mapping[str, Tensor], *, source: Path) -> Network:
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        network = build()
    fit_weights(network, state, source=source)
    return network


def _card_and_weights(folder: Path) -> tuple[Card, dict[str, Tensor]]:
    """The card of a model folder, and its weights, which must be those that the card names."""
    card = Card.from_dict(read_json(folder / CARD_FILE))
    weights = folder / WEIGHTS_FILE
    state = read_safetensors(weights)
    digest = sha256_of(weights)
    if digest != card.sha256:
        raise ModelError(
            f"{weights} has sha256 {digest}, wanted {card.sha256 or 'one'} as in its card: download or convert it again"
        )
    return card, state


def _pop_prior(state: dict[str, Tensor], folder: Path) -> GaussianPrior:
    from lacunar.interpolate.pca_prior import GaussianPrior

    try:
        mean, components, variances, noise = (
            state.pop(f"{PRIOR_PREFIX}{name}").float().numpy() for name in ("mean", "components", "variances", "noise")
        )
    except KeyError as error:
        raise ModelError(f"{folder / WEIGHTS_FILE} lacks {error} of its prior: download it again") from error
    return GaussianPrior(mean, components, variances, float(noise))


@contextmanager
def _whole_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder beside the target that takes its place when all went well and vanishes when not."""
    if target.exists():
        found = {path.name for path in target.iterdir()} if target.is_dir() else {""}
        if found and not (CONFIG_FILE in found and found <= _MODEL_FILES):
            raise ModelError(f"{target} exists and is no model folder, wanted a new name: choose another")
        if not overwrite:
            raise ModelError(f"{target} exists: choose another name or say overwrite")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Staging(overwrite=overwrite) as staging:
            yield staging.stage_folder(target)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{target} could not be written ({error}): free some space or choose another place") from error


def _resolve(folder_or_name: str | Path) -> Path:
    shipped = shipped_models()
    if isinstance(folder_or_name, str) and folder_or_name in shipped:
        return shipped[folder_or_name]
    folder = Path(folder_or_name)
    if not folder.is_dir():
        names = ", ".join(shipped) or "none"
        raise ModelError(f"unknown model {str(folder_or_name)!r}, wanted a model folder or a shipped model: {names}")
    return folder


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _require_prediction(prediction: object) -> None:
    if prediction not in get_args(Prediction):
        raise ModelError(f"schedule: prediction is {prediction!r}, wanted one of {', '.join(get_args(Prediction))}")
