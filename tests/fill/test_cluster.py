"""Real processes of Dask: the same bits as one process, whatever breaks on the way.

The last bits of a matrix product depend on the threads that share it, so the one process that the others are held to
has as many as a worker.
"""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commands import bands_of, contents
from lacunar.cli import BAD_INPUT
from lacunar.cli.scenes import SOME_FAILED
from lacunar.errors import LacunarError
from lacunar.fill import batch
from lacunar.fill.batch import Job, Outcome, fill_scenes
from lacunar.fill.inputs import FillInputs
from lacunar.fill.options import FillOptions
from lacunar.fill.outputs import OutputFiles
from lacunar.fill.scene_list import outputs_in
from lacunar.sensors.simulated import simulate_product

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:distributed", "ignore::ResourceWarning", "ignore:Port 8787:UserWarning"
)

SIDE = 64
HOW = ("--evaluations", "2", "--sampler", "ddim", "--samples", "2", "--backend", "eager")


def lasting(folder):
    """What is written whatever a scene shows: the raster of suspect pixels is there where there are any."""
    return [name for name in contents(folder) if not name.endswith("_suspect.tif")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two products, one without its metadata, and a list of the three."""
    folder = tmp_path_factory.mktemp("archive")
    for name, seed in (("a", 1), ("c", 2)):
        simulate_product(folder / name, size=SIDE, seed=seed)
    shutil.copytree(folder / "a", folder / "b")
    next((folder / "b").glob("*_MTL.txt")).unlink()
    (folder / "list.txt").write_text("# products\n" + "".join(f"{folder / name}\n" for name in "abc"))
    return folder


@pytest.fixture(scope="module")
def alone(archive, tiny_folder, tmp_path_factory):
    """The archive filled by one process without a cluster: how it ended, and its folder."""
    out = tmp_path_factory.mktemp("alone")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    command = ["lst", f"@{archive / 'list.txt'}", "-o", str(out / "out"), "--model", str(tiny_folder), *HOW]
    arguments = {"capture_output": True, "text": True, "check": False, "env": os.environ | threads}
    return subprocess.run([sys.executable, "-m", "lacunar", *command], **arguments), out / "out"


@pytest.fixture(scope="module")
def two_workers():
    """A client of two processes of one thread each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with batch.connected("local:2") as client:
            yield client


@pytest.fixture
def address(two_workers):
    return two_workers.scheduler.address


def options_of(model, **more):
    return FillOptions(model=str(model), sampler="ddim", evaluations=2, samples=2, backend="eager", **more)


def jobs_of(archive, names, out, **more):
    paths = [archive / name for name in names]
    return [
        Job(inputs=FillInputs(path=path, kind="product"), files=OutputFiles(raster=raster, **more))
        for path, raster in zip(paths, outputs_in(out, paths, "lst"), strict=True)
    ]


def same_bands(one, other, names="ac"):
    for name in names:
        np.testing.assert_array_equal(bands_of(one / f"{name}_lst.tif"), bands_of(other / f"{name}_lst.tif"))


def test_one_process_fills_what_it_can_and_says_what_it_could_not(alone):
    ran, out = alone
    assert ran.returncode == SOME_FAILED, ran.stderr
    assert sorted(lasting(out)) == ["a_lst.json", "a_lst.tif", "c_lst.json", "c_lst.tif", "lacunar_summary.json"]
    table = [line.split(" | ") for line in ran.stdout.splitlines()[2:5]]
    assert [row[0].strip("| ") for row in table] == ["a", "b", "c"]
    assert ["holds no MTL file" in row[-1] for row in table] == [False, True, False]


def test_two_workers_give_the_same_bits_as_one_process(alone, archive, address, out, lacunar, tiny_folder):
    ran = lacunar("lst", f"@{archive / 'list.txt'}", "-o", out, "--model", tiny_folder, *HOW, "--cluster", address)
    assert ran.code == SOME_FAILED, ran.err
    assert sorted(contents(out)) == sorted(contents(alone[1]))
    same_bands(out, alone[1])
    assert "2 filled, 1 failed in" in ran.out
    assert "| b | " in ran.out
    assert "failed: " in ran.out
    assert "holds no MTL file" in ran.out


def test_a_worker_that_is_killed_costs_nothing_but_time(alone, archive, two_workers, address, out, tiny_folder):
    killed, shares = [], []

    def kill(done, total):
        shares.append(done / total)
        if not killed:
            killed.append(next(iter(two_workers.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    jobs = jobs_of(archive, "ac", out, resume=True) + jobs_of(archive, "a", out / "again", resume=True)
    (out / "again").mkdir()
    outcomes = fill_scenes(jobs, options_of(tiny_folder), cluster=address, callback=kill)
    assert killed
    # a scene that was whole when its worker died is found and kept
    assert {(outcome.status, outcome.why) for outcome in outcomes} <= {("filled", ""), ("kept", "")}
    assert [outcome.job for outcome in outcomes] == jobs
    same_bands(out, alone[1])
    assert shares == sorted(shares)
    assert shares[-1] == 1
    left = ["a_lst.json", "a_lst.tif", "again", "again/a_lst.json", "again/a_lst.tif", "c_lst.json", "c_lst.tif"]
    assert sorted(lasting(out)) == left
    again = fill_scenes(jobs, options_of(tiny_folder), cluster=address)
    assert [outcome.status for outcome in again] == ["kept"] * 3


def test_an_interruption_leaves_nothing_half_written(archive, out, tiny_folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "_done", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fill_scenes(jobs_of(archive, "ac", out), options_of(tiny_folder), cluster="local:1")
    left = set(lasting(out))  # a scene that a worker had finished is whole; nothing else may lie there
    whole = {f"{scene}_lst{ending}" for scene in "ac" for ending in (".tif", ".json")}
    assert left <= whole
    assert all((f"{scene}_lst.tif" in left) == (f"{scene}_lst.json" in left) for scene in "ac")


def test_bad_input_that_only_a_worker_sees_is_told_and_not_tried_again(archive, address, out, tiny_folder, tmp_path):
    product = Path(shutil.copytree(archive / "a", tmp_path / "cut"))
    band = next(product.glob("*_B10.TIF"))
    band.write_bytes(band.read_bytes()[:-2000])
    (outcome,) = fill_scenes(jobs_of(tmp_path, ["cut"], out), options_of(tiny_folder), cluster=address)
    assert outcome.status == "failed"
    assert "B10" in outcome.why
    assert contents(out) == {}


def test_one_scene_is_not_shared(archive, out, tiny_folder, lacunar):
    ran = lacunar("lst", archive / "a", "-o", out / "a.tif", "--model", tiny_folder, "--cluster", "local:2")
    assert (ran.code, ran.out) == (BAD_INPUT, "")
    assert ran.err == "lacunar: --cluster local:2 with one scene: whole scenes are shared among workers; leave it out\n"


def test_workers_of_other_versions_or_models_are_refused(archive, address, out, tiny_folder, monkeypatch):
    jobs = jobs_of(archive, "a", out)
    here = batch.versions()
    monkeypatch.setattr(batch, "versions", lambda: here | {"torch": "0.1"})
    with pytest.raises(LacunarError, match=r"a worker has torch .*, wanted torch 0\.1 as here: install"):
        fill_scenes(jobs, options_of(tiny_folder), cluster=address)
    monkeypatch.undo()
    with pytest.raises(LacunarError, match="no device 'cuda:77' here"):
        fill_scenes(jobs, options_of(tiny_folder, device="cuda:77"), cluster=address)
    wanted = ("a", "b")
    outcome = batch._fill_there(jobs[0], options_of(tiny_folder), wanted[0], here)
    assert outcome.why.endswith("on a worker, wanted a: install it there")
    assert contents(out) == {}


class Workers:
    """A client whose workers answer for a device and versions."""

    def __init__(self, *answers):
        self.answers = answers

    def run(self, *_):
        return dict(enumerate(self.answers))


@pytest.mark.parametrize(("lacks", "backend"), [((), "auto"), (("onnxruntime",), "eager")])
def test_auto_is_a_backend_that_all_workers_have(tiny_folder, monkeypatch, lacks, backend):
    here = batch.versions() | {"onnxruntime": "1.0"}
    monkeypatch.setattr(batch, "versions", lambda: here)
    there = {name: number for name, number in here.items() if name not in lacks}
    options = replace(options_of(tiny_folder), backend="auto")
    sent = batch._options_to_send(Workers(("cpu", here), ("cpu", there)), options)
    assert (sent.backend, sent.device, sent.model) == (backend, "cpu", str(tiny_folder))


@pytest.mark.parametrize(
    ("asked", "found", "sent"),
    [("auto", "cuda:0", "cuda"), ("auto", "cpu", "cpu"), ("cuda", "cuda", "cuda"), ("cuda:1", "cuda:1", "cuda:1")],
)
def test_a_gpu_that_is_named_is_the_one_that_works(monkeypatch, asked, found, sent):
    monkeypatch.setattr("lacunar.models.backend.resolve_device", lambda _: found)
    assert batch._describe(asked)[0] == sent
    if sent != "cuda":
        assert batch._own_device(sent) == sent


def test_why_a_scene_failed_is_one_line(archive, out):
    (job,) = jobs_of(archive, "a", out)
    assert batch._failed(job, 1.0, LacunarError("got a,\nwanted b")).why == "got a, wanted b"
    assert batch._failed(job, 1.0, MemoryError("no room")).why == "MemoryError: no room"
    assert batch._failed(job, 1.0, MemoryError()).filled == 0
    assert Outcome(job=job, status="filled", seconds=1.0, record={"pixels": {"filled": 5}}).filled == 5


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://127.0.0.1:1", r"no Dask cluster at 'tcp://127\.0\.0\.1:1' \(.*\): wanted the address of a running"),
        ("nowhere", "no Dask cluster at 'nowhere'"),
        ("local:0", r"cluster 'local:0': wanted local, or local:N with N processes, such as local:2"),
        ("local:many", "cluster 'local:many': wanted local"),
    ],
)
def test_an_address_where_nothing_answers_is_one_line(
    archive, out, lacunar, tiny_folder, monkeypatch, address, message
):
    monkeypatch.setattr(batch, "CONNECT_SECONDS", 1)
    ran = lacunar("lst", archive / "*", "-o", out / "new", "--model", tiny_folder, "--cluster", address)
    assert (ran.code, ran.out) == (BAD_INPUT, "")
    assert ran.err.count("\n") == 1
    with pytest.raises(LacunarError, match=message):
        raise LacunarError(ran.err.removeprefix("lacunar: ").strip())
    assert contents(out) == {}


def test_without_dask_the_extra_is_named(archive, out, lacunar, tiny_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    ran = lacunar("lst", archive / "*", "-o", out, "--model", tiny_folder, "--cluster", "local")
    assert (ran.code, ran.out) == (BAD_INPUT, "")
    assert ran.err.startswith("lacunar: --cluster wants Dask distributed (")
    assert ran.err.endswith("): pip install lacunar[cluster]\n")


@pytest.mark.parametrize(
    ("address", "gpus", "expected"),
    [("local", 0, (4, 2)), ("local", 3, (3, 2)), ("local:3", 0, (3, 2)), ("local:20", 0, (20, 1))],
)
def test_workers_and_their_threads(monkeypatch, address, gpus, expected):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("dask.system.CPU_COUNT", 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    assert batch.workers_of(address) == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert batch.workers_of(address) == (expected[0], 1)


def test_a_cluster_leaves_dask_as_it_was(monkeypatch: pytest.MonkeyPatch):
    dask = pytest.importorskip("dask")
    before = dask.config.get("scheduler", None)

    class Lost(distributed.Client):
        """A client that closes as one whose scheduler was lost: what it told dask stays."""

        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)
            self._set_as_default = False

    monkeypatch.setattr("distributed.Client", Lost)
    with batch.connected("local:1"):
        pass
    assert dask.config.get("scheduler", None) == before
