"""Fill scenes on Dask distributed: surveys and blocks are tasks of its workers; outputs are opened and named here.

A block depends on its surroundings alone, so it does not matter which worker fills it, when, or how often: a worker
that is lost costs the blocks that it had in hand. Workers read the inputs by the same paths as this process does.
"""

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lacunar.errors import LacunarError
from lacunar.fill.blocks import FilledBlock, Survey, blocks_of
from lacunar.fill.cluster_tasks import Job, Refusal, block_there, check_versions, describe, sent, survey_there
from lacunar.fill.inputs import open_inputs
from lacunar.fill.options import FillOptions
from lacunar.fill.outputs import FillOutputs
from lacunar.fill.provenance import fingerprint_of
from lacunar.fill.scene_list import Outcome, Scene, failed
from lacunar.geo.windows import Block
from lacunar.models.backend import EngineName
from lacunar.models.checkpoint import Model, load_model
from lacunar.versions import versions

if TYPE_CHECKING:
    from distributed import Client, Future

LOCAL = "local"  # processes of this machine, as many as fit or `local:N`
CORES_PER_WORKER = 2  # half of kriging runs in one thread
CONNECT_SECONDS = 10
WORKER_SECONDS = 60  # within which a first worker must be there
RETRIES = 2  # of a task that failed by the machine's fault; bad input is not tried again
AHEAD = 2  # tasks in flight for each worker: one in work, one waiting, so memory is bounded
LOOK_SECONDS = 30  # between two looks whether the scheduler is still there

Callback = Callable[[int, int], None]


def fill_on_cluster(
    scenes: Sequence[Scene], address: str, *, options: FillOptions, callback: Callback | None = None
) -> list[Outcome]:
    """Fill scenes on a cluster; one that fails does not stop the rest.

    Parameters
    ----------
    scenes
        What is filled.
    address
        ``local`` or ``local:N`` for N processes of this machine, or the address of a Dask scheduler.
    options
        As for one scene. The device is that of the workers; ``auto`` and ``cuda`` give each worker its GPU where there
        are any. The engine ``auto`` is ``onnx`` where every worker that is there at the start can, else ``eager``.
    callback
        Called with (hundredths of a scene done, all).

    Returns
    -------
    list of Outcome
        One for each scene, in their order. Pixels are the same to the bit as from one process with the versions, the
        kind of processor and the number of threads of a worker; the last bits of a matrix product depend on them.

    Raises
    ------
    LacunarError
        Dask is not installed, no scheduler or worker answers, or a worker has other versions or no such device.
    """
    with connected(address) as client:
        model = load_model(options.model)
        device, engine = _device_and_engine(client, options, model)
        options, model = replace(options, device=device, engine=engine), replace(model, backend=engine)
        with _Run(client, options, model, callback) as run:
            return run.fill(scenes)


@contextmanager
def connected(address: str) -> Iterator["Client"]:
    """A client of a scheduler, or of processes on this machine that end with the ``with`` block.

    Raises
    ------
    LacunarError
        Dask is not installed, the address is none, or nothing answers there.
    """
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise LacunarError(f"--cluster wants Dask distributed ({error}): pip install lacunar[cluster]") from error
    with ExitStack() as stack:
        if address.split(":")[0] == LOCAL:
            workers, threads = _workers_of(address)
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


