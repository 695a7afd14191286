"""Fill many scenes, one after another here or on Dask workers; one that fails does not stop the rest."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from lacunar.errors import LacunarError, first_line
from lacunar.fill.inputs import FillInputs
from lacunar.fill.job import fill_scene
from lacunar.fill.options import FillOptions
from lacunar.fill.outputs import OutputFiles
from lacunar.geo.staging import Staging, finish_and_remove_dead, write_text
from lacunar.versions import versions, versions_used

if TYPE_CHECKING:
    from distributed import Client, Future

Status = Literal["filled", "kept", "failed"]
Callback = Callable[[int, int], None]

SUMMARY = "lacunar_summary.json"
LOCAL = "local"  # processes of this machine, as many as fit or `local:N`
CORES_PER_WORKER = 2  # half of kriging runs in one thread
CONNECT_SECONDS = 10
WORKER_SECONDS = 60  # within which a first worker must be there
RETRIES = 2  # of a scene that failed by the machine's fault; bad input is not tried again
LOOK_SECONDS = 30  # between two looks whether the scheduler is still there

_ANEW = "start it anew and run the same command with --resume"
_ONE_AT_A_TIME = threading.Lock()  # a worker fills one scene, whatever its threads: memory is that of one block


class WorkerError(LacunarError):
    """What went wrong on a worker beside bad input, in words."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One scene to fill among others."""

    inputs: FillInputs
    files: OutputFiles

    def resolved(self) -> "Job":
        """The same with absolute paths."""
        return Job(inputs=self.inputs.resolved(), files=self.files.resolved())


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a scene came out."""

    job: Job
    status: Status  # kept: an earlier run with the same inputs and options had finished it
    seconds: float  # from its first step to its last
    why: str = ""  # what went wrong, in one line
    record: dict[str, Any] | None = None  # what its sidecar says; None where it failed

    @property
    def filled(self) -> int:
        """Pixels filled."""
        return int(self.record["pixels"]["filled"]) if self.record else 0


def fill_scenes(
    jobs: Sequence[Job], options: FillOptions, *, cluster: str | None = None, callback: Callback | None = None
) -> list[Outcome]:
    """Fill scenes, all with the same options; returns one outcome for each, in their order.

    ``cluster`` is ``local``, ``local:N`` for N processes of this machine, or the address of a Dask scheduler: whole
    scenes are the tasks, and workers read and write by the same paths as this process. None fills one after another
    here. ``callback`` is called with (hundredths of a scene done, all). Raises `LacunarError`: a cluster that cannot be
    used (no Dask, no answer, or a worker with other versions, another model or no such device).
    """
    if cluster is not None:
        return _fill_on_cluster(jobs, options, cluster, callback)
    outcomes: list[Outcome] = []

    def report(done: int, total: int) -> None:
        if callback:
            callback(100 * len(outcomes) + 100 * done // max(1, total), 100 * len(jobs))

    for job in jobs:
        begun = time.perf_counter()
        try:
            outcomes.append(_filled(job, options, report))
        except Exception as error:  # whatever it is, the other scenes go on
            outcomes.append(_failed(job, time.perf_counter() - begun, error))
        report(0, 1)
    return outcomes


def _filled(job: Job, options: FillOptions, callback: Callback | None = None) -> Outcome:
    begun = time.perf_counter()
    record = fill_scene(job.inputs, job.files, options, callback=callback)
    status: Status = "kept" if "whole_already" in record else "filled"
    return Outcome(job=job, status=status, seconds=time.perf_counter() - begun, record=record)


def _failed(job: Job, seconds: float, error: BaseException) -> Outcome:
    said = str(error) if isinstance(error, LacunarError) else f"{type(error).__name__}: {error}"
    return Outcome(job=job, status="failed", seconds=seconds, why=" ".join(said.split()))


def write_summary(folder: Path, outcomes: Sequence[Outcome], *, seconds: float, command: str) -> dict[str, Any]:
    """Write ``lacunar_summary.json`` about a run into a folder, in place of that of an earlier run; returns it."""
    counts = {status: sum(outcome.status == status for outcome in outcomes) for status in get_args(Status)}
    summary = {
        "command": command,
        "seconds": round(seconds, 2),
        "scenes": counts,
        "pixels_filled": sum(outcome.filled for outcome in outcomes if outcome.status == "filled"),
        "outcomes": [
            {
                "input": str(outcome.job.inputs.path),
                "output": str(outcome.job.files.raster),
                "status": outcome.status,
                "seconds": round(outcome.seconds, 2),
                "pixels_filled": outcome.filled,
                "why": outcome.why,
            }
            for outcome in outcomes
        ],
    }
    target = folder / SUMMARY
    with Staging(overwrite=True, inputs=[outcome.job.inputs.path for outcome in outcomes]) as staging:
        write_text(staging.stage(target), json.dumps(summary, indent=2) + "\n")
    return summary


# --- on a cluster ---


def _fill_on_cluster(
    jobs: Sequence[Job], options: FillOptions, address: str, callback: Callback | None
) -> list[Outcome]:
    try:
        with connected(address) as client:
            sent, sha256 = _options_to_send(client, options), _sha256_of(options)
            flying = {
                client.submit(
                    _fill_there, job.resolved(), sent, sha256, versions(), pure=False, retries=RETRIES
                ): number
                for number, job in enumerate(jobs)
            }
            outcomes: dict[int, Outcome] = {}
            begun = time.perf_counter()
            try:
                while len(outcomes) < len(jobs):
                    for future in _done(client, [one for one, number in flying.items() if number not in outcomes]):
                        outcomes[flying[future]] = _outcome(future, jobs[flying[future]], begun)
                    if callback:
                        callback(100 * len(outcomes), 100 * len(jobs))
            finally:
                if client.status == "running":
                    client.cancel(list(flying))
    except (OSError, TimeoutError, CancelledError) as error:  # of the client's own calls
        raise LacunarError(f"the Dask scheduler was lost ({first_line(error)}): {_ANEW}") from error
    finally:
        for folder in {job.files.raster.parent for job in jobs}:  # of a worker that was lost or interrupted
            finish_and_remove_dead(folder)
    return [outcomes[number] for number in range(len(jobs))]


def _outcome(future: "Future", job: Job, begun: float) -> Outcome:
    """What came of a task, with the paths that the user knows."""
    try:
        outcome: Outcome = future.result()
    except Exception as error:  # whatever it is, the other scenes go on
        return _failed(job, time.perf_counter() - begun, error)
    return replace(outcome, job=job)


def _done(client: "Client", flying: list["Future"]) -> list["Future"]:
    """Tasks that have ended, at least one."""
    from distributed import CancelledError, wait

    while True:
        try:
            return list(wait(flying, timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            lost = client.status != "running"
        except CancelledError:  # no Exception: it would pass for an interruption
            lost = True
        if lost:
            raise LacunarError(f"the Dask scheduler was lost: {_ANEW}")


def _fill_there(job: Job, options: FillOptions, sha256: str, wanted: dict[str, str]) -> Outcome:
    """Fill a scene on a worker. Bad input is an outcome; any other error makes Dask try again."""
    begun = time.perf_counter()
    try:
        check_versions(versions(), wanted, options.backend)
        found = _sha256_of(options)
        if found != sha256:
            raise LacunarError(
                f"model {options.network} has sha256 {found} on a worker, wanted {sha256}: install it there"
            )
        with _ONE_AT_A_TIME:
            return _filled(job, replace(options, device=_own_device(options.device)))
    except LacunarError as error:
        return _failed(job, time.perf_counter() - begun, error)
    except Exception as error:  # of any library; one that cannot be pickled would never arrive
        raise WorkerError(f"{type(error).__name__}: {error}") from None


def _sha256_of(options: FillOptions) -> str:
    """Of the model's weights."""
    from lacunar.models.backend import load_filler

    return load_filler(options.network).card.sha256


