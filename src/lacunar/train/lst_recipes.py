"""How the LST models were trained."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.samplers import PRESETS, Preset
from lacunar.diffusion.schedule import NoiseSchedule, ScheduleName
from lacunar.errors import TrainingError
from lacunar.fill.array import fill_from_background
from lacunar.fill.options import FillOptions
from lacunar.interpolate.background import Background
from lacunar.interpolate.scaling import TileScaling
from lacunar.models.card import Card
from lacunar.models.checkpoint import load_model, save_model
from lacunar.models.weights import sha256_of
from lacunar.networks.unet import UNetConfig
from lacunar.train.gap_filling import STUDENT_STEPS, gap_objective, load_start, new_network
from lacunar.train.loop import History, Progress, TrainingConfig, this_process, train
from lacunar.train.lst_data import LstDataset, LstExamples, make_examples
from lacunar.train.lst_packs import LstPack, load_pack

logger = logging.getLogger(__name__)

LstRecipeName = Literal["lst-small", "lst-full"]

LST_WEIGHTS = MappingProxyType({"losangeles": 0.35, "newyork": 0.2, "aster": 0.25, "kano": 0.2})
# Antelope Valley is used for neither: part of it lies on the ground of the Los Angeles passes.
LST_HELD_OUT_WEIGHTS = MappingProxyType({"macas": 0.6, "liverpool": 0.4})
_HELD_OUT_SEED = 1_000_003  # apart from every training seed
CALIBRATION_EXAMPLES = 96  # held-out tiles on which sigma is calibrated
CALIBRATION_SAMPLES = 8
CALIBRATED_PRESETS = ("fast", "balanced", "instant")  # RePaint takes 2410 evaluations
QUANTILE_LEVELS = (0.025, 0.05, 0.1, 0.16, 0.25, 0.5, 0.75, 0.84, 0.9, 0.95, 0.975)
RMSE_RATIO_NOTE = (
    "held_out / rmse_ratio: error of one network evaluation over that of the kriging that it starts from, on tiles of "
    "places that it was not trained on"
)
ONE_SIGMA = 0.6827  # share of a normal distribution within one standard deviation


@dataclass(frozen=True, kw_only=True)
class LstRecipe:
    """How an LST gap-filling model is trained.

    Parameters
    ----------
    network, schedule, num_timesteps, prediction
        The network and what it predicts over which noise schedule.
    training
        Steps, rates, seed.
    examples, held_out_examples
        How many gap-filling examples are drawn for training and for the held-out score.
    weights, held_out_weights
        Share of the examples from each place; the two sets of places must not meet.
    last_step_share
        Share of the training items at the noisiest timestep.
    unconditional_share
        Share of the training items in which everything is gap, so that the same network serves RePaint.
    """

    network: UNetConfig
    training: TrainingConfig
    schedule: ScheduleName = "cosine"
    num_timesteps: int = 1000
    prediction: Prediction = "v"
    examples: int = 10_000
    held_out_examples: int = 512
    weights: Mapping[str, float] = field(default_factory=lambda: LST_WEIGHTS)
    held_out_weights: Mapping[str, float] = field(default_factory=lambda: LST_HELD_OUT_WEIGHTS)
    last_step_share: float = 0.2
    unconditional_share: float = 0.15

    def __post_init__(self) -> None:
        """Refuse a place that is both trained on and held out."""
        shared = sorted(set(self.weights) & set(self.held_out_weights))
        if shared:
            raise TrainingError(f"recipe: {', '.join(shared)} both trained on and held out; split by place")


LST_RECIPES: Mapping[str, LstRecipe] = MappingProxyType(
    {
        # For a CPU: about 50 examples/s on one core that has bfloat16.
        "lst-small": LstRecipe(
            network=UNetConfig(
                sample_size=64,
                in_channels=5,
                out_channels=1,
                block_out_channels=(48, 96, 128, 192),
                layers_per_block=1,
                attention_levels=(2,),
                attention_head_dim=32,
                norm_groups=16,
                patch=2,
            ),
            training=TrainingConfig(steps=8000, batch_size=32, decay_share=0.3, mixed_precision="bf16"),
        ),
        # For one GPU.
        "lst-full": LstRecipe(
            network=UNetConfig(
                sample_size=64,
                in_channels=5,
                out_channels=1,
                block_out_channels=(64, 128, 192, 256),
                layers_per_block=2,
                attention_levels=(2,),
                attention_head_dim=32,
                norm_groups=32,
                patch=2,
            ),
            training=TrainingConfig(
                steps=60_000, batch_size=256, ema_decay=0.9995, warmup_steps=1000, mixed_precision="bf16"
            ),
            examples=100_000,
        ),
    }
)


def run_lst_recipe(
    name: str,
    recipe: LstRecipe,
    pack: Path,
    folder: Path,
    *,
    steps: int | None = None,
    init_from: str | None = None,
    distill: str | None = None,
    student_steps: int = STUDENT_STEPS,
    workers: int = 1,
    callback: Callable[[Progress], None] | None = None,
    drawing: Callable[[int, int], None] | None = None,
) -> tuple[Path, History]:
    """Train a recipe from a packed data file and write its model folder.

    Parameters
    ----------
    name, recipe
        A recipe and what it is called.
    pack
        A file written by `lacunar.train.lst_packs.pack_lst`.
    folder
        The run: examples, checkpoint and, at the end, ``model/``. A run that is found there goes on.
    steps
        Optimiser steps in place of the recipe's.
    init_from
        Model whose weights are the start of a new run; None starts from random weights.
    distill, student_steps
        Model whose answer in twice so many steps the new one, which starts from its weights, learns to give in that
        many; None learns from the examples themselves.
    workers
        Processes that draw examples.
    callback, drawing
        Progress of the training, and of the drawing of examples.

    Returns
    -------
    model : Path
        The model folder.
    history : History
        Losses of the run.

    Raises
    ------
    TrainingError
        A pack without the recipe's places, or a run folder of another configuration.
    """
    if steps is not None:
        recipe = replace(recipe, training=replace(recipe.training, steps=steps))
    folder.mkdir(parents=True, exist_ok=True)
    with this_process().main_process_first():
        training, held_out = _examples(recipe, load_pack(pack), sha256_of(pack), folder, workers, drawing)
    start = load_start(init_from, distill, student_steps)
    network = new_network(recipe, start.model)
    schedule = NoiseSchedule.named(recipe.schedule, recipe.num_timesteps)
    share, seed = recipe.unconditional_share, recipe.training.seed
    objective = gap_objective(recipe, schedule, start)
    held_out_items = LstDataset(held_out, unconditional_share=0.0, augment=False, seed=seed)
    ema, history = train(
        network,
        LstDataset(training, unconditional_share=share, augment=True, seed=seed),
        held_out_items,
        objective=objective,
        config=recipe.training,
        folder=folder,
        origin=start.origin,
        callback=callback,
    )
    model = folder / "model"
    if this_process().is_main_process:
        network.load_state_dict(ema.weights)
        scores = objective.score(network.eval(), held_out_items, device=next(network.parameters()).device)
        card = _card(name, recipe, steps, scores, start.options)
        card = replace(card, notes=(*card.notes, *start.notes))
        save = partial(
            save_model,
            model,
            network,
            schedule=schedule,
            prediction=recipe.prediction,
            scaling=TileScaling(),
            dtype="float16",
            overwrite=True,
        )
        save(card=card)
        factors: dict[str, float] = {}
        quantiles: dict[str, dict[str, float]] = {}
        for preset in CALIBRATED_PRESETS:
            factors[preset], quantiles[preset] = _calibration(_held_out_errors(model, held_out, PRESETS[preset]))
        save(card=replace(card, sigma_factor=factors, error_quantiles=quantiles))
    return model, history


def _card(name: str, recipe: LstRecipe, steps: int | None, scores: dict[str, float], started: str) -> Card:
    """What the model was made from and how it scored."""
    return Card(
        summary="Gap filling of land surface temperature: the residual over kriging, by conditional diffusion.",
        licence="Apache-2.0; trained on free and open imagery of USGS (Landsat) and NASA (ECOSTRESS, ASTER)",
        data=("Landsat 8/9 Collection 2 surface temperature", "ECOSTRESS L2 LSTE v2", "ASTER LST"),
        places=tuple(recipe.weights),
        command=f"lacunar train {name} --data DATA --clouds CLOUDS --pack PACK"
        + (f" --steps {steps}" if steps else "")
        + started,
        steps=recipe.training.steps,
        seeds=(recipe.training.seed,),
        scores={
            "held_out": {name: round(value, 4) for name, value in scores.items()}
            | {"places": list(recipe.held_out_weights)}
        },
        notes=(
            *([RMSE_RATIO_NOTE] if "rmse_ratio" in scores else []),
            f"sigma_factor and error_quantiles were fitted on {CALIBRATION_EXAMPLES} of these tiles, "
            f"with {CALIBRATION_SAMPLES} samples; those of instant, which gives the mean alone, are of kriging's sigma",
        ),
    )


def _examples(
    recipe: LstRecipe,
    pack: LstPack,
    pack_digest: str,
    folder: Path,
    workers: int,
    drawing: Callable[[int, int], None] | None,
) -> tuple[LstExamples, LstExamples]:
    """Examples of the training and of the held-out places, from the run's folder where they have been drawn before."""
    sets = (
        ("examples", dict(recipe.weights), recipe.examples, recipe.training.seed),
        ("held_out", dict(recipe.held_out_weights), recipe.held_out_examples, _HELD_OUT_SEED),
    )
    drawn, size = [], recipe.network.sample_size
    for label, weights, count, seed in sets:
        file = folder / f"{label}.npz"
        origin = json.dumps({"pack": pack_digest, "weights": weights, "count": count, "size": size, "seed": seed})
        if not file.exists():
            made = make_examples(pack, weights, count=count, size=size, seed=seed, workers=workers, progress=drawing)
            replace(made, origin=origin).save(file)
        examples = LstExamples.load(file)
        if examples.origin != origin:
            raise TrainingError(f"{file} was drawn for another recipe or pack: give another --run folder, or delete it")
        drawn.append(examples)
    return drawn[0], drawn[1]


