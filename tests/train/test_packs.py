"""Array files: whole or not at all, and never those of something else."""

from pathlib import Path

import numpy as np
import pytest

from lacunar.errors import TrainingError
from lacunar.train.packs import drawn_once, open_arrays, write_arrays


@pytest.mark.parametrize("compress", [True, False])
def test_arrays_come_back(tmp_path: Path, compress: bool):
    file = tmp_path / "new" / "pack.npz"
    write_arrays(file, {"a/b": np.arange(5), "c": np.ones((2, 2), bool)}, compress=compress)
    with open_arrays(file) as stored:
        assert list(stored) == ["a/b", "c"]
        np.testing.assert_array_equal(stored["a/b"], np.arange(5))
    assert [path.name for path in file.parent.iterdir()] == ["pack.npz"]


def test_a_file_that_would_be_too_large_leaves_the_one_before(tmp_path: Path):
    (tmp_path / "pack.npz").write_bytes(b"the one before")
    with pytest.raises(TrainingError, match=r"pack.npz would have 4 MiB, more than 1 MiB: give less data"):
        write_arrays(tmp_path / "pack.npz", {"a": np.zeros(2**19)}, compress=False, max_bytes=2**20)
    assert (tmp_path / "pack.npz").read_bytes() == b"the one before"
    assert len(list(tmp_path.iterdir())) == 1


def damaged_packs(tmp_path: Path) -> list[Path]:
    """Files that are no packs."""
    write_arrays(tmp_path / "whole.npz", {"a": np.random.default_rng(0).integers(0, 9, 10_000)})
    content = (tmp_path / "whole.npz").read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    broken = {
        "nothing": b"",
        "cut in the header": content[:20],
        "cut in the middle": content[: len(content) // 2],
        "cut at the end": content[:-1],
        "damaged": bytes(flipped),
        "text": b"PLACE,LST\nhill,300\n",
        "pickle": b"\x80\x04K\x01.",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", b=np.zeros(3))
    return [tmp_path / name for name in (*broken, "array.npy", "objects.npz", "other.npz", "missing", "")]


def test_what_is_no_whole_pack_is_refused_in_one_line(tmp_path: Path):
    for file in damaged_packs(tmp_path):
        with (
            pytest.raises(TrainingError, match=r"is not a whole pack \(.+\): write it again with") as caught,
            open_arrays(file) as stored,
        ):
            stored["a"]
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_a_run_draws_once_is_found_again_but_not_by_another_run(tmp_path: Path):
    file, drawn = tmp_path / "drawn.npz", []

    def draw():
        drawn.append(1)
        return {"x": np.arange(3)}

    for _ in range(2):
        np.testing.assert_array_equal(drawn_once(file, {"seed": 1}, draw)["x"], np.arange(3))
    assert len(drawn) == 1
    with pytest.raises(TrainingError, match=r"drawn.npz was drawn for another recipe or from other data"):
        drawn_once(file, {"seed": 2}, draw)
    file.write_bytes(b"torn")
    with pytest.raises(TrainingError, match=r"drawn.npz is not a whole pack \(.+\): delete it, and it is drawn again"):
        drawn_once(file, {"seed": 1}, draw)
