"""Scenes of water and training examples: reading, packing, splitting by name, and what an example holds."""

import io

import numpy as np
import pytest
import torch
from affine import Affine
from PIL import Image

from lacunar.errors import TrainingError
from lacunar.geo.raster import Raster
from lacunar.sensors.bands import BANDS
from lacunar.train import water_augment
from lacunar.train.water_data import (
    IGNORE,
    WaterDataset,
    WaterScene,
    band_ranges,
    chosen_by_name,
    decoded_all,
    load_water,
    pack_water,
    water_scenes,
)
from rasters import write_raster
from water_sets import make_sets, write_scene


@pytest.fixture
def folder(tmp_path):
    for number in range(4):
        write_scene(tmp_path / "data" / "lakes_rgb", f"lake{number}", seed=number)
    write_scene(tmp_path / "data" / "high_nrg", "a", seed=9, shape=(150, 40))
    return tmp_path / "data"


def test_a_scene_is_read_in_the_order_of_bands_and_divided_by_one_number(folder):
    scenes = water_scenes(folder)
    assert [(scene.set_name, scene.name) for scene in scenes] == [
        ("high_nrg", "a"),
        *[("lakes_rgb", f"lake{number}") for number in range(4)],
    ]
    picture, mask = write_scene(folder / "lakes_rgb", "lake0", seed=0)
    scene = scenes[1]
    scale = np.percentile(picture[mask != IGNORE].astype(float), 98)
    bands = scene.bands()
    assert bands.shape == (6, 60, 80)
    np.testing.assert_allclose(bands[[2, 1, 0]], np.moveaxis(picture, 2, 0) / scale, rtol=1e-5)
    assert np.isnan(bands[3:]).all()
    np.testing.assert_array_equal(scene.mask, mask)
    np.testing.assert_array_equal(scene.bands(slice(5, 9), slice(3, 7))[:3], bands[:3, 5:9, 3:7])
    assert list(np.isfinite(scenes[0].bands()).all(axis=(1, 2))) == [False, True, True, True, False, False]


def test_a_pack_holds_what_the_folder_holds(folder, tmp_path):
    pack_water(folder, tmp_path / "pack.npz")
    packed = load_water(tmp_path / "pack.npz")
    for ours, theirs in zip(packed, water_scenes(folder), strict=True):
        assert (ours.set_name, ours.name, ours.scale) == (theirs.set_name, theirs.name, theirs.scale)
        np.testing.assert_array_equal(ours.bands(), theirs.bands())
        np.testing.assert_array_equal(ours.mask, theirs.mask)
    assert [file.name for file in tmp_path.iterdir() if file.suffix == ".npz"] == ["pack.npz"]


def test_six_bands_come_from_a_raster(tmp_path):
    folder = tmp_path / "six"
    write_scene(folder, "scene")
    (folder / "scene.png").unlink()
    values = np.random.default_rng(0).integers(1, 5000, (6, 60, 80)).astype(np.float32)
    known = np.ones(values.shape, bool)
    write_raster(folder / "scene.tif", Raster(values, known, Affine(10, 0, 0, 0, -10, 0), None))
    (scene,) = water_scenes(tmp_path)
    assert scene.band_names == BANDS
    np.testing.assert_allclose(scene.bands() * scene.scale, values, rtol=1e-5)


def test_values_that_16_bits_cannot_hold_are_refused(tmp_path):
    folder = tmp_path / "six"
    write_scene(folder, "scene")
    (folder / "scene.png").unlink()
    for value in (0.3, 40_000):
        values = np.full((6, 60, 80), value, np.float32)
        raster = Raster(values, np.ones(values.shape, bool), Affine(10, 0, 0, 0, -10, 0), None)
        write_raster(folder / "scene.tif", raster, overwrite=True)
        with pytest.raises(TrainingError, match="wanted whole numbers of 16 bits with sign"):
            water_scenes(tmp_path)


def test_two_scenes_of_one_name_are_refused(tmp_path):
    for part in ("train", "test"):
        write_scene(tmp_path / "data" / part / "lakes_rgb", "lake")
    with pytest.raises(TrainingError, match=r"two scenes of .* are called lakes_rgb/lake: rename one of them"):
        pack_water(tmp_path / "data", tmp_path / "pack.npz")


