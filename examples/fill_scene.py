"""Land surface temperature of a cloudy Landsat scene, without gaps: from the product's folder to a GeoTIFF."""

import numpy as np
import rioxarray

import lacunar as lc
from lacunar.sensors.simulated import simulate_product

product = simulate_product("product", size=96, seed=3)  # or the folder or .tar of a Landsat 8/9 product
with lc.open_scene(product.folder) as scene:
    lst = scene.lst()  # kelvin; NaN under clouds
filled = lc.fill(lst, preset="instant")  # mean and sigma; leave the preset out for eight samples
filled["value"].rio.to_raster("lst.tif")

truth = rioxarray.open_rasterio(product.truth_path, masked=True).squeeze(drop=True)
gap = (filled["source"] == 2).values
error = (filled["value"].values - truth.values)[gap]
print(f"{gap.mean():.0%} of the scene was missing; the fill errs by {np.sqrt(np.mean(error**2)):.2f} K (RMSE)")
print(f"and says so: sigma is {float(filled['sigma'].values[gap].mean()):.2f} K on average")
