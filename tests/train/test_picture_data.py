"""Packed pictures: what is a face, what a texture, what is refused; and examples: what an item holds and decides it."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from lacunar.errors import TrainingError
from lacunar.interpolate.membrane import RESIDUAL_SIGMA, membrane_fill
from lacunar.interpolate.pca_prior import fit_prior
from lacunar.train.picture_data import (
    ALIGNED_SIZE,
    OCCLUSION_SHARES,
    RATES,
    PictureDataset,
    PicturePack,
    cut_square,
    draw_missing,
    load_pictures,
    pack_pictures,
)

SIZE = 32


@pytest.fixture(scope="module")
def pool():
    return draw_missing(12, SIZE, seed=4)


@pytest.fixture(scope="module")
def pictures():
    rows, cols = np.indices((109, 89))
    stack = [np.stack([rows + k, cols * 2, 50 + 0 * rows], axis=2) for k in range(6)]
    return np.array(stack, dtype=np.uint8)


def dataset(pictures, pool, **changes):
    given = {"framing": "face", "texture_share": 0.0, "unconditional_share": 0.0, "variation": 1.0, "seed": 1}
    textures = changes.pop("textures", np.zeros((0, 128, 128, 3), np.uint8))
    return PictureDataset(PicturePack(pictures, textures), pool, **(given | changes))


def test_shapes_depend_on_seed_and_number_alone_and_have_wanted_rates(pool):
    assert (draw_missing(3, SIZE, seed=4) == pool[:3]).all()
    assert (draw_missing(3, SIZE, seed=5) != pool[:3]).any()
    rates = pool.mean(axis=(1, 2))
    assert ((rates > RATES[0] - 0.01) & (rates < RATES[1] + 0.01)).all()
    assert sum(OCCLUSION_SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize("framing", ["face", "anywhere"])
def test_base_and_residual_give_the_picture_back(pictures, pool, framing):
    item = dataset(pictures, pool, framing=framing)[3, 2]
    assert {name: tuple(part.shape) for name, part in item.items()} == {
        "x_0": (3, SIZE, SIZE),
        "condition": (4, SIZE, SIZE),
        "missing": (1, SIZE, SIZE),
        "weight": (1, SIZE, SIZE),
    }
    assert all(part.dtype == torch.float32 for part in item.values())
    mean, sigma, missing = item["condition"][:3], item["condition"][3:], item["missing"][0].bool()
    picture = mean + sigma * item["x_0"]
    assert picture.abs().max() <= 1 + 1e-5
    assert (sigma == RESIDUAL_SIGMA).all()
    assert not item["x_0"][:, ~missing].any()
    again = membrane_fill(picture.movedim(0, 2).numpy(), missing.numpy())
    assert np.abs(again - mean.movedim(0, 2).numpy()).max() < 1e-5


def test_an_unconditional_item_is_the_picture_itself(pictures, pool):
    item = dataset(pictures, pool, unconditional_share=1.0, variation=0.0)[0, 1]
    expected = cut_square(pictures[1], (44, 58), 80, size=SIZE)
    assert (item["missing"] == 1).all()
    assert not item["condition"][:3].any()
    assert (item["condition"][3] == 1).all()
    assert np.abs(item["x_0"].movedim(0, 2).numpy() - expected).max() < 1e-6


def test_over_a_prior_the_residual_is_counted_from_what_it_expects(pictures, pool):
    squares = np.stack([cut_square(picture, (44, 58), 80, size=SIZE) for picture in pictures])
    prior = fit_prior(squares, 3, seed=0)
    examples = dataset(pictures, pool, prior=prior, variation=0.5)
    item, again = examples[1, 2], examples[1, 2]
    gap = item["missing"][0].numpy().astype(bool)
    picture = (item["condition"][:3] + RESIDUAL_SIGMA * item["x_0"]).movedim(0, 2).numpy()
    assert np.abs(prior.filled(picture, gap) - item["condition"][:3].movedim(0, 2).numpy()).max() < 1e-4
    assert (item["x_0"] == again["x_0"]).all()


def test_the_key_and_the_seed_alone_decide(pictures, pool):
    first, second = dataset(pictures, pool), dataset(pictures, pool)
    second[0, 0]
    assert all((first[2, 3][name] == second[2, 3][name]).all() for name in ("x_0", "condition", "missing"))
    assert (first[3, 3]["condition"] != first[2, 3]["condition"]).any()
    assert (dataset(pictures, pool, seed=2)[2, 3]["condition"] != first[2, 3]["condition"]).any()


def test_textures_take_the_place_of_some(pictures, pool):
    textures = np.full((2, 128, 128, 3), 255, np.uint8)
    shown = dataset(pictures, pool, textures=textures, texture_share=1.0, variation=0.0)[0, 0]
    assert (shown["condition"][:3] == 1).all()
    assert len(dataset(pictures, pool, texture_share=0.5)) == len(pictures)


def test_a_square_is_cut_where_it_is_asked_for(pictures):
    whole = cut_square(pictures[0], (44, 58), 80, size=80)
    assert np.abs(whole - (pictures[0, 18:98, 4:84] / 127.5 - 1)).max() < 1e-6
    beyond = cut_square(pictures[0], (44, 58), 80, size=40, turn=4.0)
    assert np.isfinite(beyond).all()
    assert beyond.min() >= -1
    assert abs(float(beyond.mean() - whole.mean())) < 0.02


# --- packs ---


def picture(width, height, level):
    pixels = np.full((height, width, 3), level, np.uint8)
    pixels[0, 0] = 255 - level
    return Image.fromarray(pixels)


@pytest.fixture
def folder(tmp_path):
    """A tar with two faces, and beside it a texture, a label, a text and a grey face."""
    source = tmp_path / "data"
    (source / "deep").mkdir(parents=True)
    with tarfile.open(source / "faces.tar", "w") as archive:
        for name, level in (("b.png", 20), ("a.png", 10)):
            stream = io.BytesIO()
            picture(*ALIGNED_SIZE, level).save(stream, "PNG")
            member = tarfile.TarInfo(name)
            member.size = stream.tell()
            archive.addfile(member, io.BytesIO(stream.getvalue()))
    wide = np.full((256, 300, 3), 90, np.uint8)
    wide[:128, :128] = 0  # a corner without data
    Image.fromarray(wide).save(source / "deep" / "land.png")
    picture(256, 256, 1).save(source / "deep" / "land_mask.png")
    picture(*ALIGNED_SIZE, 30).convert("L").save(source / "z.png")
    (source / "readme.txt").write_text("no picture")
    return source


def test_faces_come_in_order_and_textures_without_blank_corners(folder, tmp_path):
    pack_pictures(folder, tmp_path / "pack.npz")
    pack = load_pictures(tmp_path / "pack.npz")
    assert pack.faces.shape == (3, ALIGNED_SIZE[1], ALIGNED_SIZE[0], 3)
    assert pack.faces[:, 50, 50, 0].tolist() == [10, 20, 30]
    assert pack.textures.shape == (3, 128, 128, 3)
    assert (pack.textures == 90).all()


def test_a_tar_alone_is_enough(folder, tmp_path):
    pack_pictures(folder / "faces.tar", tmp_path / "pack.npz")
    pack = load_pictures(tmp_path / "pack.npz")
    assert (len(pack.faces), len(pack.textures)) == (2, 0)


def test_what_cannot_be_packed_is_refused_and_leaves_nothing(folder, tmp_path):
    with pytest.raises(TrainingError, match="no aligned face"):
        pack_pictures(folder / "deep", tmp_path / "pack.npz")
    with pytest.raises(TrainingError, match="no folder and no whole tar"):
        pack_pictures(folder / "readme.txt", tmp_path / "pack.npz")
    (folder / "torn.png").write_bytes((folder / "z.png").read_bytes()[:60])
    with pytest.raises(TrainingError, match=r"torn\.png is not a whole picture"):
        pack_pictures(folder, tmp_path / "pack.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_a_damaged_pack_is_refused(tmp_path):
    (tmp_path / "pack.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(TrainingError, match="not a whole pack"):
        load_pictures(tmp_path / "pack.npz")
