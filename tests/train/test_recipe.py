"""Recipes: what they refuse, and a tiny one from its pack to a model folder that loads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lacunar.diffusion.samplers import PRESETS
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import ModelError, TrainingError
from lacunar.fill.array import fill_from_background
from lacunar.fill.options import FillOptions
from lacunar.interpolate.background import Background
from lacunar.interpolate.scaling import TileScaling
from lacunar.models.backend import load_filler
from lacunar.models.card import Card
from lacunar.models.checkpoint import Model, save_model
from lacunar.networks.unet import UNet, UNetConfig
from lacunar.train import kinds
from lacunar.train import recipe as runner
from lacunar.train.kinds import LstRecipe
from lacunar.train.loop import TrainingConfig
from lacunar.train.lst_data import LstExamples
from lacunar.train.recipe import load_start, run_recipe
from lacunar.train.recipes import RECIPES

TINY = LstRecipe(
    name="tiny",
    network=UNetConfig(
        sample_size=16,
        in_channels=5,
        block_out_channels=(8, 16),
        layers_per_block=1,
        middle_attention=False,
        norm_groups=4,
        patch=2,
    ),
    training=TrainingConfig(steps=6, batch_size=4, validate_every=4, warmup_steps=2, ema_decay=0.5, seed=3),
    num_timesteps=100,
    examples=12,
    held_out_examples=5,
    weights={"hill": 0.7, "lake": 0.3},
    held_out_weights={"town": 1.0},
)


def run(pack: Path, folder: Path, recipe=TINY, *, init_from=None, distill=None, student_steps=4, **options):
    start = load_start(recipe, init_from and str(init_from), distill and str(distill), student_steps)
    return run_recipe(recipe, pack, folder, start=start, **options)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A pack as `pack_lst` writes it: row-wise differences of hundredths of a kelvin."""
    rng, arrays = np.random.default_rng(0), {}
    rows, cols = np.indices((40, 48))
    for grid, place in enumerate(("hill", "lake", "town", "sea")):
        waves = 5 * np.sin(rows / 6 + rng.uniform(0, 6)) + 4 * np.cos(cols / 8)
        for year, kelvin in ((2020, 295 + waves), (2021, 280 - waves)):
            counts = (100 * (kelvin + rng.normal(0, 0.5, rows.shape))).astype(np.uint16)
            arrays[f"lst/{place}_{year}"] = np.diff(counts, axis=1, prepend=np.uint16(0))
            arrays[f"at/{place}_{year}"] = np.array([grid, 0, 0], np.int32)
    np.savez_compressed(tmp_path / "pack.npz", **arrays)
    return tmp_path / "pack.npz"


def test_a_recipe_runs_from_its_pack_to_a_model_that_loads(pack: Path, tmp_path: Path):
    folder, steps, drawn = tmp_path / "runs" / "tiny", [], []
    path, history = run(
        pack,
        folder,
        callback=lambda progress: steps.append(progress.step),
        drawing=lambda done, count: drawn.append((done, count)),
    )
    assert steps == [1, 2, 3, 4, 5, 6]
    assert drawn == [(i, 12) for i in range(1, 13)] + [(i, 5) for i in range(1, 6)]
    assert [step for step, _ in history.held_out] == [4, 6]
    assert sorted(file.name for file in folder.iterdir()) == ["checkpoint.pt", "examples.npz", "held_out.npz", "model"]
    model = load_filler(path)
    assert path == folder / "model"
    assert model.network.config == TINY.network
    np.testing.assert_array_equal(model.schedule.betas, NoiseSchedule.cosine(100).betas)
    assert model.prediction == "v"
    assert model.scaling == TileScaling()
    assert model.card.places == ("hill", "lake")
    assert (model.card.steps, model.card.seeds) == (6, (3,))
    assert model.card.command == "lacunar train tiny --data DATA --clouds CLOUDS --pack PACK"
    scores = dict(model.card.scores["held_out"])
    assert scores.pop("places") == ["town"]
    assert scores == pytest.approx(history.held_out[-1][1], abs=1e-4)
    assert set(model.card.sigma_factor) == {"fast", "balanced", "instant"}
    # The weights are the moving average of the run, rounded to float16.
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    for name, weight in model.network.state_dict().items():
        assert torch.equal(weight, state["ema"][name].half().float())
    assert any(not torch.equal(state["ema"][name], state["network"][name]) for name in state["ema"])


