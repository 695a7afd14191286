"""
Another date, and an archive
============================

What a cloud hides today, other dates have seen. The more dates, the better the fill; each may have clouds of its own.
"""

import matplotlib.pyplot as plt
import numpy as np
import rioxarray

import lacunar as lc
from lacunar.sensors.simulated import simulate_product

product = simulate_product("tutorial_product", size=192, seed=3, overwrite=True)
with lc.open_scene(product.folder) as scene:
    lst = scene.lst()
truth = rioxarray.open_rasterio(product.truth_path, masked=True).squeeze(drop=True)

# %%
# Six other dates of the place, made up from the truth: other contrast, other level, noise, and a cloud each. Real ones are
# products or rasters on any grid: ``lc.fill(lst, guides=[july, august])``.
rng = np.random.default_rng(0)
dates = []
for contrast, level in zip(rng.uniform(0.7, 1.2, 6), rng.uniform(-8, 8, 6), strict=True):
    date = truth.mean() + level + contrast * (truth - truth.mean()) + rng.normal(0, 0.4, truth.shape)
    row, col = rng.integers(0, 120, 2)
    date[row : row + 70, col : col + 70] = np.nan
    dates.append(date.rio.write_crs(lst.rio.crs))

# %%
# The same gap filled with no other date, with one, and with all six.
gap = lst.isnull().values & np.isfinite(truth.values)
fig, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
for axis, count in zip(axes, (0, 1, 6), strict=True):
    filled = lc.fill(lst, guides=dates[:count], preset="instant")
    error = np.where(gap, filled["value"].values - truth.values, np.nan)
    image = axis.imshow(error, cmap="RdBu_r", vmin=-4, vmax=4)
    axis.set_title(f"{count} other date(s): RMSE {np.sqrt(np.nanmean(error**2)):.2f} K")
    axis.set_axis_off()
fig.colorbar(image, ax=axes, label="filled minus truth, K")
plt.show()
