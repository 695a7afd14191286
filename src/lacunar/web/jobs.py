"""The queue: jobs wait in two lanes, each with a process at a time, and live on when server or process are killed."""

import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from lacunar.errors import LacunarError
from lacunar.web.store import ACTIVE, JOB, NotFoundError, Store, read_json, write_json

MOST_QUEUED = 100
KILLED_WITHIN = 5.0  # seconds that a killed process may take to end
WORKER = [sys.executable, "-m", "lacunar.web.worker"]
QUICK = ("open", "suspects")  # kinds that, like previews, do not wait for whole scenes; none is listed

Lane = Literal["quick", "long"]


class QueueFullError(LacunarError):
    """More jobs than may wait."""


class Jobs:
    """All jobs of a state folder; what was queued or running when an earlier server ended is queued again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs: dict[str, dict[str, Any]] = {}
        self._lanes: dict[Lane, deque[str]] = {"quick": deque(), "long": deque()}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._spare: subprocess.Popen[str] | None = None
        self._changed, self._stopping = threading.Condition(), False
        for folder in store.folders(JOB):
            if job := read_json(folder / "job.json"):
                self._jobs[folder.name] = job
                if job["state"] in ACTIVE:
                    self._enqueue(job)
        self._threads = [threading.Thread(target=self._work, args=(lane,), daemon=True) for lane in self._lanes]

    def start(self) -> None:
        """Begin to work."""
        self._prepare()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End every process; what was running is resumed by the next server."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            for process in [*self._processes.values(), *([self._spare] if self._spare else [])]:
                process.kill()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(KILLED_WITHIN)
        if self._spare is not None:
            _ended(self._spare)

    def submit(self, job: dict[str, Any]) -> dict[str, Any]:
        """Queue a job and give it an identifier; too many are a `QueueFullError`."""
        with self._changed:
            waiting = sum(one["state"] in ACTIVE for one in self._jobs.values())
            if waiting >= MOST_QUEUED:
                raise QueueFullError(
                    f"{waiting} jobs are queued: wanted fewer than {MOST_QUEUED}; wait, or cancel some"
                )
            folder = self._store.new(JOB)
            (folder / "results").mkdir()
            made = {**job, "id": folder.name, "created": time.time(), "error": None}
            self._jobs[folder.name] = made
            self._enqueue(made)
            return self._told(made)

    def status(self, identifier: str) -> dict[str, Any]:
        """How a job stands."""
        with self._changed:
            return self._told(self._job(identifier))

    def all(self) -> list[dict[str, Any]]:
        """Every job but those that open rasters or look for cloud, the newest first."""
        with self._changed:
            jobs = [job for job in self._jobs.values() if job["kind"] not in QUICK]
            return [self._told(job) for job in sorted(jobs, key=lambda job: -float(job["created"]))]

    def cancel(self, identifier: str) -> dict[str, Any]:
        """Stop a job at once; its finished blocks are kept."""
        with self._changed:
            job = self._job(identifier)
            if job["state"] in ACTIVE:
                for lane in self._lanes.values():
                    with suppress(ValueError):
                        lane.remove(identifier)
                self._set(job, "cancelled")
                if process := self._processes.get(identifier):
                    process.kill()
            return self._told(job)

    def forget(self, identifier: str) -> None:
        """Take a job that has ended out of the list."""
        with self._changed:
            self._jobs.pop(identifier, None)

    def resume(self, identifier: str) -> dict[str, Any]:
        """Queue a job that was cancelled or failed again: it goes on from its finished blocks."""
        with self._changed:
            job = self._job(identifier)
            self._changed.wait_for(lambda: identifier not in self._processes or job["state"] in ACTIVE, KILLED_WITHIN)
            if job["state"] not in ("cancelled", "failed") or identifier in self._processes:
                raise LacunarError(f"job {identifier} is {job['state']}: only one that was stopped or failed resumes")
            job["error"] = None
            self._enqueue(job)
            return self._told(job)

    def results(self, identifier: str) -> list[dict[str, Any]]:
        """Names and sizes of the files of a job that is done."""
        folder = self._store.path(identifier, JOB) / "results"
        files = sorted(path for path in folder.glob("*") if path.is_file() and not path.name.startswith("."))
        return [{"name": path.name, "bytes": path.stat().st_size} for path in files]

    # --- inside ---

    def _job(self, identifier: str) -> dict[str, Any]:
        if identifier not in self._jobs:
            raise NotFoundError(f"no job {identifier[:20]!r} is here: list them anew")
        return self._jobs[identifier]

    def _told(self, job: dict[str, Any]) -> dict[str, Any]:
        folder = self._store.folder / "jobs" / str(job["id"])
        progress = read_json(folder / "progress.json") if job["state"] in ("running", "cancelled", "failed") else None
        done, total, seconds = (progress or {}).get("done", 0), (progress or {}).get("total", 0), 0.0
        if progress and done:
            seconds = progress["seconds"] * (total - done) / done
        told = {**job, "done": done, "total": total, "seconds_left": seconds if job["state"] == "running" else None}
        told["ahead"] = self._ahead(job)
        if job["state"] == "done":
            told |= {"results": self.results(job["id"])}
            told |= read_json(folder / "outcome.json") or {}
        return told

    def _ahead(self, job: dict[str, Any]) -> int:
        lane = self._lanes[_lane_of(job)]
        return list(lane).index(job["id"]) + 1 if job["id"] in lane else 0

    def _enqueue(self, job: dict[str, Any]) -> None:
        self._set(job, "queued")
        self._lanes[_lane_of(job)].append(job["id"])
        with self._changed:
            self._changed.notify_all()

    def _set(self, job: dict[str, Any], state: str, error: str | None = None) -> None:
        job["state"], job["error"] = state, error
        with suppress(OSError):  # on a full disk the state lives in memory
            write_json(self._store.folder / "jobs" / str(job["id"]) / "job.json", job)

    def _work(self, lane: Lane) -> None:
        while True:
            with self._changed:
                while not self._lanes[lane] and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                job = self._jobs[self._lanes[lane].popleft()]
                folder = self._store.folder / "jobs" / str(job["id"])
                for name in ("outcome.json", "progress.json"):
                    (folder / name).unlink(missing_ok=True)
                self._set(job, "running")
                process = self._processes[job["id"]] = self._take()
            self._wait(process, folder)
            with self._changed:
                del self._processes[job["id"]]
                self._changed.notify_all()
                if self._stopping:  # it stays "running": the next server resumes it
                    return
                if job["state"] == "running":
                    self._conclude(job, folder, process)

    def _wait(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        with suppress(OSError):  # it was killed already
            assert process.stdin is not None
            process.stdin.write(f"{folder}\n")
            process.stdin.flush()
        process.wait()
        _ended(process)

    def _conclude(self, job: dict[str, Any], folder: Path, process: "subprocess.Popen[str]") -> None:
        outcome = read_json(folder / "outcome.json")
        if outcome is None:
            said = f"its process was stopped from outside (code {process.returncode})"
            self._set(job, "failed", f"{said}: Resume goes on from what was finished")
        elif outcome.get("error"):
            self._set(job, "failed", outcome["error"])
        else:
            self._set(job, "done")
            with suppress(OSError):
                self._store.tidy()
                gone = [one for one in self._jobs if not (self._store.folder / "jobs" / one).is_dir()]
                for one in gone:
                    del self._jobs[one]

    def _take(self) -> "subprocess.Popen[str]":
        """The process that was prepared; another one is prepared for the next job."""
        process = self._spare if self._spare is not None and self._spare.poll() is None else self._started()
        self._spare = None
        self._prepare()
        return process

    def _prepare(self) -> None:
        if not self._stopping:
            self._spare = self._started()

    def _started(self) -> "subprocess.Popen[str]":
        with (self._store.folder / "workers.log").open("a") as log:
            return subprocess.Popen(
                WORKER,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the server, which ends its workers
            )


def _lane_of(job: dict[str, Any]) -> Lane:
    return "quick" if job["kind"] in QUICK or job.get("window") else "long"


def _ended(process: "subprocess.Popen[str]") -> None:
    """Wait for a process that was killed, and close its pipe."""
    process.wait()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
