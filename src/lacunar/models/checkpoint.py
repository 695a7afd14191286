"""Model folders: a network with its weights, schedule, value scaling and card; and the models that are shipped.

A model folder holds ``config.json`` (the network), ``schedule.json`` (noise schedule and what is predicted),
``scaling.json``, ``card.json`` (data, licence, command, scores, sha256 of the weights), ``README.md`` (the card to
read) and ``model.safetensors``.
"""

import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.schedule import NoiseSchedule, ScheduleName
from lacunar.errors import ModelError
from lacunar.interpolate.scaling import Scaling, scaling_from_dict
from lacunar.models.card import Card
from lacunar.models.weights import WeightsDtype, as_dtype, fit_weights, read_safetensors, sha256_of
from lacunar.networks.segmenter import SegmenterConfig, SegmenterKind
from lacunar.networks.unet import NetworkConfig, UNet, config_from_dict

if TYPE_CHECKING:
    from lacunar.networks.watersegdiff import SegDiff, WaterSegDiff  # diffusers takes seconds to import

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE, SCHEDULE_FILE, SCALING_FILE, CARD_FILE = "config.json", "schedule.json", "scaling.json", "card.json"
README_FILE = "README.md"
MODELS = Path(__file__).parent / "shipped"


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """A loaded model folder: everything that is needed to use the network as it was trained.

    Parameters
    ----------
    name : str
        Name of the folder.
    network : UNet
        In evaluation mode, float32.
    schedule : NoiseSchedule
        The schedule that it was trained with; ``schedule.respaced(n)`` gives fewer steps.
    prediction : {"epsilon", "v", "x_0"}
        What the network predicts.
    scaling : Scaling
        From physical values to model values and back.
    card : Card
        Where it comes from.
    engine : str
        What computes the network's answers (`lacunar.models.backend`).
    """

    name: str
    network: UNet
    schedule: NoiseSchedule
    prediction: Prediction
    scaling: Scaling
    card: Card
    engine: str = "eager"


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentationModel:
    """A loaded model folder of a segmenter.

    Parameters
    ----------
    name : str
        Name of the folder.
    network : WaterSegDiff or SegDiff
        In evaluation mode, float32.
    schedule : NoiseSchedule
        The schedule that it was trained with.
    prediction : {"epsilon", "v", "x_0"}
        What the network predicts.
    card : Card
        Where it comes from.
    engine : str
        What computes the network's answers (`lacunar.models.backend`).
    """

    name: str
    network: "WaterSegDiff | SegDiff"
    schedule: NoiseSchedule
    prediction: Prediction
    card: Card
    engine: str = "eager"


AnyModel = TypeVar("AnyModel", Model, SegmentationModel)


def shipped_models() -> dict[str, Path]:
    """Return the models that come with the package: name -> folder, in the order of their names."""
    if not MODELS.is_dir():
        return {}
    return {folder.name: folder for folder in sorted(MODELS.iterdir()) if (folder / CONFIG_FILE).is_file()}


def load_model(folder_or_name: str | Path, *, device: str | torch.device = "cpu") -> Model:
    """Load a model folder, or a shipped model by its name.

    Loading is strict and never runs code from the folder: the weights are safetensors, their sha256 is that of the
    card, and every parameter of the network is there with its shape and nothing else. float16 becomes float32.

    Parameters
    ----------
    folder_or_name : str or Path
        Name of a shipped model (looked up first, where it is a ``str``) or path of a model folder.
    device : str or torch.device
        Where the network goes.

    Raises
    ------
    ModelError
        Unknown name (the shipped ones are listed), missing or damaged file, weights that are a pickle, whose sha256
        differs from the card or that do not fit the network.
    """
    folder = _resolve(folder_or_name)
    described = read_json(folder / CONFIG_FILE)
    if described.get("kind") in get_args(SegmenterKind):
        raise ModelError(f"model {folder.name} segments water, wanted one that fills gaps: see `lacunar models`")
    config = config_from_dict(described)
    schedule, prediction = schedule_from_dict(read_json(folder / SCHEDULE_FILE))
    scaling = scaling_from_dict(read_json(folder / SCALING_FILE))
    card, state = _card_and_weights(folder)
    network = assemble(config, state, source=folder / WEIGHTS_FILE).to(device)
    name = folder.resolve().name
    return Model(name=name, network=network, schedule=schedule, prediction=prediction, scaling=scaling, card=card)


def load_segmenter(folder_or_name: str | Path, *, device: str | torch.device = "cpu") -> SegmentationModel:
    """Load a model folder of a segmenter, or a shipped one by its name; as strict as `load_model`.

    Parameters
    ----------
    folder_or_name : str or Path
        Name of a shipped model, or path of a model folder.
    device : str or torch.device
        Where the network goes.

    Raises
    ------
    ModelError
        As `load_model`, and a model that fills gaps.
    """
    folder = _resolve(folder_or_name)
    described = read_json(folder / CONFIG_FILE)
    if described.get("kind") not in get_args(SegmenterKind):
        raise ModelError(f"model {folder.name} fills gaps, wanted one that segments water: see `lacunar models`")
    config = SegmenterConfig.from_dict(described)
    schedule, prediction = schedule_from_dict(read_json(folder / SCHEDULE_FILE))
    card, state = _card_and_weights(folder)
    from lacunar.networks.watersegdiff import build_segmenter

    with torch.device("meta"):
        network = build_segmenter(config)
    fit_weights(network, state, source=folder / WEIGHTS_FILE)
    name = folder.resolve().name
    placed = network.to(device)
    return SegmentationModel(name=name, network=placed, schedule=schedule, prediction=prediction, card=card)


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


