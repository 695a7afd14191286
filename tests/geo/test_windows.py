"""Windows: nothing is missed, nothing is changed by cutting and joining, and blending is smooth."""

import numpy as np
import pytest

from lacunar.errors import LacunarError
from lacunar.geo.windows import (
    Block,
    Tile,
    blend_weights,
    blocks_over,
    stitch,
    tiles_over,
    tiles_touching,
)

SHAPES = [(1, 1), (5, 300), (64, 64), (65, 63), (100, 131), (257, 128)]


def covered(shape, tiles):
    count = np.zeros(shape, dtype=int)
    for tile in tiles:
        count[tile.row : tile.row + tile.height, tile.col : tile.col + tile.width] += 1
    return count


# --- tiles ---


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "wanted"),
    [(10, 4, 2, [0, 2, 4, 6]), (11, 4, 2, [0, 2, 4, 6, 7]), (4, 4, 3, [0]), (3, 4, 0, [0]), (5, 4, 0, [0, 1])],
)
def test_origins_written_out_by_hand(length, tile, overlap, wanted):
    assert [one.col for one in tiles_over((1, length), tile=tile, overlap=overlap)] == wanted


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tile", "overlap"), [(64, 0), (64, 16), (64, 63), (32, 20)])
def test_tiles_cover_every_pixel_and_stay_inside(shape, tile, overlap):
    tiles = tiles_over(shape, tile=tile, overlap=overlap)
    assert covered(shape, tiles).min() >= 1
    assert {t.shape for t in tiles} == {(min(tile, shape[0]), min(tile, shape[1]))}
    assert all(t.row + t.height <= shape[0] and t.col + t.width <= shape[1] for t in tiles)
    assert len(set(tiles)) == len(tiles)


def test_neighbours_share_at_least_the_overlap():
    tiles = tiles_over((64, 1000), tile=64, overlap=24)
    steps = np.diff([tile.col for tile in tiles])
    assert (64 - steps >= 24).all()


def test_only_tiles_with_a_gap_are_kept():
    rng = np.random.default_rng(0)
    gap = rng.random((150, 170)) > 0.9995
    tiles = tiles_over(gap.shape, tile=32, overlap=8)
    kept = tiles_touching(tiles, gap)
    assert list(kept) == [t for t in tiles if gap[t.row : t.row + t.height, t.col : t.col + t.width].any()]
    assert 0 < len(kept) < len(tiles)


def test_no_gap_and_no_tiles_touch_nothing():
    assert tiles_touching(tiles_over((50, 50), tile=32, overlap=8), np.zeros((50, 50), dtype=bool)) == ()
    assert tiles_touching((), np.ones((50, 50), dtype=bool)) == ()


def test_a_single_gap_pixel_in_a_corner_is_found():
    gap = np.zeros((100, 100), dtype=bool)
    for row, col in [(0, 0), (0, 99), (99, 0), (99, 99)]:
        gap[:] = False
        gap[row, col] = True
        (tile,) = tiles_touching(tiles_over((100, 100), tile=60, overlap=20), gap)
        assert tile == Tile(40 if row else 0, 40 if col else 0, 60, 60)


# --- blending ---


@pytest.mark.parametrize("shape", [1, 2, 7, 64, (3, 64), (64, 1)])
@pytest.mark.parametrize("overlap", [0, 1, 16, 63])
def test_weights_are_positive_symmetric_and_at_most_one(shape, overlap):
    weights = blend_weights(shape, overlap=overlap)
    assert weights.shape == ((shape, shape) if isinstance(shape, int) else shape)
    assert weights.min() > 0
    assert weights.max() <= 1
    np.testing.assert_array_equal(weights, weights[::-1, ::-1])


def test_the_middle_has_weight_one_and_the_border_almost_none():
    weights = blend_weights(64, overlap=16)
    np.testing.assert_array_equal(weights[16:48, 16:48], 1.0)
    assert (np.diff(weights[32, :17]) > 0).all()
    assert weights[32, 0] < 0.003
    # no step: the steepest rise of sin^2 over 16 pixels is pi / 32 per pixel
    assert np.abs(np.diff(weights[32])).max() <= np.pi / 32


def test_neighbours_of_a_regular_grid_add_to_one():
    line = blend_weights((1, 64), overlap=16)[0]
    np.testing.assert_allclose(line[-16:] + line[:16], 1.0, atol=1e-12)


def test_two_disagreeing_tiles_blend_without_a_seam():
    tiles = tiles_over((1, 112), tile=64, overlap=16)
    patches = np.stack([np.zeros((1, 64)), np.ones((1, 64))])
    blended = stitch(patches, tiles, shape=(1, 112), weights=blend_weights((1, 64), overlap=16))[0]
    assert (np.diff(blended) >= 0).all()
    assert (blended[0], blended[-1]) == (0.0, 1.0)
    assert np.diff(blended).max() <= np.pi / 32


