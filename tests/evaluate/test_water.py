"""Evaluation of water: scores of known maps, methods and scenes, and the whole run on small sets made here."""

import csv
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from commands import contents
from html_reader import Reader, is_self_contained
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import LacunarError
from lacunar.evaluate.job import evaluate, run
from lacunar.evaluate.task import Estimate, Lineup
from lacunar.evaluate.water import (
    COLOURS,
    DARKNESS,
    FAR,
    UNKNOWN,
    Run,
    WaterCase,
    WaterTask,
    difference_map,
    model_method,
    model_runs,
    restrict,
)
from lacunar.models.backend import load_segmenter
from lacunar.models.card import Card
from lacunar.models.checkpoint import SegmentationModel, save_model
from lacunar.networks.segdiff import SegmenterConfig, build_segmenter
from lacunar.train.water_data import water_scenes
from water_sets import GRASS, LAKE, SIDE, disc, make_sets, put

INDICES = ["NDWI + Otsu", "MNDWI + Otsu", DARKNESS]
NET = "net, 1 step, K = 2"
RADII = (5, 9, 12, 15, 18)


# --- scores of known maps ---


@pytest.fixture(scope="module")
def lakes(tmp_path_factory):
    """Five lakes, with the radius in the name."""
    folder = tmp_path_factory.mktemp("known")
    for radius in RADII:
        put(folder / "lakes", f"lake_{radius:02}", disc(radius), (GRASS, LAKE))
    return folder


def grown(more, **parts):
    """A map that is so many pixels too large; parts are made from the map."""

    def method(bands, valid, seed):
        size = int((bands[0] > bands[2]).sum())  # a lake is blue
        water = disc(next(radius for radius in RADII if disc(radius).sum() == size) + more)
        return {f"grown {more:+}": Estimate(water, **{name: part(water) for name, part in parts.items()})}

    return method


@pytest.fixture(scope="module")
def known(lakes):
    """What is found of a method that misses the rim of every lake, sure by 0.9, and one that adds two rims."""
    task = WaterTask(scenes=lakes)
    sure = {"probability": lambda water: np.where(water, 0.9, 0.05), "evaluations": lambda _: 8}
    methods = {"large": grown(2), "small": grown(-1, **sure)}
    return run(task, task.cases(), Lineup(methods, "grown +2"))


def test_pixels_of_all_images_are_pooled(known):
    scores = known.scores.set_index("method")
    net, dark = scores.loc["grown -1"], scores.loc["grown +2"]
    small, true, large = (sum(int(disc(radius + more).sum()) for radius in RADII) for more in (-1, 0, 2))
    assert (net["iou"], dark["iou"]) == pytest.approx((small / true, true / large))
    assert (net["precision"], net["recall"]) == pytest.approx((1.0, small / true))
    assert net["f1"] == pytest.approx(2 * small / (small + true))
    assert net["pixel_accuracy"] == pytest.approx(1 - (true - small) / (5 * SIDE**2))
    assert net["water"] == pytest.approx(true / (5 * SIDE**2))
    assert net["image_iou"] == pytest.approx(np.mean([disc(r - 1).sum() / disc(r).sum() for r in RADII]))
    assert net["boundary_f1"] == 1.0  # a rim of one pixel is within the tolerance
    assert (net["evaluations"], net["images"], net["pixels"]) == (8, 5, 5 * SIDE**2)
    assert net["iou_gain"] == pytest.approx(net["iou"] - dark["iou"])
    assert net["iou_gain_low"] <= net["iou_gain"] <= net["iou_gain_high"]
    assert math.isnan(dark["brier"])


def test_lakes_by_size(known):
    lakes = known.tables["lakes"].set_index(["method", "size"])
    small = [disc(radius).sum() for radius in RADII if disc(radius).sum() <= 100]
    assert set(lakes.index.get_level_values("size")) == {"up to 100 px", "100 to 1000 px", "1000 to 10000 px", FAR}
    first = lakes.loc[("grown -1", "up to 100 px")]
    assert (first["lakes"], first["found"], first["pixels"]) == (len(small), len(small), sum(small))
    assert math.isnan(first["iou_low"])  # a resample may hold no such lake
    middle = lakes.loc[("grown +2", "100 to 1000 px")]
    assert middle["recall"] == 1.0
    assert middle["iou"] == pytest.approx(middle["pixels"] / (middle["pixels"] + middle["false_pixels"]))
    assert math.isnan(lakes.loc[("grown -1", FAR), "iou"])
    assert lakes.loc[("grown -1", FAR), "lakes"] == 0


