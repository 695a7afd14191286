"""Methods and scenes of an evaluation of water: what they see, which are chosen, what a network's runs share."""

from types import SimpleNamespace

import numpy as np
import pytest

from lacunar.errors import LacunarError
from lacunar.evaluate.water_evaluation import (
    DARKNESS,
    Run,
    evaluate_water_maps,
    index_methods,
    model_method,
    model_runs,
    restrict,
    typical_scenes,
)
from lacunar.evaluate.water_measures import Prediction, truth_of
from lacunar.networks.segdiff import SegmenterConfig
from lacunar.train.water_data import water_scenes
from water_sets import disc, make_sets, put


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return water_scenes(make_sets(tmp_path_factory.mktemp("water")))


def network(**changes):
    return SimpleNamespace(name="net", network=SimpleNamespace(spec=SegmenterConfig(**changes)))


def test_every_method_maps_every_scene_that_has_its_bands(scenes):
    calls, watched = [], []
    rows = evaluate_water_maps(
        scenes,
        index_methods(),
        callback=lambda *counts: calls.append(counts),
        watch=lambda scene, *_: watched.append(scene.name),
    )
    by_set = {name: [row.method for row in rows if row.set_name == name] for name in ("lakes_rgb", "ponds_nrg", "six")}
    assert by_set["lakes_rgb"] == [DARKNESS] * 5
    assert by_set["ponds_nrg"] == ["NDWI + Otsu", DARKNESS] * 2
    assert by_set["six"] == ["NDWI + Otsu", "MNDWI + Otsu", DARKNESS]
    assert calls == [(done, 8) for done in range(1, 9)]
    assert watched == [scene.name for scene in scenes]
    assert all(float(row.pixels.iou) > 0.99 for row in rows if row.set_name != "six" or row.method != DARKNESS)
    assert all(row.seconds > 0 and row.probabilities is None for row in rows)


def test_pixels_to_ignore_are_not_scored_and_do_not_move_a_threshold(scenes):
    scene = next(scene for scene in scenes if scene.set_name == "ponds_nrg")
    truth, valid = truth_of(scene, scene.bands())
    assert (~valid).sum() == 64
    rows = evaluate_water_maps([scene], index_methods(["darkness"]))
    assert sum(int(getattr(rows[0].pixels, name)) for name in ("both", "only_truth", "only_estimate", "neither")) == (
        truth.size - 64
    )
    seen = []

    def method(bands, valid, seed):
        seen.append((bands, valid, seed))
        return {"all": Prediction(np.ones(valid.shape, bool))}

    evaluate_water_maps([scene], {"all": method}, seed=1)
    np.testing.assert_array_equal(seen[0][0], scene.bands())
    evaluate_water_maps([scene], {"all": method}, seed=2)
    assert seen[0][2] != seen[1][2]


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
        return SimpleNamespace(samples=values, evaluations=steps)

    monkeypatch.setattr("lacunar.evaluate.water_evaluation.segment_array", segment)
    runs = model_runs(network(), steps=(1, 5), samples=(1, 4))
    bands = np.zeros((6, 3, 3))
    found = model_method(network(), runs)(bands, np.ones((3, 3), bool), 7)
    assert asked == [("net", 1, 4, 7), ("net", 5, 4, 7)]
    assert list(found) == [run.name for run in runs]
    assert {name: part.evaluations for name, part in found.items()} == dict(
        zip((run.name for run in runs), (1, 4, 5, 20), strict=True)
    )
    one, four = found["net, 5 steps, K = 1"], found["net, 5 steps, K = 4"]
    assert float(one.probability[0, 0]) == pytest.approx(0.2)
    assert float(four.probability[0, 0]) == pytest.approx(0.65)
    assert not one.water.any()
    assert four.water.all()
    assert np.isnan(one.seconds)
    assert four.seconds >= 0


def test_a_plain_segmenter_is_asked_once_and_for_every_view(monkeypatch):
    def segment(bands, model, *, steps, samples, seed):
        assert steps == 1
        return SimpleNamespace(samples=np.full((samples, *bands.shape[1:]), 0.5, np.float32), evaluations=1)

    monkeypatch.setattr("lacunar.evaluate.water_evaluation.segment_array", segment)
    plain = network(diffusion=False)
    found = model_method(plain, model_runs(plain, steps=(2,), samples=(8,)))(np.zeros((6, 2, 2)), None, 0)
    assert list(found) == ["net", "net, 1 step, K = 8"]
    assert found["net"].water.all()  # a probability of one half is water
    assert [prediction.evaluations for prediction in found.values()] == [1, 8]


def test_fewer_views_of_a_plain_segmenter_are_the_first_and_never_more_than_there_are(monkeypatch):
    def segment(bands, model, *, steps, samples, seed):
        views = np.arange(samples, dtype=np.float32)[:, None, None] / samples
        return SimpleNamespace(samples=np.broadcast_to(views, (samples, 2, 2)), evaluations=1)

    monkeypatch.setattr("lacunar.evaluate.water_evaluation.segment_array", segment)
    plain = network(diffusion=False)
    runs = model_runs(plain, steps=(2,), samples=(4, 16, 8))
    assert [run.samples for run in runs] == [0, 4, 8]
    found = model_method(plain, runs)(np.zeros((6, 2, 2)), None, 0)
    assert found["net, 1 step, K = 4"].probability == pytest.approx(np.mean([0, 1, 2, 3]) / 8)


def test_typical_scenes_are_chosen_by_their_water_alone(scenes):
    chosen = {name: [scene.name for scene in own] for name, own in typical_scenes(scenes).items()}
    assert chosen["lakes_rgb"] == ["lake_1", "lake_2", "lake_3"]
    assert sorted(chosen["ponds_nrg"]) == ["pond_0", "pond_1"]
    assert chosen["six"] == ["a"]


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
    names.write_text("lake_0\nlake_9.png\n")
    with pytest.raises(LacunarError, match=r"1 of 2 names match no scene, the first is 'lake_9.png'; wanted"):
        restrict(scenes, names=names)
    names.write_text("\n \n")
    with pytest.raises(LacunarError, match="is empty; wanted names of images, one on a line"):
        restrict(scenes, names=names)
    with pytest.raises(LacunarError, match="cannot be read as text"):
        restrict(scenes, names=tmp_path / "none.txt")


def test_bad_input_is_refused(scenes, tmp_path):
    with pytest.raises(LacunarError, match="unknown method 'AWEI': choose out of NDWI, MNDWI, darkness"):
        index_methods(["AWEI"])
    with pytest.raises(LacunarError, match="got 0 scenes and 3 methods; wanted one or more of both"):
        evaluate_water_maps([], index_methods())
    water = disc(9)
    put(tmp_path / "bad", "other", water, ((9, 90, 9), (9, 9, 9)), mask=np.where(water, 7, 0).astype(np.uint8))
    with pytest.raises(LacunarError, match="holds 7, wanted 0"):
        evaluate_water_maps(water_scenes(tmp_path / "bad"), index_methods())
    put(tmp_path / "small", "cut", water, ((9, 90, 9), (9, 9, 9)), mask=np.zeros((5, 5), np.uint8))
    with pytest.raises(LacunarError, match=r"is \(5, 5\), its image \(48, 48\); wanted one size"):
        evaluate_water_maps(water_scenes(tmp_path / "small"), index_methods())
    put(tmp_path / "void", "all", water, ((9, 90, 9), (9, 9, 9)), ignore=np.ones(water.shape, bool))
    with pytest.raises(LacunarError, match="no valid pixel"):
        evaluate_water_maps(water_scenes(tmp_path / "void"), index_methods())
