"""Real processes of Dask: the same bits as one process, whatever breaks on the way.

A block is a quarter of a scene here. The last bits of a matrix product depend on the threads that share it, so the one
process that the others are held to has as many as a worker.
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
from lacunar.fill import cluster, cluster_tasks
from lacunar.fill.blocks import HALO
from lacunar.fill.inputs import FillInputs
from lacunar.fill.options import FillOptions
from lacunar.fill.scene_list import Scene, outputs_in
from lacunar.geo.windows import blocks_over
from lacunar.models import backend as engines
from lacunar.sensors.simulated import simulate_product

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed", "ignore::ResourceWarning")

SIDE, BLOCK = 64, 32
HOW = ("--evaluations", "2", "--sampler", "ddim", "--samples", "2", "--engine", "eager")
ALONE = f"""
from lacunar.fill import blocks as streaming
from lacunar.geo.windows import blocks_over
streaming.blocks_of = lambda shape: blocks_over(shape, block={BLOCK}, halo=streaming.HALO)
from lacunar.cli import main
main()
"""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(cluster, "blocks_of", lambda shape: blocks_over(shape, block=BLOCK, halo=HALO))


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
    return subprocess.run([sys.executable, "-c", ALONE, *command], **arguments), out / "out"


@pytest.fixture(scope="module")
def two_workers():
    """A client of two processes of one thread each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        with cluster.connected("local:2") as client:
            yield client


@pytest.fixture
def address(two_workers):
    return two_workers.scheduler.address


def options_of(model, **more):
    return FillOptions(model=str(model), sampler="ddim", evaluations=2, samples=2, engine="eager", **more)


def scenes_of(archive, names, out):
    paths = [archive / name for name in names]
    inputs = [FillInputs(path=path, kind="product") for path in paths]
    return [Scene(inputs=one, output=to) for one, to in zip(inputs, outputs_in(out, paths, "lst"), strict=True)]


def same_bands(one, other, names="ac"):
    for name in names:
        np.testing.assert_array_equal(bands_of(one / f"{name}_lst.tif"), bands_of(other / f"{name}_lst.tif"))


def test_one_process_fills_what_it_can_and_says_what_it_could_not(alone):
    ran, out = alone
    assert ran.returncode == SOME_FAILED, ran.stderr
    assert sorted(contents(out)) == ["a_lst.json", "a_lst.tif", "c_lst.json", "c_lst.tif", "lacunar_summary.json"]
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
    processes = set(two_workers.run(os.getpid).values())
    killed, shares = [], []

    def kill(done, total):
        shares.append(done / total)
        if done and not killed:
            victim = next(iter(two_workers.run(os.getpid).values()))
            killed.append(victim)
            os.kill(victim, signal.SIGKILL)

    options = options_of(tiny_folder, resume=True)
    outcomes = cluster.fill_on_cluster(scenes_of(archive, "ac", out), address, options=options, callback=kill)
    assert killed[0] in processes
    assert [(outcome.status, outcome.why) for outcome in outcomes] == [("filled", "")] * 2
    same_bands(out, alone[1])
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert sorted(contents(out)) == ["a_lst.json", "a_lst.tif", "c_lst.json", "c_lst.tif"]
    again = cluster.fill_on_cluster(scenes_of(archive, "ac", out), address, options=options)
    assert [outcome.status for outcome in again] == ["kept", "kept"]


def test_an_interrupted_archive_goes_on_from_its_blocks(alone, archive, address, out, tiny_folder):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    scenes, options = scenes_of(archive, "a", out), options_of(tiny_folder)
    with pytest.raises(KeyboardInterrupt):
        cluster.fill_on_cluster(scenes, address, options=options, callback=interrupt)
    assert contents(out) == {}
    options = options_of(tiny_folder, resume=True)
    with pytest.raises(KeyboardInterrupt):
        cluster.fill_on_cluster(scenes, address, options=options, callback=interrupt)
    assert [path.name for path in out.iterdir()] == [".a_lst.tif.blocks"]
    (outcome,) = cluster.fill_on_cluster(scenes, address, options=options)
    assert outcome.status == "filled"
    same_bands(out, alone[1], "a")


