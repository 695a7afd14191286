"""Frozen recipes: exactly how each shipped model was trained; ``lacunar train NAME`` reruns one."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

import torch
from accelerate import PartialState

from lacunar.card import Card
from lacunar.checkpoint import save_model
from lacunar.datasets import LstDataset, LstExamples, LstPack, load_pack, make_examples
from lacunar.diffusion import Prediction
from lacunar.errors import TrainingError
from lacunar.networks.unet import UNet, UNetConfig
from lacunar.scaling import TileScaling
from lacunar.schedule import NoiseSchedule, ScheduleName
from lacunar.training import History, Progress, TrainingConfig, train

logger = logging.getLogger(__name__)

RecipeName = Literal["lst-small", "lst-full"]
RECIPE_NAMES: tuple[RecipeName, ...] = get_args(RecipeName)

LST_WEIGHTS = MappingProxyType({"losangeles": 0.3, "newyork": 0.25, "aster": 0.3, "kano": 0.15})
LST_HELD_OUT_WEIGHTS = MappingProxyType({"antelopevalley": 0.35, "macas": 0.35, "liverpool": 0.3})
_HELD_OUT_SEED = 1_000_003  # apart from every training seed


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
    unconditional_share
        Share of the training items in which everything is gap, so that the same network serves RePaint.
    """

    network: UNetConfig
    training: TrainingConfig
    schedule: ScheduleName = "cosine"
    num_timesteps: int = 1000
    prediction: Prediction = "v"
    examples: int = 16_000
    held_out_examples: int = 512
    weights: Mapping[str, float] = field(default_factory=lambda: LST_WEIGHTS)
    held_out_weights: Mapping[str, float] = field(default_factory=lambda: LST_HELD_OUT_WEIGHTS)
    unconditional_share: float = 0.15

    def __post_init__(self) -> None:
        """Refuse a place that is both trained on and held out."""
        shared = sorted(set(self.weights) & set(self.held_out_weights))
        if shared:
            raise TrainingError(f"recipe: {', '.join(shared)} both trained on and held out; split by place")


RECIPES: Mapping[RecipeName, LstRecipe] = MappingProxyType(
    {
        # For 2 CPU cores: about 20 examples/s on one of them.
        "lst-small": LstRecipe(
            network=UNetConfig(
                sample_size=64,
                in_channels=4,
                out_channels=1,
                block_out_channels=(48, 96, 128, 192),
                layers_per_block=1,
                attention_levels=(2,),
                attention_head_dim=32,
                norm_groups=16,
                patch=2,
            ),
            training=TrainingConfig(steps=7000, batch_size=16),
        ),
        # For one GPU.
        "lst-full": LstRecipe(
            network=UNetConfig(
                sample_size=64,
                in_channels=4,
                out_channels=1,
                block_out_channels=(64, 128, 192, 256),
                layers_per_block=2,
                attention_levels=(2,),
                attention_head_dim=32,
                norm_groups=32,
                patch=2,
            ),
            training=TrainingConfig(steps=60_000, batch_size=256, ema_decay=0.9995, warmup_steps=1000),
            examples=100_000,
        ),
    }
)


def recipe_named(name: str) -> LstRecipe:
    """Return a recipe.

    Raises
    ------
    TrainingError
        An unknown name; the message lists the known ones.
    """
    if name not in RECIPES:
        raise TrainingError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPE_NAMES)}")
    return RECIPES[name]  # type: ignore[index]


def run_recipe(
    name: str,
    pack: Path,
    folder: Path,
    *,
    steps: int | None = None,
    workers: int = 1,
    callback: Callable[[Progress], None] | None = None,
    drawing: Callable[[int, int], None] | None = None,
) -> tuple[Path, History]:
    """Train a recipe from a packed data file and write its model folder.

    Parameters
    ----------
    name
        A recipe.
    pack
        A file written by `lacunar.datasets.pack_lst`.
    folder
        The run: examples, checkpoint and, at the end, ``model/``. A run that is found there goes on.
    steps
        Optimiser steps in place of the recipe's.
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
        An unknown recipe, a pack without the recipe's places, or a run folder of another configuration.
    """
    recipe = recipe_named(name)
    if steps is not None:
        recipe = replace(recipe, training=replace(recipe.training, steps=steps))
    folder.mkdir(parents=True, exist_ok=True)
    training, held_out = _examples(recipe, load_pack(pack), folder, workers, drawing)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.training.seed)  # the layers' own initialisation has no generator argument
        network = UNet(recipe.network)
    schedule = NoiseSchedule.named(recipe.schedule, recipe.num_timesteps)
    share, seed = recipe.unconditional_share, recipe.training.seed
    ema, history = train(
        network,
        LstDataset(training, unconditional_share=share, augment=True, seed=seed),
        LstDataset(held_out, unconditional_share=0.0, augment=False, seed=seed),
        schedule=schedule,
        prediction=recipe.prediction,
        config=recipe.training,
        folder=folder,
        callback=callback,
    )
    network.load_state_dict(ema.weights)
    card = Card(
        summary="Gap filling of land surface temperature: the residual over kriging, by conditional diffusion.",
        licence="Apache-2.0; trained on free and open imagery of USGS (Landsat) and NASA (ECOSTRESS, ASTER)",
        data=("Landsat 8/9 Collection 2 surface temperature", "ECOSTRESS L2 LSTE v2", "ASTER LST"),
        places=tuple(recipe.weights),
        command=f"lacunar train {name}" + (f" --steps {steps}" if steps else ""),
        steps=recipe.training.steps,
        seeds=(seed,),
        scores={"held_out": history.held_out[-1][1], "held_out_places": list(recipe.held_out_weights)},
    )
    model = folder / "model"
    if PartialState().is_main_process:
        save_model(
            model,
            network,
            schedule=schedule,
            prediction=recipe.prediction,
            scaling=TileScaling(),
            card=card,
            dtype="float16",
            overwrite=True,
        )
    return model, history


def _examples(
    recipe: LstRecipe, pack: LstPack, folder: Path, workers: int, drawing: Callable[[int, int], None] | None
) -> tuple[LstExamples, LstExamples]:
    """Examples of the training and of the held-out places, from the run's folder where they have been drawn before."""
    sets = (
        ("examples", dict(recipe.weights), recipe.examples, recipe.training.seed),
        ("held_out", dict(recipe.held_out_weights), recipe.held_out_examples, _HELD_OUT_SEED),
    )
    drawn = []
    for label, weights, count, seed in sets:
        file = folder / f"{label}.npz"
        if not file.exists():
            size = recipe.network.sample_size
            made = make_examples(pack, weights, count=count, size=size, seed=seed, workers=workers, progress=drawing)
            made.save(file)
        drawn.append(LstExamples.load(file))
    return drawn[0], drawn[1]
