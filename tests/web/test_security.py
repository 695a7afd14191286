"""What is refused: other hosts and sites, wrong tokens, paths that lead out, files that are not what they say."""

import io
import os
import tarfile

import numpy as np
import pytest

from lacunar.errors import LacunarError
from lacunar.web.app import STATIC
from lacunar.web.store import Store, safe_name
from web_client import API, PORT, TOKEN

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the test client
BINARY = {"Content-Type": "application/octet-stream"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer another-users-token"}, 401),
        ({"Authorization": "", "Cookie": f"lacunar_{PORT}=another"}, 401),
        ({"Authorization": "", "Cookie": f"lacunar_{PORT + 1}={TOKEN}"}, 401),  # of another server on this machine
        ({"Authorization": "", "Cookie": f"lacunar_{PORT}={TOKEN}"}, 200),
        ({"Host": f"evil.example:{PORT}"}, 403),  # DNS rebinding
        ({"Host": "127.0.0.1:1"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": f"https://127.0.0.1:{PORT}"}, 403),
        ({"Origin": f"http://127.0.0.1:{PORT}"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_host_origin_and_token(web, headers, code):
    assert web.get(f"{API}/health", headers=headers).status_code == code


def test_the_address_that_is_printed_sets_a_strict_cookie_and_a_wrong_one_none(web):
    page = web.get("/", params={"token": TOKEN}, headers={"Authorization": ""})
    assert page.status_code == 200
    cookie = page.headers["set-cookie"]
    assert cookie.startswith(f"lacunar_{PORT}={TOKEN};")
    assert {"HttpOnly", "SameSite=Strict"} <= {part.strip() for part in cookie.split(";")}
    web.cookies.clear()
    refused = web.get("/", params={"token": "wrong"}, headers={"Authorization": ""})
    assert (refused.status_code, "set-cookie" in refused.headers) == (401, False)


def test_no_answer_opens_the_page_to_other_sites(web):
    for answer in (
        web.get(f"{API}/health"),
        web.get(f"{API}/health", headers={"Host": "evil"}),
        web.get("/static/app.css"),
    ):
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_page_names_nothing_of_another_site():
    for path in STATIC.glob("*.*"):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, path
        assert "https:" not in text, path


@pytest.mark.parametrize("path", ["../", "..", "/etc/passwd", "product/../../secret.tif", "no such file", "a\0b", "~"])
def test_a_path_that_leads_out_of_the_folder_is_not_there(web, path):
    (web.service.store.root.parent / "secret.tif").write_bytes(b"II*\0")
    for answer in (web.post(f"{API}/rasters", json={"path": path}), web.get(f"{API}/files", params={"under": path})):
        assert answer.status_code == 404


def test_a_link_that_leads_out_is_neither_listed_nor_opened(web, tmp_path):
    (tmp_path / "secret.tif").write_bytes(b"II*\0")
    link = web.service.store.root / "link.tif"
    link.symlink_to(tmp_path / "secret.tif")
    try:
        assert "link.tif" not in [one["name"] for one in web.get(f"{API}/files").json()["entries"]]
        assert web.post(f"{API}/rasters", json={"path": "link.tif"}).status_code == 404
    finally:
        link.unlink()


@pytest.mark.parametrize("identifier", ["..", "%2e%2e", "r0000000000000000", "j..%2f..%2fx", "x" * 300])
def test_identifiers_are_no_paths(web, identifier):
    for path in (f"rasters/{identifier}", f"jobs/{identifier}", f"jobs/{identifier}/results/job.json"):
        assert web.get(f"{API}/{path}").status_code == 404


def test_names_of_uploads_are_made_safe():
    hostile = ["../../a", "..\\..\\a", "/a", "a\0", "a\n.tif", "ä" * 400, ".hidden", "CON"]
    for name in map(safe_name, hostile):
        assert name
        assert not set(name) & set("/\\\0\n")
        assert not name.startswith(".")
        assert len(name) <= 120


def uploaded(web, name, content):
    return web.post(f"{API}/uploads", params={"name": name}, content=content, headers=BINARY)


def hostile_tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("../../outside_MTL.txt", "/etc/x_MTL.txt"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"GROU"))
    return stream.getvalue()


VRT = b"""<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tif", b"not a raster"),
        ("a.vrt", VRT),
        ("a.tif", VRT),
        ("a.tar", hostile_tar()),
        ("a.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 99),
    ],
    ids=["noise", "vrt", "vrt as tif", "tar that climbs", "cut png"],
)
def test_a_hostile_upload_is_refused_with_a_reason_and_the_server_lives_on(web, name, content):
    told = web.opened(uploaded(web, name, content).json()["id"])
    assert told["state"] == "failed"
    assert "unexpected" not in told["error"]
    assert web.get(f"{API}/health").status_code == 200


def test_an_upload_beyond_its_limit_is_cut_off_and_leaves_nothing(web):
    before = len(list(web.service.store.folder.glob("rasters/*")))
    for size, code in ((0, 422), (2**20 + 1, 413)):
        assert uploaded(web, "large.tif", b"\0" * size).status_code == code
    assert len(list(web.service.store.folder.glob("rasters/*"))) == before


def test_a_request_that_is_no_upload_is_small_and_says_how_long_it_is(web):
    strokes = {"strokes": [{"points": [[0.123456789, 0.123456789]] * 20_000} for _ in range(30)]}
    assert web.put(f"{API}/rasters/r/mask", json=strokes).status_code == 413
    chunks = (b"{" for _ in range(3))
    assert web.post(f"{API}/jobs", content=chunks, headers={"Content-Type": "application/json"}).status_code == 411


@pytest.mark.parametrize(
    "edits",
    [
        {"grow": 10_000},
        {"strokes": [{"points": []}]},
        {"strokes": [{"points": [[1e300, 0]]}]},
        {"strokes": [{"points": [[0, 0]], "radius": -1}]},
        {"classes": ["no such class"]},
        {"unknown": 1},
        {"imported": True},
    ],
)
def test_edits_out_of_range_are_refused(web, product_id, edits):
    before = web.get(f"{API}/rasters/{product_id}/mask/edits").json()
    assert web.put(f"{API}/rasters/{product_id}/mask", json=edits).status_code == 422
    assert web.get(f"{API}/rasters/{product_id}/mask/edits").json() == before


@pytest.mark.parametrize("place", ["0/1/0", "1/0/0", "-1/0/0", "0/-1/0", "99999999999/0/0"])
def test_a_tile_outside_is_refused(web, product_id, place):
    assert web.get(f"{API}/rasters/{product_id}/tiles/{place}", params={"bands": "value"}).status_code == 422


def test_a_state_folder_serves_one_server_and_its_user_alone(tmp_path):
    store = Store(tmp_path / "state")
    assert store.folder.stat().st_mode & 0o077 == 0
    with pytest.raises(LacunarError, match="another `lacunar serve`"):
        Store(tmp_path / "state")
    store.close()
    Store(tmp_path / "state").close()


def test_what_is_old_or_too_much_is_deleted_and_what_works_is_kept(tmp_path):
    store = Store(tmp_path / "state", keep=1, most_bytes=1500)
    folders = []
    for age in (3 * 86_400, 200, 100):
        folder = store.new("r")
        (folder / "view.tif").write_bytes(np.zeros(1000, dtype=np.uint8))
        os.utime(folder, (folder.stat().st_mtime - age,) * 2)
        folders.append(folder)
    store.tidy()
    assert [folder.exists() for folder in folders] == [False, False, True]
    store.close()
