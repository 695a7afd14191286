"""Another date of the place tells what a cloud hides: the same gap filled without and with a guide."""

import numpy as np
import rioxarray

import lacunar as lc
from lacunar.sensors.simulated import simulate_product

product = simulate_product("product", size=96, seed=3)
with lc.open_scene(product.folder) as scene:
    lst = scene.lst()
truth = rioxarray.open_rasterio(product.truth_path, masked=True).squeeze(drop=True)

# The other date: of another contrast, with noise and clouds of its own, and on another grid, so it is warped.
rng = np.random.default_rng(0)
other = truth.rio.reproject("EPSG:32620", nodata=np.nan) * 0.9 + 20
other = other + rng.normal(0, 0.3, other.shape)
other[:30, :30] = np.nan

for name, guides in (("alone", []), ("with the other date", [other])):
    filled = lc.fill(lst, guides=guides, preset="instant")
    error = (filled["value"] - truth.values).where(filled["source"] == 2)
    print(f"{name}: RMSE over the gap {float(np.sqrt((error**2).mean())):.2f} K")
