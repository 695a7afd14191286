"""Examples against the fields that they were drawn from, and items against their examples."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from gaussian_fields import large_draw
from lacunar.errors import TrainingError
from lacunar.interpolate.external_drift import krige_with_guides
from lacunar.interpolate.kriging import Covariance
from lacunar.train import lst_data as datasets
from lacunar.train.lst_data import (
    CLOUDY_GUIDES,
    GUIDE_RATES,
    GUIDE_SHARES,
    NATIVE,
    NEGATED_SHARE,
    PATTERN_SHARES,
    RATES,
    SHRINKS,
    LstDataset,
    LstExamples,
    LstPack,
    draw_tile,
    load_lst,
    make_examples,
    pack_lst,
)
from surfaces import counts, pack_of, surface

COUNT, SIZE = 24, 16


def dates(count: int = 3, shape: tuple[int, int] = (40, 50)) -> LstPack:
    """A place seen on several days and nights: the same ground, other values, other noise."""
    ground, rng = surface(shape) - 295, np.random.default_rng(9)
    rasters = [
        280 + 7 * i + (-1) ** i * (1 - 0.1 * i) * ground + 0.3 * rng.standard_normal(shape) for i in range(count)
    ]
    names, positions = tuple(f"hill_{i}" for i in range(count)), tuple((0, 0, 0) for _ in range(count))
    return pack_of(*rasters, names=names, positions=positions)


def apart(pack: LstPack) -> LstPack:
    """The same rasters as if each showed a ground of its own."""
    return replace(pack, positions=tuple((i, 0, 0) for i in range(len(pack.rasters))))


def examples_of(count=6, seed=0, pack=None, **options) -> LstExamples:
    return make_examples(pack or dates(), MappingProxyType({"hill": 1.0}), count=count, size=SIZE, seed=seed, **options)


@pytest.fixture(scope="module")
def examples() -> LstExamples:
    return examples_of(24)


# --- tiles and examples ---


def place_telling(shape: tuple[int, int], first: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Counts that tell their place: 10000 + 100 row + col, whose block mean is that of the block's centre."""
    rows, cols = np.indices(shape)
    return (10000 + 100 * (rows + first[0]) + cols + first[1]).astype(np.uint16)