def test_bad_folders_and_files_are_refused(folder, tmp_path):
    with pytest.raises(TrainingError, match=r"no image with its _mask\.png in"):
        water_scenes(tmp_path / "nowhere")
    (folder / "lakes_rgb" / "lake1.png").unlink()
    with pytest.raises(TrainingError, match="has no image beside it: wanted lake1 with one of"):
        water_scenes(folder)
    write_scene(folder / "lakes_rgb", "lake1")
    Image.fromarray(np.full((60, 80), 7, np.uint8)).save(folder / "lakes_rgb" / "lake1_mask.png")
    with pytest.raises(TrainingError, match=r"lake1_mask.png holds 7, wanted 0 \(land\), 1"):
        pack_water(folder, tmp_path / "pack.npz")
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "lakes_rgb" / "lake1_mask.png")
    with pytest.raises(TrainingError, match=r"is \(9, 9\), its image \(60, 80\)"):
        pack_water(folder, tmp_path / "pack.npz")
    (folder / "lakes_rgb" / "lake1_mask.png").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match="lakes_rgb/lake1 is not a whole picture"):
        pack_water(folder, tmp_path / "pack.npz")
    assert not (tmp_path / "pack.npz").exists()
    (tmp_path / "pack.npz").write_bytes(b"PK no pack")
    with pytest.raises(TrainingError, match="is not a whole pack"):
        load_water(tmp_path / "pack.npz")


def test_scenes_are_chosen_by_their_names_alone(folder):
    scenes = water_scenes(folder)
    first = chosen_by_name(scenes, 2)
    assert chosen_by_name(list(reversed(scenes)), 2) == first
    rest = chosen_by_name(scenes, 3, skip=2)
    assert {scene.name for scene in first + rest} == {scene.name for scene in scenes}


def dataset(folder, **options):
    scenes = water_scenes(folder)
    decoded_all(scenes)
    given = {"size": 32, "length": 40, "augment": True, "seed": 1, **options}
    return WaterDataset(scenes, {"lakes_rgb": 0.7, "high_nrg": 0.3}, **given)


def test_the_key_and_the_seed_decide_an_example(folder):
    examples = dataset(folder)
    for key in ((0, 3), (5, 11)):
        for name, value in examples[key].items():
            assert torch.equal(value.nan_to_num(-9), dataset(folder)[key][name].nan_to_num(-9))
    other = dataset(folder, seed=2)
    assert any(not torch.equal(examples[0, i]["mask"], other[0, i]["mask"]) for i in range(10))
    assert any(not torch.equal(examples[0, i]["mask"], examples[1, i]["mask"]) for i in range(10))


@pytest.mark.parametrize("augment", [True, False])
def test_image_and_mask_stay_together(folder, augment, monkeypatch):
    """Water is dark in these scenes: wherever an example shows it, the mask says so, however it was turned."""
    for share in ("PAINTED", "SHADED", "THIN", "CLOUDED"):
        monkeypatch.setattr(water_augment, share, 0)
    examples, agreed = dataset(folder, augment=augment), []
    for index in range(40):
        item = examples[0, index]
        assert {name: tuple(value.shape) for name, value in item.items()} == {
            "image": (6, 32, 32),
            "mask": (1, 32, 32),
            "valid": (1, 32, 32),
            "cover": (1, 32, 32),
        }
        there = item["image"].isfinite().any(dim=0)
        assert there[item["valid"][0] > 0].all()
        there = item["valid"][0] > 0
        bands = item["image"][torch.isfinite(item["image"]).flatten(1).any(dim=1)][:, there]
        mask = item["mask"][0][there]
        if 0.1 < mask.mean() < 0.9:
            brightness = bands.sum(dim=0)
            halfway = (brightness[mask > 0].mean() + brightness[mask == 0].mean()) / 2
            agreed.append(float(((brightness < halfway) == (mask > 0)).float().mean()))
    assert len(agreed) > 10
    assert np.mean(agreed) > 0.97


