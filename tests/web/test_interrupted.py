"""Real jobs that are interrupted: a worker that is killed, a server that is killed; they go on from finished blocks."""

import io
import re
import signal
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
import rasterio

from commands import write
from lacunar import fill_file
from lacunar.fill.block_store import folder_of_blocks
from lacunar.web.store import Store
from surfaces import surface
from web_client import API, Client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the test client
    pytest.mark.skipif(sys.platform == "win32", reason="workers are killed by signals"),
]
BLOCKS = 8
WITHIN = 300.0  # seconds that a machine that is busy may take
SETTLED = 1.0  # seconds without a new block after which a worker has ended


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A folder with a raster of eight blocks, each with a gap."""
    folder = tmp_path_factory.mktemp("shown")
    values = np.tile(surface((48, 960)), BLOCKS).astype(np.float32)
    for left in range(0, values.shape[1], 960):
        values[8:32, left + 300 : left + 380] = np.nan
    write(folder / "long.tif", values, units="K")
    return folder


@pytest.fixture(scope="module")
def whole(shown, tmp_path_factory):
    """Value and source of a fill that nothing interrupts."""
    path = tmp_path_factory.mktemp("whole") / "filled.tif"
    fill_file(shown / "long.tif", path, preset="fast", samples=2)
    with rasterio.open(path) as dataset:
        return dataset.read([1, 2])


def started(api):
    """Open the raster and begin to fill it; the identifier of the job."""
    raster = api.post(f"{API}/rasters", json={"path": "long.tif"}).json()["id"]
    until(api, f"{API}/rasters/{raster}", ("ready",))
    asked = {"kind": "fill", "raster": raster, "preset": "fast", "samples": 2}
    return api.post(f"{API}/jobs", json=asked).json()["id"]


def until(api, path, states):
    last = time.monotonic() + WITHIN
    while (told := api.get(path).json())["state"] not in states:
        assert told["state"] != "failed", told
        assert time.monotonic() < last, told
        time.sleep(0.02)
    return told


def some_blocks(results):
    """Wait until a block is finished."""
    last = time.monotonic() + WITHIN
    while not list(folder_of_blocks(results / "filled.tif").glob("[0-9]*.npz")):
        assert time.monotonic() < last
        time.sleep(0.01)


def mark(results):
    """Make finished blocks one kelvin warmer where they are filled, once no more are added; their columns."""
    folder, before = folder_of_blocks(results / "filled.tif"), None
    while (paths := sorted(folder.glob("[0-9]*.npz"))) != before:
        before = paths
        time.sleep(SETTLED)
    for path in paths:
        with np.load(path) as stored:
            arrays = dict(stored)
        arrays["value"] = np.where(arrays["source"] == 2, arrays["value"] + 1, arrays["value"]).astype(np.float32)
        np.savez(path, **arrays)
    return [int(path.stem.split("_")[1]) for path in paths]


def check(content, whole, marked):
    """What was finished before is in the result as it was kept, all else as of a fill that nothing interrupts."""
    assert 1 <= len(marked) < BLOCKS
    with rasterio.open(io.BytesIO(content)) as dataset:
        value, source = dataset.read([1, 2])
    np.testing.assert_array_equal(source, whole[1])
    warmer = np.zeros(value.shape, dtype=np.float32)
    for col in marked:
        warmer[:, col : col + 960] = source[:, col : col + 960] == 2
    np.testing.assert_allclose(value - whole[0], warmer, atol=1e-3)


def test_a_worker_is_killed_and_its_job_goes_on_from_its_blocks(shown, whole, tmp_path):
    store = Store(tmp_path / "state", shown)
    with Client(store) as api:
        job = started(api)
        results = store.path(job) / "results"
        some_blocks(results)
        api.service.jobs._processes[job].send_signal(signal.SIGKILL)
        told = api.until(job, "failed", within=WITHIN)
        assert "Resume" in told["error"]
        marked = mark(results)
        assert api.post(f"{API}/jobs/{job}/resume").status_code == 202
        assert api.ended(job, within=WITHIN)["error"] is None
        check(api.get(f"{API}/jobs/{job}/results/filled.tif").content, whole, marked)
    store.close()


def server(state, shown):
    """A server of its own, and how to call it."""
    command = [sys.executable, "-m", "lacunar", "serve", "--port", "0", "--state", str(state), "--root", str(shown)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    base, token = re.search(r"(http://[^/]+)/\?token=(\S+)", process.stdout.readline()).groups()
    return process, httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=WITHIN)


def test_a_server_is_killed_and_the_next_one_goes_on(shown, whole, tmp_path):
    state = tmp_path / "state"
    first, api = server(state, shown)
    with api:
        job = started(api)
        results = state / "jobs" / job / "results"
        some_blocks(results)
        first.kill()
        first.communicate()
    marked = mark(results)
    second, api = server(state, shown)
    try:
        with api:
            assert until(api, f"{API}/jobs/{job}", ("done",))["error"] is None
            check(api.get(f"{API}/jobs/{job}/results/filled.tif").content, whole, marked)
    finally:
        second.terminate()
        second.communicate()
