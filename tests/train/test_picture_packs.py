"""Pictures packed into one file: what is a face, what a texture, and what is refused."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from lacunar.errors import TrainingError
from lacunar.train.picture_packs import ALIGNED_SIZE, load_pictures, pack_pictures


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