def save_model(
    folder: str | Path,
    network: "UNet | WaterSegDiff | SegDiff",
    *,
    schedule: NoiseSchedule,
    prediction: Prediction,
    scaling: Scaling | None,
    card: Card,
    dtype: WeightsDtype = "float32",
    overwrite: bool = False,
) -> Path:
    """Write a model folder; it appears whole or not at all.

    Parameters
    ----------
    folder : str or Path
        The folder to make.
    network : UNet, WaterSegDiff or SegDiff
        Its weights are written in `dtype`; the network itself is not changed.
    schedule : NoiseSchedule
        The schedule that it was trained with (not a respaced one).
    prediction : {"epsilon", "v", "x_0"}
        What the network predicts.
    scaling : Scaling, optional
        From physical values to model values and back; a segmenter has none.
    card : Card
        Where it comes from; its sha256 is filled in.
    dtype : {"float16", "float32"}
        float16 halves the file; loading gives float32 again, rounded to 11 significant bits.
    overwrite : bool
        Replace the model folder that is there already. A folder that is no model folder is never replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ModelError
        The folder exists, the schedule is respaced, a weight overflows float16, or the disk refuses (nothing is left
        behind).
    """
    target = Path(folder)
    described = schedule_to_dict(schedule, prediction)
    state = as_dtype(network.state_dict(), dtype)
    with _whole_folder(target, overwrite=overwrite) as temporary:
        weights = temporary / WEIGHTS_FILE
        save_file(state, weights, metadata={"format": "pt"})
        card = replace(card, sha256=sha256_of(weights))
        config = network.config if isinstance(network, UNet) else network.spec
        _write_json(temporary / CONFIG_FILE, config.to_dict())
        _write_json(temporary / SCHEDULE_FILE, described)
        if scaling is not None:
            _write_json(temporary / SCALING_FILE, scaling.to_dict())
        _write_json(temporary / CARD_FILE, asdict(card))
        parameters = sum(tensor.numel() for tensor in state.values())
        (temporary / README_FILE).write_text(
            card.to_markdown(target.name, parameters=parameters, dtype=dtype), encoding="utf-8"
        )
    return target


def schedule_to_dict(schedule: NoiseSchedule, prediction: Prediction) -> dict[str, Any]:
    """Describe a training schedule by its name where it has one, else by its betas; ready for JSON.

    Raises
    ------
    ModelError
        A respaced schedule, or an unknown prediction.

    Examples
    --------
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
    """Read the mapping that `schedule_to_dict` wrote.

    Raises
    ------
    ModelError
        Other keys, an unknown prediction or schedule, or betas out of range.
    """
    keys = set(values)
    if keys not in ({"prediction", "name", "num_timesteps"}, {"prediction", "betas"}):
        raise ModelError(f"schedule: keys {sorted(keys)}, wanted prediction with name and num_timesteps, or with betas")
    prediction = values["prediction"]
    _require_prediction(prediction)
    try:
        if "betas" not in keys:
            schedule = NoiseSchedule.named(values["name"], values["num_timesteps"])
        else:
            schedule = schedule_from_betas(np.asarray(values["betas"], dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ModelError) else ModelError(f"schedule: {error}") from error
    return schedule, cast(Prediction, prediction)


def schedule_from_betas(betas: np.ndarray[Any, np.dtype[np.float64]]) -> NoiseSchedule:
    """Return the training schedule with these betas."""
    return NoiseSchedule(betas, np.arange(betas.size), betas.size)


def assemble(config: NetworkConfig, state: Mapping[str, Tensor], *, source: Path) -> UNet:
    """Build the network with these weights, as float32 and in evaluation mode: its own keys and shapes and no other.

    Raises
    ------
    ModelError
        Missing, unknown or mis-shaped keys; some of each are named after `source`.
    """
    with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
        network = UNet(config)
    fit_weights(network, state, source=source)
    return network


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds a mapping.

    Raises
    ------
    ModelError
        It cannot be read, is no JSON, or holds something else.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"wanted {path}, cannot read it ({error.strerror}): is this a model folder?") from error
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}): download or convert the model again") from error
    if not isinstance(values, dict):
        raise ModelError(
            f"{path} holds a {type(values).__name__}, wanted a mapping: download or convert the model again"
        )
    return values


@contextmanager
def _whole_folder(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a temporary folder beside the target that takes its place when all went well and vanishes when not."""
    if target.exists():
        ours = target.is_dir() and ((target / CONFIG_FILE).is_file() or not any(target.iterdir()))
        if not ours:
            raise ModelError(f"{target} exists and is no model folder, wanted a new name: choose another")
        if not overwrite:
            raise ModelError(f"{target} exists: choose another name or say overwrite")
    token = secrets.token_hex(4)
    temporary, old = (target.parent / f".{target.name}.{token}.{role}" for role in ("partial", "old"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rename(old)
        temporary.rename(target)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{target} could not be written ({error}): free some space or choose another place") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)


def _resolve(folder_or_name: str | Path) -> Path:
    """Return the folder that is meant."""
    shipped = shipped_models()
    if isinstance(folder_or_name, str) and folder_or_name in shipped:
        return shipped[folder_or_name]
    folder = Path(folder_or_name)
    if not folder.is_dir():
        names = ", ".join(shipped) or "none"
        raise ModelError(f"unknown model {str(folder_or_name)!r}, wanted a model folder or a shipped model: {names}")
    return folder


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a mapping to be read by people too."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _require_prediction(prediction: object) -> None:
    """Refuse a prediction that does not exist."""
    if prediction not in get_args(Prediction):
        raise ModelError(f"schedule: prediction is {prediction!r}, wanted one of {', '.join(get_args(Prediction))}")
