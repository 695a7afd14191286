"""Servers for the tests of this folder."""

import sys

import pytest

pytest.importorskip("fastapi", reason="the page needs lacunar[serve]")

from lacunar.web import jobs
from lacunar.web.store import Store
from web_client import API, SLEEPER, Client


@pytest.fixture(scope="module")
def web(tmp_path_factory, simulated_64):
    """A client of a server that shows the folder of a simulated product of 64 x 64 pixels."""
    store = Store(tmp_path_factory.mktemp("state"), simulated_64.folder.parent)
    with Client(store, upload_bytes=2**20) as client:
        yield client
    store.close()


@pytest.fixture(scope="module")
def product_id(web, simulated_64):
    """The identifier of the simulated product, once it is open."""
    answer = web.post(f"{API}/rasters", json={"path": simulated_64.folder.name})
    assert answer.status_code == 202
    told = web.opened(answer.json()["id"])
    assert (told["state"], told.get("error")) == ("ready", None)
    return told["id"]


@pytest.fixture
def sleepers(tmp_path, monkeypatch):
    """A client of a server whose workers do nothing, or sleep until `go` is there; and how to start another server."""
    monkeypatch.setattr(jobs, "WORKER", [sys.executable, "-c", SLEEPER])
    folder = tmp_path / "state"

    def server():
        return Client(Store(folder))

    server.go = folder / "jobs" / "go"
    return server