# --- stitch ---


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("tile", "overlap"), [(64, 0), (64, 16), (32, 20)])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_cut_then_stitch_is_the_identity(shape, tile, overlap, leading):
    array = np.random.default_rng(1).normal(300, 10, size=(*leading, *shape)).astype(np.float32)
    tiles = tiles_over(shape, tile=tile, overlap=overlap)
    patches = np.stack([array[..., *tile.slices] for tile in tiles])
    weights = blend_weights(tiles[0].shape, overlap=overlap)
    joined = stitch(patches, tiles, shape=shape, weights=weights)
    assert patches.shape == (len(tiles), *leading, *tiles[0].shape)
    np.testing.assert_array_equal(joined.astype(np.float32), array)


def test_overlaps_are_weighted_means():
    tiles = (Tile(0, 0, 1, 2), Tile(0, 1, 1, 2))
    patches = np.array([[[1.0, 2.0]], [[5.0, 7.0]]])
    joined = stitch(patches, tiles, shape=(1, 3), weights=[[1.0, 3.0]])
    np.testing.assert_allclose(joined, [[1.0, (3 * 2 + 1 * 5) / 4, 7.0]])


def test_where_no_tile_lies_is_nan():
    joined = stitch(np.ones((1, 2, 2)), (Tile(0, 0, 2, 2),), shape=(2, 3), weights=np.ones((2, 2)))
    np.testing.assert_array_equal(np.isnan(joined), [[False, False, True]] * 2)


# --- blocks ---


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("block", "halo"), [(50, 0), (50, 7), (64, 100)])
def test_cores_part_the_raster_and_outers_hold_their_halo(shape, block, halo):
    blocks = blocks_over(shape, block=block, halo=halo)
    np.testing.assert_array_equal(covered(shape, [b.core for b in blocks]), 1)
    array = np.arange(shape[0] * shape[1]).reshape(shape)
    for b in blocks:
        np.testing.assert_array_equal(array[b.outer.slices][b.inner.slices], array[b.core.slices])
        assert b.outer.row == max(b.core.row - halo, 0)
        assert b.outer.col + b.outer.width == min(b.core.col + b.core.width + halo, shape[1])


def test_a_filter_by_blocks_with_a_halo_equals_the_filter_of_the_whole():
    array = np.random.default_rng(3).normal(size=(90, 70))

    def neighbours(a):
        p = np.pad(a, 2, mode="constant")
        return sum(p[i : i + a.shape[0], j : j + a.shape[1]] for i in range(5) for j in range(5))

    result = np.full_like(array, np.nan)
    for b in blocks_over(array.shape, block=32, halo=2):
        result[b.core.slices] = neighbours(array[b.outer.slices])[b.inner.slices]
    np.testing.assert_allclose(result, neighbours(array))


# --- bad input ---


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Tile(-1, 0, 2, 2), r"got Tile\(row=-1"),
        (lambda: Tile(0, 0, 0, 2), "height and width >= 1"),
        (lambda: tiles_over((9, 0), tile=4, overlap=2), "wanted sides >= 1"),
        (lambda: tiles_over((9, 9), tile=4, overlap=4), "0 <= overlap < tile"),
        (lambda: tiles_over((9, 9), tile=4, overlap=-1), "got overlap -1"),
        (lambda: tiles_touching((Tile(0, 0, 3, 3),), np.zeros((2, 2), dtype=bool)), "wanted it inside"),
        (lambda: tiles_touching((), np.zeros((2, 2))), "got missing float64 of 2 axes; wanted boolean"),
        (lambda: tiles_touching((), np.zeros((1, 2, 2), dtype=bool)), "3 axes"),
        (lambda: blend_weights(8, overlap=-1), "overlap -1"),
        (lambda: blend_weights(0, overlap=1), "sides >= 1"),
        (
            lambda: stitch(np.ones((0, 2, 2)), [], shape=(4, 4), weights=np.ones((2, 2))),
            "one or more tiles of one size",
        ),
        (
            lambda: stitch(
                np.ones((2, 2, 2)), [Tile(0, 0, 2, 2), Tile(0, 0, 3, 2)], shape=(4, 4), weights=np.ones((2, 2))
            ),
            "one or more tiles of one size",
        ),
        (
            lambda: stitch(np.ones((1, 2, 2)), [Tile(3, 3, 2, 2)], shape=(4, 4), weights=np.ones((2, 2))),
            r"array of \(4, 4\)",
        ),
        (
            lambda: stitch(np.ones((2, 2, 2)), [Tile(0, 0, 2, 2)], shape=(2, 2), weights=np.ones((2, 2))),
            r"\(1, \.\.\., 2",
        ),
        (lambda: stitch(np.ones((1, 2, 2)), [Tile(0, 0, 2, 2)], shape=(2, 2), weights=np.ones(2)), r"weights \(2,\)"),
        (lambda: stitch(np.ones((1, 1, 2)), [Tile(0, 0, 1, 2)], shape=(1, 2), weights=[[1, 0]]), "wanted all > 0"),
        (lambda: blocks_over((4, 4), block=0, halo=0), "block 0"),
        (lambda: blocks_over((4, 4), block=2, halo=-1), "halo -1"),
    ],
)
def test_values_out_of_range_are_refused(call, message):
    with pytest.raises(LacunarError, match=message):
        call()


def test_a_block_knows_its_inner_tile():
    assert Block(Tile(10, 20, 5, 6), Tile(8, 17, 9, 12)).inner == Tile(2, 3, 5, 6)