def test_a_run_goes_on_from_its_folder_and_draws_nothing_twice(pack: Path, tmp_path: Path):
    def interrupt(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    _, whole = run(pack, tmp_path / "whole")
    folder, drawn, steps = tmp_path / "run", [], []
    with pytest.raises(KeyboardInterrupt):
        run(pack, folder, callback=interrupt)
    assert not (folder / "model").exists()
    path, history = run(
        pack,
        folder,
        callback=lambda progress: steps.append(progress.step),
        drawing=lambda done, count: drawn.append(done),
    )
    assert (steps, drawn) == ([4, 5, 6], [])
    assert history == whole
    assert load_filler(path).card.sha256 == load_filler(tmp_path / "whole" / "model").card.sha256
    longer, history = run(pack, folder, steps=8)
    assert longer == path
    assert load_filler(path).card.command.endswith("--pack PACK --steps 8")
    assert load_filler(path).card.steps == 8
    assert history.held_out[-1][0] == 8


def test_training_and_held_out_examples_come_from_their_places_and_seeds(pack: Path, tmp_path: Path, monkeypatch):
    asked = []

    def made(pack, weights, *, count, size, seed, workers, progress):
        asked.append((weights, count, size, seed, workers))
        return LstExamples(*np.random.default_rng(0).random((4, count, size, size)).astype(np.float16))

    monkeypatch.setattr(kinds, "make_examples", made)
    monkeypatch.setattr(kinds, "held_out_errors", lambda *_: np.linspace(-2, 2, 101))
    run(pack, tmp_path / "run", workers=3)
    assert asked[0] == ({"hill": 0.7, "lake": 0.3}, 12, 16, 3, 3)
    assert asked[1][:3] == ({"town": 1.0}, 5, 16)
    assert asked[1][3] != 3


def test_a_run_leaves_the_global_generator_alone_and_does_not_depend_on_it(pack: Path, tmp_path: Path, monkeypatch):
    initial = []

    def stop(network, *_, **__):
        initial.append({name: value.clone() for name, value in network.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "train", stop)
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        with pytest.raises(KeyboardInterrupt):
            run(pack, tmp_path / "run")
        assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(initial[0][name], initial[1][name]) for name in initial[0])


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A model of four channels, without the guide, that was made before."""
    network = gap_network(4)
    card = Card(summary="Older.", licence="none", command="lacunar train older", sha256="")
    options = {"schedule": NoiseSchedule.cosine(100), "prediction": "v", "scaling": TileScaling()}
    return save_model(tmp_path / "older", Model(name="older", network=network, card=card, **options))


def gap_network(in_channels: int, **changes) -> UNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        network = UNet(replace(TINY.network, in_channels=in_channels, **changes))
        torch.nn.init.normal_(network.unet.conv_out.weight, std=0.05)
    return network


def test_a_recipe_may_start_from_another_model(pack: Path, tmp_path: Path, older: Path, monkeypatch):
    begun = []

    def watched(network, *args, **options):
        begun.append({name: value.clone() for name, value in network.state_dict().items()})
        return recipes_train(network, *args, **options)

    recipes_train = runner.train
    monkeypatch.setattr(runner, "train", watched)
    path, _ = run(pack, tmp_path / "run", init_from=older)
    source = load_filler(older)
    for name, value in source.network.state_dict().items():
        if name == "unet.conv_in.weight":
            assert torch.equal(begun[0][name][:, : value.shape[1]], value)
            assert not begun[0][name][:, value.shape[1] :].any()
        else:
            assert torch.equal(begun[0][name], value)
    card = load_filler(path).card
    assert card.command == "lacunar train tiny --data DATA --clouds CLOUDS --pack PACK --init-from older"
    assert f"started from older (sha256 {source.card.sha256[:12]}; lacunar train older)" in card.notes
    assert load_filler(path).network.in_channels == 5
    plain, _ = run(pack, tmp_path / "plain")
    assert not any(note.startswith("started from") for note in load_filler(plain).card.notes)
    assert load_filler(plain).card.sha256 != card.sha256


def test_a_recipe_may_be_distilled_from_its_own_model(pack: Path, tmp_path: Path):
    teacher, _ = run(pack, tmp_path / "teacher")
    path, history = run(pack, tmp_path / "student", distill=teacher, student_steps=2)
    card = load_filler(path).card
    command = "lacunar train tiny --data DATA --clouds CLOUDS --pack PACK --distill model --student-steps 2"
    assert card.command == command
    assert any(note.startswith("distilled from model (sha256") and "in 2 steps" in note for note in card.notes)
    assert {"loss", "from_teacher", "unchanged_from_teacher"} <= set(history.held_out[-1][1])
    assert "rmse_ratio" not in " ".join(card.notes)
    assert "rmse_ratio" in " ".join(load_filler(teacher).card.notes)


def test_a_run_of_another_start_or_teacher_is_refused(pack: Path, tmp_path: Path):
    teacher, _ = run(pack, tmp_path / "run")
    digest = load_filler(teacher).card.sha256[:12]
    student = {"distill": teacher, "student_steps": 2}
    run(pack, tmp_path / "student", **student)
    before = (tmp_path / "student" / "checkpoint.pt").read_bytes()
    kept = rf"checkpoint\.pt is a run of --distill model --student-steps 2 \(sha256 {digest}\), wanted "
    for options, wanted in (
        ({}, "the recipe alone"),
        ({"init_from": teacher}, rf"--init-from model \(sha256 {digest}\)"),
        ({**student, "student_steps": 1}, rf"--distill model --student-steps 1 \(sha256 {digest}\)"),
    ):
        with pytest.raises(TrainingError, match=f"{kept}{wanted}: give another --run folder$"):
            run(pack, tmp_path / "student", **options)
    assert (tmp_path / "student" / "checkpoint.pt").read_bytes() == before
    assert run(pack, tmp_path / "student", **student)[0].exists()
    file = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(file, weights_only=True)
    assert state.pop("origin") == ""
    torch.save(state, file)  # as older releases wrote it
    with pytest.raises(TrainingError, match=f"is a run of the recipe alone, wanted --distill model .*{digest}"):
        run(pack, tmp_path / "run", **student)
    assert run(pack, tmp_path / "run")[0] == teacher


def test_what_cannot_be_distilled(pack: Path, tmp_path: Path, older: Path):
    with pytest.raises(TrainingError, match="older does not take the 5 channels"):
        run(pack, tmp_path / "a", distill=older)
    with pytest.raises(TrainingError, match="a student starts from its teacher; give one of the two"):
        run(pack, tmp_path / "b", distill=older, init_from=older)
    teacher, _ = run(pack, tmp_path / "teacher")
    with pytest.raises(TrainingError, match="predicts v over 100 steps, wanted v over the recipe's own 200"):
        run(pack, tmp_path / "c", replace(TINY, num_timesteps=200), distill=teacher)
    name = "water-small"
    with pytest.raises(
        TrainingError, match=f"--distill {teacher} for {name}: only a model that fills gaps can be distilled"
    ):
        load_start(RECIPES[name], None, str(teacher))


def test_a_model_that_does_not_fit_is_refused(pack: Path, tmp_path: Path):
    options = {"schedule": NoiseSchedule.cosine(100), "prediction": "v", "scaling": TileScaling()}
    card = Card(summary="Other.", licence="none")
    network = gap_network(5, layers_per_block=2)
    deeper = save_model(tmp_path / "deeper", Model(name="deeper", network=network, card=card, **options))
    with pytest.raises(ModelError, match=r"the two networks differ: .* start from a model of the same architecture"):
        run(pack, tmp_path / "run", init_from=deeper)
    with pytest.raises(ModelError, match="no-such-model"):
        run(pack, tmp_path / "run", init_from="no-such-model")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_pack_without_the_recipe_s_places(pack: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match="the pack has no raster of moon; it has hill, lake, sea, town"):
        run(pack, tmp_path / "run", replace(TINY, weights={"hill": 0.5, "moon": 0.5}))
    assert not (tmp_path / "run").exists()


def test_a_pack_of_other_places_is_split_by_place(pack: Path):
    adapted = replace(TINY, weights={"moon": 1.0}, held_out_weights={"mars": 1.0}).adapted(pack)
    assert dict(adapted.held_out_weights) == {"hill": 1.0}
    assert dict(adapted.weights) == {"lake": 1.0, "sea": 1.0, "town": 1.0}
    assert "not known" in adapted.card({}).licence
    assert TINY.adapted(pack) is TINY


def test_a_place_is_trained_on_or_held_out():
    with pytest.raises(TrainingError, match="recipe: kano, lake both trained on and held out; split by place"):
        replace(TINY, weights={"kano": 1, "lake": 1, "hill": 1}, held_out_weights={"lake": 1, "kano": 1, "sea": 2})


def test_examples_of_another_pack_are_refused(pack: Path, tmp_path: Path):
    run(pack, tmp_path / "run")
    with np.load(pack) as stored:
        np.savez_compressed(tmp_path / "other.npz", **{key: stored[key] for key in reversed(stored.files)})
    with pytest.raises(TrainingError, match=r"examples.npz was drawn for another recipe or from other data"):
        run(tmp_path / "other.npz", tmp_path / "run")


@pytest.mark.parametrize("preset", ["fast", "balanced", "instant"])
def test_sigma_and_quantiles_are_calibrated_on_held_out_errors(pack: Path, tmp_path: Path, preset: str, monkeypatch):
    """With the base and the guide of the held-out examples, other dates and all."""
    heard = []

    def watched(field, *args, **options):
        heard.append(field.guide)
        return fill_from_background(field, *args, **options)

    monkeypatch.setattr(kinds, "fill_from_background", watched)
    path, _ = run(pack, tmp_path / "run", steps=1)
    with np.load(tmp_path / "run" / "held_out.npz") as stored:
        held_out = LstExamples(*(stored[name] for name in ("z", "mean", "sigma", "guide")))
    assert held_out.guide.any()
    np.testing.assert_array_equal(heard[: len(held_out.guide)], held_out.guide)
    model, inside, below = load_filler(path), [], {float(level): [] for level in kinds.QUANTILE_LEVELS}
    for index in range(len(held_out.z)):
        parts = (held_out.z, held_out.mean, held_out.sigma, held_out.guide)
        z, base, spread, guide = (part[index].astype(float) for part in parts)
        gap, truth = spread > 0, base + spread * z
        field, chosen = Background(base, spread, guide, 0), PRESETS[preset]
        options = FillOptions(preset=chosen, samples=chosen.usual_samples, seed=index)
        filled = fill_from_background(field, np.where(gap, np.nan, truth), ~gap, gap, model, options)
        inside.append((np.abs(filled.mean - truth) <= filled.sigma)[gap])
        for level, shares in below.items():
            shares.append((truth <= filled.quantile(level))[gap])
    assert np.concatenate(inside).mean() == pytest.approx(0.6827, abs=0.01)
    for level, shares in below.items():
        assert np.concatenate(shares).mean() == pytest.approx(level, abs=0.01)
    table = {float(level): value for level, value in model.card.error_quantiles[preset].items()}
    assert sorted(table) == sorted(below)
    assert [table[level] for level in sorted(table)] == sorted(table.values())
