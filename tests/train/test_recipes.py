"""The frozen recipes: what they hold out, and that comparisons are fair."""

from dataclasses import replace
from pathlib import Path

import pytest

from lacunar.train.kinds import LstPriorRecipe, LstRecipe, PicturePriorRecipe, PictureRecipe, WaterRecipe
from lacunar.train.lst_data import place_of
from lacunar.train.recipes import RECIPES

LST = [recipe for recipe in RECIPES.values() if isinstance(recipe, LstRecipe)]
PICTURES = [recipe for recipe in RECIPES.values() if isinstance(recipe, PictureRecipe)]
WATER = [recipe for recipe in RECIPES.values() if isinstance(recipe, WaterRecipe)]


def test_recipes_are_found_by_their_names():
    assert {"lst-small", "lst-prior", "picture-small", "face-small", "water-small", "water-condition"} <= set(RECIPES)
    assert all(recipe.name == name for name, recipe in RECIPES.items())


@pytest.mark.parametrize("recipe", LST, ids=lambda recipe: recipe.name)
def test_no_place_is_in_both_sets_nor_the_test_place_in_any(recipe: LstRecipe):
    assert not set(recipe.weights) & set(recipe.held_out_weights)
    assert "muenster" not in {*recipe.weights, *recipe.held_out_weights}
    assert sum(recipe.weights.values()) == pytest.approx(1)
    assert sum(recipe.held_out_weights.values()) == pytest.approx(1)
    with pytest.raises(TypeError):
        recipe.weights["muenster"] = 1.0


@pytest.mark.parametrize("recipe", LST, ids=lambda recipe: recipe.name)
def test_recipes_find_their_places(recipe: LstRecipe, shared: Path):
    there = {place_of(file.stem) for file in (shared / "data/lst/train").glob("*.tif")}
    assert {*recipe.weights, *recipe.held_out_weights} <= there


def test_the_networks_fit_what_uses_them():
    for recipe in LST:
        prior = isinstance(recipe, LstPriorRecipe)
        assert recipe.network.in_channels == (1 if prior else 5)  # state; mean, sigma, missing and guide beside it
        assert (recipe.objective, recipe.network.returned_channels) == (("hybrid", 2) if prior else ("simple", 1))
    for recipe in PICTURES:
        taken = 3 if isinstance(recipe, PicturePriorRecipe) else 8
        side = 80 if recipe.name == "face-full" else 64  # what aligned photographs show; what a CPU trains
        assert (recipe.network.in_channels, recipe.network.out_channels, recipe.network.sample_size) == (taken, 3, side)


def test_water_is_compared_like_with_like():
    whole = RECIPES["water-small"].training.steps + RECIPES["water-condition"].training.steps
    assert RECIPES["water-unet"].training.steps == RECIPES["water-segdiff"].training.steps == whole
    compared = [recipe for recipe in WATER if recipe.network.encoder == "unet"]
    first = compared[0]
    same = {replace(recipe, name="", network=first.network, training=first.training).__repr__() for recipe in compared}
    assert len(same) == 1
