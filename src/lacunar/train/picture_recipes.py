"""How the picture models were trained: a general prior, and from its weights the model of faces."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np

from lacunar.diffusion.process import Prediction
from lacunar.diffusion.schedule import NoiseSchedule, ScheduleName
from lacunar.errors import TrainingError
from lacunar.interpolate.pca_prior import GaussianPrior, fit_prior
from lacunar.interpolate.scaling import RangeScaling
from lacunar.models.card import Card
from lacunar.models.checkpoint import save_model
from lacunar.networks.unet import UNet, UNetConfig
from lacunar.train.gap_filling import STUDENT_STEPS, gap_objective, load_start, new_network
from lacunar.train.loop import Ema, History, Progress, TrainingConfig, this_process, train
from lacunar.train.picture_data import (
    FACE_CENTRE,
    FACE_SIDE,
    Framing,
    GapPool,
    PictureDataset,
    cut_square,
    draw_gaps,
)
from lacunar.train.picture_packs import PicturePack, load_pictures

logger = logging.getLogger(__name__)

PictureRecipeName = Literal["picture-small", "face-small"]

HELD_OUT_FACES = 500  # the last ones of the pack: seen in no training
_HELD_OUT_SEED = 1_000_003  # apart from every training seed
LICENCE = (
    "Non-commercial research only: trained on CelebA (Liu et al. 2015), whose terms these are. The code is Apache-2.0."
)


@dataclass(frozen=True, kw_only=True)
class PictureRecipe:
    """How a model that fills gaps of pictures is trained.

    Parameters
    ----------
    network, schedule, num_timesteps, prediction
        The network and what it predicts over which noise schedule.
    training
        Steps, rates, seed.
    framing
        What an example shows: the square of a face that CelebA-HQ shows, or squares anywhere.
    texture_share, variation
        Share of the training items that show a texture in place of a face; how much the items are varied.
    gaps, held_out_examples
        How many occlusions are drawn for training, and how many held-out faces are scored.
    last_step_share
        Share of the training items at the noisiest timestep.
    unconditional_share
        Share of the training items in which everything is gap, so that the same network serves RePaint.
    summary
        What the model is for.
    """

    network: UNetConfig
    training: TrainingConfig
    framing: Framing
    summary: str
    schedule: ScheduleName = "cosine"
    num_timesteps: int = 1000
    prediction: Prediction = "v"
    texture_share: float = 0.0
    variation: float = 1.0
    gaps: int = 12_000
    held_out_examples: int = 128
    last_step_share: float = 0.2
    unconditional_share: float = 0.1

    def __post_init__(self) -> None:
        """Refuse more held-out examples than there are held-out faces."""
        if not 1 <= self.held_out_examples <= HELD_OUT_FACES:
            raise TrainingError(f"recipe: held_out_examples is {self.held_out_examples}, wanted 1 .. {HELD_OUT_FACES}")


_NETWORK = UNetConfig(
    sample_size=64,
    in_channels=8,
    out_channels=3,
    block_out_channels=(48, 96, 128, 192),
    layers_per_block=1,
    attention_levels=(1, 2),
    attention_head_dim=32,
    norm_groups=16,
    patch=2,
)
# For a CPU: 20 to 40 examples/s on one core that has bfloat16.
PICTURE_RECIPES: Mapping[str, PictureRecipe] = MappingProxyType(
    {
        "picture-small": PictureRecipe(
            network=_NETWORK,
            training=TrainingConfig(steps=2000, batch_size=16, validate_every=250, mixed_precision="bf16"),
            framing="anywhere",
            texture_share=0.2,
            summary="Gap filling of any picture, in squares of 64 pixels: the residual over a membrane, by conditional "
            "diffusion. Knows faces at any place and size, hair and background, and land from above.",
        ),
        "face-small": PictureRecipe(
            network=replace(_NETWORK, prior_components=256),
            training=TrainingConfig(
                steps=2600,
                batch_size=16,
                learning_rate=6e-4,
                decay_share=0.9,
                validate_every=150,
                mixed_precision="bf16",
            ),
            framing="face",
            variation=0.5,
            gaps=2400,
            summary="Gap filling of aligned faces in CelebA-HQ's framing at 64 x 64 pixels: the residual over what a "
            "Gaussian distribution of faces expects from the known pixels, by conditional diffusion.",
        ),
    }
)


def run_picture_recipe(
    name: str,
    recipe: PictureRecipe,
    pack: Path,
    folder: Path,
    *,
    steps: int | None = None,
    init_from: str | None = None,
    distill: str | None = None,
    student_steps: int = STUDENT_STEPS,
    callback: Callable[[Progress], None] | None = None,
    drawing: Callable[[int, int], None] | None = None,
) -> tuple[Path, History]:
    """Train a recipe from packed pictures and write its model folder.

    Parameters
    ----------
    name, recipe
        A recipe and what it is called.
    pack
        A file written by `lacunar.train.picture_packs.pack_pictures`.
    folder
        The run: gaps, checkpoint and, at the end, ``model/``. A run that is found there goes on.
    steps
        Optimiser steps in place of the recipe's.
    init_from
        Model whose weights are the start of a new run; None starts from random weights.
    distill, student_steps
        As in `lacunar.train.lst_recipes.run_lst_recipe`.
    callback, drawing
        Progress of the training, and of the drawing of gaps.

    Returns
    -------
    model : Path
        The model folder.
    history : History
        Losses of the run.

    Raises
    ------
    TrainingError
        A pack with too few faces, or a run folder of another configuration.
    """
    if steps is not None:
        recipe = replace(recipe, training=replace(recipe.training, steps=steps))
    folder.mkdir(parents=True, exist_ok=True)
    pictures = load_pictures(pack)
    if len(pictures.faces) <= HELD_OUT_FACES:
        raise TrainingError(
            f"the pack has {len(pictures.faces)} faces, wanted more than the {HELD_OUT_FACES} that are held out"
        )
    prior = _prior(recipe, pictures, folder) if recipe.network.prior_components else None
    training, held_out = _datasets(recipe, pictures, prior, folder, drawing)
    start = load_start(init_from, distill, student_steps)
    network = new_network(recipe, start.model, prior)
    schedule = NoiseSchedule.named(recipe.schedule, recipe.num_timesteps)
    objective = gap_objective(recipe, schedule, start)
    ema, history = train(
        network,
        training,
        held_out,
        objective=objective,
        config=recipe.training,
        folder=folder,
        origin=start.origin,
        callback=callback,
    )
    model = folder / "model"
    if this_process().is_main_process:
        given = (f" --steps {steps}" if steps else "") + start.options
        card = _card(name, recipe, given, history)
        card = replace(card, notes=(*card.notes, *start.notes))
        write_model(model, network, ema, recipe, schedule=schedule, card=card)
    return model, history


def write_model(
    folder: Path, network: UNet, ema: Ema, recipe: PictureRecipe, *, schedule: NoiseSchedule, card: Card
) -> None:
    """Write the moving average of the weights as a model folder."""
    network.load_state_dict(ema.weights)
    save_model(
        folder,
        network.eval(),
        schedule=schedule,
        prediction=recipe.prediction,
        scaling=RangeScaling(),
        card=card,
        dtype="float16",
        overwrite=True,
    )


def _datasets(
    recipe: PictureRecipe,
    pack: PicturePack,
    prior: GaussianPrior | None,
    folder: Path,
    drawing: Callable[[int, int], None] | None,
) -> tuple[PictureDataset, PictureDataset]:
    """Training and held-out examples; gaps come from the run's folder where they have been drawn before."""
    side, seed = recipe.network.sample_size, recipe.training.seed
    held_out = pack.faces[-HELD_OUT_FACES:][: recipe.held_out_examples]
    training = PictureDataset(
        pack.faces[:-HELD_OUT_FACES],
        pack.textures,
        _gaps(folder / "gaps.npz", recipe.gaps, side, seed, drawing),
        framing=recipe.framing,
        texture_share=recipe.texture_share,
        unconditional_share=recipe.unconditional_share,
        augment=True,
        seed=seed,
        variation=recipe.variation,
        prior=prior,
    )
    return training, PictureDataset(
        held_out,
        pack.textures,
        draw_gaps(recipe.held_out_examples, side, seed=_HELD_OUT_SEED),
        framing=recipe.framing,
        texture_share=0.0,
        unconditional_share=0.0,
        augment=False,
        seed=seed,
        prior=prior,
    )


