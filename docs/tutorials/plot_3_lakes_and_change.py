"""
Lakes, their area, and how it changes
=====================================

A scene becomes a map of water with a probability, then polygons with areas in square metres. A second date shows what was
gained and lost.
"""

import matplotlib.pyplot as plt
import numpy as np

import lacunar as lc
from lacunar.sensors.simulated import simulate_product

product = simulate_product("tutorial_clear", size=192, seed=3, cloud_fraction=0.0, overwrite=True)
with lc.open_scene(product.folder) as scene:
    bands = scene.bands()  # reflectance: blue, green, red, nir, swir1, swir2
found = lc.segment(bands)
lakes = lc.polygonize(found, min_area=10_000)  # square metres
print(lakes[["id", "area_m2", "perimeter_m", "mean_probability"]].round(2).head().to_string(index=False))

# %%
# The image in natural colours, the probability of water, and the outlines of the lakes.
colours = bands.sel(band=["red", "green", "blue"]).transpose("y", "x", "band").values
fig, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
west, south, east, north = bands.rio.bounds()
axes[0].imshow(np.clip(colours / 0.25, 0, 1), extent=(west, east, south, north))
lakes.boundary.plot(ax=axes[0], color="cyan", linewidth=1)
axes[0].set_title("image, and lakes of one hectare or more")
image = axes[1].imshow(found["probability"], extent=(west, east, south, north), cmap="Blues", vmin=0, vmax=1)
fig.colorbar(image, ax=axes[1], label="probability of water")
plt.show()

# %%
# A later date, on which the eastern third has fallen dry: the difference of two maps is the change.
later = found["class"].where(found["x"] < west + 0.66 * (east - west), 0)
lost = float(((found["class"] == 1) & (later == 0)).sum()) * 30 * 30 / 1e4
print(f"water lost between the dates: {lost:.1f} ha")
# On files, ``lacunar water JUNE.tif JULY.tif --change -o lakes`` writes areas and polygons of what was gained and lost.
