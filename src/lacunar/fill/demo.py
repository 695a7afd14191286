"""A fill whose truth is known: a simulated cloudy Landsat product, filled and scored beside classical fills."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lacunar.errors import RasterError
from lacunar.fill.inputs import FillInputs
from lacunar.fill.job import fill_scene
from lacunar.fill.options import FillOptions
from lacunar.fill.outputs import OutputFiles
from lacunar.geo.raster import read_raster
from lacunar.interpolate.classical import FillName, fill
from lacunar.metrics import rmse
from lacunar.sensors.scene import open_scene
from lacunar.sensors.simulated import simulate_product

BASELINES: tuple[FillName, ...] = ("idw", "laplace", "nearest", "mean")


def demonstrate(
    folder: Path,
    options: FillOptions,
    *,
    size: int = 256,
    overwrite: bool = False,
    command: str = "",
    callback: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Simulate a cloudy Landsat product of ``size`` pixels a side, fill it, and score it against the hidden truth.

    The folder receives ``product/``, ``lst_filled.tif`` with its sidecar, and ``lst_filled.png``. Returns the
    ``record`` of the fill, ``rmse`` (method -> RMSE of the missing pixels in kelvin), and the paths ``output`` and
    ``figure``.
    """
    options.load()  # refused before anything is written
    output, figure = folder / "lst_filled.tif", folder / "lst_filled.png"
    for path in (folder / "product", output, figure, output.with_suffix(".json")):
        if path.exists() and not overwrite:
            raise RasterError(f"{path} exists, wanted a new demo folder: choose another, or give --overwrite")
    simulated = simulate_product(folder / "product", size=size, seed=options.seed, overwrite=overwrite)
    inputs = FillInputs(path=simulated.folder, kind="product")
    truth_path = simulated.truth_path
    files = OutputFiles(raster=output, figure=figure, truth=truth_path, overwrite=overwrite, command=command)
    record = fill_scene(inputs, files, options, callback=callback)
    with open_scene(simulated.folder) as scene:
        whole = scene.measured()
    truth = read_raster(truth_path).data[0]
    scores = {"lacunar": record["truth"]["rmse"]}
    for name in BASELINES:
        scores[name] = rmse(fill(name, whole.values, whole.known), truth, region=whole.missing)
    return {"record": record, "rmse": scores, "output": output, "figure": figure}
