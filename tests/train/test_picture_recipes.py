"""Recipes of the picture models: a tiny one from its pack to a model that loads, and from that to the next."""

from dataclasses import replace

import numpy as np
import pytest

from lacunar.errors import ModelError, TrainingError
from lacunar.interpolate.scaling import RangeScaling
from lacunar.models.checkpoint import load_model
from lacunar.networks.unet import UNetConfig
from lacunar.train import picture_recipes as faces
from lacunar.train.loop import History, TrainingConfig
from lacunar.train.picture_recipes import LICENCE, PICTURE_RECIPES, PictureRecipe, run_picture_recipe

TINY = PictureRecipe(
    network=UNetConfig(
        sample_size=16,
        in_channels=8,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        middle_attention=False,
        norm_groups=4,
        patch=2,
    ),
    training=TrainingConfig(steps=4, batch_size=4, validate_every=2, warmup_steps=2, ema_decay=0.5, seed=3),
    framing="anywhere",
    summary="tiny",
    num_timesteps=100,
    texture_share=0.5,
    gaps=8,
    held_out_examples=2,
)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(faces, "HELD_OUT_FACES", 3)


@pytest.fixture
def pack(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "faces": rng.integers(0, 256, (8, 109, 89, 3), np.uint8),
        "textures": rng.integers(0, 256, (2, 128, 128, 3), np.uint8),
    }
    np.savez(tmp_path / "pack.npz", **arrays)
    return tmp_path / "pack.npz"


def test_a_recipe_runs_to_a_model_that_loads_and_the_next_starts_from_it(pack, tmp_path):
    steps, drawn = [], []
    path, history = run_picture_recipe(
        "tiny",
        TINY,
        pack,
        tmp_path / "run",
        callback=lambda progress: steps.append(progress.step),
        drawing=lambda done, count: drawn.append((done, count)),
    )
    assert steps == [1, 2, 3, 4]
    assert drawn == [(i, 8) for i in range(1, 9)]
    assert [step for step, _ in history.held_out] == [2, 4]
    model = load_model(path)
    assert (model.network.config, model.prediction, model.scaling) == (TINY.network, "v", RangeScaling())
    assert model.card.licence == LICENCE
    assert model.card.scores["held_out"]["loss"] == round(history.held_out[-1][1]["loss"], 4)
    assert model.card.command == "lacunar train tiny --data DATA --pack PACK"
    over_prior = replace(TINY.network, prior_components=2)
    following = replace(TINY, network=over_prior, framing="face", texture_share=0.0, variation=0.5)
    begun, _ = run_picture_recipe("next", following, pack, tmp_path / "next", steps=1, init_from=str(path))
    card, prior = load_model(begun).card, load_model(begun).network.prior
    assert prior is not None
    assert np.abs(prior.components @ prior.components.T - np.eye(2)).max() < 1e-2
    assert (tmp_path / "next" / "prior.npz").is_file()
    begun_again, _ = run_picture_recipe("next", following, pack, tmp_path / "next", steps=2, init_from=str(path))
    np.testing.assert_array_equal(load_model(begun_again).network.prior.mean, prior.mean)
    with np.load(pack) as stored:
        np.savez(tmp_path / "other.npz", faces=stored["faces"][:, ::-1], textures=stored["textures"])
    with pytest.raises(TrainingError, match=r"prior\.npz was fitted to other faces: give another --run folder"):
        run_picture_recipe("next", following, tmp_path / "other.npz", tmp_path / "next", steps=3)
    with pytest.raises(TrainingError, match=r"is a run of --init-from model \(sha256 .*\), wanted the recipe alone: "):
        run_picture_recipe("next", following, pack, tmp_path / "next", steps=3)
    assert card.command.endswith("--steps 1 --init-from model")
    assert model.card.sha256[:12] in " ".join(card.notes)
    assert "Sentinel-2" not in " ".join(card.data)


@pytest.mark.parametrize("score", ["rmse_ratio", "from_teacher"])
def test_a_card_explains_the_ratio_that_it_has(score):
    card = faces._card("tiny", TINY, "", History(held_out=[(4, {"loss": 1.0, score: 0.5})]))
    assert ("rmse_ratio" in " ".join(card.notes)) == (score == "rmse_ratio")


def test_a_run_that_is_found_goes_on_to_the_same_weights(pack, tmp_path):
    run_picture_recipe("tiny", TINY, pack, tmp_path / "whole")
    plateau = replace(TINY, training=replace(TINY.training, decay_share=0.0))
    run_picture_recipe("tiny", plateau, pack, tmp_path / "parted", steps=2)
    run_picture_recipe("tiny", TINY, pack, tmp_path / "parted")
    whole, parted = (load_model(tmp_path / name / "model").network.state_dict() for name in ("whole", "parted"))
    assert all((whole[name] == parted[name]).all() for name in whole)


def test_what_does_not_fit_is_refused(pack, tmp_path):
    run_picture_recipe("tiny", TINY, pack, tmp_path / "run", steps=1)
    with pytest.raises(TrainingError, match=r"gaps\.npz was drawn for another recipe"):
        run_picture_recipe("tiny", replace(TINY, gaps=9), pack, tmp_path / "run")
    wider = replace(TINY, network=replace(TINY.network, block_out_channels=(8, 24)))
    with pytest.raises(ModelError, match="start from a model of the same architecture"):
        run_picture_recipe("tiny", wider, pack, tmp_path / "wider", init_from=str(tmp_path / "run" / "model"))
    with np.load(pack) as stored:
        np.savez(pack, faces=stored["faces"][:3], textures=stored["textures"])
    with pytest.raises(TrainingError, match="3 faces, wanted more than the 3"):
        run_picture_recipe("tiny", TINY, pack, tmp_path / "few")
    with pytest.raises(TrainingError, match="held_out_examples is 501"):
        replace(TINY, held_out_examples=501)


@pytest.mark.parametrize("recipe", PICTURE_RECIPES.values())
def test_the_recipes_fit_what_fills_pictures(recipe):
    assert (recipe.network.in_channels, recipe.network.out_channels, recipe.network.sample_size) == (8, 3, 64)
