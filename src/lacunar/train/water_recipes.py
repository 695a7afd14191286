"""How the models that segment water were trained, and the networks that they are compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import torch

from lacunar.diffusion.schedule import NoiseSchedule, ScheduleName
from lacunar.errors import TrainingError
from lacunar.models.card import Card
from lacunar.models.checkpoint import SegmentationModel, load_segmenter, save_model
from lacunar.models.transfer import extend_weights
from lacunar.networks.efficientnet import WEIGHTS_PACKAGE, PretrainedUNet
from lacunar.networks.segmenter import SegmenterConfig
from lacunar.train.gap_filling import Start
from lacunar.train.loop import History, Progress, TrainingConfig, this_process, train
from lacunar.train.objectives import SegmentationObjective, logit_calibration
from lacunar.train.water_data import WaterScene, chosen_by_name, decoded_all, load_water
from lacunar.train.water_examples import WaterDataset

if TYPE_CHECKING:
    from lacunar.networks.watersegdiff import SegDiff, WaterSegDiff  # diffusers takes seconds to import

WaterRecipeName = Literal[
    "water-lite",
    "water-small",
    "water-condition",
    "water-no-anchor",
    "water-no-ss-former",
    "water-segdiff",
    "water-unet",
]

# Scenes labelled by hand count most; automatic and loose masks least.
WATER_SHARES = MappingProxyType(
    {
        "esw_rgb": 0.3,
        "waterbodies_rgb_a": 0.2,
        "waterbodies_rgb_b": 0.05,
        "glacial_nrg": 0.12,
        "multispectral6": 0.12,
        "landsat6": 0.05,
        "dhaka_rgb": 0.06,
        "coast_rgb": 0.06,
        "arctic_rgb": 0.03,
        "flood_rgb": 0.01,
    }
)
# Scenes of each set kept for the figures that are reported, and for the held-out score: so many, chosen by a hash of
# their names, or these. Three of the five ESW scenes have water about as bright as land; the tiles are whole places.
REPORTED = MappingProxyType({"waterbodies_rgb_a": 60})
VALIDATED: Mapping[str, int | frozenset[str]] = MappingProxyType(
    {
        "esw_rgb": frozenset({"tif35", "tif37", "tif42", "tif44", "tif49"}),
        "waterbodies_rgb_a": 20,
        "glacial_nrg": 8,
        "multispectral6": frozenset(
            "016 027 034 042 048 054 056 068 097 102 108 109 123 126 148 149 153 161 191 196 223 224 237 246 261 281 "
            "283 287 303".split()
        ),
    }
)
EPOCH = 16_384  # examples, each drawn anew in every epoch
VALIDATION_EXAMPLES = 192
_VALIDATION_SEED = 1_000_003  # apart from every training seed
LICENCE = (
    "Apache-2.0; trained on free and open Sentinel-2 (Copernicus) and Landsat (USGS) imagery with public water masks"
)
ENCODER_LICENCE = f"; its encoder started from the ImageNet weights of {WEIGHTS_PACKAGE} (Apache-2.0)"


@dataclass(frozen=True, kw_only=True)
class WaterRecipe:
    """How a segmenter is trained.

    Parameters
    ----------
    network
        The segmenter.
    training
        Steps, rates, seed.
    shares
        Share of the examples from each set of scenes.
    size
        Side of an example in pixels.
    schedule, num_timesteps
        The noise schedule; the network predicts x_0.
    last_step_share, anchor_every
        As in `lacunar.train.objectives.SegmentationObjective`.
    """

    network: SegmenterConfig
    training: TrainingConfig
    shares: Mapping[str, float] = field(default_factory=lambda: WATER_SHARES)
    size: int = 128
    schedule: ScheduleName = "cosine"
    num_timesteps: int = 1000
    last_step_share: float = 0.3
    anchor_every: int = 5


_CONDITION_STEPS, _DIFFUSION_STEPS = 3600, 1200
_TRAINING = TrainingConfig(
    steps=_DIFFUSION_STEPS,
    batch_size=16,
    learning_rate=6e-4,
    warmup_steps=100,
    ema_decay=0.998,
    validate_every=400,
    mixed_precision="bf16",
)
# The comparisons see as many examples as the two stages of WaterSegDiff together.
_WHOLE = replace(_TRAINING, steps=_CONDITION_STEPS + _DIFFUSION_STEPS)

WATER_RECIPES: Mapping[str, WaterRecipe] = MappingProxyType(
    {
        "water-lite": WaterRecipe(
            network=SegmenterConfig(
                diffusion=False, encoder="efficientnet-lite0", condition_widths=(24, 48, 64, 96, 96)
            ),
            training=TrainingConfig(
                steps=2600,
                learning_rate=1.2e-3,
                encoder_rate=0.4,
                warmup_steps=100,
                decay_share=0.6,
                ema_decay=0.99,
                gradient_clip=20.0,  # of a loss that counts cross-entropy ten times
                mixed_precision="bf16",
            ),
            size=192,
        ),
        "water-condition": WaterRecipe(
            network=SegmenterConfig(diffusion=False), training=replace(_TRAINING, steps=_CONDITION_STEPS)
        ),
        "water-small": WaterRecipe(network=SegmenterConfig(), training=_TRAINING),
        "water-no-anchor": WaterRecipe(network=SegmenterConfig(anchor=False), training=_TRAINING),
        "water-no-ss-former": WaterRecipe(network=SegmenterConfig(ss_former=False), training=_TRAINING),
        "water-segdiff": WaterRecipe(
            network=SegmenterConfig(kind="segdiff", widths=(40, 72, 112, 160, 208)), training=_WHOLE
        ),
        "water-unet": WaterRecipe(
            network=SegmenterConfig(diffusion=False, condition_widths=(40, 80, 128, 168, 216)), training=_WHOLE
        ),
    }
)


def run_water_recipe(
    name: str,
    recipe: WaterRecipe,
    pack: Path,
    folder: Path,
    *,
    steps: int | None = None,
    init_from: str | None = None,
    callback: Callable[[Progress], None] | None = None,
    drawing: Callable[[int, int], None] | None = None,
) -> tuple[Path, History]:
    """Train a segmenter from a packed data file and write its model folder.

    Parameters
    ----------
    name, recipe
        A recipe and what it is called.
    pack
        A file written by `lacunar.train.water_data.pack_water`.
    folder
        The run: checkpoint and, at the end, ``model/``. A run that is found there goes on.
    steps
        Optimiser steps in place of the recipe's.
    init_from
        Model whose weights are the start of a new run, such as the condition U-Net of WaterSegDiff trained alone.
    callback, drawing
        Progress of the training, and of the decoding of the scenes.

    Returns
    -------
    model : Path
        The model folder.
    history : History
        Losses of the run.

    Raises
    ------
    TrainingError
        A pack without the recipe's sets, or a run folder of another configuration.
    """
    if steps is not None:
        recipe = replace(recipe, training=replace(recipe.training, steps=steps))
    folder.mkdir(parents=True, exist_ok=True)
    parts = split_scenes(load_water(pack))
    decoded_all([*parts.training, *parts.validation], drawing)
    start = load_segmenter(init_from) if init_from else None
    network, new = _new_network(recipe, start)
    objective = SegmentationObjective(
        schedule=NoiseSchedule.named(recipe.schedule, recipe.num_timesteps),
        mask_scale=recipe.network.mask_scale,
        diffuses=recipe.network.diffusion,
        last_step_share=recipe.last_step_share,
        anchor_every=recipe.anchor_every,
    )
    examples, validation = _examples(recipe, parts)
    ema, history = train(
        network,
        examples,
        validation,
        objective=objective,
        config=recipe.training,
        folder=folder,
        origin=Start(start).origin,
        callback=callback,
    )
    model = folder / "model"
    if this_process().is_main_process:
        network.load_state_dict(ema.weights)
        device = next(network.parameters()).device
        calibration, reader = {}, getattr(network.eval(), "condition_unet", None)
        if isinstance(reader, PretrainedUNet) and not recipe.network.diffusion:
            scale, shift = logit_calibration(lambda image: reader(image).logits, validation, device=device)
            reader.calibrate(scale, shift)
            calibration = {"logit_scale": scale, "logit_shift": shift}
        scores = objective.score(network, validation, device=device) | calibration
        save_model(
            model,
            network,
            schedule=objective.schedule,
            prediction="x_0",
            scaling=None,
            card=_card(name, recipe, steps, start, new, scores),
            dtype="float16",
            overwrite=True,
        )
    return model, history


@dataclass(frozen=True)
class Parts:
    """Scenes to train on, to score while training, and to report on; by scene, never by crop."""

    training: list[WaterScene]
    validation: list[WaterScene]
    reported: list[WaterScene]


def split_scenes(scenes: list[WaterScene]) -> Parts:
    """Part scenes by their names alone.

    Raises
    ------
    TrainingError
        Nothing is left to train on.
    """
    parts = Parts([], [], [])
    for set_name in sorted({scene.set_name for scene in scenes}):
        found = [scene for scene in scenes if scene.set_name == set_name]
        reported = chosen_by_name(found, REPORTED.get(set_name, 0))
        held = VALIDATED.get(set_name, 0)
        if isinstance(held, int):
            validation = chosen_by_name(found, held, skip=len(reported))
        else:
            validation = [scene for scene in found if scene.name in held]
            if not validation:
                raise TrainingError(f"{set_name} has none of the scenes that are held out: {', '.join(sorted(held))}")
        parts.reported.extend(reported)
        parts.validation.extend(validation)
        parts.training.extend(scene for scene in found if scene not in reported and scene not in validation)
    if not parts.training:
        raise TrainingError(
            f"{len(scenes)} scenes are too few: some are held out by name, and none is left to train on"
        )
    return parts


def _examples(recipe: WaterRecipe, parts: Parts) -> tuple[WaterDataset, WaterDataset]:
    """What is trained on, and what is scored while training."""
    shares = dict(recipe.shares)
    held_sets = {scene.set_name for scene in parts.validation}
    held_out_shares = {name: share for name, share in shares.items() if name in held_sets}
    training = WaterDataset(
        parts.training, shares, size=recipe.size, length=EPOCH, augment=True, seed=recipe.training.seed
    )
    validation = WaterDataset(
        parts.validation,
        held_out_shares,
        size=recipe.size,
        length=VALIDATION_EXAMPLES,
        augment=False,
        seed=_VALIDATION_SEED,
    )
    return training, validation


def _new_network(
    recipe: WaterRecipe, start: SegmentationModel | None
) -> "tuple[WaterSegDiff | SegDiff, tuple[str, ...]]":
    """The network at the first step, and what of it is not from the model to start from."""
    from lacunar.networks.watersegdiff import build_segmenter  # diffusers takes seconds to import

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)  # the layers' own initialisation has no generator argument
        network = build_segmenter(recipe.network)
    reader = getattr(network, "condition_unet", None)
    if isinstance(reader, PretrainedUNet) and start is None:
        reader.load_imagenet()
    return network, extend_weights(network, start.network.state_dict()) if start else ()


def _card(
    name: str,
    recipe: WaterRecipe,
    steps: int | None,
    start: SegmentationModel | None,
    new: tuple[str, ...],
    scores: dict[str, float],
) -> Card:
    """What the model was made from and how it scored."""
    pretrained = recipe.network.encoder != "unet"
    return Card(
        summary=f"Segments lakes and rivers in images of three to six bands: {_described(recipe.network)}.",
        licence=LICENCE + (ENCODER_LICENCE if pretrained else ""),
        data=tuple(recipe.shares),
        command=f"lacunar train {name} --data DATA --pack PACK"
        + (f" --steps {steps}" if steps else "")
        + (f" --init-from {start.name}" if start else ""),
        steps=recipe.training.steps,
        seeds=(recipe.training.seed,),
        scores={"held_out": {key: round(value, 4) for key, value in scores.items()}},
        notes=(
            "input: six bands (blue, green, red, nir, swir1, swir2), any of them absent, divided by the 98th "
            "percentile of the whole image",
            "held out by name: "
            + ", ".join(
                f"{held if isinstance(held, int) else len(held)} scenes of {name}" for name, held in VALIDATED.items()
            )
            + "; and for reported figures "
            + ", ".join(f"{count} of {name}" for name, count in REPORTED.items()),
            "held_out: crops of scenes that it was not trained on; anchor_iou is that of the image's own logits",
            *(
                ["probabilities are calibrated on those crops, by logit_scale and logit_shift in the last layer"]
                if pretrained and not recipe.network.diffusion
                else []
            ),
            *([f"started from {start.name} ({start.card.command}), {len(new)} new weights"] if start else []),
        ),
    )


def _described(config: SegmenterConfig) -> str:
    """What a segmenter is, in words."""
    if config.kind == "segdiff":
        return "diffusion (SegDiff)"
    if not config.diffusion:
        return "a plain U-Net" + (" on EfficientNet-Lite0" if config.encoder != "unet" else "")
    missing = [part for part, there in (("U-SA", config.anchor), ("SS-Former", config.ss_former)) if not there]
    return "diffusion (WaterSegDiff" + "".join(f" without {part}" for part in missing) + ")"
