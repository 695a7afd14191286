"""Finished blocks: what is kept comes back to the bit, what is damaged counts as missing, what differs is refused."""

import errno
import json

import numpy as np
import pytest

from commands import contents
from lacunar.errors import LacunarError, RasterError
from lacunar.fill.block_store import BlockStore, folder_of_blocks, remove_blocks
from lacunar.fill.blocks import FilledBlock
from lacunar.fill.provenance import differing, digest_of
from lacunar.geo.windows import Tile

FINGERPRINT = {"options": {"seed": 1, "samples": 2}, "device": "cpu"}
WINDOW = Tile(64, 0, 5, 7)


def block(window=WINDOW, seed=0):
    rng = np.random.default_rng(seed)
    value = rng.standard_normal(window.shape).astype(np.float32)
    value[0, 0] = np.nan
    source = rng.integers(0, 3, window.shape).astype(np.uint8)
    return FilledBlock(window, value, source, np.abs(value), np.stack([value - 1, value + 1]), 3, 1, 60)


def same(one, other):
    for name in ("value", "source", "sigma", "quantiles"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    for name in ("window", "tiles", "coarse_tiles", "evaluations"):
        assert getattr(one, name) == getattr(other, name)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.tif"


@pytest.fixture
def store(output):
    """A store with one block."""
    made = BlockStore(output, FINGERPRINT)
    made.save(block())
    return made


def test_a_block_comes_back_to_the_bit_in_another_run(output, store, tmp_path):
    same(BlockStore(output, FINGERPRINT).load(WINDOW), block())
    assert store.load(Tile(0, 0, 5, 7)) is None
    assert list(contents(tmp_path)) == [
        ".out.tif.blocks",
        ".out.tif.blocks/64_0.npz",
        ".out.tif.blocks/fingerprint.json",
    ]
    store.save(block(seed=1))
    same(store.load(WINDOW), block(seed=1))
    remove_blocks(output)
    assert contents(tmp_path) == {}
    remove_blocks(output)


def test_nothing_is_made_before_there_is_a_block(output, tmp_path):
    assert BlockStore(output, FINGERPRINT).load(WINDOW) is None
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text", "pickle"])
def test_a_damaged_block_counts_as_missing(store, damage):
    path = store.folder / "64_0.npz"
    whole = path.read_bytes()
    if damage == "flipped":
        place = whole.index(block().value.tobytes()) + 9  # inside the values
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    elif damage == "pickle":
        np.savez(path, value=np.array([{}], dtype=object))
    else:
        path.write_bytes({"cut": whole[:-30], "empty": b"", "text": b"no block"}[damage])
    assert store.load(WINDOW) is None
    store.save(block())
    same(store.load(WINDOW), block())


def test_a_block_of_another_shape_counts_as_missing(store):
    assert store.load(Tile(64, 0, 5, 8)) is None


def test_blocks_that_depend_on_something_else_are_refused(output, store, tmp_path):
    other = {"options": {"seed": 2, "samples": 2}, "device": "cpu", "backend": "onnx"}
    before = contents(tmp_path)
    with pytest.raises(LacunarError, match=r"holds blocks of another run, which differs in backend, options\.seed"):
        BlockStore(output, other)
    (store.folder / "fingerprint.json").write_text("{")
    with pytest.raises(LacunarError, match="differs in their description, which cannot be read: give the same"):
        BlockStore(output, FINGERPRINT)
    (store.folder / "fingerprint.json").write_text(json.dumps(FINGERPRINT, indent=2) + "\n")
    assert contents(tmp_path) == before


def test_a_full_disk_is_one_line_and_keeps_what_is_whole(output, store, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = contents(tmp_path)
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(RasterError, match=r"out\.tif: a finished block cannot be kept in .*\(No space left"):
        store.save(block(Tile(0, 0, 5, 7)))
    assert contents(tmp_path) == before
    same(store.load(WINDOW), block())


def test_an_interruption_while_a_block_is_written_leaves_no_part_of_it(store, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    before = contents(tmp_path)
    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.save(block(Tile(0, 0, 5, 7)))
    assert contents(tmp_path) == before


def test_fingerprints_tell_what_differs():
    assert differing(FINGERPRINT, json.loads(json.dumps(FINGERPRINT))) == []
    assert differing(FINGERPRINT, {**FINGERPRINT, "device": "cuda"}) == ["device"]
    assert digest_of(FINGERPRINT) == digest_of(dict(reversed(FINGERPRINT.items())))
    assert digest_of(FINGERPRINT) != digest_of({**FINGERPRINT, "device": "cuda"})


def test_the_folder_is_hidden_beside_the_output(output, tmp_path):
    assert folder_of_blocks(output) == tmp_path / ".out.tif.blocks"
