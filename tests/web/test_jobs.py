"""The queue, with workers that only sleep: order, cancel, kills, restarts, a full disk."""

import signal

import pytest

from lacunar.web.jobs import MOST_QUEUED
from web_client import API

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the test client


def submitted(client, **job):
    return client.service.jobs.submit({"kind": "fill", "raster": "r0", "references": [], "name": "x", **job})["id"]


def marks(client, identifier):
    """How often a worker began with a job: its results folder is kept."""
    return (client.service.store.path(identifier) / "results" / "kept").read_text()


def closed(client):
    client.service.store.close()


def test_fifty_jobs_run_in_their_order_and_previews_do_not_wait(sleepers):
    with sleepers() as client:
        first = submitted(client, sleeps=True)
        client.until(first, "running")
        rest = [submitted(client) for _ in range(49)]
        assert client.get(f"{API}/jobs/{rest[-1]}").json()["ahead"] == 49
        preview = submitted(client, window=[0, 0, 8, 8])
        client.ended(preview)
        assert client.get(f"{API}/jobs/{rest[0]}").json()["state"] == "queued"
        for identifier in rest[3:]:
            assert client.delete(f"{API}/jobs/{identifier}").json()["state"] == "cancelled"
        sleepers.go.touch()
        assert [client.ended(one)["state"] for one in (first, *rest[:3])] == ["done"] * 4
        written = [client.service.store.path(one) / "outcome.json" for one in (first, *rest[:3])]
        times = [path.stat().st_mtime_ns for path in written]
        assert times == sorted(times)
    closed(client)


def test_more_jobs_than_may_wait_are_refused(sleepers):
    with sleepers() as client:
        identifiers = [submitted(client, sleeps=True) for _ in range(MOST_QUEUED)]
        answer = client.post(f"{API}/rasters", json={"demo": "picture"})
        assert answer.status_code == 429
        for identifier in identifiers:
            client.delete(f"{API}/jobs/{identifier}")
    closed(client)


def test_a_job_is_cancelled_at_once_and_resumes_in_its_folder(sleepers):
    with sleepers() as client:
        identifier = submitted(client, sleeps=True)
        told = client.until(identifier, "running")
        while not told["done"]:
            told = client.get(f"{API}/jobs/{identifier}").json()
        assert (told["done"], told["total"], told["seconds_left"]) == (1, 4, 6.0)
        assert client.delete(f"{API}/jobs/{identifier}").json()["state"] == "cancelled"
        sleepers.go.touch()
        assert client.post(f"{API}/jobs/{identifier}/resume").status_code == 202
        assert client.ended(identifier)["state"] == "done"
        assert marks(client, identifier) == "++"
        assert client.post(f"{API}/jobs/{identifier}/resume").status_code == 422
        assert client.delete(f"{API}/jobs/{identifier}").status_code == 200
        assert client.get(f"{API}/jobs/{identifier}").status_code == 404
    closed(client)


def test_a_worker_that_is_killed_fails_its_job_alone_and_it_resumes(sleepers):
    with sleepers() as client:
        identifier = submitted(client, sleeps=True)
        client.until(identifier, "running")
        client.service.jobs._processes[identifier].send_signal(signal.SIGKILL)
        told = client.ended(identifier)
        assert told["state"] == "failed"
        assert "Resume" in told["error"]
        assert client.ended(submitted(client))["state"] == "done"
        sleepers.go.touch()
        client.post(f"{API}/jobs/{identifier}/resume")
        assert client.ended(identifier)["state"] == "done"
    closed(client)


def test_what_ran_when_the_server_ended_is_resumed_by_the_next(sleepers):
    with sleepers() as client:
        running = submitted(client, sleeps=True)
        client.until(running, "running")
        queued = submitted(client)
    closed(client)
    sleepers.go.touch()
    with sleepers() as client:
        assert [client.ended(one)["state"] for one in (running, queued)] == ["done", "done"]
        assert marks(client, queued) == "+"
    closed(client)


def test_events_end_with_the_job(sleepers):
    with sleepers() as client:
        identifier = submitted(client)
        with client.stream("GET", f"{API}/jobs/{identifier}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = [line for line in answer.iter_lines() if line]
        assert '"state": "done"' in lines[-1]
        assert all(line.startswith("data: {") for line in lines)
    closed(client)


def test_a_full_disk_is_told_and_the_server_lives_on(sleepers, monkeypatch):
    with sleepers() as client:

        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(client.service.store, "new", full)
            answer = client.post(f"{API}/rasters", json={"demo": "picture"})
        assert answer.status_code == 507
        assert "No space left" in answer.json()["detail"]
        assert client.ended(submitted(client))["state"] == "done"
    closed(client)