def shrink_of(tile: np.ndarray) -> float:
    """Pixels of a raster that tells its place in one pixel of a tile."""
    span = round((tile[0, -1] - tile[0, 0]) / 0.01)
    return {SIZE // 2 - 1: 0.5, SIZE - 1: 1, 2 * SIZE - 2: 2, 3 * SIZE - 3: 3}[span]


def test_a_tile_is_a_block_mean_of_a_fully_known_window():
    raster = place_telling((60, 60))
    raster[:, 50:] = 0
    pack, rng, seen = LstPack(("hill_1",), (raster,), (), ((0, 0, 0),)), np.random.default_rng(0), []
    for _ in range(200):
        tile, references = draw_tile(pack, {"hill": 1.0}, SIZE, rng)
        assert references.shape == (0, SIZE, SIZE)
        reduction, tile = int(shrink_of(tile)), tile / 0.01
        seen.append(reduction)
        np.testing.assert_allclose(np.diff(tile, axis=1), reduction, atol=1e-6)
        np.testing.assert_allclose(np.diff(tile, axis=0), 100 * reduction, atol=1e-6)
        last_row, last_col = divmod(tile[-1, -1] - 10000 + 101 * (reduction - 1) / 2, 100)
        assert last_row < 60
        assert last_col < 50
    shares = {1: SHRINKS[0.5] + SHRINKS[1], 2: SHRINKS[2], 3: SHRINKS[3]}  # no enlargement of such a raster
    for reduction, share in shares.items():
        # Fewer windows of a larger side fit beside the unknown columns, but each side occurs.
        assert seen.count(reduction) / len(seen) == pytest.approx(share, abs=0.12)


@pytest.mark.parametrize("sensor", ["ecostress", "aster", "landsat8"])
def test_only_what_is_sharp_is_enlarged(sensor: str):
    pack = LstPack((f"hill_{sensor}_2020",), (place_telling((60, 60)),), (), ((0, 0, 0),))
    rng = np.random.default_rng(0)
    tiles = [draw_tile(pack, {"hill": 1.0}, SIZE, rng)[0] for _ in range(300)]
    share = np.mean([shrink_of(tile) == 0.5 for tile in tiles])
    assert share == pytest.approx(SHRINKS[0.5] if sensor in NATIVE else 0.0, abs=0.08)
    for tile in tiles:
        if shrink_of(tile) == 0.5:  # corner pixels stay, between them a plane stays a plane
            np.testing.assert_allclose(np.diff(tile[3:-3, 3:-3], axis=1), 0.01 * 7 / 15, rtol=0.15)
            np.testing.assert_allclose(np.diff(tile[3:-3, 3:-3], axis=0), 0.01 * 700 / 15, rtol=0.15)


def test_places_are_drawn_by_their_weights():
    flat = [np.tile(np.array([[300.0, 300.01]]), (20, 10)) + 10 * i for i in range(4)]
    names = ("hill_1", "lake_1", "lake_2", "town_1")
    pack, rng = pack_of(*flat, names=names), np.random.default_rng(0)
    drawn = [round((draw_tile(pack, {"hill": 3.0, "lake": 1.0}, 20, rng)[0].mean() - 300) / 10) for _ in range(400)]
    assert np.bincount(drawn, minlength=4) / 400 == pytest.approx([0.75, 0.125, 0.125, 0], abs=0.05)


def test_an_example_gives_back_its_field():
    """Where a raster is one tile the field is known: standardised by the mean and deviation of its known pixels."""
    truth, clipped = surface((SIZE, SIZE)), 0
    drawn = make_examples(pack_of(truth), {"hill": 1.0}, count=20, size=SIZE, seed=3)
    for z, base, spread in zip(drawn.z, drawn.mean, drawn.sigma, strict=True):
        known = spread == 0
        assert RATES[0] - 0.01 < (~known).mean() < RATES[1] + 0.01
        tile = counts(truth) * 0.01
        field = (tile - tile[known].mean()) / tile[known].std()
        assert not z[known].any()
        np.testing.assert_allclose(base[known], field[known], rtol=1e-3, atol=1e-3)
        whole = np.abs(z) < datasets.MAX_ABS_Z
        clipped += (~whole).sum()
        rebuilt = z.astype(float) * spread + base
        # Three numbers in float16, of at most 6, 2 and 8 in magnitude.
        np.testing.assert_allclose(rebuilt[whole], field[whole], rtol=0, atol=0.02)
    assert clipped < 0.02 * drawn.z.size


@pytest.mark.parametrize(
    ("helped", "cloudy", "widest"),
    [(False, 0.0, 1.15), (True, 0.0, 1.15), (True, 1.0, 1.5)],
    ids=["alone", "other dates", "other dates under clouds"],
)
def test_the_residuals_are_those_of_a_calibrated_kriging(helped, cloudy, widest, monkeypatch):
    """Gaussian fields of one covariance; in a tile of 64 pixels it can be told, in a much smaller one it cannot.

    Where a date that tells nearly all has clouds of its own, sigma is too narrow, but not by more than half.
    """
    monkeypatch.setattr(datasets, "CLOUDY_GUIDES", cloudy)
    parts = [large_draw(Covariance(16.0, 1.0, 9.0, 2e-3), 80, seed) for seed in range(6)]
    rasters = [
        truth if date == 0 else 500 - 0.7 * truth + 0.2 * own for truth, own in pairwise(parts) for date in (0, 1)
    ]
    positions = [(i // 2, 0, 0) for i in range(len(rasters))]
    pack = pack_of(*rasters, names=[f"hill_{i}" for i in range(len(rasters))], positions=positions)
    drawn = make_examples(pack if helped else apart(pack), {"hill": 1.0}, count=16, size=64, seed=0)
    z = drawn.z[drawn.sigma > 0].astype(float)
    assert 0.85 < z.std() < widest
    assert abs(z.mean()) < 0.2


def test_an_example_depends_on_the_seed_and_its_number_alone(examples: LstExamples):
    few, parallel, other = examples_of(5), examples_of(24, workers=2), examples_of(5, seed=1)
    for name in ("z", "mean", "sigma", "guide"):
        whole = getattr(examples, name)
        assert whole.dtype == np.float16
        np.testing.assert_array_equal(whole[:5], getattr(few, name))
        np.testing.assert_array_equal(whole, getattr(parallel, name))
        assert not np.array_equal(whole[:5], getattr(other, name))
        assert not np.array_equal(whole[0], whole[1])


def test_more_examples_than_a_worker_takes_at_once_stay_in_order():
    draw = datasets._mapped(lambda_free_square, 100, 2)
    assert [int(value[0]) for value in draw] == [i * i for i in range(100)]


def lambda_free_square(index: int) -> tuple[np.ndarray, ...]:
    """At module level, so that it can be sent to a worker."""
    return (np.array(index * index),)


def test_real_clouds_are_used_where_they_are_large_enough():
    stripe = np.zeros((64, 64), bool)
    stripe[:, 20:40] = True
    with_cloud = pack_of(surface(), clouds=(stripe, np.ones((4, 4), bool)))
    only_small = pack_of(surface(), clouds=(np.ones((4, 4), bool),))
    weights, options = {"hill": 1.0}, {"count": 8, "size": SIZE, "seed": 0}
    without = make_examples(pack_of(surface()), weights, **options)
    np.testing.assert_array_equal(make_examples(only_small, weights, **options).z, without.z)
    assert not np.array_equal(make_examples(with_cloud, weights, **options).z, without.z)
    assert sum(PATTERN_SHARES.values()) == pytest.approx(1)


def test_progress_counts_every_example():
    calls = []
    examples_of(3, progress=lambda done, count: calls.append((done, count)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_places_that_the_pack_lacks():
    with pytest.raises(TrainingError, match="the pack has no raster of lake, town; it has hill"):
        make_examples(pack_of(surface()), {"town": 1.0, "hill": 1.0, "lake": 1.0}, count=1, size=SIZE, seed=0)


@pytest.mark.parametrize("raster", [surface((15, 60)), np.full((40, 40), 300.0)], ids=["small", "flat"])
def test_rasters_without_a_whole_tile(raster: np.ndarray):
    with pytest.raises(TrainingError, match="no fully known tile of 16 pixels in 200 tries: the rasters are too small"):
        make_examples(pack_of(raster), {"hill": 1.0}, count=1, size=SIZE, seed=0)


# --- other dates ---


def test_references_show_the_ground_of_the_tile():
    tile_raster, other = place_telling((90, 90)), place_telling((70, 100), first=(12, -5)) + np.uint16(20000)
    pack = LstPack(("hill_aster_1", "hill_2"), (tile_raster, other), (), ((0, 3, 1), (0, 15, -4)))
    rng, seen = np.random.default_rng(0), {}
    for _ in range(120):
        tile, references = draw_tile(pack, {"hill": 1.0}, SIZE, rng)
        if not len(references):
            continue
        reference, sign = references[0], 1 if tile[0, 0] < 300 else -1
        both = np.isfinite(reference)
        # Cubic enlargement rings beside a gap; all else is exact.
        ringing = shrink_of(tile) == 0.5 and not both.all()
        np.testing.assert_allclose((reference - tile)[both], sign * 200, atol=0.6 if ringing else 1e-6)
        seen.setdefault(round((tile[0, -1] - tile[0, 0]) * 100), []).append(both.mean())
    assert sorted(seen) == [SIZE // 2 - 1, SIZE - 1, 2 * SIZE - 2, 3 * SIZE - 3]  # at every scale
    shown = np.concatenate(list(seen.values()))
    assert (shown == 1).any()
    assert (shown < 1).any()  # beyond the border of the other date


@pytest.mark.parametrize("count", [1, 2, 6])
def test_the_number_of_references_has_its_shares(count: int):
    pack, rng = dates(count), np.random.default_rng(0)
    drawn = [len(draw_tile(pack, {"hill": 1.0}, SIZE, rng)[1]) for _ in range(400)]
    wanted = np.zeros(4)
    for number, share in GUIDE_SHARES.items():
        wanted[min(number, count - 1)] += share
    assert np.bincount(drawn, minlength=4) / 400 == pytest.approx(wanted, abs=0.07)


def test_references_are_different_dates_and_never_the_tile_itself():
    levels = [280.0 + 5 * i for i in range(4)]
    rasters = [level + 0.01 * (np.indices((20, 20)).sum(axis=0) % 2) for level in levels]
    pack = pack_of(*rasters, names=[f"hill_{i}" for i in range(4)], positions=[(0, 0, 0)] * 4)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(200):
        tile, references = draw_tile(pack, {"hill": 1.0}, SIZE, rng)
        means = [round(date.mean()) for date in (tile, *references)]
        assert len(set(means)) == len(means)
        seen |= set(means[1:])
    assert seen == {280, 285, 290, 295}


def test_a_date_that_does_not_reach_the_tile_is_all_unknown():
    pack = pack_of(surface(), surface(seed=1), names=("hill_aster", "hill_2"), positions=((0, 0, 0), (0, 900, 0)))
    rng = np.random.default_rng(0)
    references = np.concatenate([draw_tile(pack, {"hill": 1.0}, SIZE, rng)[1] for _ in range(60)])
    assert len(references) > 20
    assert np.isnan(references).all()
    assert not examples_of(30, pack=pack).guide.any()


def test_a_guide_is_there_only_where_other_dates_are():
    guide = examples_of(80).guide.astype(float)
    guided = guide.any(axis=(1, 2))
    assert guided.mean() == pytest.approx(1 - GUIDE_SHARES[0], abs=0.12)
    np.testing.assert_allclose(guide.mean(axis=(1, 2)), 0, atol=1e-3)
    assert not examples_of(80, pack=apart(dates())).guide.any()


def test_other_dates_make_the_base_better_and_the_spread_smaller():
    truth = dates(3, (SIZE, SIZE))
    rebuilt, errors, spreads, correlations = 0, {True: [], False: []}, {True: [], False: []}, []
    drawn = make_examples(truth, {"hill": 1.0}, count=60, size=SIZE, seed=3)
    for z, base, spread, guide in zip(drawn.z, drawn.mean, drawn.sigma, drawn.guide, strict=True):
        z, base, spread, guide = (part.astype(float) for part in (z, base, spread, guide))
        known, whole = spread == 0, np.abs(z) < datasets.MAX_ABS_Z
        fields = [(raster - raster[known].mean()) / raster[known].std() for raster in np.array(truth.rasters, float)]
        field = min(fields, key=lambda field: np.abs(field - base)[known].max())
        np.testing.assert_allclose((z * spread + base)[whole], field[whole], rtol=0, atol=0.02)
        rebuilt += whole.sum()
        errors[guide.any()].append(np.sqrt(np.mean((base - field)[~known] ** 2)))
        spreads[guide.any()].append(spread[~known].mean())
        if guide.any():
            correlations.append(np.corrcoef(guide[~known], field[~known])[0, 1])
    assert rebuilt > 0.98 * drawn.z.size
    assert np.mean(errors[True]) < 0.75 * np.mean(errors[False])
    assert np.mean(spreads[True]) < 0.9 * np.mean(spreads[False])
    assert np.median(correlations) > 0.8


def test_references_have_clouds_of_their_own(monkeypatch: pytest.MonkeyPatch):
    seen = []

    def spy(values, known, references):
        seen.append((references.copy(), known.copy()))
        return krige_with_guides(values, known, references)

    monkeypatch.setattr(datasets, "krige_with_guides", spy)
    examples_of(150)
    gaps = [np.isnan(reference) for references, _ in seen for reference in references]
    rates = np.array([gap.mean() for gap in gaps if gap.any()])
    assert len(rates) / len(gaps) == pytest.approx(CLOUDY_GUIDES, abs=0.1)
    assert GUIDE_RATES[0] - 0.01 < rates.min() < 0.15 < 0.45 < rates.max() < GUIDE_RATES[1] + 0.01
    for references, known in seen:
        for first, second in pairwise([~known, *map(np.isnan, references)]):
            assert not first.any() or not np.array_equal(first, second)


def test_real_dates_help_one_another(shared: Path, tmp_path: Path):
    for year in (2015, 2018, 2020):
        source = shared / f"data/lst/train/macas_landsat_{year}.tif"
        (tmp_path / source.name).symlink_to(source)
    pack_lst(tmp_path, None, tmp_path / "all.npz")
    pack = load_lst(tmp_path / "all.npz")
    assert pack.other_dates(0) == (1, 2)
    assert np.abs(np.array(pack.positions)[:, 1:]).max() <= 4 * 2  # one footprint, displaced by some pixels at most
    rng, correlations = np.random.default_rng(0), []
    while len(correlations) < 12:
        tile, references = draw_tile(pack, {"macas": 1.0}, 64, rng)
        assert 250 < tile.min() < tile.max() < 340
        for reference in references:
            shown = np.isfinite(reference)
            if shown.mean() > 0.5:
                correlations.append(abs(np.corrcoef(tile[shown], reference[shown])[0, 1]))
    assert np.median(correlations) > 0.3


# --- items ---


@pytest.fixture(scope="module")
def made_up() -> LstExamples:
    """Examples as `make_examples` gives them, with a gap that no symmetry keeps."""
    rng = np.random.default_rng(0)
    z, base, spread, guide = rng.standard_normal((4, COUNT, SIZE, SIZE))
    gap = np.zeros((SIZE, SIZE), bool)
    gap[1:12, 2:6] = gap[1:4, 2:13] = True
    return LstExamples(*(part.astype(np.float16) for part in (z * gap, base, (0.1 + np.abs(spread)) * gap, guide)))


def test_an_item_is_decided_by_seed_epoch_and_index(made_up: LstExamples):
    first, again = (LstDataset(made_up, unconditional_share=0.3, augment=True, seed=4) for _ in range(2))
    other = LstDataset(made_up, unconditional_share=0.3, augment=True, seed=5)
    keys = [(epoch, index) for epoch in range(3) for index in range(len(first))]
    forward = {key: first[key] for key in keys}
    for key in reversed(keys):
        for name, value in again[key].items():
            torch.testing.assert_close(value, forward[key][name], rtol=0, atol=0)
    assert any(not torch.equal(forward[key]["x_0"], other[key]["x_0"]) for key in keys)
    epochs = [torch.stack([forward[epoch, i]["x_0"] for i in range(len(first))]) for epoch in range(3)]
    assert not torch.equal(epochs[0], epochs[1])


def test_an_item_without_variation_is_its_example(made_up: LstExamples):
    dataset = LstDataset(made_up, unconditional_share=0.0, augment=False, seed=0)
    assert len(dataset) == COUNT
    for index in range(COUNT):
        item = dataset[7, index]
        assert {name: tuple(value.shape) for name, value in item.items()} == {
            "x_0": (1, SIZE, SIZE),
            "condition": (3, SIZE, SIZE),
            "missing": (1, SIZE, SIZE),
            "weight": (1, SIZE, SIZE),
        }
        assert {value.dtype for value in item.values()} == {torch.float32}
        parts = (made_up.z, made_up.mean, made_up.sigma, made_up.guide)
        z, base, spread, guide = (part[index].astype(np.float32) for part in parts)
        np.testing.assert_array_equal(item["x_0"][0], z)
        np.testing.assert_array_equal(item["condition"], np.stack([base, spread, guide]))
        np.testing.assert_array_equal(item["missing"][0], spread > 0)
        np.testing.assert_allclose(item["weight"][0], spread / spread.mean(), rtol=1e-6)


def test_an_unconditional_item_is_the_standardised_field_in_one_gap(made_up: LstExamples):
    dataset = LstDataset(made_up, unconditional_share=1.0, augment=False, seed=0)
    for index in range(COUNT):
        item = dataset[0, index]
        assert not item["condition"][0].any()
        assert torch.all(item["condition"][1] == 1)
        assert not item["condition"][2].any()  # other dates are not heard either
        assert torch.all(item["missing"] == 1)
        assert torch.all(item["weight"] == 1)
        assert abs(float(item["x_0"].mean())) < 1e-4
        assert float(item["x_0"].std(correction=0)) == pytest.approx(1, abs=1e-3)
        field = made_up.mean[index] + made_up.sigma[index].astype(float) * made_up.z[index]
        correlation = np.corrcoef(item["x_0"].flatten(), field.ravel())[0, 1]
        assert correlation == pytest.approx(1, abs=1e-4)


def test_the_share_of_unconditional_items(made_up: LstExamples):
    dataset = LstDataset(made_up, unconditional_share=0.25, augment=True, seed=0)
    everything = [bool(dataset[epoch, i]["missing"].all()) for epoch in range(20) for i in range(COUNT)]
    assert np.mean(everything) == pytest.approx(0.25, abs=0.06)


def test_variations_are_the_eight_symmetries_and_the_sign(made_up: LstExamples):
    plain = LstDataset(made_up, unconditional_share=0.0, augment=False, seed=0)[0, 0]
    varied = LstDataset(made_up, unconditional_share=0.0, augment=True, seed=0)
    seen = set()
    for epoch in range(200):
        item = varied[epoch, 0]
        assert torch.equal(item["missing"], (item["condition"][1:2] > 0).float())
        matches = []
        for turn in range(8):
            for sign in (1, -1):
                turned = {
                    name: torch.rot90(value.flip(2) if turn // 4 else value, turn % 4, (1, 2))
                    for name, value in plain.items()
                }
                turned["x_0"] = turned["x_0"] * sign
                turned["condition"] = turned["condition"] * torch.tensor([sign, 1.0, sign])[:, None, None]
                if all(torch.equal(turned[name], item[name]) for name in item):
                    matches.append((turn, sign))
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 16
    negative = sum(
        float((varied[epoch, 0]["x_0"].sum() * plain["x_0"].sum()).sign() < 0) for epoch in range(200)
    )  # a symmetry keeps the sum
    assert negative / 200 == pytest.approx(NEGATED_SHARE, abs=0.08)


def test_an_item_from_a_constant_field_is_finite(made_up: LstExamples):
    still = replace(made_up, z=np.zeros_like(made_up.z), mean=np.ones_like(made_up.mean))
    item = LstDataset(still, unconditional_share=1.0, augment=True, seed=0)[0, 0]
    assert all(value.isfinite().all() for value in item.values())
    assert not item["x_0"].any()
