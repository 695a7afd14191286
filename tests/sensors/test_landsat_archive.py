"""Folders and archives: read in place, and nothing that no delivered product has."""

import io
import tarfile

import pytest

from lacunar.errors import ProductError
from lacunar.sensors import delivery
from lacunar.sensors.delivery import open_delivery


def make_tar(path, members, mode="w"):
    """An archive of (name, bytes) or of ready TarInfo values."""
    with tarfile.open(path, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(("name", "mode"), [("p.tar", "w"), ("p.tar.gz", "w:gz"), ("p.tgz", "w:gz")])
def test_archive_is_listed_and_loaded(tmp_path, name, mode):
    path = make_tar(tmp_path / name, [("./A_MTL.txt", b"hello"), ("sub/A_B10.TIF", b"12")], mode)
    got = open_delivery(path)
    assert got.sources == {
        "A_MTL.txt": f"/vsitar/{{{path}}}/A_MTL.txt",
        "A_B10.TIF": f"/vsitar/{{{path}}}/sub/A_B10.TIF",
    }
    assert got.load("A_MTL.txt", limit=100) == b"hello"
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_folder_is_listed_and_loaded(tmp_path):
    (tmp_path / "A_MTL.txt").write_bytes(b"hello")
    (tmp_path / "._A_MTL.txt").write_bytes(b"what some systems leave")
    (tmp_path / "sub").mkdir()
    got = open_delivery(tmp_path)
    assert got.sources == {"A_MTL.txt": str(tmp_path / "A_MTL.txt")}
    assert got.load("A_MTL.txt", limit=100) == b"hello"


def test_load_stops_one_byte_beyond_the_limit(tmp_path):
    path = make_tar(tmp_path / "p.tar", [("A_MTL.txt", b"x" * 1000)])
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "A_MTL.txt").write_bytes(b"x" * 1000)
    assert len(open_delivery(path).load("A_MTL.txt", limit=10)) == 11
    assert len(open_delivery(tmp_path / "f").load("A_MTL.txt", limit=10)) == 11


def test_folders_and_hidden_files_in_an_archive_are_passed_over(tmp_path):
    path = make_tar(tmp_path / "p.tar", [special("sub", tarfile.DIRTYPE), ("sub/._A_B10.TIF", b""), ("sub/A.TIF", b"")])
    assert list(open_delivery(path).sources) == ["A.TIF"]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (("/etc/A_B10.TIF", b""), "points outside"),
        (("../A_B10.TIF", b""), "points outside"),
        (("sub/../../A_B10.TIF", b""), "points outside"),
        (("..\\A_B10.TIF", b""), "points outside"),
        (special("A_B10.TIF", tarfile.SYMTYPE, "/etc/passwd"), "is a link or device"),
        (special("A_B10.TIF", tarfile.LNKTYPE, "A_MTL.txt"), "is a link or device"),
        (special("A_B10.TIF", tarfile.FIFOTYPE), "is a link or device"),
        (special("A_B10.TIF", tarfile.CHRTYPE), "is a link or device"),
        (special("A_B10.TIF", tarfile.BLKTYPE), "is a link or device"),
        (special("A_B10.TIF", tarfile.GNUTYPE_SPARSE), "is a link or device"),  # unpacks to more than it takes
        (("sub/A_MTL.txt", b"again"), "holds A_MTL.txt twice"),
    ],
)
def test_members_that_are_refused(tmp_path, member, message):
    path = make_tar(tmp_path / "p.tar", [("A_MTL.txt", b"hello"), member])
    with pytest.raises(ProductError, match=message) as caught:
        open_delivery(path)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.tar"]


def test_too_many_members(tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "ARCHIVE_MEMBERS", 3)
    path = make_tar(tmp_path / "p.tar", [(f"{number}.TIF", b"") for number in range(4)])
    with pytest.raises(ProductError, match="more than 3 files or 16 GiB"):
        open_delivery(path)


def test_unpacked_size_is_refused_before_it_is_read(tmp_path, monkeypatch):
    # A member that claims 100 GiB: only its header is there.
    info = tarfile.TarInfo("A_B10.TIF")
    info.size = 100 << 30
    path = tmp_path / "p.tar"
    path.write_bytes(info.tobuf() + b"\0" * 1024)
    with pytest.raises(ProductError, match="more than 1000 files or 16 GiB"):
        open_delivery(path)


@pytest.mark.parametrize("data", [b"", b"no archive at all" * 100, b"\x1f\x8b\x08\x00" + b"junk" * 500])
def test_no_archive(tmp_path, data):
    path = tmp_path / "p.tar"
    path.write_bytes(data)
    with pytest.raises(ProductError, match=r"p.tar is no whole .tar") as caught:
        open_delivery(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_archive_that_is_cut_off(tmp_path, mode):
    path = make_tar(tmp_path / "p.tar", [("A_MTL.txt", b"hello"), ("A_B10.TIF", bytes(range(256)) * 4000)], mode)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ProductError, match=r"p.tar is no whole .tar"):
        open_delivery(path)


def test_nothing_there(tmp_path):
    with pytest.raises(ProductError, match=r"no such folder or file; give a product's folder, or its .tar"):
        open_delivery(tmp_path / "missing")