def test_probability_curves_pool_the_bins(known):
    (curve,) = known.reliability
    inside = sum(int(disc(radius - 1).sum()) for radius in RADII)
    rim = sum(int(disc(radius).sum() - disc(radius - 1).sum()) for radius in RADII)
    outside = 5 * SIDE**2 - inside
    assert (curve["method"], curve["pixels"][0], curve["pixels"][9]) == ("grown -1", outside, inside)
    assert (curve["claimed"][0], curve["claimed"][9]) == pytest.approx((0.05, 0.9))
    assert (curve["observed"][0], curve["observed"][9]) == pytest.approx((rim / outside, 1.0))
    assert np.isnan(curve["observed"][1:9]).all()
    score = known.scores.set_index("method").loc["grown -1"]
    gaps = inside * 0.1 + outside * abs(0.05 - rim / outside)
    assert score["calibration_error"] == pytest.approx(gaps / (inside + outside))
    squares = inside * 0.1**2 + rim * 0.95**2 + (outside - rim) * 0.05**2
    assert score["brier"] == pytest.approx(squares / (inside + outside))


def test_an_image_by_itself(known):
    image = known.tables["cases"].set_index(["image", "method"]).loc[("lake_05", "grown -1")]
    assert image["both"] == disc(4).sum()
    assert image["iou"] == pytest.approx(disc(4).sum() / disc(5).sum())
    assert image["pixels"] == SIDE**2


def test_differences_have_a_colour_each():
    water, truth = np.array([[True, False, True, False, True]]), np.array([[True, True, False, False, False]])
    valid = np.array([[True, True, True, True, False]])
    colours = [to_rgb(COLOURS[name]) for name in ("found", "missed", "false", "land")] + [to_rgb(UNKNOWN)]
    np.testing.assert_allclose(difference_map(water, truth, valid)[0], colours)
    assert len(set(colours)) == 5


# --- scenes and methods ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_sets(tmp_path_factory.mktemp("water"))


@pytest.fixture(scope="module")
def scenes(folder):
    return water_scenes(folder)


def network(**changes):
    return SimpleNamespace(name="net", network=SimpleNamespace(spec=SegmenterConfig(**changes)))


def test_every_index_maps_every_scene_that_has_its_bands(folder):
    result = evaluate("water", scenes=folder)
    methods = result.cases.groupby("set", sort=False)["method"].apply(list).to_dict()
    assert methods == {"lakes_rgb": [DARKNESS] * 5, "ponds_nrg": ["NDWI + Otsu", DARKNESS] * 2, "six": INDICES}
    assert (result.cases["iou"][(result.cases["set"] != "six") | (result.cases["method"] != DARKNESS)] > 0.99).all()
    assert (result.cases["seconds"] > 0).all()
    assert result.cases["brier"].isna().all()


def test_pixels_to_ignore_are_not_scored(scenes):
    case = WaterCase.of(next(scene for scene in scenes if scene.set_name == "ponds_nrg"))
    assert (~case.valid).sum() == 64
    rows = WaterTask(scenes="x").measure(case, Estimate(case.truth))
    assert sum(rows[0][name] for name in ("both", "only_truth", "only_estimate", "neither")) == case.truth.size - 64


def test_runs_of_a_network_and_their_names():
    runs = model_runs(network(), steps=(1, 10), samples=(1, 4))
    names = ["net, 1 step, K = 1", "net, 1 step, K = 4", "net, 10 steps, K = 1", "net, 10 steps, K = 4"]
    assert [run.name for run in runs] == names
    assert model_runs(network(diffusion=False), steps=(1, 10), samples=(1, 4)) == [Run("net"), Run("net", 1, 4)]


def test_samples_are_drawn_once_and_fewer_are_the_first(monkeypatch):
    asked = []

    def segment(bands, model, *, steps, samples, seed):
        asked.append((model.name, steps, samples, seed))
        values = np.stack([np.full(bands.shape[1:], share, np.float32) for share in (0.2, 0.9, 0.6, 0.9)[:samples]])
        return SimpleNamespace(samples=values, cover=(), evaluations=steps)

    monkeypatch.setattr("lacunar.evaluate.water.segment_array", segment)
    runs = model_runs(network(), steps=(5,), samples=(1, 4))
    found = model_method(network(), runs)(np.zeros((6, 3, 3)), np.ones((3, 3), bool), 7)
    assert asked == [("net", 5, 4, 7)]
    one, four = found["net, 5 steps, K = 1"], found["net, 5 steps, K = 4"]
    assert (one.evaluations, four.evaluations) == (5, 20)
    assert float(one.probability[0, 0]) == pytest.approx(0.2)
    assert float(four.probability[0, 0]) == pytest.approx(0.65)
    assert not one.value.any()
    assert four.value.all()
    assert math.isnan(one.share)
    assert four.share == 1


