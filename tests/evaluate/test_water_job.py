"""The whole evaluation of water on small sets made here: what it writes, what it says, what it refuses."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

from commands import contents
from html_reader import Reader, is_self_contained
from lacunar.diffusion.schedule import NoiseSchedule
from lacunar.errors import LacunarError
from lacunar.evaluate.water_evaluation import DARKNESS
from lacunar.evaluate.water_findings import draw_water_figures, share
from lacunar.evaluate.water_job import WaterQualityOptions, evaluate_water
from lacunar.evaluate.water_report import PAPER
from lacunar.evaluate.water_scores import LakeScore, WaterScore
from lacunar.models.card import Card
from lacunar.models.checkpoint import SegmentationModel, load_segmenter, save_model
from lacunar.networks.segdiff import SegmenterConfig, build_segmenter
from water_sets import disc, make_sets, put

INDICES = ["NDWI + Otsu", "MNDWI + Otsu", DARKNESS]
NET = "net, 1 step, K = 2"


def segment(bands, model, *, steps, samples, seed):
    """Finds what the green band says, more surely the more steps; its samples differ by their noise."""
    draws = np.random.default_rng(seed)
    seen = np.nan_to_num(bands[1])
    sure = 1 / (1 + np.exp((seen - np.median(seen) * 0.7) * 20))
    noise = draws.normal(0, 0.2 / steps, (samples, *sure.shape))
    return SimpleNamespace(samples=(sure + noise).clip(0, 1).astype(np.float32), evaluations=steps)


def load(folder, *, device):
    """A network that is a diffusion model, a plain one, or what is shipped under this name."""
    name = str(folder)
    if name not in ("net", "plain"):
        return load_segmenter(folder, device=device)
    return SimpleNamespace(
        name=name, engine="eager", network=SimpleNamespace(spec=SegmenterConfig(diffusion=name == "net"))
    )


def stand_in(patch):
    patch.setattr("lacunar.evaluate.water_evaluation.segment_array", segment)
    patch.setattr("lacunar.evaluate.water_job.load_segmenter", load)


@pytest.fixture
def networks(monkeypatch):
    stand_in(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_sets(tmp_path_factory.mktemp("water"))


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    """An evaluation of two networks and all indices."""
    out = tmp_path_factory.mktemp("made") / "out"
    options = WaterQualityOptions(
        models=("net", "plain"), steps=(1, 2, 10), samples=(2, 4), against="plain", command="lacunar <b>"
    )
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        return out, evaluate_water(folder, out, options=options)


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_output_is_there_and_whole(made):
    out, _ = made
    examples = ("examples_lakes_rgb", "examples_ponds_nrg", "examples_six")
    pictures = ("images", "lakes", "reliability", "evaluations", "samples", *examples)
    tables = {"scores.csv", "lakes.csv", "images.csv", "scores.json", "report.html"}
    names = {*(f"{name}.png" for name in pictures), *tables}
    assert set(contents(out)) == names
    assert set(contents(out.parent)) == {"out", *(f"out/{name}" for name in names)}  # nothing hidden stays behind
    for name in pictures:
        assert min(imread(out / f"{name}.png").shape[:2]) > 200


def test_the_files_tell_the_same(made):
    out, record = made
    stored = json.loads((out / "scores.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    scores, lakes, images = (rows_of(out / f"{name}.csv") for name in ("scores", "lakes", "images"))
    assert list(scores[0]) == list(WaterScore.__dataclass_fields__)
    assert list(lakes[0]) == list(LakeScore.__dataclass_fields__)
    runs = [f"net, {steps}, K = {count}" for steps in ("1 step", "2 steps", "10 steps") for count in (2, 4)]
    plain = ["plain", "plain, 1 step, K = 2", "plain, 1 step, K = 4"]
    assert [row["method"] for row in scores if row["set_name"] == "six"] == [*INDICES, *runs, *plain]
    assert [row["method"] for row in scores if row["set_name"] == "lakes_rgb"] == [DARKNESS, *runs, *plain]
    assert [float(row["iou"]) for row in scores] == [row["iou"] for row in stored["scores"]]
    assert [row["image"] for row in images] == [row["image"] for row in stored["images"]]
    assert (stored["command"], stored["options"]["steps"]) == ("lacunar <b>", [1, 2, 10])
    assert {"lacunar", "torch", "numpy", "scipy", "rasterio", "python"} <= set(stored["versions"])
    own = [row for row in images if (row["set"], row["method"]) == ("lakes_rgb", NET)]
    both, only_estimate, only_truth = (
        sum(int(row[name]) for row in own) for name in ("both", "only_estimate", "only_truth")
    )
    assert record["findings"].score("lakes_rgb", NET).iou == pytest.approx(both / (both + only_estimate + only_truth))
    assert stored["typical"]["lakes_rgb"] == ["lake_1", "lake_2", "lake_3"]
    assert {row["against"] for row in scores} == {"plain"}


def test_evaluations_are_counted_for_all_samples(made):
    _, record = made
    counted = {score.method: score.evaluations for score in record["findings"].scores}
    assert (counted["net, 10 steps, K = 4"], counted[NET], counted["plain"], counted[DARKNESS]) == (40, 2, 1, 0)


def test_figures_draw_each_score_inside_its_own_interval(made, monkeypatch):
    _, record = made
    drawn = []
    monkeypatch.setattr(
        "lacunar.evaluate.water_findings.evaluations_panels", lambda curves, *_, **__: drawn.append(curves)
    )
    draw_water_figures(record["findings"])
    assert len(drawn) == 2
    scores = {(s.set_name, s.iou, s.iou_low, s.iou_high) for s in record["findings"].scores}
    points = [
        (name, point.value, point.low, point.high)
        for curves in drawn
        for name, own in curves.items()
        for series in own.values()
        for point in series
    ]
    assert points
    assert scores.issuperset(points)


def test_the_page_is_whole_self_contained_and_says_what_is_not_comparable(made):
    out, record = made
    page = (out / "report.html").read_text(encoding="utf-8")
    assert is_self_contained(page)
    read = Reader(page)
    assert len(read.named("img")) == 8
    assert all(attributes["alt"] for attributes in read.named("img"))
    assert "lacunar <b>" in read.texts
    text = " ".join(read.texts)
    for score in record["findings"].scores:
        assert share(score.iou, score.iou_low, score.iou_high) in text
    assert f"lakes_rgb (5 images): {NET} maps water with an IoU of " in text
    assert text.count("NOT comparable") >= 4
    for figures in PAPER:
        assert all(share(figure) in read.texts for figure in figures)
    for name in ("lake_1", "lake_2", "lake_3"):
        assert (
            read.texts.count(name) >= len(record["findings"].shown) - 2
        )  # the first set, where the paper's is not there


def test_the_same_seed_gives_the_same_scores(made, folder, networks, tmp_path):
    out, _ = made
    options = WaterQualityOptions(models=("net", "plain"), steps=(1, 2, 10), samples=(2, 4), against="plain")
    evaluate_water(folder, tmp_path / "again", options=options)
    timed = ("seconds",)
    for name in ("scores.csv", "images.csv", "lakes.csv"):
        kept = [
            [{key: value for key, value in row.items() if key not in timed} for row in rows_of(place / name)]
            for place in (out, tmp_path / "again")
        ]
        assert kept[0] == kept[1]


def test_without_a_model_indices_stand_alone(folder, tmp_path):
    record = evaluate_water(folder, tmp_path / "out", options=WaterQualityOptions(methods=("NDWI",)))
    findings = record["findings"]
    assert findings.shown == ["NDWI + Otsu", DARKNESS]
    assert findings.headline("lakes_rgb") == DARKNESS
    assert findings.headline("six") == "NDWI + Otsu"
    assert not (tmp_path / "out" / "reliability.png").exists()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert len(Reader(page).named("img")) == 5
    assert "Is the probability honest?" not in page


def test_the_papers_set_stands_beside_the_papers_table(tmp_path):
    for number, radius in enumerate((5, 8, 11, 14)):
        put(tmp_path / "in" / "glacial_nrg", f"g_{number}", disc(radius), ((200, 60, 90), (10, 20, 40)))
    put(tmp_path / "in" / "a_rgb", "a", disc(9), ((200, 60, 90), (10, 20, 40)))
    evaluate_water(tmp_path / "in", tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "three typical scenes of glacial_nrg" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("AWEI",)}, "unknown method 'AWEI': choose out of NDWI, MNDWI, darkness"),
        ({"steps": (1, 1)}, r"got steps \[1, 1\]; wanted one number or more, each from 1 and once"),
        ({"samples": ()}, r"got samples \[\]"),
        ({"samples": (0,)}, r"got samples \[0\]"),
        ({"seed": -1}, "got seed -1; wanted 0 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(changes, message):
    with pytest.raises(LacunarError, match=message):
        WaterQualityOptions(**changes)


# --- as it is typed ---


def test_the_command(lacunar, folder, out, networks):
    where = ("--scenes", folder, "-o", out / "quality", "--device", "cpu")
    some = ("--model", "net", "--model", "plain", "--steps", 1, "--samples", 2, "--against", NET, "--set", "lakes_rgb")
    ran = lacunar("evaluate", "water", *where, *some)
    assert ran.code == 0
    assert f"| lakes_rgb | {NET} | " in ran.out
    assert "| lakes_rgb | plain | " in ran.out
    assert ran.out.endswith(f"report: {out / 'quality' / 'report.html'}\n")
    assert "mapping scenes: 5 of 5" in ran.err
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
    assert "mapping scenes: 2 of 2" in over.err


def test_a_model_folder_as_it_is_trained(lacunar, folder, out, tmp_path):
    config = SegmenterConfig(sample_size=32, condition_widths=(8, 16), widths=(8, 16))
    card = Card(summary="for tests", licence="none")
    parts = {"schedule": NoiseSchedule.cosine(1000), "prediction": "x_0", "card": card}
    save_model(tmp_path / "tiny", SegmentationModel(name="tiny", network=build_segmenter(config), **parts))
    where = ("--scenes", folder, "--set", "ponds_nrg", "-o", out / "quality", "--device", "cpu")
    networks = ("--model", f"mine={tmp_path / 'tiny'}", "--model", tmp_path / "tiny")
    ran = lacunar("evaluate", "water", *where, *networks, "--steps", 2, "--samples", 1, "--samples", 3)
    assert (ran.code, ran.err.count("mapping")) == (0, 2)
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
    def evaluate(*arguments, scenes=folder):
        return lacunar("evaluate", "water", "--scenes", scenes, "-o", out / "quality", *arguments)

    (tmp_path / "none").mkdir()
    refused(evaluate(scenes=tmp_path / "none"), f"no image with its _mask.png in {tmp_path / 'none'}")
    refused(evaluate(scenes=tmp_path / "nowhere"), "no image with its _mask.png in")
    refused(evaluate("--methods", "magic"), "unknown method 'magic': choose out of NDWI, MNDWI, darkness")
    refused(evaluate("--against", "unet"), "no method 'unet' to compare with: choose out of NDWI + Otsu; MNDWI + Otsu")
    refused(evaluate("--model", "net", "--model", "net"), "two models are named net: give one as NAME=FOLDER")
    refused(evaluate("--model", "lst-small"), "model lst-small fills gaps, wanted one that segments water")
    refused(evaluate("--set", "sea"), "no set 'sea'")
    (tmp_path / "names.txt").write_text("moon\n")
    refused(evaluate("--names", tmp_path / "names.txt"), "1 of 1 names match no scene, the first is 'moon'")
    water = disc(9)
    put(tmp_path / "cut" / "x", "a", water, ((9, 90, 9), (9, 9, 9)), mask=np.zeros((5, 5), np.uint8))
    refused(evaluate(scenes=tmp_path / "cut"), "wanted one size")
    put(tmp_path / "odd" / "x", "a", water, ((9, 90, 9), (9, 9, 9)), mask=np.full(water.shape, 3, np.uint8))
    refused(evaluate(scenes=tmp_path / "odd"), "holds 3, wanted 0 (land), 1 (water) and 255 (ignore)")
    assert contents(out) == {}


def test_the_help_of_the_command(lacunar):
    ran = lacunar("evaluate", "--help")
    assert ran.code == 0
    assert "\n  water " in ran.out