def _held_out_errors(model: Path, held_out: LstExamples, preset: Preset) -> NDArray[np.float64]:
    """Errors of the mean over the held-out gaps, in units of the samples' deviation, or of kriging's."""
    loaded, errors = load_model(model), []
    for index in range(min(CALIBRATION_EXAMPLES, len(held_out.z))):
        parts = (held_out.z, held_out.base, held_out.spread, held_out.guide)
        z, base, spread, guide = (part[index].astype(np.float64) for part in parts)
        gap = spread > 0
        background = Background(base, spread, guide, tiles=1, coarse_tiles=0)
        options = FillOptions(preset=preset, samples=1 if preset.mean_only else CALIBRATION_SAMPLES, seed=index)
        filled = fill_from_background(background, base + spread * z, ~gap, gap, loaded, options)
        error = (base + spread * z - filled.mean)[gap]
        errors.append(error / np.maximum(filled.sigma[gap], np.finfo(np.float32).tiny))
    return np.concatenate(errors)


def _calibration(errors: NDArray[np.float64]) -> tuple[float, dict[str, float]]:
    """Factor by which sigma must be multiplied for 68.3 % of the errors to lie within it, and their quantiles then."""
    factor = round(float(np.quantile(np.abs(errors), ONE_SIGMA)), 3)
    quantiles = np.maximum.accumulate(np.quantile(errors / factor, QUANTILE_LEVELS))
    return factor, {str(level): round(float(q), 3) for level, q in zip(QUANTILE_LEVELS, quantiles, strict=True)}