def _options_to_send(client: "Client", options: FillOptions) -> FillOptions:
    """Options for the workers: one device and backend for all of them, and the model by its absolute path."""
    try:
        found = list(client.run(_describe, options.device).values())
    except (OSError, TimeoutError) as error:
        raise LacunarError(f"a worker was lost ({first_line(error)}): {_ANEW}") from error
    except ImportError as error:
        raise LacunarError(f"a worker cannot run lacunar ({error}): install lacunar[cluster] there too") from error
    if refused := next((device for device, _ in found if isinstance(device, LacunarError)), None):
        raise refused
    backend = options.backend
    if backend == "auto" and any(
        versions_used("onnx", there) != versions_used("onnx", versions()) for _, there in found
    ):
        backend = "eager"
    for _, there in found:
        check_versions(there, versions(), backend)
    from lacunar.models.checkpoint import shipped_models

    model = options.model
    if model and model not in shipped_models():
        model = str(Path(model).resolve())
    return replace(options, model=model, device=str(found[0][0]), backend=backend)


def _describe(device: str) -> tuple[str | LacunarError, dict[str, str]]:
    """The device that a worker has for the one that is asked for (of the best only the kind), and its versions."""
    from lacunar.models.backend import resolve_device

    try:
        found = resolve_device(device)
    except LacunarError as error:
        return error, versions()
    return (found.split(":")[0] if device == "auto" else found), versions()


