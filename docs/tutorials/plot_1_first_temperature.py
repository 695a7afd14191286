"""
First temperature map without gaps
==================================

A Landsat scene with clouds becomes a map of land surface temperature (LST) that has a value and a standard deviation in
every pixel. The scene here is simulated, so the truth is known; use the folder or ``.tar`` of your own product in its place.
"""

import matplotlib.pyplot as plt
import numpy as np
import rioxarray

import lacunar as lc
from lacunar.sensors.simulated import simulate_product

product = simulate_product("tutorial_product", size=192, seed=3, overwrite=True)
with lc.open_scene(product.folder) as scene:
    lst = scene.lst()  # kelvin; NaN where a cloud hides the ground
print(f"{float(lst.isnull().mean()):.0%} of the pixels are missing")

# %%
# Fill it. The result lies on the same grid: ``value``, ``source`` (1 measured, 2 filled) and ``sigma``.
filled = lc.fill(lst, seed=1)

fig, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
limits = {"vmin": float(lst.quantile(0.01)) - 273.15, "vmax": float(lst.quantile(0.99)) - 273.15, "cmap": "inferno"}
for axis, values, title in zip(axes, (lst, filled["value"]), ("measured", "filled"), strict=False):
    fig.colorbar(axis.imshow(values - 273.15, **limits), ax=axis, label="°C")
    axis.set_title(title)
fig.colorbar(axes[2].imshow(filled["sigma"], cmap="viridis"), ax=axes[2], label="K")
axes[2].set_title("one standard deviation")
for axis in axes:
    axis.set_axis_off()

# %%
# Is sigma right? About 68 % of the true values should lie within one sigma of the filled ones.
truth = rioxarray.open_rasterio(product.truth_path, masked=True).squeeze(drop=True).values
gap = filled["source"].values == 2
error = (filled["value"].values - truth)[gap]
print(f"RMSE under the clouds: {np.sqrt(np.mean(error**2)):.2f} K")
print(f"truths within one sigma: {np.mean(np.abs(error) <= filled['sigma'].values[gap]):.0%}")