def _workers_of(address: str) -> tuple[int, int]:
    """Processes of ``local[:N]``, by default one for each GPU or every few cores, and threads of each."""
    import torch
    from dask.system import CPU_COUNT

    _, _, number = address.partition(":")
    if number and not (number.isdecimal() and int(number)):
        raise LacunarError(f"cluster {address!r}: wanted {LOCAL}, or {LOCAL}:N with N processes, such as {LOCAL}:2")
    cores = min(CPU_COUNT, int(os.environ.get("OMP_NUM_THREADS") or CPU_COUNT))
    workers = int(number) if number else torch.cuda.device_count() or max(1, CPU_COUNT // CORES_PER_WORKER)
    return workers, max(1, min(cores, CPU_COUNT // workers))


def _device_and_engine(client: "Client", options: FillOptions, model: Model) -> tuple[str, EngineName]:
    """Ask the workers which device and engine they have, one engine for all; hold their versions to those here."""
    asked = [
        client.submit(
            describe, sent(options), model.card.sha256, versions(),
            workers=[worker], allow_other_workers=True, pure=False,  # another answers for one that is lost meanwhile
        )
        for worker in client.nthreads()
    ]  # fmt: skip
    try:
        answers: list[tuple[str, EngineName, dict[str, str]]] = client.gather(asked)
    except ImportError as error:
        raise LacunarError(f"a worker cannot run lacunar ({error}): install lacunar[cluster] there too") from error
    device, engine, _ = answers[0]
    if any(other != engine for _, other, _ in answers):
        engine = "eager"
    for _, _, found in answers:
        check_versions(found, versions(), engine)
    return device, engine


class _OpenScene:
    """A scene in work: its outputs, which are written here, and the blocks that are still to be sent out."""

    def __init__(self, number: int, scene: Scene, options: FillOptions, model: Model) -> None:
        self.number, self.scene = number, scene
        self._begun = time.perf_counter()
        self.record: dict[str, Any] | None = None
        self.survey: Future | None = None  # kept, for the blocks need it
        self.waiting: deque[Block] = deque()
        self.left, self.total, self.closed = 0, 0, False
        self.job = Job.of(scene.inputs, options, model)
        with ExitStack() as stack:
            source, beside = stack.enter_context(open_inputs(scene.inputs))
            fingerprint = fingerprint_of(scene.inputs, source, beside, options, model)
            self._outputs = FillOutputs(source, beside, scene.output, options, scene.bands_folder)
            if options.resume and (record := self._outputs.whole(fingerprint)):
                self.record = record
                return
            stack.enter_context(self._outputs)
            self._outputs.start(model, fingerprint)
            self._blocks = blocks_of(source.shape)
            self._stack = stack.pop_all()

    def begin(self, found: Survey) -> None:
        """Take the survey, and the blocks that an earlier run finished."""
        self._outputs.begin(found)
        self.left = self.total = len(self._blocks)
        for block in self._blocks:
            if (finished := self._outputs.finished(block.core)) is not None:
                self.add(finished)
            else:
                self.waiting.append(block)

    def add(self, block: FilledBlock) -> None:
        """Take a block."""
        self._outputs.add(block)
        self.left -= 1

    def finish(self) -> Outcome:
        """Give the outputs their names."""
        record = self._outputs.finish()
        self.closed = True
        self._stack.close()
        return Outcome(scene=self.scene, status="filled", seconds=self._seconds, record=record)

    def kept(self) -> Outcome:
        """The outcome of a scene that an earlier run had finished."""
        return Outcome(scene=self.scene, status="kept", seconds=self._seconds, record=self.record)

    def fail(self, error: Exception) -> Outcome:
        """Leave no output of it."""
        return failed(self.scene, self._seconds, self.close(error))

    def close(self, error: BaseException) -> BaseException:
        """End it with an error; returns the error in the words that the user knows."""
        if self.closed:
            return error
        self.closed, self.survey = True, None
        self.waiting.clear()
        try:
            self._stack.__exit__(type(error), error, error.__traceback__)
        except Exception as retold:
            return retold
        return error

    @property
    def share(self) -> float:
        """How much of it is done."""
        return 1 - self.left / self.total if self.total else 0.0

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._begun


class _Run:
    """Scenes on their way through a cluster: a bounded number of tasks in flight, a bounded number of scenes open."""

    def __init__(self, client: "Client", options: FillOptions, model: Model, callback: Callback | None) -> None:
        self._client, self._options, self._model, self._callback = client, options, model, callback
        self._open: list[_OpenScene] = []
        self._flying: dict[Future, _OpenScene] = {}
        self._outcomes: dict[int, Outcome] = {}

    def __enter__(self) -> "_Run":
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        """Leave no half-written output, whatever ended the run."""
        for scene in self._open:
            scene.close(error or KeyboardInterrupt())
        if self._client.status == "running":
            self._client.cancel(list(self._flying))

    def fill(self, scenes: Sequence[Scene]) -> list[Outcome]:
        """Fill all of them."""
        self._waiting, self._count = deque(enumerate(scenes)), len(scenes)
        while len(self._outcomes) < self._count:
            self._send()
            for future in self._done():
                self._take(future, self._flying.pop(future))
            self._report()
        return [self._outcomes[number] for number in range(self._count)]

    def _send(self) -> None:
        """Give every worker enough to do: blocks of the scenes that came first, else the survey of another scene."""
        workers = max(1, len(self._client.nthreads()))
        while len(self._flying) < AHEAD * workers:
            scene = next((scene for scene in self._open if scene.waiting), None)
            if scene is not None:
                future = self._submit(block_there, scene.job, scene.survey, scene.waiting.popleft())
            elif self._waiting and len(self._open) <= workers:
                scene = self._opened(*self._waiting.popleft())
                if scene is None:
                    continue
                future = scene.survey = self._submit(survey_there, scene.job)
            else:
                return
            self._flying[future] = scene

    def _submit(self, task: Callable[..., object], *arguments: object) -> "Future":
        """Send a task; one whose worker is lost goes to another."""
        return self._client.submit(task, *arguments, pure=False, retries=RETRIES)

    def _opened(self, number: int, scene: Scene) -> _OpenScene | None:
        """Open a scene; None where it failed, or was finished before."""
        begun = time.perf_counter()
        try:
            opened = _OpenScene(number, scene, self._options, self._model)
        except Exception as error:  # whatever it is, the other scenes go on
            self._outcomes[number] = failed(scene, time.perf_counter() - begun, error)
            return None
        if opened.record is not None:
            self._outcomes[number] = opened.kept()
            return None
        self._open.append(opened)
        return opened

    def _done(self) -> list["Future"]:
        """Tasks that have ended, at least one where any is in flight."""
        from distributed import CancelledError, wait

        while self._flying:
            lost = False
            try:
                return list(wait(list(self._flying), timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                lost = self._client.status != "running"
            except CancelledError:  # no Exception: it would pass for an interruption
                lost = True
            if lost:
                raise LacunarError("the Dask scheduler was lost: start it anew and run the same command with --resume")
        return []

    def _take(self, future: "Future", scene: _OpenScene) -> None:
        """Put what a task gave in its place."""
        if scene.closed:
            return
        try:
            result = future.result()
            if isinstance(result, Refusal):
                raise result.error
            if isinstance(result, Survey):
                scene.begin(result)
            else:
                scene.add(result)
            if scene.left:
                return
            self._outcomes[scene.number] = scene.finish()
        except Exception as error:  # whatever it is, the other scenes go on
            self._outcomes[scene.number] = scene.fail(error)
        self._open.remove(scene)

    def _report(self) -> None:
        """Tell how far all scenes are."""
        if self._callback:
            done = len(self._outcomes) + sum(scene.share for scene in self._open)
            self._callback(int(100 * done), 100 * self._count)