def test_a_plain_segmenter_is_asked_once_and_for_every_view(monkeypatch):
    def segment(bands, model, *, steps, samples, seed):
        assert steps == 1
        views = np.arange(samples, dtype=np.float32)[:, None, None] / samples + 0.5 / samples
        return SimpleNamespace(samples=np.broadcast_to(views, (samples, 2, 2)), cover=(), evaluations=1)

    monkeypatch.setattr("lacunar.evaluate.water.segment_array", segment)
    plain = network(diffusion=False)
    runs = model_runs(plain, steps=(2,), samples=(4, 16, 8))
    assert [run.samples for run in runs] == [0, 4, 8]
    found = model_method(plain, runs)(np.zeros((6, 2, 2)), None, 0)
    assert [estimate.evaluations for estimate in found.values()] == [1, 4, 8]
    assert found["net, 1 step, K = 4"].probability == pytest.approx(np.mean([0.5, 1.5, 2.5, 3.5]) / 8)
    assert found["net, 1 step, K = 8"].value.all()  # a probability of one half is water


def test_typical_scenes_are_chosen_by_their_water_alone(folder, scenes):
    chosen = [scene.name for scene in WaterTask(scenes=folder).examples(scenes)]
    assert chosen[:3] == ["lake_1", "lake_2", "lake_3"]
    assert sorted(chosen[3:]) == ["a", "pond_0", "pond_1"]


