"""A server without a network: the guarded app in this process, its workers as a user has them."""

import time

import numpy as np
from starlette.testclient import TestClient

from lacunar.web.app import Service, make_app
from lacunar.web.security import Guard

TOKEN, PORT = "the-token-of-a-test", 8420
HOST = f"http://127.0.0.1:{PORT}"
API = "/api/v1"

SLEEPER = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.stdin.readline().strip())
job = json.loads((folder / "job.json").read_text())
kept = folder / "results" / "kept"
kept.write_text(kept.read_text() + "+" if kept.exists() else "+")
(folder / "progress.json").write_text('{"done": 1, "total": 4, "seconds": 2}')
while job.get("sleeps") and not (folder.parent / "go").exists():
    time.sleep(0.02)
(folder / "outcome.json").write_text('{"record": {}}')
"""


class Client(TestClient):
    """Calls the API as a script does, with the token."""

    def __init__(self, store, **kwargs):
        self.service = Service(store, **kwargs)
        guarded = Guard(make_app(self.service), token=TOKEN, hosts=("127.0.0.1",), port=PORT)
        super().__init__(guarded, base_url=HOST, headers={"Authorization": f"Bearer {TOKEN}"})

    def opened(self, identifier, *, within=120.0):
        """A raster once it is open, or has failed."""
        return self._until(f"{API}/rasters/{identifier}", ("ready", "failed"), within)

    def ended(self, identifier, *, within=300.0):
        """A job once it has ended."""
        return self._until(f"{API}/jobs/{identifier}", ("done", "failed", "cancelled"), within)

    def tile(self, identifier, bands, z=0, x=0, y=0):
        """Bands of a tile, (B, 256, 256)."""
        answer = self.get(f"{API}/rasters/{identifier}/tiles/{z}/{x}/{y}", params={"bands": bands})
        assert answer.status_code == 200, answer.text
        return np.frombuffer(answer.content, dtype="<f4").reshape(-1, 256, 256)

    def until(self, identifier, state, *, within=60.0):
        """A job once it has a state."""
        return self._until(f"{API}/jobs/{identifier}", (state,), within)

    def _until(self, path, states, within):
        last = time.monotonic() + within
        while time.monotonic() < last:
            told = self.get(path).json()
            if told["state"] in states:
                return told
            time.sleep(0.05)
        raise AssertionError(f"{path} is not {states} within {within:g} s: {told}")
