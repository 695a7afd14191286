"""Fill a gap from Python: a field made on the fly, a hole in it, what the model puts there and how sure it is."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from lacunar.fill.job import FillOptions, fill_raster
from lacunar.geo.raster import Raster, read_raster, write_raster

rows, cols = np.indices((96, 96))
truth = (300 + 4 * np.sin(rows / 9) * np.cos(cols / 13)).astype(np.float32)  # kelvin
gap = np.hypot(rows - 48, cols - 40) < 16
with TemporaryDirectory() as folder:
    holed, filled = Path(folder) / "holed.tif", Path(folder) / "filled.tif"
    write_raster(holed, Raster(np.where(gap, np.nan, truth)[None], known=~gap[None], units=("K",)))
    record = fill_raster(holed, filled, options=FillOptions(samples=4, seed=1))
    value, source, sigma = read_raster(filled).data
error = (value - truth)[source == 2]
print(f"filled {error.size} pixels: RMSE {np.sqrt(np.mean(error**2)):.2f} K, sigma {sigma[source == 2].mean():.2f} K")