def test_bad_input_that_only_a_worker_sees_is_told(archive, address, out, tiny_folder, tmp_path, lacunar):
    product = Path(shutil.copytree(archive / "a", tmp_path / "cut"))
    band = next(product.glob("*_B10.TIF"))
    band.write_bytes(band.read_bytes()[:-2000])
    ran = lacunar("lst", product, "-o", out, "--model", tiny_folder, *HOW, "--cluster", address)
    assert (ran.code, ran.out) == (BAD_INPUT, "")
    assert ran.err.startswith("lacunar: ")
    assert ran.err.count("\n") == 1
    assert contents(out) == {}


def test_workers_of_other_versions_or_models_are_refused(archive, address, out, tiny_folder, monkeypatch):
    scenes = scenes_of(archive, "a", out)
    here = cluster.versions()
    monkeypatch.setattr(cluster, "versions", lambda: here | {"torch": "0.1"})
    with pytest.raises(LacunarError, match=r"a worker has torch .*, wanted torch 0\.1 as here: install"):
        cluster.fill_on_cluster(scenes, address, options=options_of(tiny_folder))
    monkeypatch.undo()
    with pytest.raises(LacunarError, match="no device 'cuda:77' here"):
        cluster.fill_on_cluster(scenes, address, options=options_of(tiny_folder, device="cuda:77"))
    assert contents(out) == {}


@pytest.mark.parametrize("lacks", ["the extra", "an operator", "nothing"])
def test_auto_is_one_engine_that_all_workers_have(
    alone, archive, two_workers, address, out, tiny_folder, monkeypatch, lacks
):
    def bend(can_export):
        import dataclasses

        import pytest

        from lacunar.fill import cluster_tasks
        from lacunar.fill import provenance as fingerprint
        from lacunar.models import backend as engines

        def export(model):
            if not can_export:
                raise RuntimeError("an operator is missing")
            return dataclasses.replace(model, engine="onnx")

        cluster_tasks._model_there.cache_clear()  # of what an earlier case has tried
        patch = pytest.unbend = pytest.MonkeyPatch()
        patch.setattr(engines, "AUTO_PARAMETERS", 1)
        patch.setattr(engines, "_by_onnx", export)
        if lacks == "the extra" and not can_export:
            patch.setattr(engines, "missing_packages", lambda: ["onnxruntime"])
            found = {name: number for name, number in fingerprint.versions().items() if name != "onnxruntime"}
            patch.setattr(cluster_tasks, "versions", lambda: found)
        else:
            patch.setattr(engines, "missing_packages", list)

    def unbend():
        import pytest

        pytest.unbend.undo()

    monkeypatch.setattr(engines, "AUTO_PARAMETERS", 1)
    one, other = two_workers.nthreads()
    two_workers.run(bend, True, workers=[one])
    two_workers.run(bend, lacks == "nothing", workers=[other])
    try:
        options = replace(options_of(tiny_folder), engine="auto")
        (outcome,) = cluster.fill_on_cluster(scenes_of(archive, "a", out), address, options=options)
    finally:
        two_workers.run(unbend)
    assert (outcome.status, outcome.why) == ("filled", "")
    assert outcome.record["engine"] == ("onnx" if lacks == "nothing" else "eager")
    same_bands(out, alone[1], "a")


@pytest.mark.parametrize(
    ("asked", "found", "sent"),
    [("auto", "cuda:0", "cuda"), ("auto", "cpu", "cpu"), ("cuda", "cuda", "cuda"), ("cuda:1", "cuda:1", "cuda:1")],
)
def test_a_gpu_that_is_named_is_the_one_that_works(tiny_folder, monkeypatch, asked, found, sent):
    monkeypatch.setattr(cluster_tasks, "resolve_device", lambda _: found)
    device, engine, _ = cluster_tasks.describe(options_of(tiny_folder, device=asked), "", {})
    assert (device, engine) == (sent, "eager")
    if sent != "cuda":
        assert cluster_tasks._own_device(device) == sent


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
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    ran = lacunar("lst", archive / "*", "-o", out / "new", "--model", tiny_folder, "--cluster", address)
    assert (ran.code, ran.out) == (BAD_INPUT, "")
    assert ran.err.count("\n") == 1
    with pytest.raises(LacunarError, match=message):
        raise LacunarError(ran.err.removeprefix("lacunar: ").strip())
    assert contents(out) == {}


def test_without_dask_the_extra_is_named(archive, out, lacunar, tiny_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    ran = lacunar("lst", archive / "a", "-o", out, "--model", tiny_folder, "--cluster", "local")
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
    assert cluster._workers_of(address) == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert cluster._workers_of(address) == (expected[0], 1)
