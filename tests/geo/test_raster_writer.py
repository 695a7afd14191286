"""Writing a raster: nothing is left half-written, and memory does not grow with the raster."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine

from lacunar.errors import RasterError
from lacunar.geo.raster import Raster, RasterWriter, read_raster
from lacunar.geo.windows import Tile
from rasters import write_raster

UTM = CRS.from_epsg(32632)
GRID = Affine(30.0, 0.0, 396705.0, 0.0, -30.0, 5763315.0)


def make_raster():
    data = np.random.default_rng(0).normal(300, 5, size=(2, 40, 50)).astype(np.float32)
    return Raster(data, np.ones(data.shape, dtype=bool), GRID, UTM)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_existing_file_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "out.tif"
    path.write_bytes(b"precious")
    with pytest.raises(RasterError, match="exists already"):
        write_raster(path, make_raster())
    assert path.read_bytes() == b"precious"
    write_raster(path, make_raster(), overwrite=True)
    assert read_raster(path).count == 2


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "out.tif"
    writer = RasterWriter(path, shape=(8, 8), transform=GRID, crs=UTM, band_names=("lst",))
    with pytest.raises(RasterError, match="exists already"), writer:
        path.write_bytes(b"precious")
    assert path.read_bytes() == b"precious"
    assert files_in(tmp_path) == ["out.tif"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_after_an_interruption_the_folder_is_as_it_was(tmp_path, error):
    path = tmp_path / "out.tif"
    path.write_bytes(b"precious")
    writer = RasterWriter(path, shape=(8, 8), transform=GRID, crs=UTM, band_names=("lst",), overwrite=True)

    def interrupted():
        with writer:
            writer.write(np.zeros((1, 4, 8)), Tile(0, 0, 4, 8))
            assert len(files_in(tmp_path)) == 2
            raise error

    with pytest.raises(error):
        interrupted()
    assert files_in(tmp_path) == ["out.tif"]
    assert path.read_bytes() == b"precious"


def test_ctrl_c_while_the_file_is_finished_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("rasterio.shutil.copy", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_raster(tmp_path / "out.tif", make_raster())
    assert files_in(tmp_path) == []


def run_python(code, *arguments):
    """Run a script in a fresh interpreter and return what it printed."""
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment)


def test_on_a_full_disk_nothing_appears(tmp_path):
    code = """
        import resource, signal, sys
        from pathlib import Path
        import numpy as np
        import rasterio.shutil
        from lacunar.errors import RasterError
        from lacunar.geo.raster import RasterWriter
        from rasterio.transform import Affine

        folder = Path(sys.argv[1])
        data = np.random.default_rng(0).normal(size=(1, 600, 600)).astype(np.float32)

        def write(path):
            grid = {"shape": (600, 600), "transform": Affine.identity(), "crs": None}
            with RasterWriter(path, **grid, band_names=("band_1",)) as writer:
                writer.write(data)

        write(folder / "whole.tif")
        size = (folder / "whole.tif").stat().st_size
        staging = 4 * 1024 * 1024
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # The final file can fail where the staging file, four uncompressed tiles, had room: the limit falls in between.
        copy = rasterio.shutil.copy

        def copy_with(limit):
            def limited(*arguments, **options):
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
                return copy(*arguments, **options)
            return limited

        def attempt(limit, *, during_copy):
            rasterio.shutil.copy = copy_with(limit) if during_copy else copy
            if not during_copy:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, -1))
            try:
                write(folder / "full.tif")
            except RasterError as error:
                print("refused", str(error).count("\\n"))
            else:
                print("written", limit, during_copy)
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))

        for limit in (0, 1000, 2_000_000, staging - 1, staging):
            attempt(limit, during_copy=False)
        for missing in (1, 100, 3000, 20_000, 500_000, size):
            attempt(size - missing, during_copy=True)
    """
    result = run_python(code, tmp_path)
    assert result.stdout.splitlines() == ["refused 0"] * 11
    assert all(
        line.startswith("_tiff") for line in result.stderr.splitlines()
    )  # libtiff's own cry; no handler stops it
    assert files_in(tmp_path) == ["whole.tif"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of one process is read from /proc")
def test_memory_does_not_grow_with_the_raster(tmp_path):
    # Not getrusage: there a process inherits the peak of the one that started it.
    code = """
        import re, sys
        from pathlib import Path
        import numpy as np
        from rasterio.transform import Affine
        import lacunar.geo.gate
        from lacunar.geo.raster import RasterSource, RasterWriter
        from lacunar.geo.windows import blocks_over

        lacunar.geo.gate._ENVIRONMENT["GDAL_CACHEMAX"] = 8 * 2**20  # so that nothing but the raster itself could grow
        for side in (1024, 3072):
            path = Path(sys.argv[1]) / f"{side}.tif"
            names = ("lst", "source", "sigma")
            shape = (side, side)
            with RasterWriter(path, shape=shape, transform=Affine.identity(), crs=None, band_names=names) as writer:
                for block in blocks_over(shape, block=512, halo=0):
                    writer.write(np.full((3, *block.core.shape), block.core.row, dtype=np.float32), block.core)
            with RasterSource(path) as source:
                for block in blocks_over(shape, block=1024, halo=32):
                    assert source.read(block.outer).known.all()
            print(int(re.search(r"VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1]) // 1024)
    """
    small, large = map(int, run_python(code, tmp_path).stdout.split())
    raster = 3 * 4 * 3072**2 // 2**20  # 108 MiB
    assert large - small < raster * 3 // 4
    assert large < 300


def test_another_nodata_value_stands_where_there_is_none(tmp_path):
    array = np.array([[[0.0, 1.0, np.nan]], [[0.25, np.nan, np.nan]]])
    shape = {"shape": (2, 3), "transform": GRID, "crs": UTM}
    with RasterWriter(tmp_path / "out.tif", **shape, band_names=("water", "probability"), nodata=255.0) as writer:
        writer.write(array, Tile(0, 0, 1, 3))
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.nodatavals == (255.0, 255.0)
        assert dataset.read()[:, 0].tolist() == [[0.0, 1.0, 255.0], [0.25, 255.0, 255.0]]
        assert (dataset.read()[:, 1] == 255.0).all()  # never written
    found = read_raster(tmp_path / "out.tif").data[:, 0]
    np.testing.assert_array_equal(found, array[:, 0].astype(np.float32))