def _prior(recipe: PictureRecipe, pack: PicturePack, folder: Path) -> GaussianPrior:
    """What the training faces have in common, from the run's folder where it has been fitted before."""
    file, size, count = folder / "prior.npz", recipe.network.sample_size, recipe.network.prior_components
    faces, seed = pack.faces[:-HELD_OUT_FACES], recipe.training.seed
    digest = hashlib.sha256(np.ascontiguousarray(faces).data).hexdigest()
    origin = json.dumps({"faces": digest, "size": size, "components": count, "seed": seed})
    with this_process().main_process_first():
        if not file.exists():
            squares = np.stack([cut_square(face, FACE_CENTRE, FACE_SIDE, size=size) for face in faces])
            fitted = fit_prior(squares, count, seed=seed)
            temporary = file.with_suffix(f".{os.getpid()}.partial.npz")
            np.savez(temporary, allow_pickle=False, origin=np.array(origin), **vars(fitted))
            temporary.replace(file)
    with np.load(file, allow_pickle=False) as stored:
        if "origin" not in stored or str(stored["origin"]) != origin:
            raise TrainingError(f"{file} was fitted to other faces: give another --run folder, or delete it")
        return GaussianPrior(stored["mean"], stored["components"], stored["variances"], float(stored["noise"]))


def _gaps(file: Path, count: int, side: int, seed: int, drawing: Callable[[int, int], None] | None) -> GapPool:
    """The training gaps of a run."""
    origin = json.dumps({"count": count, "side": side, "seed": seed})
    with this_process().main_process_first():
        if not file.exists():
            replace(draw_gaps(count, side, seed=seed, progress=drawing), origin=origin).save(file)
    pool = GapPool.load(file)
    if pool.origin != origin:
        raise TrainingError(f"{file} was drawn for another recipe: give another --run folder, or delete it")
    return pool


def _card(name: str, recipe: PictureRecipe, given: str, history: History) -> Card:
    """What the model was made from and how it scored."""
    scores = history.held_out[-1][1] if history.held_out else {}
    ratio = (
        "held_out / rmse_ratio: error of one network evaluation over that of the base that it starts from, on "
        f"{recipe.held_out_examples} pictures that it was not trained on, 3 to 70 % hidden"
    )
    textures = ("Sentinel-2 and tundra pictures of water bodies (RGB)",) if recipe.texture_share else ()
    return Card(
        summary=recipe.summary,
        licence=LICENCE,
        data=("CelebA, aligned, half size (89 x 109)", *textures),
        command=f"lacunar train {name} --data DATA --pack PACK{given}",
        steps=recipe.training.steps,
        seeds=(recipe.training.seed,),
        scores={"held_out": {key: round(value, 4) for key, value in scores.items()}},
        notes=(
            *([ratio] if "rmse_ratio" in scores else []),
            f"the last {HELD_OUT_FACES} pictures of the pack are held out; a person may be on both sides of the split",
            "faces of CelebA are those of celebrities, most of them young and light-skinned: it restores others worse",
        ),
    )