def test_scenes_are_restricted_to_sets_and_names(scenes, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("lake_3\n\n  lake_0\n")
    assert [scene.name for scene in restrict(scenes, names=names)] == ["lake_0", "lake_3"]
    assert {scene.set_name for scene in restrict(scenes, sets=["six"])} == {"six"}
    assert len(restrict(scenes)) == len(scenes)
    with pytest.raises(LacunarError, match="no set 'sea': choose out of lakes_rgb, ponds_nrg, six"):
        restrict(scenes, sets=["sea"])
    with pytest.raises(LacunarError, match="2 of 2 names match no scene, the first is 'lake_0'"):
        restrict(scenes, names=names, sets=["six"])
    names.write_text("\n \n")
    with pytest.raises(LacunarError, match="is empty; wanted names of images, one on a line"):
        restrict(scenes, names=names)
    with pytest.raises(LacunarError, match="cannot be read as text"):
        restrict(scenes, names=tmp_path / "none.txt")


def test_a_scene_without_a_pixel_to_score_is_refused(tmp_path):
    water = disc(9)
    put(tmp_path / "x", "all", water, (GRASS, LAKE), ignore=np.ones(water.shape, bool))
    with pytest.raises(LacunarError, match="no valid pixel"):
        evaluate("water", scenes=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("AWEI",)}, "unknown method 'AWEI': choose out of NDWI, MNDWI, darkness"),
        ({"steps": (1, 1)}, r"got steps \[1, 1\]; wanted one or more, each once"),
        ({"samples": ()}, r"got samples \[\]"),
        ({"samples": (0,)}, "got samples 0; wanted 1 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(changes, message):
    with pytest.raises(LacunarError, match=message):
        WaterTask(scenes="x", **changes)


# --- the whole run ---


def segment(bands, model, *, steps, samples, seed):
    """Finds what the green band says, more surely the more steps; its samples differ by their noise."""
    draws = np.random.default_rng(seed)
    seen = np.nan_to_num(bands[1])
    sure = 1 / (1 + np.exp((seen - np.median(seen) * 0.7) * 20))
    noise = draws.normal(0, 0.2 / steps, (samples, *sure.shape))
    return SimpleNamespace(samples=(sure + noise).clip(0, 1).astype(np.float32), cover=(), evaluations=steps)


def load(folder, *, device, backend):
    """A network that is a diffusion model, a plain one, or what is shipped under this name."""
    name = str(folder)
    if name not in ("net", "plain"):
        return load_segmenter(folder, device=device, backend=backend)
    spec = SegmenterConfig(diffusion=name == "net")
    return SimpleNamespace(name=name, backend="eager", network=SimpleNamespace(spec=spec))


def stand_in(patch):
    patch.setattr("lacunar.evaluate.water.segment_array", segment)
    patch.setattr("lacunar.evaluate.water.load_segmenter", load)


@pytest.fixture
def networks(monkeypatch):
    stand_in(monkeypatch)


TOLD = {"models": ("net", "plain"), "steps": (1, 2, 10), "samples": (2, 4), "against": "plain"}


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """An evaluation of two networks and all indices."""
    out = tmp_path_factory.mktemp("made") / "out"
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        return out, evaluate("water", scenes=folder, output=out, command="lacunar <b>", **TOLD)


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_output_is_there_and_whole(made):
    out, _ = made
    examples = ("examples_lakes_rgb", "examples_ponds_nrg", "examples_six")
    pictures = ("images", "lakes", "reliability", "evaluations", *examples)
    tables = {"scores.csv", "lakes.csv", "cases.csv", "scores.json", "report.html"}
    names = {*(f"{name}.png" for name in pictures), *tables}
    assert set(contents(out.parent)) == {"out", *(f"out/{name}" for name in names)}  # nothing hidden stays behind
    assert all(min(imread(out / f"{name}.png").shape[:2]) > 200 for name in pictures)


def test_the_files_tell_the_same(made):
    out, _ = made
    stored = json.loads((out / "scores.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    scores, images = (rows_of(out / f"{name}.csv") for name in ("scores", "cases"))
    runs = [f"net, {steps}, K = {count}" for steps in ("1 step", "2 steps", "10 steps") for count in (2, 4)]
    plain = ["plain", "plain, 1 step, K = 2", "plain, 1 step, K = 4"]
    assert [row["method"] for row in scores if row["set"] == "six"] == [*INDICES, *runs, *plain]
    assert [row["method"] for row in scores if row["set"] == "lakes_rgb"] == [DARKNESS, *runs, *plain]
    assert [float(row["iou"]) for row in scores] == [row["iou"] for row in stored["scores"]]
    assert [row["image"] for row in images] == [row["image"] for row in stored["cases"]]
    assert (stored["command"], stored["options"]["steps"]) == ("lacunar <b>", [1, 2, 10])
    own = [row for row in images if (row["set"], row["method"]) == ("lakes_rgb", NET)]
    both, *wrong = (sum(int(row[name]) for row in own) for name in ("both", "only_estimate", "only_truth"))
    score = next(row for row in scores if (row["set"], row["method"]) == ("lakes_rgb", NET))
    assert float(score["iou"]) == pytest.approx(both / (both + sum(wrong)))
    assert {row["baseline"] for row in scores} == {"plain"}
    counted = {row["method"]: int(row["evaluations"]) for row in scores}
    assert (counted["net, 10 steps, K = 4"], counted[NET], counted["plain"], counted[DARKNESS]) == (40, 2, 1, 0)


def test_the_page_is_whole_and_self_contained(made):
    out, result = made
    page = (out / "report.html").read_text(encoding="utf-8")
    assert is_self_contained(page)
    read = Reader(page)
    assert len(read.named("img")) == 7
    assert all(attributes["alt"] for attributes in read.named("img"))
    text = " ".join(read.texts)
    scores = result.scores[result.scores["set"] != "six"]  # one image has no interval
    for score in scores.itertuples():
        assert f"{score.iou:.3f} [{score.iou_low:.3f}, {score.iou_high:.3f}]" in text
    assert f"lakes_rgb (5 images): {NET} maps water with an IoU of " in text


def test_the_same_seed_gives_the_same_scores(made, folder, networks, tmp_path):
    out, _ = made
    evaluate("water", scenes=folder, output=tmp_path / "again", **TOLD)
    for name in ("scores.csv", "cases.csv", "lakes.csv"):
        kept = [[row | {"seconds": ""} for row in rows_of(place / name)] for place in (out, tmp_path / "again")]
        assert kept[0] == kept[1]


def test_without_a_model_indices_stand_alone(folder, tmp_path):
    result = evaluate("water", scenes=folder, output=tmp_path / "out", methods=("NDWI",))
    assert result.found.lineup.shown == ["NDWI + Otsu", DARKNESS]
    assert not (tmp_path / "out" / "reliability.png").exists()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert len(Reader(page).named("img")) == 5
    assert f"lakes_rgb (5 images): {DARKNESS} maps water" in page
    assert "six (1 images): NDWI + Otsu maps water" in page


# --- as it is typed ---


def test_the_command(lacunar, folder, out, networks):
    where = ("--scenes", folder, "-o", out / "quality", "--device", "cpu")
    some = ("--model", "net", "--model", "plain", "--steps", 1, "--samples", 2, "--against", NET, "--set", "lakes_rgb")
    ran = lacunar("evaluate", "water", *where, *some)
    assert ran.code == 0
    assert f"| lakes_rgb | {NET} | " in ran.out
    assert "| lakes_rgb | plain | " in ran.out
    assert ran.out.endswith(f"report: {out / 'quality' / 'report.html'}\n")
    before = contents(out)
    again = lacunar("evaluate", "water", *where)
    assert (again.code, again.out) == (2, "")
    assert "scores.csv exists, wanted a new name" in again.err
    assert contents(out) == before
    names = out / "names.txt"
    names.write_text("lake_2\npond_1\n")
    over = lacunar("evaluate", "water", *where, "--overwrite", "--names", names, "--methods", "NDWI")
    assert over.code == 0
    assert "net" not in over.out
    assert "MNDWI" not in over.out
    assert "answering cases: 4 of 4" in over.err


def test_a_model_folder_as_it_is_trained(lacunar, folder, out, tmp_path):
    config = SegmenterConfig(sample_size=32, condition_widths=(8, 16), widths=(8, 16))
    card = Card(summary="for tests", licence="none")
    parts = {"schedule": NoiseSchedule.cosine(1000), "prediction": "x_0", "card": card}
    save_model(tmp_path / "tiny", SegmentationModel(name="tiny", network=build_segmenter(config), **parts))
    where = ("--scenes", folder, "--set", "ponds_nrg", "-o", out / "quality", "--device", "cpu")
    networks = ("--model", f"mine={tmp_path / 'tiny'}", "--model", tmp_path / "tiny")
    ran = lacunar("evaluate", "water", *where, *networks, "--steps", 2, "--samples", 1, "--samples", 3)
    assert ran.code == 0
    scores = {row["method"]: row for row in rows_of(out / "quality" / "scores.csv")}
    counted = {name: int(row["evaluations"]) for name, row in scores.items() if name.startswith("tiny")}
    assert counted == {"tiny, 2 steps, K = 1": 2, "tiny, 2 steps, K = 3": 6}
    for name in counted:
        assert 0 <= float(scores[name]["brier"]) <= 1
        assert scores[name.replace("tiny", "mine")]["iou"] == scores[name]["iou"]


def refused(ran, message):
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_bad_input_is_one_line_and_leaves_nothing(lacunar, folder, out, tmp_path, networks):
    def told(*arguments, scenes=folder):
        where = ("--scenes", scenes, "-o", out / "quality", "--device", "cpu")
        return lacunar("evaluate", "water", *where, *arguments)

    (tmp_path / "none").mkdir()
    refused(told(scenes=tmp_path / "none"), f"no image with its _mask.png in {tmp_path / 'none'}")
    refused(told("--methods", "magic"), "unknown method 'magic': choose out of NDWI, MNDWI, darkness")
    refused(told("--against", "unet"), "no method 'unet' to compare with: choose out of NDWI + Otsu; MNDWI + Otsu")
    refused(told("--model", "net", "--model", "net"), "two models are named net: give one as NAME=FOLDER")
    refused(told("--model", "lst-small"), "model lst-small fills gaps, wanted one that segments water")
    refused(told("--set", "sea"), "no set 'sea'")
    (tmp_path / "names.txt").write_text("moon\n")
    refused(told("--names", tmp_path / "names.txt"), "1 of 1 names match no scene, the first is 'moon'")
    water = disc(9)
    put(tmp_path / "cut" / "x", "a", water, (GRASS, LAKE), mask=np.zeros((5, 5), np.uint8))
    refused(told(scenes=tmp_path / "cut"), "wanted one size")
    put(tmp_path / "odd" / "x", "a", water, (GRASS, LAKE), mask=np.full(water.shape, 7, np.uint8))
    refused(told(scenes=tmp_path / "odd"), "holds 7, wanted 0 (land), 1 (water), 2 to 5 and 255 (ignore)")
    assert contents(out) == {}


def test_as_many_steps_and_samples_are_usual_as_in_the_map_itself(folder):
    from lacunar.segment.array import SEGMENTER_SAMPLES, SEGMENTER_STEPS

    task = WaterTask(scenes=folder)
    assert (task.steps, task.samples) == ((SEGMENTER_STEPS,), (SEGMENTER_SAMPLES,))
