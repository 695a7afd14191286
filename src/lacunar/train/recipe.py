"""Every recipe by name: what it packs, and how it is run; ``lacunar train NAME`` reruns one."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from lacunar.errors import TrainingError
from lacunar.train.gap_filling import STUDENT_STEPS
from lacunar.train.loop import History, Progress
from lacunar.train.lst_packs import pack_lst
from lacunar.train.lst_recipes import LST_RECIPES, LstRecipe, LstRecipeName, run_lst_recipe
from lacunar.train.picture_packs import pack_pictures
from lacunar.train.picture_recipes import PICTURE_RECIPES, PictureRecipe, PictureRecipeName, run_picture_recipe
from lacunar.train.water_data import pack_water
from lacunar.train.water_recipes import WATER_RECIPES, WaterRecipe, WaterRecipeName, run_water_recipe

RecipeName = Literal[LstRecipeName, WaterRecipeName, PictureRecipeName]
RECIPE_NAMES: tuple[RecipeName, ...] = get_args(RecipeName)
Recipe = LstRecipe | WaterRecipe | PictureRecipe
RECIPES: Mapping[str, Recipe] = MappingProxyType({**LST_RECIPES, **WATER_RECIPES, **PICTURE_RECIPES})


def recipe_named(name: str) -> Recipe:
    """Return a recipe.

    Raises
    ------
    TrainingError
        An unknown name; the message lists the known ones.
    """
    if name not in RECIPES:
        raise TrainingError(f"unknown recipe {name!r}: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def pack_data(name: str, data: Path, clouds: Path | None, destination: Path) -> None:
    """Write the packed data file of a recipe.

    Parameters
    ----------
    name
        A recipe.
    data, clouds, destination
        The folder that the recipe is trained from (of pictures also a tar), cloud masks (for LST), and the file to
        write.

    Raises
    ------
    TrainingError
        An unknown recipe, or data that the recipe cannot use.
    """
    recipe = recipe_named(name)
    if isinstance(recipe, WaterRecipe):
        pack_water(data, destination)
    elif isinstance(recipe, PictureRecipe):
        pack_pictures(data, destination)
    else:
        pack_lst(data, clouds, destination)


def run_recipe(
    name: str,
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
    name
        A recipe.
    pack
        A file written by `pack_data`.
    folder
        The run: checkpoint and, at the end, ``model/``. A run that is found there goes on.
    steps
        Optimiser steps in place of the recipe's.
    init_from
        Model whose weights are the start of a new run; None starts from random weights.
    distill, student_steps
        Of gap filling: model whose answer in twice so many steps the new one learns to give in that many.
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
        An unknown recipe, a pack that does not fit it, a run folder of another configuration, or a segmenter that is
        to be distilled.
    """
    recipe = recipe_named(name)
    if isinstance(recipe, WaterRecipe):
        if distill is not None:
            raise TrainingError(
                f"--distill {distill} for {name}: a segmenter takes 2 steps as it is; distil a model that fills gaps"
            )
        return run_water_recipe(
            name, recipe, pack, folder, steps=steps, init_from=init_from, callback=callback, drawing=drawing
        )
    if isinstance(recipe, PictureRecipe):
        return run_picture_recipe(
            name,
            recipe,
            pack,
            folder,
            steps=steps,
            init_from=init_from,
            distill=distill,
            student_steps=student_steps,
            callback=callback,
            drawing=drawing,
        )
    return run_lst_recipe(
        name,
        recipe,
        pack,
        folder,
        steps=steps,
        init_from=init_from,
        distill=distill,
        student_steps=student_steps,
        workers=workers,
        callback=callback,
        drawing=drawing,
    )