def _own_device(device: str) -> str:
    """The GPU of this worker among those that it sees: workers of one machine are numbered."""
    if device != "cuda":
        return device
    import torch
    from distributed import get_worker

    name = get_worker().name
    return f"cuda:{name % torch.cuda.device_count() if isinstance(name, int) else 0}"


def check_versions(found: dict[str, str], wanted: dict[str, str], backend: str) -> None:
    """Refuse, with a ``LacunarError``, a worker with other versions of what a backend uses: its results may differ."""
    found, wanted = versions_used(backend, found), versions_used(backend, wanted)
    differ = [name for name in wanted | found if found.get(name) != wanted.get(name)]
    if differ:
        got, want = (", ".join(f"{name} {there.get(name)}" for name in differ) for there in (found, wanted))
        raise LacunarError(f"a worker has {got}, wanted {want} as here: install the same on all")


@contextmanager
def connected(address: str) -> Iterator["Client"]:
    """A client of a scheduler, or of processes on this machine that end with the ``with`` block."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise LacunarError(f"--cluster wants Dask distributed ({error}): pip install lacunar[cluster]") from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it says comes back in our exceptions
    with ExitStack() as stack:
        # A client makes itself dask's default; one whose scheduler was lost does not take that back when it closes.
        stack.enter_context(dask.config.set({"scheduler": dask.config.get("scheduler", None)}))
        if address.split(":")[0] == LOCAL:
            workers, threads = workers_of(address)
            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
            environment = dict.fromkeys(names, threads)
            stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": environment}))
            started = LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
            )
            yield stack.enter_context(Client(stack.enter_context(started)))
            return
        try:
            client = stack.enter_context(Client(address, timeout=CONNECT_SECONDS))
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise LacunarError(
                f"no Dask cluster at {address!r} ({reason}): wanted the address of a running scheduler that has "
                f"workers, such as tcp://10.0.0.1:8786, or {LOCAL} for this machine"
            ) from error
        yield client


def workers_of(address: str) -> tuple[int, int]:
    """Processes of ``local[:N]``, by default one for each GPU or every few cores, and threads of each."""
    import torch
    from dask.system import CPU_COUNT

    _, _, number = address.partition(":")
    if number and not (number.isdecimal() and int(number)):
        raise LacunarError(f"cluster {address!r}: wanted {LOCAL}, or {LOCAL}:N with N processes, such as {LOCAL}:2")
    cores = min(CPU_COUNT, int(os.environ.get("OMP_NUM_THREADS") or CPU_COUNT))
    workers = int(number) if number else torch.cuda.device_count() or max(1, CPU_COUNT // CORES_PER_WORKER)
    return workers, max(1, min(cores, CPU_COUNT // workers))
