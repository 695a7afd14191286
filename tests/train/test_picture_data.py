"""Examples of pictures: what an item holds, what decides it, and where the squares are cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lacunar.errors import TrainingError
from lacunar.interpolate.membrane import RESIDUAL_SPREAD, classical_base
from lacunar.interpolate.pca_prior import fit_prior
from lacunar.train.picture_data import GAP_SHARES, RATES, GapPool, PictureDataset, cut_square, draw_gaps

SIZE = 32


@pytest.fixture(scope="module")
def pool():
    return draw_gaps(12, SIZE, seed=4)


@pytest.fixture(scope="module")
def pictures():
    rows, cols = np.indices((109, 89))
    stack = [np.stack([rows + k, cols * 2, 50 + 0 * rows], axis=2) for k in range(6)]
    return np.array(stack, dtype=np.uint8)


def dataset(pictures, pool, **changes):
    given = {"framing": "face", "texture_share": 0.0, "unconditional_share": 0.0, "augment": True, "seed": 1}
    textures = changes.pop("textures", np.zeros((0, 128, 128, 3), np.uint8))
    return PictureDataset(pictures, textures, pool, **(given | changes))


def test_gaps_depend_on_seed_and_number_alone_and_have_wanted_rates(pool):
    assert (draw_gaps(3, SIZE, seed=4).gaps == pool.gaps[:3]).all()
    assert (draw_gaps(3, SIZE, seed=5).gaps != pool.gaps[:3]).any()
    rates = pool.gaps.mean(axis=(1, 2))
    assert ((rates > RATES[0] - 0.01) & (rates < RATES[1] + 0.01)).all()
    assert sum(GAP_SHARES.values()) == pytest.approx(1)


def test_gaps_come_back_from_their_file(pool, tmp_path):
    replace(pool, origin="here").save(tmp_path / "gaps.npz")
    again = GapPool.load(tmp_path / "gaps.npz")
    assert (again.gaps == pool.gaps).all()
    assert again.origin == "here"
    (tmp_path / "gaps.npz").write_bytes(b"torn")
    with pytest.raises(TrainingError, match="no whole gaps"):
        GapPool.load(tmp_path / "gaps.npz")


@pytest.mark.parametrize("framing", ["face", "anywhere"])
def test_base_and_residual_give_the_picture_back(pictures, pool, framing):
    item = dataset(pictures, pool, framing=framing)[3, 2]
    assert {name: tuple(part.shape) for name, part in item.items()} == {
        "x_0": (3, SIZE, SIZE),
        "condition": (4, SIZE, SIZE),
        "gap": (1, SIZE, SIZE),
        "weight": (1, SIZE, SIZE),
    }
    assert all(part.dtype == torch.float32 for part in item.values())
    base, spread, gap = item["condition"][:3], item["condition"][3:], item["gap"][0].bool()
    picture = base + spread * item["x_0"]
    assert picture.abs().max() <= 1 + 1e-5
    assert (spread == RESIDUAL_SPREAD).all()
    assert not item["x_0"][:, ~gap].any()
    again = classical_base(picture.movedim(0, 2).numpy(), gap.numpy())
    assert np.abs(again - base.movedim(0, 2).numpy()).max() < 1e-5


def test_an_unconditional_item_is_the_picture_itself(pictures, pool):
    item = dataset(pictures, pool, unconditional_share=1.0, augment=False)[0, 1]
    expected = cut_square(pictures[1], (44, 58), 80, size=SIZE)
    assert (item["gap"] == 1).all()
    assert not item["condition"][:3].any()
    assert (item["condition"][3] == 1).all()
    assert np.abs(item["x_0"].movedim(0, 2).numpy() - expected).max() < 1e-6


def test_over_a_prior_the_residual_is_counted_from_what_it_expects(pictures, pool):
    squares = np.stack([cut_square(picture, (44, 58), 80, size=SIZE) for picture in pictures])
    prior = fit_prior(squares, 3, seed=0)
    examples = dataset(pictures, pool, prior=prior, variation=0.5)
    item, again = examples[1, 2], examples[1, 2]
    gap = item["gap"][0].numpy().astype(bool)
    picture = (item["condition"][:3] + RESIDUAL_SPREAD * item["x_0"]).movedim(0, 2).numpy()
    assert np.abs(prior.base(picture, gap) - item["condition"][:3].movedim(0, 2).numpy()).max() < 1e-4
    assert (item["x_0"] == again["x_0"]).all()


def test_the_key_and_the_seed_alone_decide(pictures, pool):
    first, second = dataset(pictures, pool), dataset(pictures, pool)
    second[0, 0]
    assert all((first[2, 3][name] == second[2, 3][name]).all() for name in ("x_0", "condition", "gap"))
    assert (first[3, 3]["condition"] != first[2, 3]["condition"]).any()
    assert (dataset(pictures, pool, seed=2)[2, 3]["condition"] != first[2, 3]["condition"]).any()


def test_textures_take_the_place_of_some(pictures, pool):
    textures = np.full((2, 128, 128, 3), 255, np.uint8)
    shown = dataset(pictures, pool, textures=textures, texture_share=1.0, augment=False)[0, 0]
    assert (shown["condition"][:3] == 1).all()
    assert len(dataset(pictures, pool, texture_share=0.5)) == len(pictures)


def test_a_square_is_cut_where_it_is_asked_for(pictures):
    whole = cut_square(pictures[0], (44, 58), 80, size=80)
    assert np.abs(whole - (pictures[0, 18:98, 4:84] / 127.5 - 1)).max() < 1e-6
    beyond = cut_square(pictures[0], (44, 58), 80, size=40, turn=4.0)
    assert np.isfinite(beyond).all()
    assert beyond.min() >= -1
    assert abs(float(beyond.mean() - whole.mean())) < 0.02