def test_a_set_without_a_scene_is_refused(folder):
    with pytest.raises(TrainingError, match="no scene of sea; there are high_nrg, lakes_rgb"):
        WaterDataset(water_scenes(folder), {"sea": 1.0}, size=32, length=4, augment=True, seed=0)


def test_covers_follow_their_mask_and_water_has_none():
    """32 rows of each value: 0 land of no known kind, 1 water, 2 to 5 clear land to snow, 255 ignored."""
    values = np.repeat(np.array([0, 1, 2, 3, 4, 5, 255], np.uint8), 32)[:, None].repeat(64, axis=1)
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    bands = np.full((6, *values.shape), 100, np.int16) * np.arange(1, 225, dtype=np.int16)[:, None]  # tells the row
    scene = WaterScene("six", "a", bands, np.frombuffer(stream.getvalue(), np.uint8))
    examples = WaterDataset([scene], {"six": 1.0}, size=64, length=8, augment=False, seed=0)
    seen = set()
    for index in range(20):
        item = examples[0, index]
        rows = torch.round(item["image"][0] * scene.scale / 100).long() - 1
        truth = torch.from_numpy(values.astype(int))[rows, 0]
        assert torch.equal(item["cover"][0], torch.where((truth >= 2) & (truth < 255), truth - 2, -1).float())
        seen |= set(item["cover"].unique().tolist())
    assert seen == {-1, 0, 1, 2, 3}


def test_unlabelled_pixels_are_seen_unless_they_are_black(folder):
    picture, _ = write_scene(folder / "lakes_rgb", "lake0")
    picture[:, -2:] = 0
    Image.fromarray(picture).save(folder / "lakes_rgb" / "lake0.png")
    scenes = [scene for scene in water_scenes(folder) if scene.name == "lake0"]
    examples = WaterDataset(scenes, {"lakes_rgb": 1.0}, size=60, length=8, augment=False, seed=0)
    items = [examples[0, index] for index in range(8)]
    item = next(item for item in items if not item["valid"][0, :, -1].any())  # a crop that ends with the scene
    seen = item["image"][:3].isfinite().all(dim=0)
    assert seen[:, :-2].all()
    assert not seen[:, -2:].any()


def test_fewer_bands_are_divided_by_their_own_scale(tmp_path):
    """Six bands of which the infrared is bright: a picture made of three is as bright as a picture."""
    values = np.full((6, 64, 64), 500, np.int16)
    values[3:] = 4000
    stream = io.BytesIO()
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(stream, "PNG")
    scene = WaterScene("six", "a", values, np.frombuffer(stream.getvalue(), np.uint8))
    examples = WaterDataset([scene], {"six": 1.0}, size=32, length=8, augment=True, seed=0)
    for index in range(30):
        names, divisor = examples._bands_of(scene, np.random.default_rng(index))
        wanted = 500 / 4000 if "nir" not in names else 1.0
        assert divisor == pytest.approx(wanted)


def test_ranges_hold_nearly_all_values_of_every_set(tmp_path):
    scenes = water_scenes(make_sets(tmp_path / "scenes"))
    sets = {name: [scene for scene in scenes if scene.set_name == name] for name in {s.set_name for s in scenes}}
    ranges = band_ranges(sets)
    assert tuple(ranges) == BANDS
    for scene in scenes:
        known = scene.mask != 255
        for band, plane in zip(BANDS, scene.bands(), strict=True):
            low, high = ranges[band]
            if np.isfinite(plane).any():
                assert ((plane[known] >= low - 1e-3) & (plane[known] <= high + 1e-3)).mean() > 0.98


def test_land_of_a_scene_that_tells_no_cover_is_clear(folder):
    scenes = water_scenes(folder)
    shares = {scene.set_name: 1.0 for scene in scenes}
    plain = WaterDataset(scenes, shares, size=64, length=4, augment=False, seed=0)[0, 0]
    land = (plain["mask"] == 0) & (plain["valid"] > 0)
    assert land.any()
    assert (plain["cover"][land] == 0).all()
    assert (plain["cover"][~land] == -1).all()
